//! Sealing, step by step, so that a crash anywhere loses nothing and seals nothing twice.
//!
//! ① commit serial and message-id ② container into `tmp/`, synced ③ commit its whole hash ④ rename into `outbox/` ⑤ erase
//! the slot's PSK, the plaintext and `pending/ID/` ⑥ index. Many cables share each step's sync.

use valise_common::alarm::Alarm;
use valise_common::fec::Geometry;
use valise_common::fec::plan::choose;
use valise_common::host::folders::Role;
use valise_common::ids::{BundleId, MessageId, Serial};
use valise_common::limits;
use valise_common::os::durable::{FinishedFile, remove_any};
use valise_common::os::entropy;
use valise_common::precedence::Precedence;
use valise_common::units::ByteSize;

use super::blocked::Blocked;
use super::error::GateError;
use super::host::Gate;
use super::worker::{SealWork, Work};
use crate::model::event::Event;
use crate::model::ledger::{Cable, Phase};
use crate::spool::outbox::FecFile;
use crate::spool::outbox_write::name_of;
use crate::steps::approve::Approved;
use crate::steps::seal::Sealed;

/// Bodies beyond this are copied and sealed on the worker, so that a FLASH cable is never behind them.
pub const LARGE_BODY_BYTES: u64 = 4 << 20;

/// A cable whose serial is issued and whose proof is made.
pub struct Issuing {
    /// The cable.
    pub id: MessageId,
    /// The proof.
    pub approved: Approved,
    /// Its serial.
    pub serial: Serial,
    /// The bundle of its slot.
    pub bundle: BundleId,
}

/// A container that is durable under `tmp/`.
#[derive(Debug)]
pub struct FinishedContainer {
    /// The cable.
    pub id: MessageId,
    /// The container's file.
    pub file: FinishedFile,
    /// Its hash and length.
    pub sealed: Sealed,
}

impl Gate {
    /// Issues serials to those of `ids` that have their quorum, most urgent first, and records step ① for each.
    pub fn issue(&mut self, ids: impl IntoIterator<Item = MessageId>) -> Vec<Issuing> {
        let mut ready: Vec<(Precedence, _, MessageId)> = ids
            .into_iter()
            .filter_map(|id| self.history.ledger().cables.get(&id))
            .filter(|cable| cable.phase == Phase::Open)
            .filter(|cable| cable.approvals.len() >= self.authority.needed(cable))
            .map(|cable| (cable.precedence, cable.submitted, cable.id))
            .collect();
        ready.sort_unstable();
        ready.dedup();
        let mut issuing = Vec::new();
        for (_, _, id) in ready {
            match self.issue_one(id) {
                Ok(one) => {
                    self.waiting.unblock(&id);
                    issuing.push(one);
                }
                Err(blocked) => {
                    if let Blocked::Damaged(text) = &blocked {
                        self.note_damaged(id, text);
                    }
                    self.block(id, blocked.into());
                }
            }
        }
        issuing
    }

    fn issue_one(&mut self, id: MessageId) -> Result<Issuing, Blocked> {
        let gone = || Blocked::NotNow("the cable is gone".to_owned());
        let cable = self.history.ledger().cables.get(&id).ok_or_else(gone)?;
        let body_bytes = cable.body_bytes;
        let Some((serial, bundle)) = self.history.ledger().next_serial() else {
            let text = "no slot is left; approved cables wait until a new bundle is imported";
            self.shown.alarm(Alarm::SlotsNone, "no slot is left");
            return Err(Blocked::NotNow(text.to_owned()));
        };
        if self.outgoing.slots.is_lost(bundle) {
            self.check_slot_files();
            return Err(Blocked::NotNow(format!(
                "the slots of bundle {bundle} are damaged or missing"
            )));
        }
        let approved = self.proof(cable)?;
        if let Err(free) = self.check_room(body_bytes.saturating_add(body_bytes / 8)) {
            let text = format!(
                "the disk is nearly full ({} free); sealing waits",
                ByteSize(free).rough()
            );
            self.shown.alarm(Alarm::Disk, text.clone());
            self.outgoing.wants_room = true;
            return Err(Blocked::NotNow(text));
        }
        self.history.record(&Event::Sealing { id, serial, bundle });
        self.outgoing.in_sealing.insert(serial);
        Ok(Issuing {
            id,
            approved,
            serial,
            bundle,
        })
    }

    /// Steps ② to ⑤ for cables whose step ① is committed. Large ones come back as work for the worker.
    ///
    /// # Errors
    /// [`GateError`]; the process must end, and the next start goes on where this one was.
    pub fn seal_issued(
        &mut self,
        issuing: Vec<Issuing>,
    ) -> Result<Vec<(Precedence, Work)>, GateError> {
        let mut large = Vec::new();
        let mut finished = Vec::new();
        for one in issuing {
            let (id, precedence) = (one.id, one.approved.manifest().precedence);
            let is_large = one.approved.manifest().body_bytes() > LARGE_BODY_BYTES;
            let sealed = match self.seal_work(one) {
                Ok(work) if is_large => {
                    large.push((precedence, Work::Seal(Box::new(work))));
                    continue;
                }
                Ok(work) => work.seal().map_err(GateError::from),
                Err(error) => Err(error),
            };
            match sealed {
                Ok((staged, sealed)) => {
                    let file = staged.finish_in(&mut self.sync)?;
                    finished.push(FinishedContainer { id, file, sealed });
                }
                Err(error) => self.not_sealed(id, error)?,
            }
        }
        self.finish(finished)?;
        Ok(large)
    }

