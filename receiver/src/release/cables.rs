//! Containers on their way in: each is opened, verified and staged, or waits with its reason.

use std::fs;
use std::io;
use std::sync::Arc;

use valise_common::alarm::Alarm;
use valise_common::host::folders::Role;
use valise_common::host::requests::SYSTEM_FAILURE;
use valise_common::ids::{BundleId, MessageId, Serial};
use valise_common::os::durable::{self, is_full};
use valise_common::os::room::disk_text;
use valise_common::units::Mono;

use crate::model::rows::{BundleState, CableRow, Claim};
use crate::release::arrivals::NOT_A_CONTAINER;
use crate::release::commit::{Batch, Ready};
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::release::inbox::{Due, Incoming, LARGE_BYTES, Origin};
use crate::release::worker::Task;
use crate::spool::containers::{OpenTask, OpenedFile, hash_container, open_container};
use crate::spool::publish::{BodyFolder, Syncing, stage};
use crate::spool::regular::is_in_the_way;
use crate::steps::open::{NotOpened, Opened};
use crate::steps::publish::StageName;
use crate::steps::verify::{Held, Judged, Policy, Verified, hold, verify};

/// How long a container waits when the disk was full.
const FULL_RETRY_US: u64 = 30_000_000;

/// How long a container waits that cannot be read.
const UNREADABLE_RETRY_US: u64 = 30_000_000;

impl Release {
    /// Takes the next small containers through, and gives the worker a large one. Returns whether more wait.
    pub(super) fn release_some(&mut self) -> Result<bool, ReleaseError> {
        if self.trust.is_none() {
            return Ok(false);
        }
        let mono = self.mono();
        let (batch, more) = self.next_batch(mono)?;
        self.commit(batch)?;
        self.give_large(mono)?;
        Ok(more)
    }

    /// Opens, judges and stages the next small containers. Returns them, and whether more wait.
    pub(super) fn next_batch(&mut self, mono: Mono) -> Result<(Batch, bool), ReleaseError> {
        let (chosen, more) = self.inbox.choose(mono);
        let mut batch = Batch::default();
        for (name, bytes) in chosen {
            let path = self.state.container(&name);
            let incoming = Incoming {
                name,
                path,
                bytes,
                origin: Origin::Inbox,
            };
            self.take_in(incoming, &mut batch)?;
        }
        Ok((batch, more))
    }

    fn give_large(&mut self, mono: Mono) -> Result<(), ReleaseError> {
        if self.worker.is_busy() {
            return Ok(());
        }
        let Some((name, bytes)) = self.inbox.choose_large(mono) else {
            return Ok(());
        };
        let path = self.state.container(&name);
        let mut batch = Batch::default();
        self.take_in(
            Incoming {
                name,
                path,
                bytes,
                origin: Origin::Inbox,
            },
            &mut batch,
        )?;
        self.commit(batch)
    }

    /// Opens a container and decides on it, or gives it to the second thread.
    pub(super) fn take_in(
        &mut self,
        incoming: Incoming,
        batch: &mut Batch,
    ) -> Result<(), ReleaseError> {
        let serial = incoming.name.serial;
        self.shown.foreign.forget(&incoming.path);
        if incoming.origin == Origin::Inbox && self.ledger.claimed().contains(serial) {
            return self.take_claimed(incoming, batch);
        }
        if self.lacks_slot(serial) {
            let due = Due::Permitted(self.mono().plus_us(UNREADABLE_RETRY_US));
            return self.wait_until(due, incoming, "the file of its slot is damaged");
        }
        let Some((bundle, slot)) = self.slot_of(serial)? else {
            batch.unopened.push((incoming, NotOpened::Slot));
            return Ok(());
        };
        let Some(list) = self.trust.as_ref().map(|signed| Arc::clone(&signed.list)) else {
            return Ok(());
        };
        let task = OpenTask {
            path: incoming.path.clone(),
            name: incoming.name,
            channel: self.host.channel,
            bundle,
            slot,
            list,
            now: self.now(),
            tmp: self.state.tmp(Role::Release),
        };
        if incoming.bytes > LARGE_BYTES {
            self.inbox.in_work = Some(serial);
            self.inbox.waiting.remove(&incoming.name);
            return Ok(self.worker.give(Task::Open(incoming, Box::new(task)))?);
        }
        let opened = open_container(&task);
        self.take_opened(incoming, opened, batch)
    }

