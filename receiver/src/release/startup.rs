//! What a crash left, taken up. Every step may itself be killed anywhere: done again, it changes nothing.
//!
//! | log says | found | becomes |
//! |---|---|---|
//! | nothing | a folder in the stage | removed; its container is still in the inbox |
//! | publishing | a folder in the stage | made visible |
//! | publishing | a folder in the stage, whose name someone keeps taking | tried again while release runs |
//! | publishing | no folder in the stage | it was visible already; its reader may have moved it |
//! | released | slot or container | erased, deleted |
//! | quarantined | container in the inbox | moved to quarantine |
//! | discarded | slot or container | erased, deleted |
//! | bundle void | unused slots | erased, but those of containers that were in the inbox then and still are |
//! | bundle created | the courier's files under their hidden name | shown |

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;

use valise_common::alarm::Alarm;
use valise_common::host::folders::{InboxName, Role};
use valise_common::host::trust_store::SignedList;
use valise_common::ids::BundleId;
use valise_common::os::durable;

use crate::model::event::Event;
use crate::model::reply::COURIER;
use crate::model::rows::{BundleState, CableRow, Claim};
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::spool::bundle_store;
use crate::spool::publish::make_mailbox;
use crate::spool::regular::is_in_the_way;
use crate::steps::publish::StageName;

impl Release {
    /// Takes up what a crash left.
    pub(super) fn start_up(&mut self) -> Result<(), ReleaseError> {
        durable::clear_tmp(&self.state.tmp(Role::Release), |_| false)?;
        durable::finish_erasing(self.state.root())?;
        durable::finish_erasing(&self.state.slots())?;
        self.requests.take_over()?;
        let imported = self.ledger.register().trust()?;
        let store = self.state.trust_store();
        self.trust = match imported {
            None => {
                store.discard_what_can_be();
                None
            }
            Some((_, sha256)) => {
                let is_named = |list: &SignedList| list.sha256().to_string() == sha256;
                match store.load(&self.host.administrators, is_named)? {
                    Ok(verified) => Some(verified),
                    Err(fault) => {
                        let now = self.now();
                        self.shown.alarms.set(Alarm::TrustDamaged, now, 1, || fault);
                        None
                    }
                }
            }
        };
        self.make_mailboxes()?;
        self.recover_bundles()?;
        self.finish_publishing()?;
        self.clear_stage()?;
        self.finish_erasing()?;
        self.finish_quarantine()
    }

    pub(super) fn make_mailboxes(&self) -> Result<(), ReleaseError> {
        let Some(signed) = &self.trust else {
            return Ok(());
        };
        for mailbox in signed.list.mailboxes() {
            make_mailbox(&self.state, &mailbox.id, &self.groups)?;
        }
        Ok(())
    }

    fn recover_bundles(&mut self) -> Result<(), ReleaseError> {
        let known: Vec<_> = self.ledger.bundles().iter().map(|row| row.bundle).collect();
        bundle_store::recover(&self.state, &known)?;
        self.recover_courier()?;
        self.hand_over()?;
        // What was placed for a bundle that the log does not know. Before the next key is placed its name is cleared anyway.
        match self.state.handover().clear_placed() {
            Err(error) if is_in_the_way(&error) => {
                for path in self.state.handover().placed_paths()? {
                    let advice = ", cannot be deleted, and no bundle is known for it: destroy it if it holds a key";
                    self.note_foreign(Trouble::Foreign, &path, advice);
                }
            }
            other => other?,
        }
        self.open_slots()
    }

