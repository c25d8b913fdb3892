//! A disk that knows what is durable. A kill takes what a process remembers. A power cut takes besides what was not
//! synced: any of it, in any combination, but a log keeps its order.

use std::hash::{Hash, Hasher};

/// The files on a disk.
pub trait Files: Clone + Eq + Hash {
    /// One write, rename or deletion.
    type Change: Copy + Eq + Hash;
    /// What is synced at once: a file or a folder.
    type Place: Copy + Eq;

    fn apply(&mut self, change: Self::Change);

    /// Returns what has to be synced for a change to be durable.
    fn place(change: Self::Change) -> Self::Place;

    /// Returns whether a place keeps the order of its changes, as the bytes of a log do.
    fn is_ordered(place: Self::Place) -> bool;

    /// Returns whether a later durable change leaves nothing of an earlier one.
    fn replaces(later: Self::Change, earlier: Self::Change) -> bool;
}

/// A disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Disk<F: Files> {
    durable: F,
    unsynced: Vec<F::Change>,
    /// What programs see.
    pub seen: F,
}

impl<F: Files> Hash for Disk<F> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // The rest follows from these.
        self.durable.hash(hasher);
        self.unsynced.hash(hasher);
    }
}

impl<F: Files> Disk<F> {
    pub fn new(files: F) -> Self {
        Self {
            durable: files.clone(),
            unsynced: Vec::new(),
            seen: files,
        }
    }

    /// What stays after a power cut in any case.
    pub fn durable(&self) -> &F {
        &self.durable
    }

    /// Returns whether a change would change nothing.
    pub fn has(&self, change: F::Change) -> bool {
        let mut after = self.seen.clone();
        after.apply(change);
        after == self.seen
    }

    /// Returns whether nothing of a place waits to be synced.
    pub fn is_synced(&self, place: F::Place) -> bool {
        !self
            .unsynced
            .iter()
            .any(|change| F::place(*change) == place)
    }

    pub fn write(&mut self, change: F::Change) {
        if !self.has(change) {
            self.seen.apply(change);
            self.unsynced.push(change);
        }
    }

    pub fn sync(&mut self, place: F::Place) {
        let all = std::mem::take(&mut self.unsynced);
        let (synced, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|change| F::place(*change) == place);
        synced.iter().for_each(|change| self.durable.apply(*change));
        let is_replaced =
            |earlier: &F::Change| synced.iter().any(|later| F::replaces(*later, *earlier));
        self.unsynced = rest;
        self.unsynced.retain(|change| !is_replaced(change));
    }

    /// Every state in which a power cut may leave this disk.
    pub fn cuts(&self) -> Vec<Self> {
        let kept = (0..1_u32 << self.unsynced.len()).filter(|kept| self.is_possible(*kept));
        kept.map(|kept| {
            let mut files = self.durable.clone();
            self.chosen(kept).for_each(|change| files.apply(change));
            Self::new(files)
        })
        .collect()
    }

    fn chosen(&self, kept: u32) -> impl Iterator<Item = F::Change> {
        let all = self.unsynced.iter().enumerate();
        all.filter(move |(index, _)| kept & 1 << index != 0)
            .map(|(_, change)| *change)
    }

    fn is_possible(&self, kept: u32) -> bool {
        let ordered = |change: &F::Change| F::is_ordered(F::place(*change));
        let whole: Vec<_> = self.unsynced.iter().copied().filter(ordered).collect();
        let left: Vec<_> = self.chosen(kept).filter(ordered).collect();
        whole.starts_with(&left)
    }
}
