//! Cables that wait for officers, for their slot or for room, and what keeps each from going on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::folders::SenderState;
use valise_common::ids::MessageId;
use valise_common::os::clock;
use valise_common::os::durable::{Readers, share_folder};
use valise_common::units::Mono;

use super::authority::Authority;
use super::shown::Shown;
use crate::model::ledger::{Ledger, Phase};
use crate::spool::pending::Pending;

/// The time after which a folder that stayed closed is opened again.
const SHARE_AGAIN_US: u64 = 10_000_000;

/// Cables that are not in the outbox yet.
pub struct Waiting {
    state: SenderState,
    /// Their folders.
    pub pending: Pending,
    /// Why cables with a full quorum are not being sealed.
    blocked: BTreeMap<MessageId, String>,
    /// Cables that an alarm is about.
    troubled: BTreeMap<MessageId, Alarm>,
    /// When folders are opened to their readers again, if one stayed closed.
    share_again: Option<Mono>,
}

impl Waiting {
    /// The folders below `pending/`.
    pub fn new(state: &SenderState) -> Self {
        Self {
            state: state.clone(),
            pending: Pending::new(state),
            blocked: BTreeMap::new(),
            troubled: BTreeMap::new(),
            share_again: None,
        }
    }

    /// Why a cable with a full quorum is not being sealed.
    pub fn blocked(&self, id: &MessageId) -> Option<&String> {
        self.blocked.get(id)
    }

    /// Notes what keeps a cable from being sealed. Returns whether that is new.
    pub fn block(&mut self, id: MessageId, reason: String) -> bool {
        let before = self.blocked.insert(id, reason);
        before.as_ref() != self.blocked.get(&id)
    }

    /// Notes that nothing keeps a cable from being sealed.
    pub fn unblock(&mut self, id: &MessageId) {
        self.blocked.remove(id);
    }

    /// Raises an alarm about a cable that lasts as long as its cause.
    pub fn trouble(&mut self, shown: &mut Shown, id: MessageId, alarm: Alarm, cause: Cause) {
        shown.alarm(alarm, cause);
        self.troubled.insert(id, alarm);
    }

    /// Ends the alarms of cables that ended, were sealed, or whose files are as they were.
    pub fn check_troubled(&mut self, ledger: &Ledger, shown: &mut Shown) {
        if self.troubled.is_empty() {
            return;
        }
        let troubled = std::mem::take(&mut self.troubled);
        let lasts = |id: &MessageId, alarm: Alarm| {
            let Some(cable) = ledger.cables.get(id) else {
                return false;
            };
            let is_open = cable.phase == Phase::Open;
            match alarm {
                Alarm::SealingWaits => cable.phase == Phase::Sealing,
                Alarm::PendingMissing => is_open && !self.pending.exists(id),
                _ => is_open && self.pending.check(id, &cable.approvals).is_err(),
            }
        };
        let (left, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = troubled
            .into_iter()
            .partition(|(id, alarm)| lasts(id, *alarm));
        for alarm in gone.into_values() {
            if !left.values().any(|other| *other == alarm) {
                shown.alarms.clear(alarm);
            }
        }
        self.troubled = left;
    }

    /// Opens a cable's folder to its readers and closes it to all others. If it cannot be opened to some, it stays closed to
    /// all, with an alarm.
    pub fn share(&mut self, folder: &Path, readers: &Readers, shown: &mut Shown) {
        match share_folder(folder, readers) {
            Ok(()) => {}
            // A missing folder has an alarm of its own.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!(
                    "{} cannot be opened to the users who need to know ({error})",
                    folder.display()
                );
                shown.alarm(Alarm::PendingClosed, text);
                self.share_again = Some(clock::mono_now().plus_us(SHARE_AGAIN_US));
            }
        }
    }

    /// Shares every waiting cable again, some time after one could not be opened to its readers.
    pub fn share_what_stayed_closed(
        &mut self,
        ledger: &Ledger,
        authority: &Authority,
        shown: &mut Shown,
    ) {
        if self.share_again.is_some_and(|due| due <= clock::mono_now()) {
            self.share_all(ledger, authority, shown);
        }
    }

    /// Shares every waiting cable again: at the start, and when another list is in force.
    pub fn share_all(&mut self, ledger: &Ledger, authority: &Authority, shown: &mut Shown) {
        self.share_again = None;
        let waits = |phase| matches!(phase, Phase::Open | Phase::Sealing);
        for cable in ledger.cables.values().filter(|cable| waits(cable.phase)) {
            let readers = authority.readers_of(&cable.drafter, &cable.label, &cable.to);
            self.share(&self.state.pending_of(&cable.id), &readers, shown);
        }
        if self.share_again.is_none() {
            shown.alarms.clear(Alarm::PendingClosed);
        }
    }
}
