//! Start-up: from whatever a killed process left to a state that goes on. It may itself be killed anywhere.
//!
//! | log says | files | becomes |
//! |---|---|---|
//! | submitted, approved | `pending/ID/` | waits on; approvals without a line are dropped |
//! | nothing | `pending/ID/` | deleted: its request was never answered and is still there |
//! | sealing | anything in `tmp/` | sealed again, same serial |
//! | sealed | in `outbox/` | slot and plaintext erased |
//! | sealed | in `tmp/`, with that hash | moved into `outbox/`, then as above |
//! | sealed | neither, `pending/ID/` there | sealed again, same serial |
//! | sealed | neither, slot erased | given up, with an alarm |
//! | ended | anything | deleted, its slot erased |
//! | nothing | a container in `outbox/` | put aside, with an alarm |

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::Path;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::folders::{OutboxName, Role};
use valise_common::host::slots::SlotsHeader;
use valise_common::ids::{BundleId, ContainerHash, MessageId, Serial};
use valise_common::os::durable::{self, FinishedFile, clear_tmp, erase, remove_any};
use valise_common::precedence::Precedence;

use super::blocked::Blocked;
use super::error::GateError;
use super::host::Gate;
use super::sealing::Issuing;
use super::worker::Work;
use crate::model::ledger::{Cable, Phase};
use crate::spool::outbox::FecFile;
use crate::spool::outbox_write::{name_of, staged_name};
use crate::spool::pending::Pending;
use crate::spool::progress;