    /// The courier's files of a bundle that is in force are shown; those of one that was never committed are worth nothing.
    fn recover_courier(&self) -> Result<(), ReleaseError> {
        let courier = self.state.root().join(COURIER);
        let entries = match fs::read_dir(&courier) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let hidden = name.to_str().and_then(|name| name.strip_prefix('.'));
            let Some(bundle) = hidden.and_then(|number| number.parse::<BundleId>().ok()) else {
                continue;
            };
            if self.ledger.bundle(bundle).is_some() {
                self.show_to_courier(bundle)?;
            } else {
                durable::erase(&entry.path())?;
            }
        }
        durable::finish_erasing(&courier)?;
        Ok(())
    }

    /// Opens the slots of bundles that are not open yet. A file that is damaged, gone or covered is left out, and told by
    /// [`Release::watch_slot_files`].
    pub(super) fn open_slots(&mut self) -> Result<(), ReleaseError> {
        let (state, bundles) = (&self.state, self.ledger.bundles());
        Ok(self.slots.open_all(state, self.host.channel, bundles)?)
    }

    /// Publishes whatever the log calls so and is not visible everywhere yet. Returns how many cables are now.
    pub(super) fn finish_publishing(&mut self) -> Result<u64, ReleaseError> {
        let rows = self.ledger.register().cables(Some(Claim::Publishing))?;
        self.inbox.blocked.clear();
        for row in &rows {
            for name in stage_names(row) {
                // The list may have lost the mailbox since; its cable was committed all the same.
                make_mailbox(&self.state, &name.mailbox, &self.groups)?;
                self.publish_folder(&name)?;
            }
        }
        self.sync.commit()?;
        self.settle_published(&rows)
    }

    /// Takes cables as released whose folders are visible; blocked ones stay as they are. Returns how many are released.
    pub(super) fn settle_published(&mut self, rows: &[CableRow]) -> Result<u64, ReleaseError> {
        let now = self.now();
        let mut count = 0;
        for row in rows {
            if let Some(message_id) = row.message_id
                && !self.inbox.blocked.contains(&row.serial)
            {
                let serial = row.serial;
                self.ledger
                    .append(now, Event::Released { serial, message_id });
                count += 1;
            }
        }
        self.ledger.commit()?;
        if self.inbox.blocked.is_empty() {
            self.shown.alarms.set(Alarm::Blocked, now, 0, String::new);
        }
        for row in rows {
            if !self.inbox.blocked.contains(&row.serial) {
                self.erase_claimed(row)?;
            }
        }
        if count > 0 {
            self.slots.sync()?;
        }
        Ok(count)
    }

    /// Folders whose publishing was not committed. Their containers are still in the inbox, and are opened again.
    pub(super) fn clear_stage(&mut self) -> Result<(), ReleaseError> {
        let mut blocked = BTreeSet::new();
        if !self.inbox.blocked.is_empty() {
            let rows = self.ledger.register().cables(Some(Claim::Publishing))?;
            let names = rows.iter().flat_map(stage_names);
            blocked.extend(names.map(|name| OsString::from(name.to_string())));
        }
        for entry in durable::list(&self.state.stage())? {
            let entry = entry?;
            if !blocked.contains(&entry.file_name()) {
                self.eraser.put(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Destroys what opened a cable that is released or discarded, and its copy in quarantine; the slots are to be synced.
    fn erase_claimed(&self, row: &CableRow) -> Result<(), ReleaseError> {
        let bundle = self
            .ledger
            .bundle_of(row.serial)
            .map(|bundle| bundle.bundle);
        if let Some(slots) = bundle.and_then(|bundle| self.slots.of(bundle))
            && slots.slot(row.serial)?.is_some()
        {
            slots.erase(row.serial)?;
        }
        let name = InboxName {
            serial: row.serial,
            container: row.container.id(),
        };
        Ok(durable::remove_any(&self.state.quarantined(&name))?)
    }

    /// Slots that the log says are used or destroyed.
    fn finish_erasing(&mut self) -> Result<(), ReleaseError> {
        let gone = |row: &CableRow| matches!(row.claim, Claim::Released | Claim::Discarded);
        for row in self
            .ledger
            .register()
            .cables(None)?
            .iter()
            .filter(|row| gone(row))
        {
            self.erase_claimed(row)?;
        }
        for row in self.ledger.bundles() {
            if row.state == BundleState::Void {
                self.erase_unused(row.bundle)?;
            } else if let Some(slots) = self.slots.of(row.bundle) {
                slots.sync()?;
            }
        }
        Ok(())
    }

    fn finish_quarantine(&mut self) -> Result<(), ReleaseError> {
        for row in self.ledger.register().cables(Some(Claim::Quarantined))? {
            let name = InboxName {
                serial: row.serial,
                container: row.container.id(),
            };
            let (from, to) = (self.state.container(&name), self.state.quarantined(&name));
            let here = fs::symlink_metadata(&from).is_ok();
            if here && fs::symlink_metadata(&to).is_err() {
                durable::rename_new(&from, &to)?;
                self.sync.add_dir(self.state.quarantine());
                self.sync.add_dir(self.state.inbox());
            }
        }
        for entry in durable::list(&self.state.quarantine())? {
            let entry = entry?;
            let known = match InboxName::of_container(&entry.file_name()) {
                Some(name) => self
                    .ledger
                    .register()
                    .cable(name.serial)?
                    .is_some_and(|row| {
                        row.claim == Claim::Quarantined && row.container.id() == name.container
                    }),
                None => false,
            };
            if !known {
                let advice = ", and the register does not know it";
                self.note_foreign(Trouble::Foreign, &entry.path(), advice);
            }
        }
        self.sync.commit()?;
        Ok(())
    }

    /// Logs the start of the daemon.
    pub(super) fn start_log(&mut self) -> Result<(), ReleaseError> {
        let software_keys = self
            .trust
            .as_ref()
            .is_some_and(|signed| signed.list.allow_software_keys());
        if software_keys {
            tracing::warn!(
                "the trust list lets software keys approve: for exercises only, never for real cables"
            );
        }
        let now = self.now();
        let copying = durable::copies_on_write(self.state.root())?;
        self.shown.alarms.set(
            Alarm::CopiesOnWrite,
            now,
            u64::from(copying.is_some()),
            || durable::copies_on_write_text(self.state.root(), copying.unwrap_or_default()),
        );
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.ledger.append(
            now,
            Event::Started {
                version,
                software_keys,
            },
        );
        Ok(self.ledger.checkpoint(self.mono())?)
    }
}

fn stage_names(row: &CableRow) -> Vec<StageName> {
    let Some(message_id) = row.message_id else {
        return Vec::new();
    };
    let mailboxes = row.mailboxes.as_deref().unwrap_or_default().split(' ');
    mailboxes
        .filter_map(|mailbox| mailbox.parse().ok())
        .map(|mailbox| StageName {
            serial: row.serial,
            message_id,
            mailbox,
        })
        .collect()
}
