//! Who may read a waiting cable: its folder is open to the officers and the drafter who need to know of it, by the trust
//! list in force.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use valise_common::alarm::Alarm;
use valise_common::ids::{MailboxId, PersonId};
use valise_common::label::Label;
use valise_common::os::clock;
use valise_common::os::durable::{Readers, share_folder};
use valise_common::trust::{Person, Role};

use super::host::Gate;
use crate::model::ledger::Phase;

/// The time after which a folder that stayed closed is opened again.
const SHARE_AGAIN_US: u64 = 10_000_000;

impl Gate {
    /// Returns who may read a cable. If nobody of the list is limited below it, that is the officers' group, as an
    /// administrator of the host has filled it; without a list it is nobody.
    pub(super) fn readers_of(
        &self,
        drafter: &PersonId,
        label: &Label,
        to: &[MailboxId],
    ) -> Readers {
        let Some(list) = &self.trust else {
            return Readers::Users(BTreeSet::new());
        };
        let knows = |person: &Person| list.check_need_to_know(person, label, to).is_ok();
        if list.persons().iter().all(knows) {
            return Readers::Group;
        }
        let reads = |id: &PersonId| {
            list.person(id).is_some_and(|person| {
                (person.has_role(Role::Officer) || person.id == *drafter) && knows(person)
            })
        };
        let users = self.persons.iter().filter(|(_, id)| reads(id));
        Readers::Users(users.map(|(uid, _)| *uid).collect())
    }

    /// Opens a cable's folder to its readers and closes it to all others. One that cannot be opened to some stays closed to
    /// all, with an alarm.
    pub(super) fn share(&mut self, folder: &Path, readers: &Readers) {
        match share_folder(folder, readers) {
            Ok(()) => {}
            // It has an alarm of its own.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!(
                    "{} cannot be opened to the users who need to know ({error})",
                    folder.display()
                );
                self.alarm(Alarm::PendingClosed, text);
                self.share_again = Some(clock::mono_now().plus_us(SHARE_AGAIN_US));
            }
        }
    }

    /// Shares every waiting cable again, some time after one could not be opened to its readers.
    pub(super) fn share_what_stayed_closed(&mut self) {
        if self.share_again.is_some_and(|due| due <= clock::mono_now()) {
            self.share_waiting();
        }
    }

    /// Shares every waiting cable again: at the start, and when another list is in force.
    pub(super) fn share_waiting(&mut self) {
        self.share_again = None;
        let waits = |phase| matches!(phase, Phase::Open | Phase::Sealing);
        let cables = self.ledger.cables.values();
        let waiting: Vec<_> = cables
            .filter(|cable| waits(cable.phase))
            .map(|cable| {
                let readers = self.readers_of(&cable.drafter, &cable.label, &cable.to);
                (self.state.pending_of(&cable.id), readers)
            })
            .collect();
        for (folder, readers) in waiting {
            self.share(&folder, &readers);
        }
        if self.share_again.is_none() {
            self.alarms.clear(Alarm::PendingClosed);
        }
    }
}
