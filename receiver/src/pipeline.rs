//! Datagrams in, containers out: the receiving side as one machine, without a clock, a socket or a file.
//!
//! Its two halves, the deframer and the [`Assembler`], have a thread each in `receive`. Tests drive one after the other.
//!
//! ```text
//! handle_datagram ─► Deframer ─ Symbol ─► Assembler ─► poll_effect: write, spill, restore, finish, forget, beacon
//!                                └ Beacon ─┘    ▲           │
//!                                               └───────────┘ handle_restored, handle_finished, recycle
//! ```

mod assembler;
mod beacons;
mod collection;
mod completed;
mod effect;

pub(crate) use assembler::Assembler;
pub(crate) use beacons::{SignedBeacon, Writing};
pub(crate) use effect::{Assembling, Cause, Effect, Finished, SetCounters, Spilled};

use valise_common::wire::Counters;

/// What became of every datagram: each moves exactly one of these counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Symbols that were new and are kept.
    pub symbols: u64,
    /// Beacons that were believed.
    pub beacons: u64,
    /// Cover.
    pub covers: u64,
    /// What was dropped, by reason.
    pub dropped: Counters,
}

impl Tally {
    /// Returns all datagrams.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        let kept = self
            .symbols
            .saturating_add(self.beacons)
            .saturating_add(self.covers);
        kept.saturating_add(self.dropped.total())
    }

    /// Adds another thread's counters.
    pub fn add(&mut self, other: &Tally) {
        self.symbols = self.symbols.saturating_add(other.symbols);
        self.beacons = self.beacons.saturating_add(other.beacons);
        self.covers = self.covers.saturating_add(other.covers);
        self.dropped.add(&other.dropped);
    }
}

#[cfg(test)]
mod tests;
