//! What one call to the link carries: about a millisecond.

use valise_common::wire::Beacon;

use crate::steps::interleave::Run;

/// What consecutive datagrams of a batch carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Noise, so many datagrams of it.
    Cover(u32),
    /// One beacon.
    Beacon(Beacon),
    /// Symbols of one block.
    Symbols(Run),
}

impl Slot {
    /// Datagrams.
    pub(crate) fn count(&self) -> u32 {
        match self {
            Slot::Cover(count) => *count,
            Slot::Beacon(_) => 1,
            Slot::Symbols(run) => run.count,
        }
    }
}

/// One batch, in the order of the link. Reused from call to call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    slots: Vec<Slot>,
    count: u32,
}

impl Batch {
    /// What the datagrams carry.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Datagrams in all.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.count = 0;
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.count += slot.count();
        self.slots.push(slot);
    }
}
