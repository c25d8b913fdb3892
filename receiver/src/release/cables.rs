//! Containers on their way out: many are opened, verified and staged, then share the syncs that commit them.
//!
//! The order of one batch: ① stage every mailbox's folder and sync ② commit "publishing" ③ rename each ④ commit
//! "released" ⑤ erase the slots and delete the containers. Whatever a crash leaves of it, `startup` takes up.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::folders::{InboxName, Role};
use valise_common::host::requests::{Answer, SYSTEM_FAILURE};
use valise_common::ids::{BundleId, MessageId, Serial};
use valise_common::os::durable::{self, is_full};
use valise_common::os::room::disk_text;
use valise_common::units::{Mono, UtcTime};

use crate::model::event::{Asker, Event};
use crate::model::rows::{BundleState, CableRow, Claim};
use crate::release::daemon::{Due, Release, ReleaseError, Waiting};
use crate::release::foreign::Trouble;
use crate::release::observe::{NOT_A_CONTAINER, PUT_ASIDE};
use crate::release::worker::Task;
use crate::spool::containers::{OpenTask, OpenedFile, hash_container, open_container};
use crate::spool::publish::{BodyFolder, Published, Syncing, publish, stage};
use crate::spool::regular::is_in_the_way;
use crate::steps::open::{NotOpened, Opened};
use crate::steps::publish::StageName;
use crate::steps::verify::{
    Held, Judged, Policy, StillValid, Verified, hold, verify, verify_again,
};
use valise_common::serial_set::SerialSet;

/// Containers beyond this size go to the second thread.
pub const LARGE_BYTES: u64 = 4 << 20;

/// Containers of one batch: enough to share a sync, few enough that one that arrives now waits some milliseconds only.
const BATCH_CONTAINERS: usize = 64;

/// Bytes of one batch's containers.
const BATCH_BYTES: u64 = 16 << 20;

/// How long a container waits when the disk was full.
const FULL_RETRY_US: u64 = 30_000_000;

/// How long a container waits that cannot be read.
const UNREADABLE_RETRY_US: u64 = 30_000_000;

/// How long a cable waits whose name someone keeps taking.
const BLOCKED_RETRY_US: u64 = 30_000_000;

/// Serials whose containers were logged as unopened or second; beyond it they are only counted.
const NOTED_MAX: usize = 4_096;

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the inbox.
    Inbox,
    /// In quarantine; an operator asked for a recheck.
    Quarantine {
        /// The name of the request.
        request: String,
        /// Who asked.
        by: Asker,
    },
}

/// A container that is being taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What its name says.
    pub name: InboxName,
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Where it stands.
    pub origin: Origin,
}

/// A cable whose folders are staged.
#[derive(Debug)]
pub struct Ready {
    /// Its container.
    pub incoming: Incoming,
    /// The cable.
    pub cable: Verified,
    /// Its folders in the stage.
    pub names: Vec<StageName>,
}