impl Gate {
    /// Brings files and log together. Large cables that must be sealed again come back as work for the worker.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn recover(&mut self) -> Result<Vec<(Precedence, Work)>, GateError> {
        self.check_aside()?;
        self.recover_tmp()?;
        self.recover_bundles()?;
        self.recover_pending()?;
        let lost = self.recover_outbox()?;
        self.outgoing.progress = progress::read_all(&self.state.progress())?;
        self.drop_stale_progress()?;
        let again = self.seal_again(lost)?;
        self.commit()?;
        self.write_beacon()?;
        self.seal_issued(again)
    }

    fn live(&self) -> Vec<Cable> {
        self.history
            .ledger()
            .cables
            .values()
            .filter(|cable| cable.phase.is_sealed())
            .cloned()
            .collect()
    }

    fn recover_tmp(&mut self) -> Result<(), GateError> {
        let mut kept: BTreeSet<String> = self
            .live()
            .iter()
            .filter(|cable| cable.phase == Phase::Sealed)
            .filter_map(|cable| cable.serial().map(staged_name))
            .collect();
        for cable in self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| is_kept(cable))
        {
            kept.extend(Pending::staged_names(&cable.id, &cable.approvals));
        }
        Ok(clear_tmp(&self.state.tmp(Role::Gate), |name| {
            name.to_str().is_some_and(|name| kept.contains(name))
        })?)
    }

    fn recover_bundles(&mut self) -> Result<(), GateError> {
        for entry in durable::list(&self.state.slots())? {
            let path = entry?.path();
            let known = self
                .history
                .ledger()
                .bundles
                .keys()
                .any(|id| self.state.slots_of(*id) == path);
            if !known {
                erase(&path)?;
            }
        }
        for (bundle, held) in &self.history.ledger().bundles {
            if held.void {
                self.outgoing.slots.destroy(*bundle)?;
            } else if let Some(channel) = self.history.ledger().channel {
                self.outgoing.slots.open(SlotsHeader {
                    channel,
                    bundle: *bundle,
                    first: held.first,
                    count: held.count,
                })?;
            }
        }
        self.check_slot_files();
        self.give_link_key()?;
        Ok(())
    }

    fn recover_pending(&mut self) -> Result<(), GateError> {
        for cable in self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| is_kept(cable))
        {
            self.waiting
                .pending
                .finish_staged(&cable.id, &cable.approvals, &mut self.sync)?;
        }
        self.sync.commit()?;
        let (folders, others) = self.waiting.pending.scan()?;
        for path in others {
            self.put_aside(&path)?;
        }
        for id in &folders {
            match self
                .history
                .ledger()
                .cables
                .get(id)
                .map(|cable| (cable.phase, cable.approvals.clone()))
            {
                Some((Phase::Open | Phase::Sealing | Phase::Sealed, approvals)) => {
                    self.waiting
                        .pending
                        .drop_unknown_approvals(id, &approvals)?;
                }
                _ => self.waiting.pending.remove(id)?,
            }
        }
        let missing: Vec<MessageId> = self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| cable.phase == Phase::Open && !folders.contains(&cable.id))
            .map(|cable| cable.id)
            .collect();
        for id in missing {
            self.waiting
                .block(id, "its folder is missing; submit it again".to_owned());
            let text = format!("pending/{id}, the folder of a waiting cable, is missing");
            let repair = format!("valise-sender withdraw {id}, then submit the cable again");
            let cause = Cause::repaired_by(text, repair);
            self.waiting
                .trouble(&mut self.shown, id, Alarm::PendingMissing, cause);
        }
        let ledger = self.history.ledger();
        self.waiting
            .share_all(ledger, &self.authority, &mut self.shown);
        Ok(())
    }

    /// Finishes sealed cables whose container is whole; returns those that have none.
    fn recover_outbox(&mut self) -> Result<Vec<MessageId>, GateError> {
        let (containers, orphans) = self.outgoing.outbox.scan()?;
        for name in orphans {
            remove_any(&self.state.geometry(&name))?;
        }
        for (serial, name) in &containers {
            self.check_owner(*serial, name)?;
        }
        let mut lost = Vec::new();
        let mut clean = Vec::new();
        for cable in self.live() {
            let Some(name) = name_of(&cable) else {
                continue;
            };
            let there = containers.get(&name.serial) == Some(&name);
            match cable.phase {
                Phase::Sealing => {
                    self.outgoing.in_sealing.insert(name.serial);
                    lost.push(cable.id);
                }
                _ if there => {
                    self.rewrite_geometry(name.serial)?;
                    clean.push(cable);
                }
                _ if self.publish_staged(&cable, &name)? => clean.push(cable),
                _ => {
                    self.outgoing.in_sealing.insert(name.serial);
                    lost.push(cable.id);
                }
            }
        }
        let mut unclean = Vec::new();
        for cable in clean {
            let Some(issued) = &cable.issued else {
                continue;
            };
            let erased = self
                .outgoing
                .slots
                .is_erased(issued.bundle, issued.serial)?;
            if !erased || self.waiting.pending.exists(&cable.id) {
                unclean.push(cable);
            }
        }
        // A process that was killed after its renames did not sync them; without their slots they must last.
        self.sync.add_dir(self.state.outbox());
        self.sync.commit()?;
        let mut slots = self.left_of_ended()?;
        slots.extend(
            unclean
                .iter()
                .filter_map(|cable| cable.issued.as_ref())
                .map(|issued| (issued.bundle, issued.serial)),
        );
        self.outgoing.slots.erase(&slots)?;
        for cable in unclean {
            self.waiting.pending.remove(&cable.id)?;
        }
        Ok(lost)
    }

    /// The slots of ended cables that a kill between the end's line and the erasure left.
    fn left_of_ended(&mut self) -> Result<Vec<(BundleId, Serial)>, GateError> {
        let mut left = Vec::new();
        let ended = self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| cable.phase.is_final());
        for issued in ended.filter_map(|cable| cable.issued.as_ref()) {
            if !self
                .outgoing
                .slots
                .is_erased(issued.bundle, issued.serial)?
            {
                left.push((issued.bundle, issued.serial));
            }
        }
        Ok(left)
    }

    /// Deletes the container of an ended cable; puts one aside that the log does not know.
    fn check_owner(&mut self, serial: Serial, name: &OutboxName) -> Result<(), GateError> {
        match self
            .history
            .ledger()
            .by_serial(serial)
            .map(|cable| (cable.phase, name_of(cable)))
        {
            Some((phase, _)) if phase.is_final() => Ok(self.outgoing.outbox.remove(name)?),
            Some((_, owner)) if owner == Some(*name) => Ok(()),
            // An ended cable may be forgotten here; its serial was issued then.
            None if serial.get() <= self.history.ledger().issued => {
                Ok(self.outgoing.outbox.remove(name)?)
            }
            _ => {
                self.put_aside(&self.state.geometry(name))?;
                self.put_aside(&self.state.container(name))
            }
        }
    }

    /// Step ④ again: a container in `tmp/` with the committed hash is moved into the outbox.
    fn publish_staged(&mut self, cable: &Cable, name: &OutboxName) -> Result<bool, GateError> {
        let Some((hash, bytes)) = cable.issued.as_ref().and_then(|issued| issued.container) else {
            return Ok(false);
        };
        let path = self.state.tmp(Role::Gate).join(staged_name(name.serial));
        if hash_of(&path)? != Some(hash) {
            remove_any(&path)?;
            return Ok(false);
        }
        let passes = self.config.fec.passes;
        let geometry = self.geometry(bytes)?;
        let fec = FecFile {
            geometry,
            passes,
            container: hash.id(),
            hash,
        };
        let fec = self.outgoing.outbox.stage_geometry(&fec, &mut self.sync)?;
        self.sync.commit()?;
        self.outgoing
            .outbox
            .publish(name, fec, FinishedFile::found(path), &mut self.sync)?;
        self.sync.commit()?;
        Ok(true)
    }

    /// Makes the proofs of cables that must be sealed again under their serials.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn seal_again(&mut self, lost: Vec<MessageId>) -> Result<Vec<Issuing>, GateError> {
        let mut again = Vec::new();
        for id in lost {
            let Some(cable) = self.history.ledger().cables.get(&id).cloned() else {
                continue;
            };
            let Some(issued) = cable.issued.clone() else {
                continue;
            };
            let (serial, bundle) = (issued.serial, issued.bundle);
            if self.outgoing.slots.is_lost(bundle) {
                self.wait_for_operator(id);
                continue;
            }
            let proof = if self.outgoing.slots.is_erased(bundle, serial)? {
                let text = "its container is missing and its slot is used";
                Err(Blocked::Refused(text.to_owned()))
            } else {
                self.proof(&cable)
            };
            match proof {
                Ok(approved) => again.push(Issuing {
                    id,
                    approved,
                    serial,
                    bundle,
                }),
                Err(_) if self.history.doubt().is_some() => self.wait_for_operator(id),
                Err(Blocked::NotNow(_)) => self.wait_for_operator(id),
                Err(Blocked::Refused(reason) | Blocked::Damaged(reason)) => {
                    self.give_up(id, &reason)?;
                }
            }
        }
        Ok(again)
    }

    fn drop_stale_progress(&mut self) -> Result<(), GateError> {
        let live: BTreeSet<Serial> = self.live().iter().filter_map(Cable::serial).collect();
        for entry in durable::list(&self.state.progress())? {
            let entry = entry?;
            let serial = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Serial>().ok());
            if serial.is_some_and(|serial| !live.contains(&serial)) {
                remove_any(&entry.path())?;
            }
        }
        self.outgoing
            .progress
            .retain(|serial, _| live.contains(serial));
        Ok(())
    }
}

/// Whether the folder of a cable is needed still.
fn is_kept(cable: &Cable) -> bool {
    matches!(cable.phase, Phase::Open | Phase::Sealing)
}

fn hash_of(path: &Path) -> io::Result<Option<ContainerHash>> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Some(ContainerHash::from_bytes(
                *hasher.finalize().as_bytes(),
            )));
        }
        hasher.update(&buffer[..count]);
    }
}
