//! Datagrams in, containers out: the receiving side as one machine, without a clock, a socket or a file.
//!
//! The program runs its two halves, [`Deframer`] and [`Assembler`], in a thread each; [`Pipeline`] is both, one behind the
//! other, as tests drive it.
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

pub use assembler::Assembler;
pub use beacons::{SignedBeacon, Writing};
pub use completed::Completed;
pub use effect::{Assembling, Cause, Effect, Finished, SetCounters, Spilled};

use valise_common::ids::BundleId;
use valise_common::units::Mono;
use valise_common::wire::{Counters, DatagramBytes, DropReason};

use crate::steps::deframe::{Deframer, Frame, HeldKey, payload};

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
    /// All datagrams.
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

/// The receiving side.
pub struct Pipeline {
    deframer: Deframer,
    /// The half behind the queue.
    pub assembler: Assembler,
    tally: Tally,
}

impl Pipeline {
    /// A pipeline without keys, with a bound of memory for blocks.
    pub fn new(size: DatagramBytes, memory_bytes: usize) -> Self {
        Self {
            deframer: Deframer::new(size),
            assembler: Assembler::new(memory_bytes),
            tally: Tally::default(),
        }
    }

    /// Sets the link keys in force and the highest serial that has a slot.
    pub fn handle_keys(&mut self, now: Mono, keys: Vec<HeldKey>, issued_last: u64) {
        let bundles: Vec<BundleId> = keys.iter().map(|key| key.bundle).collect();
        self.deframer.handle_keys(keys, issued_last);
        self.assembler.handle_keys(now, &bundles, issued_last);
    }

    /// Takes a datagram, whatever it is, and opens it in place. It moves exactly one counter.
    pub fn handle_datagram(&mut self, now: Mono, datagram: &mut [u8]) {
        match self.try_datagram(now, datagram) {
            Ok(Frame::Cover) => self.tally.covers += 1,
            Ok(Frame::Symbol(_)) => self.tally.symbols += 1,
            Ok(Frame::Beacon(_)) => self.tally.beacons += 1,
            Err(reason) => self.tally.dropped.count(reason),
        }
    }

    fn try_datagram(&mut self, now: Mono, datagram: &mut [u8]) -> Result<Frame, DropReason> {
        let frame = self.deframer.handle_datagram(datagram)?;
        match &frame {
            Frame::Cover => {}
            Frame::Symbol(symbol) => {
                self.assembler
                    .handle_symbol(now, symbol, payload(datagram))?;
            }
            Frame::Beacon(bundle) => {
                self.assembler
                    .handle_beacon(now, *bundle, payload(datagram))?;
            }
        }
        Ok(frame)
    }

    /// The next thing to do, in order; to be done before the next datagram.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.assembler.poll_effect()
    }

    /// What became of the datagrams.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests;