/// What a batch will commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// To publish.
    pub ready: Vec<Ready>,
    /// To hold.
    pub held: Vec<(Incoming, Held)>,
    /// Did not open.
    pub unopened: Vec<(Incoming, NotOpened)>,
    /// For a serial that another container claimed.
    pub second: Vec<Incoming>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self.held.is_empty()
            && self.unopened.is_empty()
            && self.second.is_empty()
    }
}

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
        let mut chosen = Vec::new();
        let mut serials = BTreeSet::new();
        let mut bytes: u64 = 0;
        let mut more = false;
        for (name, waiting) in &self.waiting {
            if !waiting.due.is_at(mono)
                || waiting.bytes > LARGE_BYTES
                || self.in_work == Some(name.serial)
            {
                continue;
            }
            if chosen.len() >= BATCH_CONTAINERS || bytes >= BATCH_BYTES {
                more = true;
                break;
            }
            // A second one for the same serial is judged when the first one's fate is known.
            if serials.insert(name.serial) {
                bytes = bytes.saturating_add(waiting.bytes);
                chosen.push((*name, waiting.bytes));
            } else {
                more = true;
            }
        }
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
        let large = self
            .waiting
            .iter()
            .find(|(_, waiting)| waiting.bytes > LARGE_BYTES && waiting.due.is_at(mono));
        let Some((name, bytes)) = large.map(|(name, waiting)| (*name, waiting.bytes)) else {
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
        self.foreign.forget(&incoming.path);
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
            self.in_work = Some(serial);
            self.waiting.remove(&incoming.name);
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
                self.waiting.remove(&incoming.name);
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
                        self.damaged.remove(serial);
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
                // Nobody but this process deletes there; without its file there is nothing to do.
                self.waiting.remove(&incoming.name);
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
                self.reserved.insert(message_id, cable.serial());
                if incoming.bytes > LARGE_BYTES {
                    self.in_work = Some(incoming.name.serial);
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
    fn unstage(&mut self, cable: &Verified) -> Result<(), ReleaseError> {
        let message_id = cable.manifest().message_id;
        self.reserved.remove(&message_id);
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

    /// Judges staged cables again, by the list and the time of their publishing: while a large one was staged, another
    /// list may have come into force, or its time may have ended.
    fn judge_staged(&mut self, batch: &mut Batch, now: UtcTime) -> Result<(), ReleaseError> {
        let Some(list) = self.trust.as_ref().map(|signed| Arc::clone(&signed.list)) else {
            return Ok(());
        };
        let policy = Policy {
            channel: self.host.channel,
            list: &list,
            now,
        };
        for ready in std::mem::take(&mut batch.ready) {
            match verify_again(&ready.cable, &policy) {
                Ok(StillValid::AsIs) => batch.ready.push(ready),
                Ok(StillValid::OtherList) => {
                    self.unstage(&ready.cable)?;
                    self.take_in_anew(ready.incoming);
                }
                Err(held) => {
                    self.unstage(&ready.cable)?;
                    batch.held.push((ready.incoming, held));
                }
            }
        }
        Ok(())
    }

    /// Lets a container wait its turn once more. Only a newer list brings that about, so that it ends.
    fn take_in_anew(&mut self, incoming: Incoming) {
        match incoming.origin {
            Origin::Inbox => {
                let (bytes, due) = (incoming.bytes, Due::Now);
                self.waiting.insert(incoming.name, Waiting { bytes, due });
            }
            Origin::Quarantine { .. } => self.rechecks.push_back(incoming),
        }
    }

    /// The serial under which a message-id was published, or is about to be.
    fn seen(&self, message_id: &MessageId) -> Result<Option<Serial>, ReleaseError> {
        match self.reserved.get(message_id) {
            Some(serial) => Ok(Some(*serial)),
            None => Ok(self.ledger.register().seen(message_id)?),
        }
    }

    /// Whether the file that should hold the slot of a serial is damaged, so that nobody knows if the slot was used.
    fn lacks_slot(&self, serial: Serial) -> bool {
        let bundle = self.ledger.bundle_of(serial);
        bundle.is_some_and(|row| {
            let slots = self.slots.get(&row.bundle);
            row.state == BundleState::Live && !slots.is_some_and(|slots| slots.holds(serial))
        })
    }

    fn slot_of(
        &self,
        serial: Serial,
    ) -> Result<Option<(BundleId, valise_common::seal::SlotSecret)>, ReleaseError> {
        let Some(bundle) = self.ledger.bundle_of(serial).map(|row| row.bundle) else {
            return Ok(None);
        };
        let Some(slots) = self.slots.get(&bundle) else {
            return Ok(None);
        };
        Ok(slots.slot(serial)?.map(|slot| (bundle, slot)))
    }

    /// A full disk loses nothing: the container stays where it is and is tried again.
    fn wait_for_room(&mut self, incoming: Incoming, error: &io::Error) -> Result<(), ReleaseError> {
        let now = self.now();
        tracing::warn!("a cable waits for room on the disk: {error}");
        let root = self.state.root();
        self.alarms
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
                let bytes = incoming.bytes;
                self.waiting.insert(incoming.name, Waiting { bytes, due });
                Ok(())
            }
            Origin::Quarantine { request, by } => {
                let text = format!("{SYSTEM_FAILURE}: {why}");
                self.refuse(&request, "quarantine-recheck", by, &text)
            }
        }
    }

    /// Takes a batch through the steps ① to ⑤.
    pub(super) fn commit(&mut self, mut batch: Batch) -> Result<(), ReleaseError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        self.commit_verdicts(&mut batch)?;
        self.make_visible(&batch)?;
        self.settle(&batch)?;
        self.answer_rechecks(&batch)
    }

    /// Steps ① and ②: everything staged is durable, and then the log has the verdicts.
    pub(super) fn commit_verdicts(&mut self, batch: &mut Batch) -> Result<(), ReleaseError> {
        self.sync.commit()?;
        // A cable is judged by the list that is in force now, and at the time of its line.
        let now = self.now();
        self.judge_staged(batch, now)?;
        self.append_verdicts(batch, now);
        Ok(self.ledger.commit()?)
    }

    /// Step ③: folders get their names in the mailboxes, held containers theirs in quarantine.
    fn make_visible(&mut self, batch: &Batch) -> Result<(), ReleaseError> {
        for ready in &batch.ready {
            for name in &ready.names {
                self.publish_folder(name)?;
            }
        }
        for (incoming, _) in &batch.held {
            if incoming.origin == Origin::Inbox {
                self.move_to_quarantine(incoming)?;
            }
        }
        Ok(self.sync.commit()?)
    }

    /// Steps ④ and ⑤: the log has what is visible; then slots and containers go.
    pub(super) fn settle(&mut self, batch: &Batch) -> Result<(), ReleaseError> {
        let now = self.now();
        let visible = |ready: &&Ready| !self.blocked.contains(&ready.cable.serial());
        let visible: Vec<&Ready> = batch.ready.iter().filter(visible).collect();
        for ready in &visible {
            let (serial, message_id) = (ready.cable.serial(), ready.cable.manifest().message_id);
            self.ledger
                .append(now, Event::Released { serial, message_id });
        }
        self.ledger.commit()?;
        self.counters.released += u64::try_from(visible.len()).unwrap_or(0);
        let mut erased = BTreeSet::new();
        for ready in &visible {
            let serial = ready.cable.serial();
            if let Some(bundle) = self.ledger.bundle_of(serial).map(|row| row.bundle)
                && let Some(slots) = self.slots.get(&bundle)
            {
                slots.erase(serial)?;
                erased.insert(bundle);
            }
        }
        for bundle in erased {
            if let Some(slots) = self.slots.get(&bundle) {
                slots.sync()?;
            }
        }
        for ready in &batch.ready {
            // From here on the register knows it.
            self.reserved.remove(&ready.cable.manifest().message_id);
        }
        // Blocked cables too: their folders are staged for good.
        for (incoming, reason) in &batch.unopened {
            if reason.is_damage() {
                self.hand_back(incoming)?;
            }
        }
        let forged = batch
            .unopened
            .iter()
            .filter(|(_, reason)| !reason.is_damage());
        let gone = batch.ready.iter().map(|ready| &ready.incoming);
        let gone = gone.chain(forged.map(|(incoming, _)| incoming));
        for incoming in gone.chain(&batch.second) {
            // A recheck that did not open any more destroys nothing.
            if incoming.origin == Origin::Inbox || self.was_released(incoming, &batch.ready) {
                self.delete(incoming)?;
            }
        }
        for (incoming, _) in &batch.unopened {
            self.erase_if_void(incoming.name.serial)?;
        }
        Ok(())
    }

    /// Makes one staged folder visible, or reports who keeps it from that.
    pub(super) fn publish_folder(&mut self, name: &StageName) -> Result<(), ReleaseError> {
        let published = publish(&self.state, name, &mut self.sync)?;
        self.note_published(name, published);
        Ok(())
    }

    pub(super) fn note_published(&mut self, name: &StageName, published: Published) {
        match published {
            Published::Now | Published::Before => {}
            Published::InPlaceOf(aside) => {
                self.note_foreign(Trouble::Foreign, &aside, PUT_ASIDE);
            }
            Published::Blocked => {
                self.blocked.insert(name.serial);
                self.blocked_until = self.mono().plus_us(BLOCKED_RETRY_US);
                let now = self.now();
                self.alarms.set(Alarm::Blocked, now, 1, || {
                    format!(
                        "someone keeps taking the name of serial {} in mailbox {}; the cable is not visible there, \
                         and release goes on trying",
                        name.serial, name.mailbox
                    )
                });
                self.dirty = true;
            }
        }
    }

    /// Tries blocked cables again, when it is time.
    pub(super) fn publish_blocked(
        &mut self,
        now: valise_common::units::Mono,
    ) -> Result<(), ReleaseError> {
        if self.blocked.is_empty() || now < self.blocked_until {
            return Ok(());
        }
        self.dirty = true;
        self.counters.released += self.finish_publishing()?;
        Ok(())
    }

    /// A serial of a void bundle kept its slot for a container that did not open: now the slot is unused, and goes.
    fn erase_if_void(&self, serial: Serial) -> Result<(), ReleaseError> {
        let waits = self.waiting.keys().any(|name| name.serial == serial);
        // That it is kept does not tell that its bundle is void: a kill may have come before the line that says so.
        let void = self.ledger.void().contains(serial);
        if !void || !self.ledger.kept().contains(serial) || waits || self.in_work == Some(serial) {
            return Ok(());
        }
        // One may have come since the loop last looked: when the bundle became void it stood there, and kept the slot.
        if self.in_inbox()?.contains(serial) {
            return Ok(());
        }
        let bundle = self.ledger.bundle_of(serial).map(|row| row.bundle);
        if let Some(slots) = bundle.and_then(|bundle| self.slots.get(&bundle)) {
            slots.erase(serial)?;
            slots.sync()?;
        }
        Ok(())
    }

    fn was_released(&self, incoming: &Incoming, ready: &[Ready]) -> bool {
        ready
            .iter()
            .any(|ready| ready.incoming.name == incoming.name)
    }

    /// Writes what was decided into the log; nothing of it has happened before the log is committed.
    fn append_verdicts(&mut self, batch: &mut Batch, now: UtcTime) {
        for ready in &batch.ready {
            let manifest = ready.cable.manifest();
            let event = Event::Publishing {
                serial: ready.cable.serial(),
                container: ready.cable.container(),
                message_id: manifest.message_id,
                to: manifest.to.clone(),
                act_by: manifest.act_by,
                trust_version: ready.cable.trust_version(),
                asked: match &ready.incoming.origin {
                    Origin::Inbox => None,
                    Origin::Quarantine { by, .. } => by.asked.clone(),
                },
            };
            self.ledger.append(now, event);
        }
        for (incoming, held) in &batch.held {
            let Held {
                serial,
                container,
                message_id,
                code,
                reason,
            } = held.clone();
            let code = code.to_owned();
            let event = match &incoming.origin {
                Origin::Quarantine { by, .. } => Event::Rechecked {
                    serial,
                    code,
                    reason,
                    by: by.clone(),
                },
                Origin::Inbox => {
                    self.counters.quarantined += 1;
                    self.damaged.remove(serial);
                    Event::Quarantined {
                        serial,
                        container,
                        message_id,
                        code,
                        reason,
                    }
                }
            };
            self.ledger.append(now, event);
        }
        for (incoming, reason) in &batch.unopened {
            if incoming.origin != Origin::Inbox {
                continue;
            }
            self.counters.unopened += 1;
            let InboxName { serial, container } = incoming.name;
            if reason.is_damage() {
                // Only a disk brings this about, each time once for what a sender sent again.
                let code = reason.code().to_owned();
                let unopened = Event::Unopened {
                    serial,
                    container,
                    code,
                };
                self.ledger.append(now, unopened);
            } else if note(&mut self.noted_unopened, serial) {
                let code = reason.code().to_owned();
                self.ledger.append(
                    now,
                    Event::Unopened {
                        serial,
                        container,
                        code,
                    },
                );
                let text = format!(
                    "a container for serial {serial} did not open and was deleted ({reason}); \
                     the serial stays open"
                );
                let repair = format!("valise-sender resend {serial}");
                self.raise(Alarm::Unopened, Cause::repaired_by(text, repair));
            }
        }
        for incoming in &batch.second {
            self.counters.second_containers += 1;
            let InboxName { serial, container } = incoming.name;
            if note(&mut self.noted_second, serial) {
                self.ledger
                    .append(now, Event::SecondContainer { serial, container });
                let bundle = self.ledger.bundle_of(serial).map(|row| row.bundle);
                let replaces =
                    bundle.map_or_else(|| "BUNDLE".to_owned(), |bundle| bundle.to_string());
                let text = format!(
                    "serial {serial} came a second time, with another cable; the first one counts, and the second one is lost. \
                     Stop the sender until a bundle is imported that replaces this one, and have what was sent since the backup \
                     submitted again"
                );
                let repair = format!(
                    "valise-receiver bundle create --slots N --out DIR --replaces {replaces}, then valise-sender bundle import DIR"
                );
                self.raise(Alarm::SecondContainer, Cause::repaired_by(text, repair));
            }
        }
    }

    fn answer_rechecks(&mut self, batch: &Batch) -> Result<(), ReleaseError> {
        for ready in &batch.ready {
            if let Origin::Quarantine { request, by } = &ready.incoming.origin {
                let text = format!("serial {} is released", ready.cable.serial());
                self.answer(request, by.uid, Answer::Accepted(text));
            }
        }
        for (incoming, held) in &batch.held {
            if let Origin::Quarantine { request, by } = &incoming.origin {
                let text = format!(
                    "serial {} stays in quarantine: {}",
                    held.serial, held.reason
                );
                self.answer(request, by.uid, Answer::Refused(text));
            }
        }
        for (incoming, reason) in &batch.unopened {
            if let Origin::Quarantine { request, by } = &incoming.origin {
                let serial = incoming.name.serial;
                let text = match reason.is_damage() {
                    true => format!(
                        "the container of serial {serial} was damaged on the disk of this host ({reason}): have the \
                         sender run valise-sender resend {serial}, and ask again when it has come"
                    ),
                    false => format!("the container of serial {serial} does not open: {reason}"),
                };
                self.refuse(request, "quarantine-recheck", by.clone(), &text)?;
            }
        }
        Ok(())
    }

    fn move_to_quarantine(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        let to = self.state.quarantined(&incoming.name);
        durable::rename_new(&incoming.path, &to)?;
        self.sync.add_dir(self.state.quarantine());
        self.sync.add_dir(self.state.inbox());
        self.waiting.remove(&incoming.name);
        Ok(())
    }

    /// Hands a damaged container back to `receive`, which drops every resend of a container that it completed. One rename is
    /// the whole of it; what a kill leaves is found damaged again, or taken back by `receive`. A damaged copy in quarantine
    /// stays there until a whole one has come.
    fn hand_back(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        let to = self.state.handed_back(&incoming.name);
        self.damaged.insert(incoming.name.serial);
        let handed = match incoming.origin {
            Origin::Inbox => {
                self.waiting.remove(&incoming.name);
                self.sync.add_dir(self.state.inbox());
                durable::rename_new(&incoming.path, &to)
            }
            Origin::Quarantine { .. } => {
                let tmp = self.state.tmp(Role::Release);
                durable::write_new(&tmp, &to, &[], durable::Access::Group)
            }
        };
        match handed {
            // `receive` has not run since an earlier one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if incoming.origin == Origin::Inbox {
                    durable::remove_any(&incoming.path)?;
                }
            }
            other => other?,
        }
        self.sync.add_dir(self.state.damaged());
        Ok(self.sync.commit()?)
    }

    fn delete(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        durable::remove_any(&incoming.path)?;
        self.waiting.remove(&incoming.name);
        Ok(())
    }
}

/// Whether a serial is noted for the first time, while there is room.
fn note(noted: &mut SerialSet, serial: Serial) -> bool {
    if noted.contains(serial) || noted.serial_count() >= u64::try_from(NOTED_MAX).unwrap_or(0) {
        return false;
    }
    noted.insert(serial);
    true
}
