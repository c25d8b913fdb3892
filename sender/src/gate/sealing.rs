//! Sealing, step by step, so that a crash anywhere loses nothing and seals nothing twice.
//!
//! ① commit serial and message-id ② container into `tmp/`, synced ③ commit its whole hash ④ rename into `outbox/` ⑤ erase
//! the slot's PSK, the plaintext and `pending/ID/` ⑥ index. Many cables share each step's sync.

use std::io::ErrorKind;

use valise_common::alarm::{Alarm, Cause};
use valise_common::fec::Geometry;
use valise_common::fec::plan::choose;
use valise_common::ids::{BundleId, MessageId, Serial};
use valise_common::limits;
use valise_common::os::durable::{FinishedFile, is_full, remove_any};
use valise_common::os::entropy;
use valise_common::os::room::disk_text;
use valise_common::precedence::Precedence;
use valise_common::units::ByteSize;

use super::error::GateError;
use super::host::Gate;
use super::worker::{SealWork, Work};
use crate::model::event::Event;
use crate::model::ledger::{Cable, Phase};
use crate::spool::outbox::FecFile;
use crate::spool::outbox_write::name_of;
use crate::spool::pending::PendingError;
use crate::steps::approve::{Approved, approve};
use crate::steps::seal::{PartChanged, Sealed, SealingError};

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

/// A cause that keeps a cable from its proof.
#[derive(Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The trust list or a file is not there, or cannot be read: an operator may mend it.
    NotNow(String),
    /// A file of it is not what was submitted or approved.
    Damaged(String),
    /// The rules refuse it.
    Refused(String),
}

impl From<Blocked> for String {
    fn from(blocked: Blocked) -> Self {
        let (Blocked::NotNow(text) | Blocked::Damaged(text) | Blocked::Refused(text)) = blocked;
        text
    }
}

impl Gate {
    /// Makes the proof of a cable from what stands in its folder.
    ///
    /// # Errors
    /// [`Blocked`] with the cause, and whether it may end by itself.
    pub fn proof(&self, cable: &Cable) -> Result<Approved, Blocked> {
        let not_now = |error: PendingError| match error {
            PendingError::Io { .. } => Blocked::NotNow(error.to_string()),
            PendingError::Damaged { .. } => Blocked::Damaged(error.to_string()),
        };
        let no_list = || Blocked::NotNow("no trust list is in force".to_owned());
        let list = self.authority.list().ok_or_else(no_list)?;
        let manifest = self.waiting.pending.manifest(&cable.id).map_err(not_now)?;
        let approvals = cable
            .approvals
            .iter()
            .map(|officer| self.waiting.pending.approval(&cable.id, officer))
            .collect::<Result<Vec<_>, _>>()
            .map_err(not_now)?;
        approve(manifest, approvals, list, self.history.now()).map_err(|error| match error.code() {
            // It verified when it was stored, and these are the bytes that it signed.
            "signature" => not_now(PendingError::Damaged {
                id: cable.id,
                what: "a stored approval",
            }),
            _ => Blocked::Refused(error.to_string()),
        })
    }

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

    /// Takes note of a cable whose serial is issued but whose container could not be made: a full disk, and a part that cannot
    /// be read, are waited for; a part that is no longer what was signed ends the cable.
    ///
    /// # Errors
    /// Every other failure comes back; the process must end.
    pub fn not_sealed(&mut self, id: MessageId, error: GateError) -> Result<(), GateError> {
        let source = match &error {
            GateError::Io(source) | GateError::Sealing(SealingError::Io(source)) => source,
            _ => return Err(error),
        };
        let is_missing = matches!(
            source.kind(),
            ErrorKind::NotFound | ErrorKind::PermissionDenied
        );
        let inner = source.get_ref();
        let has_changed = inner.is_some_and(|inner| inner.is::<PartChanged>());
        if !is_full(source) && !is_missing && !has_changed {
            return Err(error);
        }
        if !self.is_sealing(&id) {
            // Ended while it was being made, and its files with it.
            return Ok(());
        }
        if is_full(source) {
            let text = disk_text(self.state.root(), "a cable waits to be sealed");
            self.shown.alarm(Alarm::Disk, text.clone());
            self.outgoing.wants_room = true;
            self.outgoing.waiting.push(id);
            return Ok(());
        }
        if is_missing {
            self.wait_for_operator(id);
            return Ok(());
        }
        self.give_up(id, &error.to_string())
    }

