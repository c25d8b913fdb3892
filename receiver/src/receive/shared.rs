//! What the threads of `receive` know of each other: whether to stop, the keys in force, and what `status` shows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use valise_common::ids::BundleId;

use super::forged::Forged;
use super::intake::LinkState;
use super::listener::Listening;
use crate::pipeline::{Assembling, SetCounters, Tally};
use crate::steps::deframe::HeldKey;

/// What a thread tells the main one.
#[derive(Debug)]
pub(super) enum Event {
    /// A link key verified a datagram for the first time.
    KeyVerified(BundleId),
    /// A thread has failed; the process must end.
    Failed(String),
}

/// What the reader has seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadView {
    /// What became of the datagrams, apart from those that were handed over.
    pub tally: Tally,
    /// Datagrams that the kernel dropped.
    pub kernel_drops: u64,
    /// When the last authentic datagram came, in microseconds since 1970; 0 for never.
    pub last_datagram_us: u64,
}

/// What the assembler is doing.
#[derive(Debug, Clone, Default)]
pub struct AssemblyView {
    /// What became of the symbols and beacons.
    pub tally: Tally,
    /// How sets ended.
    pub sets: SetCounters,
    /// Sets that are being collected.
    pub set_count: usize,
    /// The first of them, by serial.
    pub assembling: Vec<Assembling>,
    /// Bytes of blocks in memory.
    pub memory_bytes: usize,
    /// Bytes of sets on disk.
    pub disk_bytes: u64,
}

/// The common ground.
pub(super) struct Shared {
    /// Every thread ends soon after this is set.
    pub stop: AtomicBool,
    /// New keys are there for the reader.
    pub keys_changed: AtomicBool,
    keys: Mutex<Option<(Vec<HeldKey>, u64)>>,
    read: Mutex<ReadView>,
    assembly: Mutex<AssemblyView>,
    // No event each: a flood of them must not crowd out the others.
    forged: Mutex<Forged>,
    link: Mutex<LinkState>,
    events: SyncSender<Event>,
}

/// Locks. A thread that panicked ends the process anyway; what it left under a lock is a view, and never half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing seen yet; events go to the main thread.
    pub(super) fn new(events: SyncSender<Event>) -> Self {
        Self {
            stop: AtomicBool::new(false),
            keys_changed: AtomicBool::new(false),
            keys: Mutex::new(None),
            read: Mutex::default(),
            assembly: Mutex::default(),
            forged: Mutex::default(),
            link: Mutex::new(LinkState::Udp(Listening::Waiting(Errno::UnknownErrno))),
            events,
        }
    }

    /// Gives the reader new keys.
    pub(super) fn set_keys(&self, keys: Vec<HeldKey>, issued_last: u64) {
        *lock(&self.keys) = Some((keys, issued_last));
        self.keys_changed.store(true, Ordering::Release);
    }

    /// Returns the keys that the reader has not taken yet.
    pub(super) fn lock_keys(&self) -> MutexGuard<'_, Option<(Vec<HeldKey>, u64)>> {
        lock(&self.keys)
    }

    /// Tells the main thread something; when it does not listen any more, or too much is told, it does not matter.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.try_send(event);
    }

    /// Returns the sets with forged symbols that the log has not heard of.
    pub(super) fn forged(&self) -> MutexGuard<'_, Forged> {
        lock(&self.forged)
    }

    /// Sets the state of the link.
    pub(super) fn set_link(&self, state: LinkState) {
        *lock(&self.link) = state;
    }

    /// Returns the state of the link.
    pub(super) fn link(&self) -> LinkState {
        lock(&self.link).clone()
    }

    /// Adds what the reader saw.
    pub(super) fn add_read(&self, tally: &Tally, kernel_drops: u64, authentic_us: Option<u64>) {
        let mut read = lock(&self.read);
        read.tally.add(tally);
        read.kernel_drops = kernel_drops;
        read.last_datagram_us = authentic_us.unwrap_or(read.last_datagram_us);
    }

    /// What the reader has seen.
    pub(super) fn read(&self) -> ReadView {
        *lock(&self.read)
    }

    /// Replaces what the assembler shows.
    pub(super) fn set_assembly(&self, view: AssemblyView) {
        *lock(&self.assembly) = view;
    }

    /// What the assembler shows.
    pub(super) fn assembly(&self) -> AssemblyView {
        lock(&self.assembly).clone()
    }
}
