//! Containers on their way through release: in the inbox, on the worker, in quarantine for a recheck.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use valise_common::host::folders::InboxName;
use valise_common::ids::{MessageId, Serial};
use valise_common::serial_set::SerialSet;
use valise_common::units::Mono;

use crate::model::event::Asker;
use crate::spool::view::Counters;

/// Containers beyond this size go to the worker.
pub const LARGE_BYTES: u64 = 4 << 20;

/// Containers of one batch: enough to share a sync, few enough that one that arrives now waits some milliseconds only.
const BATCH_CONTAINERS: usize = 64;

/// Bytes of one batch's containers.
const BATCH_BYTES: u64 = 16 << 20;

/// How long a cable waits whose name someone keeps taking.
const BLOCKED_RETRY_US: u64 = 30_000_000;

/// Serials whose containers were logged as unopened or second; beyond it they are only counted.
const NOTED_MAX: usize = 4_096;

/// When a container may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// Behind this time: the disk was full.
    Room(Mono),
    /// After this time: something else is in its place.
    Readable(Mono),
    /// After this time: it is there, and `release` has no right to read it.
    Permitted(Mono),
}

impl Due {
    pub(super) fn is_at(self, mono: Mono) -> bool {
        match self {
            Due::Now => true,
            Due::Room(due) | Due::Readable(due) | Due::Permitted(due) => due <= mono,
        }
    }
}

/// A container that waits in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its length.
    pub bytes: u64,
    /// When it may be tried.
    pub due: Due,
}

/// The place of a container.
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
    /// Its place.
    pub origin: Origin,
}

/// The containers that release has not done with.
#[derive(Debug, Default)]
pub struct Inbox {
    /// In the inbox, by serial.
    pub(super) waiting: BTreeMap<InboxName, Waiting>,
    /// Quarantined containers that an operator wants judged again.
    pub(super) rechecks: VecDeque<Incoming>,
    /// The serial that the worker has.
    pub(super) in_work: Option<Serial>,
    /// Message-ids that are verified and not yet committed.
    pub(super) reserved: BTreeMap<MessageId, Serial>,
    /// Serials that are being published and whose name in a mailbox someone keeps taking.
    pub(super) blocked: BTreeSet<Serial>,
    /// When to try them again.
    blocked_until: Option<Mono>,
    /// Serials whose container was damaged on the disk and has not come again.
    pub(super) damaged: SerialSet,
    noted_unopened: SerialSet,
    noted_second: SerialSet,
    /// Counts since the start, for the view.
    pub(super) counters: Counters,
}

impl Inbox {
    /// Chooses small containers for the next batch, one of a serial. Returns them, and whether more wait.
    pub(super) fn choose(&self, mono: Mono) -> (Vec<(InboxName, u64)>, bool) {
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
                return (chosen, true);
            }
            // A second one for the same serial is judged when the first one's fate is known.
            if serials.insert(name.serial) {
                bytes = bytes.saturating_add(waiting.bytes);
                chosen.push((*name, waiting.bytes));
            } else {
                more = true;
            }
        }
        (chosen, more)
    }

    /// Chooses a large container for the worker.
    pub(super) fn choose_large(&self, mono: Mono) -> Option<(InboxName, u64)> {
        let large = |waiting: &Waiting| waiting.bytes > LARGE_BYTES && waiting.due.is_at(mono);
        let mut waiting = self.waiting.iter();
        let found = waiting.find(|(_, waiting)| large(waiting));
        found.map(|(name, waiting)| (*name, waiting.bytes))
    }

    /// Has a container wait in its place until it is due.
    pub(super) fn wait(&mut self, name: InboxName, bytes: u64, due: Due) {
        self.waiting.insert(name, Waiting { bytes, due });
    }

    /// Notes that someone keeps taking the name of a cable.
    pub(super) fn block(&mut self, serial: Serial, mono: Mono) {
        self.blocked.insert(serial);
        self.blocked_until = Some(mono.plus_us(BLOCKED_RETRY_US));
    }

    /// Returns whether blocked cables are to be tried again now.
    pub(super) fn is_retry_due(&self, mono: Mono) -> bool {
        !self.blocked.is_empty() && self.blocked_until.is_none_or(|due| due <= mono)
    }

    /// Returns whether a container of this serial that did not open is the first one.
    pub(super) fn is_first_unopened(&mut self, serial: Serial) -> bool {
        is_first(&mut self.noted_unopened, serial)
    }

    /// Returns whether a second container of this serial is the first of its kind.
    pub(super) fn is_first_second(&mut self, serial: Serial) -> bool {
        is_first(&mut self.noted_second, serial)
    }
}

/// Notes a serial. Returns whether it was noted for the first time, while there is room.
fn is_first(noted: &mut SerialSet, serial: Serial) -> bool {
    if noted.contains(serial) || noted.serial_count() >= u64::try_from(NOTED_MAX).unwrap_or(0) {
        return false;
    }
    noted.insert(serial);
    true
}
