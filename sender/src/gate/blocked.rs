//! What keeps a cable from being sealed, for a while or for good.

use std::io::ErrorKind;

use valise_common::alarm::{Alarm, Cause};
use valise_common::ids::MessageId;
use valise_common::os::durable::is_full;
use valise_common::os::room::disk_text;

use super::error::GateError;
use super::host::Gate;
use crate::model::event::Event;
use crate::model::ledger::{Cable, Phase};
use crate::spool::pending::PendingError;
use crate::steps::approve::{Approved, approve};
use crate::steps::seal::{PartChanged, SealingError};

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
    /// Makes the proof of a cable from the files in its folder.
    ///
    /// # Errors
    /// [`Blocked`] with the cause, and whether it may end by itself.
    pub(super) fn proof(&self, cable: &Cable) -> Result<Approved, Blocked> {
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
        self.outgoing.progress.remove(&issued.serial);
        self.waiting.unblock(&id);
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
    pub(super) fn is_sealing(&self, id: &MessageId) -> bool {
        let cable = self.history.ledger().cables.get(id);
        cable.is_some_and(|cable| match cable.phase {
            Phase::Sealing => true,
            Phase::Sealed => cable
                .serial()
                .is_some_and(|serial| self.outgoing.in_sealing.contains(&serial)),
            _ => false,
        })
    }

    /// Raises the alarm of a waiting cable whose files the disk changed.
    pub(super) fn note_damaged(&mut self, id: MessageId, text: &str) {
        let repair = format!("valise-sender withdraw {id}, then submit the cable again");
        let cause = Cause::repaired_by(text, repair);
        self.waiting
            .trouble(&mut self.shown, id, Alarm::PendingDamaged, cause);
    }

    pub(super) fn block(&mut self, id: MessageId, reason: String) {
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
}