    /// Tries again what a full disk held up behind its step ①.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn seal_waiting_for_room(&mut self) -> Result<Vec<(Precedence, Work)>, GateError> {
        let mut waiting_for_room = std::mem::take(&mut self.outgoing.waiting);
        waiting_for_room.retain(|id| self.is_sealing(id));
        let again = self.seal_again(waiting_for_room)?;
        self.seal_issued(again)
    }

    fn seal_work(&mut self, one: Issuing) -> Result<SealWork, GateError> {
        let Issuing {
            id,
            approved,
            serial,
            bundle,
        } = one;
        let slot = self.outgoing.slots.read(bundle, serial)?;
        let slot = slot.ok_or(GateError::SlotErased { serial })?;
        let randomness = entropy::secret::<96>().map_err(std::io::Error::other)?;
        let parts = self
            .waiting
            .pending
            .parts(&id, approved.manifest().parts.len());
        let staged = self.outgoing.outbox.stage_container(serial)?;
        let body_bytes = approved.manifest().body_bytes();
        if body_bytes > LARGE_BODY_BYTES {
            // A full disk shows before a long sealing, not at its end.
            staged.reserve(body_bytes)?;
        }
        Ok(SealWork {
            id,
            approved,
            serial,
            bundle,
            slot,
            randomness,
            parts,
            staged,
        })
    }

    /// Steps ② (its sync) to ⑤ for containers that have been written.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn finish(&mut self, finished: Vec<FinishedContainer>) -> Result<(), GateError> {
        if finished.is_empty() {
            return Ok(());
        }
        let passes = self.config.fec.passes;
        let mut publishing = Vec::with_capacity(finished.len());
        for one in finished {
            if !self.is_sealing(&one.id) {
                // Ended while it was being made.
                remove_any(one.file.path())?;
                continue;
            }
            let geometry = self.geometry(one.sealed.bytes)?;
            let hash = one.sealed.hash;
            let fec = FecFile {
                geometry,
                passes,
                container: hash.id(),
                hash,
            };
            let fec = self.outgoing.outbox.stage_geometry(&fec, &mut self.sync)?;
            publishing.push((one, fec));
        }
        // A container has its name in `tmp/` before its line: a power cut after the rename below may leave either name.
        self.sync.add_dir(self.state.tmp(Role::Gate));
        self.sync.commit()?;
        for (one, _) in &publishing {
            let Some(serial) = self
                .history
                .ledger()
                .cables
                .get(&one.id)
                .and_then(Cable::serial)
            else {
                continue;
            };
            self.history.record(&Event::Sealed {
                id: one.id,
                serial,
                container: one.sealed.hash,
                container_bytes: one.sealed.bytes,
                passes,
            });
        }
        self.commit()?;
        let mut sealed = Vec::with_capacity(publishing.len());
        for (one, fec) in publishing {
            let Some(name) = self.history.ledger().cables.get(&one.id).and_then(name_of) else {
                continue;
            };
            self.outgoing
                .outbox
                .publish(&name, fec, one.file, &mut self.sync)?;
            sealed.push(one.id);
        }
        self.sync.commit()?;
        self.clean_up(&sealed)
    }

    /// How a container of this length is cut on this host's link.
    ///
    /// # Errors
    /// If no geometry fits, which the configuration's bounds do not allow.
    pub fn geometry(&self, container_bytes: u64) -> Result<Geometry, GateError> {
        let symbol_bytes = self.config.datagram_bytes() - limits::DATAGRAM_OVERHEAD_BYTES;
        let fec = &self.config.fec;
        Ok(choose(
            container_bytes,
            symbol_bytes,
            fec.repair,
            fec.passes,
        )?)
    }

    /// Step ⑤: erases the slots' PSKs, then the plaintext, of cables that are in the outbox.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn clean_up(&mut self, ids: &[MessageId]) -> Result<(), GateError> {
        let mut slots = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(issued) = self
                .history
                .ledger()
                .cables
                .get(id)
                .and_then(|cable| cable.issued.as_ref())
            {
                slots.push((issued.bundle, issued.serial));
                self.outgoing.in_sealing.remove(&issued.serial);
            }
            self.history.note_changed(*id);
        }
        self.write_beacon()?;
        self.outgoing.slots.erase(&slots)?;
        for id in ids {
            self.waiting.pending.remove(id)?;
        }
        Ok(())
    }
}