    /// Keeps a cable that has a serial until what it needs is there again.
    pub fn wait_for_operator(&mut self, id: MessageId) {
        let text = format!(
            "cable {id} has a serial and waits to be sealed: its folder in pending/, its slot or the trust list cannot be read"
        );
        let repair = format!("valise-sender show {id}");
        let cause = Cause::repaired_by(text, repair);
        self.waiting
            .trouble(&mut self.shown, id, Alarm::SealingWaits, cause);
        self.outgoing.wants_room = true;
        self.outgoing.waiting.push(id);
    }

    /// Ends a cable that has a serial and can never be sealed.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn give_up(&mut self, id: MessageId, reason: &str) -> Result<(), GateError> {
        let issued = self
            .history
            .ledger()
            .cables
            .get(&id)
            .and_then(|cable| cable.issued.clone());
        let Some(issued) = issued else { return Ok(()) };
        let text = format!(
            "cable {id} of serial {} could not be sealed and is expired: {reason}",
            issued.serial
        );
        self.shown.note(Alarm::NotSealed, text);
        self.history.record(&Event::GivenUp {
            serial: issued.serial,
            reason: reason.to_owned(),
        });
        self.commit()?;
        self.outgoing.in_sealing.remove(&issued.serial);
        if !self
            .outgoing
            .slots
            .is_erased(issued.bundle, issued.serial)?
        {
            self.outgoing
                .slots
                .erase(&[(issued.bundle, issued.serial)])?;
        }
        self.waiting.pending.remove(&id)?;
        self.write_beacon()
    }

    /// Ends cables that are being sealed and may not leave any more: their slot became void, or the list that came into
    /// force meanwhile refuses them. What the worker still makes of them is dropped by [`Gate::finish`].
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn stop_unfit_sealing(&mut self) -> Result<(), GateError> {
        let sealing = |cable: &&Cable| cable.phase == Phase::Sealing;
        let sealing: Vec<Cable> = self
            .history
            .ledger()
            .cables
            .values()
            .filter(sealing)
            .cloned()
            .collect();
        for cable in sealing {
            let Some(issued) = &cable.issued else {
                continue;
            };
            if self.outgoing.slots.is_lost(issued.bundle) {
                continue;
            }
            if self
                .outgoing
                .slots
                .is_erased(issued.bundle, issued.serial)?
            {
                self.give_up(cable.id, "its slot became void; submit the cable again")?;
            } else if self.history.doubt().is_none()
                && let Err(Blocked::Refused(reason)) = self.proof(&cable)
            {
                self.give_up(cable.id, &reason)?;
            }
        }
        Ok(())
    }

    /// Whether a container is made of a cable: for the first time, or again because its container was lost.
    fn is_sealing(&self, id: &MessageId) -> bool {
        let cable = self.history.ledger().cables.get(id);
        cable.is_some_and(|cable| match cable.phase {
            Phase::Sealing => true,
            Phase::Sealed => cable
                .serial()
                .is_some_and(|serial| self.outgoing.in_sealing.contains(&serial)),
            _ => false,
        })
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

    /// Raises the alarm of a waiting cable whose files the disk changed.
    pub(super) fn note_damaged(&mut self, id: MessageId, text: &str) {
        let repair = format!("valise-sender withdraw {id}, then submit the cable again");
        let cause = Cause::repaired_by(text, repair);
        self.waiting
            .trouble(&mut self.shown, id, Alarm::PendingDamaged, cause);
    }

    fn block(&mut self, id: MessageId, reason: String) {
        if self.waiting.block(id, reason.clone()) {
            let request = "seal".to_owned();
            let by = "gate".to_owned();
            self.history.record(&Event::Refused {
                request,
                id: Some(id),
                by,
                reason,
            });
        }
        self.history.note_changed(id);
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