    /// A container whose serial is claimed: a leftover of the one that claimed it, or a stranger.
    fn take_claimed(&mut self, incoming: Incoming, batch: &mut Batch) -> Result<(), ReleaseError> {
        let serial = incoming.name.serial;
        let claimed = self.ledger.register().cable(serial)?;
        let hash = match hash_container(&incoming.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.inbox.waiting.remove(&incoming.name);
                return Ok(());
            }
            Err(error) if is_in_the_way(&error) => return self.wait_to_read(incoming, &error),
            other => other?,
        };
        // A damaged copy is told by its name, which it had when it was whole.
        let is_damaged = hash.id() != incoming.name.container;
        let is_same = |cable: &CableRow| match is_damaged {
            true => cable.container.id() == incoming.name.container,
            false => cable.container == hash,
        };
        match claimed.filter(is_same) {
            None => batch.second.push(incoming),
            // The one that is held may come again, from a later pass: one whole copy of it is enough.
            Some(cable) if cable.claim == Claim::Quarantined => {
                let held = self.state.quarantined(&incoming.name);
                match hash_container(&held) {
                    Ok(found) if found == hash => self.delete(&incoming)?,
                    _ if is_damaged => self.hand_back(&incoming)?,
                    _ => {
                        durable::remove_any(&held)?;
                        self.move_to_quarantine(&incoming)?;
                        self.inbox.damaged.remove(serial);
                        self.sync.commit()?;
                    }
                }
            }
            // Start-up erased the slots of those that came further; only the file was left.
            Some(_) => self.delete(&incoming)?,
        }
        Ok(())
    }

    /// Decides on a container that was opened, or was not.
    pub(super) fn take_opened(
        &mut self,
        incoming: Incoming,
        opened: io::Result<OpenedFile>,
        batch: &mut Batch,
    ) -> Result<(), ReleaseError> {
        let serial = incoming.name.serial;
        match opened {
            Err(error) if is_full(&error) => self.wait_for_room(incoming, &error)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nobody but this process deletes there; without its file there is nothing to do but to answer.
                self.inbox.waiting.remove(&incoming.name);
                if let Origin::Quarantine { request, by } = incoming.origin {
                    let text = format!("the container of serial {serial} is gone from quarantine/");
                    self.refuse(&request, "quarantine-recheck", by, &text)?;
                }
            }
            Err(error) => return Err(error.into()),
            Ok(OpenedFile::Unreadable(error)) => self.wait_to_read(incoming, &error)?,
            Ok(OpenedFile::NotOpened(reason)) => batch.unopened.push((incoming, reason)),
            Ok(OpenedFile::Faulty {
                container,
                message_id,
                fault,
            }) => {
                let (code, reason) = (fault.code(), fault.to_string());
                let held = Held {
                    serial,
                    container,
                    message_id,
                    code,
                    reason,
                };
                batch.held.push((incoming, held));
            }
            Ok(OpenedFile::Refused(opened, refused)) => {
                batch.held.push((incoming, hold(opened, &refused)));
            }
            Ok(OpenedFile::Opened(opened, judged, body)) => {
                self.take_sound(incoming, opened, judged, body, batch)?;
            }
        }
        Ok(())
    }

    fn take_sound(
        &mut self,
        incoming: Incoming,
        opened: Opened,
        judged: Judged,
        body: BodyFolder,
        batch: &mut Batch,
    ) -> Result<(), ReleaseError> {
        let now = self.now();
        let Some(signed) = &self.trust else {
            return Ok(());
        };
        let policy = Policy {
            channel: self.host.channel,
            list: &signed.list,
            now,
        };
        let message_id = opened.preamble().manifest().message_id;
        let seen = self.seen(&message_id)?;
        match verify(opened, Some(judged), &policy, |_| seen) {
            Err(held) => batch.held.push((incoming, held)),
            Ok(cable) => {
                self.inbox.reserved.insert(message_id, cable.serial());
                if incoming.bytes > LARGE_BYTES {
                    self.inbox.in_work = Some(incoming.name.serial);
                    let (list, groups) = (signed.clone(), self.groups.clone());
                    self.worker
                        .give(Task::Stage(incoming, cable, body, list, groups))?;
                    return Ok(());
                }
                let staged = stage(
                    &self.state,
                    body,
                    &cable,
                    signed,
                    &self.groups,
                    &mut Syncing::Batch(&mut self.sync),
                );
                self.take_staged(incoming, cable, staged, batch)?;
            }
        }
        Ok(())
    }

    /// Takes a staged cable into the batch.
    pub(super) fn take_staged(
        &mut self,
        incoming: Incoming,
        cable: Verified,
        staged: io::Result<Vec<StageName>>,
        batch: &mut Batch,
    ) -> Result<(), ReleaseError> {
        match staged {
            Ok(names) => batch.ready.push(Ready {
                incoming,
                cable,
                names,
            }),
            Err(error) if is_full(&error) => {
                self.unstage(&cable)?;
                self.wait_for_room(incoming, &error)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes back what was staged of a cable; its message-id is free again.
    pub(super) fn unstage(&mut self, cable: &Verified) -> Result<(), ReleaseError> {
        let message_id = cable.manifest().message_id;
        self.inbox.reserved.remove(&message_id);
        for mailbox in &cable.manifest().to {
            let name = StageName {
                serial: cable.serial(),
                message_id,
                mailbox: mailbox.clone(),
            };
            self.eraser
                .put(&self.state.stage().join(name.to_string()))?;
        }
        Ok(())
    }

    /// The serial under which a message-id was published, or is about to be.
    fn seen(&self, message_id: &MessageId) -> Result<Option<Serial>, ReleaseError> {
        match self.inbox.reserved.get(message_id) {
            Some(serial) => Ok(Some(*serial)),
            None => Ok(self.ledger.register().seen(message_id)?),
        }
    }

    /// Whether the file that should hold the slot of a serial is damaged, so that nobody knows if the slot was used.
    fn lacks_slot(&self, serial: Serial) -> bool {
        let bundle = self.ledger.bundle_of(serial);
        bundle.is_some_and(|row| {
            row.state == BundleState::Live && !self.slots.holds(row.bundle, serial)
        })
    }

    fn slot_of(
        &self,
        serial: Serial,
    ) -> Result<Option<(BundleId, valise_common::seal::SlotSecret)>, ReleaseError> {
        let Some(bundle) = self.ledger.bundle_of(serial).map(|row| row.bundle) else {
            return Ok(None);
        };
        let Some(slots) = self.slots.of(bundle) else {
            return Ok(None);
        };
        Ok(slots.slot(serial)?.map(|slot| (bundle, slot)))
    }

    /// A full disk loses nothing: the container stays where it is and is tried again.
    fn wait_for_room(&mut self, incoming: Incoming, error: &io::Error) -> Result<(), ReleaseError> {
        let now = self.now();
        tracing::warn!("a cable waits for room on the disk: {error}");
        let root = self.state.root();
        self.shown
            .alarms
            .set(Alarm::Disk, now, 2, || disk_text(root, "cables wait"));
        let due = Due::Room(self.mono().plus_us(FULL_RETRY_US));
        self.wait_until(due, incoming, "the disk is full; make room and ask again")
    }

    /// Lets a container wait that cannot be read: whoever may write in the folder can put something into its place, and a
    /// backup or a wrong installation can take the right to read it away.
    fn wait_to_read(&mut self, incoming: Incoming, error: &io::Error) -> Result<(), ReleaseError> {
        let is_file = fs::symlink_metadata(&incoming.path).is_ok_and(|found| found.is_file());
        let until = self.mono().plus_us(UNREADABLE_RETRY_US);
        let due = if is_file && error.kind() == io::ErrorKind::PermissionDenied {
            let folder = incoming.path.parent().unwrap_or(&incoming.path).display();
            let advice = format!(
                ", and release may not read it. It is a cable that arrived: do not delete it, and do not have it sent again. \
                 Run chown --reference={folder} on it too; release tries it again every half minute"
            );
            self.note_foreign(Trouble::Unreadable, &incoming.path, &advice);
            Due::Permitted(until)
        } else {
            self.note_foreign(Trouble::Foreign, &incoming.path, NOT_A_CONTAINER);
            Due::Readable(until)
        };
        self.wait_until(due, incoming, "release may not read its container")
    }

    /// Lets a container wait in the inbox; a recheck is answered instead.
    fn wait_until(&mut self, due: Due, incoming: Incoming, why: &str) -> Result<(), ReleaseError> {
        match incoming.origin {
            Origin::Inbox => {
                self.inbox.wait(incoming.name, incoming.bytes, due);
                Ok(())
            }
            Origin::Quarantine { request, by } => {
                let text = format!("{SYSTEM_FAILURE}: {why}");
                self.refuse(&request, "quarantine-recheck", by, &text)
            }
        }
    }
}
