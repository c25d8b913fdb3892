//! Cables on their way out: many share the syncs that commit them.
//!
//! The order of one batch: ① stage every mailbox's folder and sync ② commit "publishing" ③ rename each ④ commit
//! "released" ⑤ erase the slots and delete the containers. Whatever a crash leaves of it, `startup` takes up.

use std::collections::BTreeSet;
use std::io;

use valise_common::alarm::Alarm;
use valise_common::host::folders::Role;
use valise_common::ids::Serial;
use valise_common::os::durable::{self};

use crate::model::event::Event;
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::release::inbox::{Incoming, Origin};
use crate::release::observe::PUT_ASIDE;
use crate::spool::publish::{Published, publish};
use crate::steps::open::NotOpened;
use crate::steps::publish::StageName;
use crate::steps::verify::{Held, Verified};

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
    /// Takes a batch through the steps ① to ⑤.
    pub(super) fn commit(&mut self, mut batch: Batch) -> Result<(), ReleaseError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.shown.dirty = true;
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
        let visible = |ready: &&Ready| !self.inbox.blocked.contains(&ready.cable.serial());
        let visible: Vec<&Ready> = batch.ready.iter().filter(visible).collect();
        for ready in &visible {
            let (serial, message_id) = (ready.cable.serial(), ready.cable.manifest().message_id);
            self.ledger
                .append(now, Event::Released { serial, message_id });
        }
        self.ledger.commit()?;
        self.inbox.counters.released += u64::try_from(visible.len()).unwrap_or(0);
        let mut erased = BTreeSet::new();
        for ready in &visible {
            let serial = ready.cable.serial();
            if let Some(bundle) = self.ledger.bundle_of(serial).map(|row| row.bundle)
                && let Some(slots) = self.slots.of(bundle)
            {
                slots.erase(serial)?;
                erased.insert(bundle);
            }
        }
        for bundle in erased {
            if let Some(slots) = self.slots.of(bundle) {
                slots.sync()?;
            }
        }
        for ready in &batch.ready {
            // From here on the register knows it.
            self.inbox
                .reserved
                .remove(&ready.cable.manifest().message_id);
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
                self.inbox.block(name.serial, self.mono());
                let now = self.now();
                self.shown.alarms.set(Alarm::Blocked, now, 1, || {
                    format!(
                        "someone keeps taking the name of serial {} in mailbox {}; the cable is not visible there, \
                         and release goes on trying",
                        name.serial, name.mailbox
                    )
                });
                self.shown.dirty = true;
            }
        }
    }

    /// Tries blocked cables again, when it is time.
    pub(super) fn publish_blocked(
        &mut self,
        now: valise_common::units::Mono,
    ) -> Result<(), ReleaseError> {
        if !self.inbox.is_retry_due(now) {
            return Ok(());
        }
        self.shown.dirty = true;
        self.inbox.counters.released += self.finish_publishing()?;
        Ok(())
    }

    /// A serial of a void bundle kept its slot for a container that did not open: now the slot is unused, and goes.
    fn erase_if_void(&self, serial: Serial) -> Result<(), ReleaseError> {
        let waits = self.inbox.waiting.keys().any(|name| name.serial == serial);
        // That it is kept does not tell that its bundle is void: a kill may have come before the line that says so.
        let void = self.ledger.void().contains(serial);
        if !void
            || !self.ledger.kept().contains(serial)
            || waits
            || self.inbox.in_work == Some(serial)
        {
            return Ok(());
        }
        // One may have come since the loop last looked: when the bundle became void it stood there, and kept the slot.
        if self.in_inbox()?.contains(serial) {
            return Ok(());
        }
        let bundle = self.ledger.bundle_of(serial).map(|row| row.bundle);
        if let Some(slots) = bundle.and_then(|bundle| self.slots.of(bundle)) {
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

    pub(super) fn move_to_quarantine(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        let to = self.state.quarantined(&incoming.name);
        durable::rename_new(&incoming.path, &to)?;
        self.sync.add_dir(self.state.quarantine());
        self.sync.add_dir(self.state.inbox());
        self.inbox.waiting.remove(&incoming.name);
        Ok(())
    }

    /// Hands a damaged container back to `receive`, which drops every resend of a container that it completed. One rename is
    /// the whole of it; what a kill leaves is found damaged again, or taken back by `receive`. A damaged copy in quarantine
    /// stays there until a whole one has come.
    pub(super) fn hand_back(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        let to = self.state.handed_back(&incoming.name);
        self.inbox.damaged.insert(incoming.name.serial);
        let handed = match incoming.origin {
            Origin::Inbox => {
                self.inbox.waiting.remove(&incoming.name);
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

    pub(super) fn delete(&mut self, incoming: &Incoming) -> Result<(), ReleaseError> {
        durable::remove_any(&incoming.path)?;
        self.inbox.waiting.remove(&incoming.name);
        Ok(())
    }
}
