//! The sets that are being collected, which of them yields to another, and which containers are complete.

use valise_common::wire::{DropReason, SetId};

use super::completed::Completed;
use super::effect::{Assembling, Cause, Finished, SetCounters};
use crate::steps::collect::{Collector, NoRoom, SetNumber};
use crate::steps::reassemble::{Assembly, Phase, Sets, Verdict};

/// The sets, within their bounds of number and of disk.
#[derive(Debug)]
pub(crate) struct Collection {
    sets: Sets,
    completed: Completed,
    disk_bytes_max: u64,
    counters: SetCounters,
}

/// A set that is not collected any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// The set.
    pub set: SetId,
    /// Its number, while it was collected.
    pub number: SetNumber,
    /// The reason.
    pub cause: Cause,
}

impl Collection {
    /// No set, and no bound of disk.
    pub(crate) fn new() -> Self {
        Self {
            sets: Sets::default(),
            completed: Completed::default(),
            disk_bytes_max: u64::MAX,
            counters: SetCounters::default(),
        }
    }

    /// Returns the sets, to read them.
    pub(crate) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Returns the sets, to note what becomes of their blocks.
    pub(crate) fn sets_mut(&mut self) -> &mut Sets {
        &mut self.sets
    }

    /// Returns the containers that are complete.
    pub(crate) fn completed(&self) -> &Completed {
        &self.completed
    }

    /// Returns the containers that are complete, to add and remove some.
    pub(crate) fn completed_mut(&mut self) -> &mut Completed {
        &mut self.completed
    }

    /// How sets ended.
    pub(crate) fn counters(&self) -> SetCounters {
        self.counters
    }

    /// Returns whether a set is whole, as far as the disk has taken it, and waits to be judged.
    pub(crate) fn is_finishing(&self, set: &SetId) -> bool {
        let found = self.sets.find(set);
        found.is_some_and(|found| found.phase() == Phase::Finishing)
    }

    /// Returns the sets that are being collected, by serial; `collector` has their blocks in memory.
    pub(crate) fn assembling(&self, collector: &Collector) -> impl Iterator<Item = Assembling> {
        self.sets.iter().map(|set| {
            let on_disk = set
                .spilled()
                .filter(|(block, _)| !collector.holds((set.number(), *block)));
            let spilled: u64 = on_disk.map(|(_, symbols)| u64::from(symbols)).sum();
            let in_memory = collector.symbol_count(set.number());
            Assembling {
                set: set.id(),
                have_symbols: set.done_symbols() + spilled + in_memory,
                need_symbols: set.id().geometry.symbol_count(),
            }
        })
    }

    /// Sets how many bytes the sets may have on disk.
    pub(crate) fn handle_room(&mut self, disk_bytes_max: u64) {
        self.disk_bytes_max = disk_bytes_max;
    }

    /// Takes up a set that was on disk: blocks that are done, and incomplete ones with their counts of symbols.
    ///
    /// # Errors
    /// [`NoRoom`] if there are too many sets.
    pub(crate) fn restore(
        &mut self,
        set: &SetId,
        done: impl Iterator<Item = u32>,
        spilled: impl Iterator<Item = (u32, u16)>,
    ) -> Result<(), NoRoom> {
        self.sets.begin(*set)?;
        for block in done {
            self.sets.block_done(set, block);
        }
        for (block, symbols) in spilled {
            let shape = set.geometry.block(block);
            let is_known = shape.is_some_and(|shape| symbols < shape.k);
            let found = self.sets.find(set);
            if is_known && !found.is_some_and(|found| found.is_done(block)) {
                self.sets.block_spilled(set, block, symbols)?;
            }
        }
        Ok(())
    }

    /// Finds the set of a symbol, if it takes symbols of this block.
    ///
    /// # Errors
    /// [`DropReason::Surplus`] if the set or the block is complete.
    pub(crate) fn collecting(
        &self,
        set: &SetId,
        block: u32,
    ) -> Result<Option<&Assembly>, DropReason> {
        match self.sets.find(set) {
            Some(found) if found.phase() != Phase::Collecting => Err(DropReason::Surplus),
            Some(found) if found.is_done(block) => Err(DropReason::Surplus),
            found => Ok(found),
        }
    }

    /// Checks that a new set may be collected at all.
    ///
    /// # Errors
    /// The reason if not.
    pub(crate) fn admit(&self, set: &SetId) -> Result<(), DropReason> {
        if self.completed.contains(set.serial, &set.container) {
            return Err(DropReason::Completed);
        }
        if set.geometry.container_bytes() > self.disk_bytes_max {
            return Err(DropReason::NoDisk);
        }
        Ok(())
    }

    /// Removes the next set that must yield before `set` can begin.
    ///
    /// # Errors
    /// [`DropReason::NoMemory`] if no set can yield.
    pub(crate) fn poll_yielding(&mut self, set: &SetId) -> Result<Option<Gone>, DropReason> {
        let yielding = self.sets.poll_yielding(set);
        let yielding = yielding.map_err(|NoRoom| DropReason::NoMemory)?;
        Ok(yielding.and_then(|set| self.yielded(&set)))
    }

    /// Begins a set; [`Collection::poll_yielding`] must have found room.
    ///
    /// # Errors
    /// [`DropReason::NoMemory`] if there is none.
    pub(crate) fn begin(&mut self, set: SetId) -> Result<SetNumber, DropReason> {
        self.sets.begin(set).map_err(|NoRoom| DropReason::NoMemory)
    }

    /// Removes the set that progressed least recently, while the sets have more on disk than they may; `growing` stays.
    pub(crate) fn poll_over_disk(&mut self, growing: SetNumber) -> Option<Gone> {
        if self.sets.disk_bytes() <= self.disk_bytes_max {
            return None;
        }
        let set = self.sets.quietest(Some(growing))?;
        self.yielded(&set)
    }

    /// Removes a set with forged symbols.
    pub(crate) fn poisoned(&mut self, set: &SetId) -> Option<Gone> {
        self.counters.poisoned += 1;
        self.remove(set, Cause::Poisoned)
    }

    /// Removes a set that was handed out to be finished; of an intact container, its other sets too.
    pub(crate) fn handle_finished(&mut self, set: &SetId, finished: Finished) -> Vec<Gone> {
        let found = self.sets.find(set);
        if found.is_none_or(|found| found.phase() != Phase::Finishing) {
            return Vec::new();
        }
        match finished {
            Finished::Judged(Verdict::Intact(hash)) => {
                let id = hash.id();
                if !self.completed.contains(set.serial, &id) {
                    self.completed.insert(set.serial, &id);
                    self.counters.completed += 1;
                }
                let mut gone = Vec::from_iter(self.remove(set, Cause::Completed));
                // The same container in other cuts: nothing of it is needed any more.
                for sibling in self.sets.collecting_of(set.serial, &set.container) {
                    gone.extend(self.remove(&sibling, Cause::Completed));
                }
                gone
            }
            Finished::Judged(Verdict::Poisoned) => Vec::from_iter(self.poisoned(set)),
            Finished::NoDisk => Vec::from_iter(self.yielded(set)),
        }
    }

    fn yielded(&mut self, set: &SetId) -> Option<Gone> {
        self.counters.yielded += 1;
        self.remove(set, Cause::Yielded)
    }

    fn remove(&mut self, set: &SetId, cause: Cause) -> Option<Gone> {
        let removed = self.sets.remove(set)?;
        Some(Gone {
            set: *set,
            number: removed.number(),
            cause,
        })
    }
}
