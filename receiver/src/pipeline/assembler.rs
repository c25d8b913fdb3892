//! Symbols in, containers out: collect, rebuild and reassemble as one machine, without a clock and without a file.

use std::collections::VecDeque;

use valise_common::fec::BlockBuffer;
use valise_common::ids::{BundleId, ContainerId, Serial};
use valise_common::units::Mono;
use valise_common::wire::{DropReason, SetId};

use super::beacons::{Beacons, SignedBeacon, Writing};
use super::completed::Completed;
use crate::steps::collect::{BlockKey, Collected, Collector, NoRoom, Restore, SetNumber};
use crate::steps::deframe::Symbol;
use crate::steps::fec::{Forged, Rebuilder, SourceBlock};
use crate::steps::reassemble::{Assembly, Phase, Sets, Verdict};

/// An incomplete block that has been quiet for so long goes to disk: a crash then loses little, and memory is free for
/// what is on the link now.
const IDLE_US: u64 = 2_000_000;

/// A container's beginning is announced for hashing in steps of this size.
const PREFIX_STEP_BYTES: u64 = 8 << 20;

/// What is to be done for the assembler, in this order and before its next input.
#[derive(Debug)]
pub enum Effect {
    /// Bring an incomplete block's symbols back from disk: hand each to [`Assembler::handle_restored`], then say
    /// [`Assembler::handle_restore_done`]. What is on disk stays until the block is written, or spilled again.
    Restore {
        /// The set.
        set: SetId,
        /// The block.
        block: u32,
    },
    /// Put an incomplete block on disk, in place of what may be there of it; then [`Assembler::offer`] its memory.
    Spill {
        /// The set.
        set: SetId,
        /// The block's symbols.
        buffer: BlockBuffer,
    },
    /// Write a block of a larger container to its place and note that it is there; then [`Assembler::recycle`] its memory.
    Write {
        /// The set.
        set: SetId,
        /// The block.
        block: SourceBlock,
        /// Whether symbols of it were spilled: they are to be deleted now.
        spilled: Spilled,
    },
    /// The container is on disk without a hole up to here: a good time to hash it and to push it to the platter.
    Prefix {
        /// The set.
        set: SetId,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// Every block is on disk: compare the hash, and give the container its place in `inbox/`; then
    /// [`Assembler::handle_finished`].
    FinishFile {
        /// The set.
        set: SetId,
    },
    /// A container of one block, whole and never written: compare the hash, and put it into `inbox/`; then
    /// [`Assembler::handle_finished`] and [`Assembler::recycle`].
    FinishBlock {
        /// The set.
        set: SetId,
        /// The container.
        block: SourceBlock,
    },
    /// Delete whatever is on disk of a set.
    Forget {
        /// The set.
        set: SetId,
        /// Why.
        cause: Cause,
    },
    /// Write the beacon that `release` reads, or take it away.
    Beacon(Writing),
}

/// Whether an incomplete block is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spilled {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Why a set is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its container is in `inbox/`.
    Completed,
    /// Its hash, or its padding, tells of forged symbols.
    Poisoned,
    /// Another set needed the room.
    Yielded,
}

/// What became of a set that was handed out to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It was judged; an intact one is durable in `inbox/`.
    Judged(Verdict),
    /// There was no room on the disk: it must be collected anew.
    NoDisk,
}

/// How many sets ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetCounters {
    /// In `inbox/`.
    pub completed: u64,
    /// Forged or torn, and discarded whole.
    pub poisoned: u64,
    /// Discarded because another set needed the room.
    pub yielded: u64,
}

/// A set that is being collected, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assembling {
    /// The set.
    pub set: SetId,
    /// Symbols that count towards it.
    pub have_symbols: u64,
    /// Symbols that it needs.
    pub need_symbols: u64,
}

/// Collects symbols, rebuilds blocks and reassembles containers.
///
/// # Bounds
/// `memory_bytes` of blocks and the bounds of [`Sets`]; as many effects as the inputs since the last poll made.
pub struct Assembler {
    collector: Collector,
    rebuilder: Rebuilder,
    sets: Sets,
    completed: Completed,
    beacons: Beacons,
    effects: VecDeque<Effect>,
    evicted: Vec<(BlockKey, BlockBuffer)>,
    disk_bytes_max: u64,
    set_counters: SetCounters,
}

impl Assembler {
    /// An assembler with a bound of memory for its blocks.
    pub fn new(memory_bytes: usize) -> Self {
        Self {
            collector: Collector::new(memory_bytes),
            rebuilder: Rebuilder::default(),
            sets: Sets::default(),
            completed: Completed::default(),
            beacons: Beacons::default(),
            effects: VecDeque::new(),
            evicted: Vec::new(),
            disk_bytes_max: u64::MAX,
            set_counters: SetCounters::default(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Assembler::handle_time`] has something to do.
    pub fn next_wakeup(&self) -> Option<Mono> {
        let idle = self
            .collector
            .oldest_progress()
            .map(|last| last.plus_us(IDLE_US));
        [idle, self.beacons.next_wakeup()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Puts quiet blocks on disk and writes a beacon that is due.
    pub fn handle_time(&mut self, now: Mono) {
        let before = Mono(now.0.saturating_sub(IDLE_US).saturating_add(1));
        while let Some((key, buffer)) = self.collector.poll_idle(before) {
            self.spill(key, buffer);
        }
        if let Some(writing) = self.beacons.poll(now) {
            self.effects.push_back(Effect::Beacon(writing));
        }
    }

    /// Puts everything on disk that is in memory, before the end.
    pub fn handle_stop(&mut self) {
        while let Some((key, buffer)) = self.collector.poll_any() {
            self.spill(key, buffer);
        }
        if let Some(writing) = self.beacons.take_pending() {
            self.effects.push_back(Effect::Beacon(writing));
        }
    }

    /// Sets the bundles whose link keys are in force, and the highest serial that has a slot.
    pub fn handle_keys(&mut self, now: Mono, in_force: &[BundleId], issued_last: u64) {
        self.beacons.handle_keys(now, in_force, issued_last);
        if let Some(writing) = self.beacons.poll(now) {
            self.effects.push_back(Effect::Beacon(writing));
        }
    }

    /// Sets how many bytes the sets may have on disk.
    pub fn handle_room(&mut self, disk_bytes_max: u64) {
        self.disk_bytes_max = disk_bytes_max;
    }

    /// Notes a container that has been completed before the start.
    pub fn restore_completed(&mut self, serial: Serial, container: &ContainerId) {
        self.completed.insert(serial, container);
    }

    /// Forgets that a container was completed: it was damaged on the disk, and is collected again.
    pub fn handle_handed_back(&mut self, serial: Serial, container: &ContainerId) {
        self.completed.remove(serial, container);
    }

    /// Tells whether a container has been completed.
    pub fn is_completed(&self, serial: Serial, container: &ContainerId) -> bool {
        self.completed.contains(serial, container)
    }

    /// Takes up the beacon that was written before the start.
    pub fn restore_beacon(&mut self, now: Mono, written: &SignedBeacon) {
        self.beacons.restore(now, written);
    }

    /// Takes up a set that was on disk before the start: blocks that are done, and incomplete ones with their symbols'
    /// numbers. One that has every block is finished at once.
    ///
    /// # Errors
    /// [`NoRoom`] if there are too many sets: whatever is on disk of it is to be deleted.
    pub fn restore_set(
        &mut self,
        set: SetId,
        done: impl Iterator<Item = u32>,
        spilled: impl Iterator<Item = (u32, u16)>,
    ) -> Result<(), NoRoom> {
        self.sets.begin(set)?;
        for block in done {
            self.sets.block_done(&set, block);
        }
        for (block, symbols) in spilled {
            let known = set
                .geometry
                .block(block)
                .is_some_and(|shape| symbols < shape.k);
            if known
                && !self
                    .sets
                    .find(&set)
                    .is_some_and(|found| found.is_done(block))
            {
                self.sets.block_spilled(&set, block, symbols)?;
            }
        }
        self.finish_if_whole(&set);
        Ok(())
    }

    /// Takes an authentic beacon that the link key of `bundle` verified.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn handle_beacon(
        &mut self,
        now: Mono,
        bundle: BundleId,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        self.beacons.handle(now, bundle, payload)?;
        if let Some(writing) = self.beacons.poll(now) {
            self.effects.push_back(Effect::Beacon(writing));
        }
        Ok(())
    }

    /// Takes an authentic symbol, whose payload is S bytes long.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn handle_symbol(
        &mut self,
        now: Mono,
        symbol: &Symbol,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let set = symbol.set;
        let (number, spilled) = match self.sets.find(&set) {
            Some(found) if found.phase() != Phase::Collecting => return Err(DropReason::Surplus),
            Some(found) if found.is_done(symbol.block.number) => return Err(DropReason::Surplus),
            Some(found) => (found.number(), found.is_spilled(symbol.block.number)),
            None => (self.begin_set(set)?, false),
        };
        let key = (number, symbol.block.number);
        if !self.collector.holds(key) {
            self.begin_block(now, key, symbol, spilled)?;
        }
        self.insert(now, &set, key, symbol.index, payload)?;
        self.sets.progressed(&set);
        Ok(())
    }

    /// Takes a symbol back that was on disk.
    pub fn handle_restored(
        &mut self,
        now: Mono,
        set: &SetId,
        block: u32,
        index: u16,
        bytes: &[u8],
    ) {
        let Some(found) = self.sets.find(set) else {
            return;
        };
        let shape = set.geometry.block(block);
        let fits = shape.is_some_and(|shape| u32::from(index) < shape.symbol_count())
            && bytes.len() == usize::from(set.geometry.symbol_bytes());
        let key = (found.number(), block);
        if fits {
            // One that is dropped is one less of many: the block is not full without it.
            let _ = self.insert(now, set, key, index, bytes);
        }
    }

    /// All symbols of a block that were on disk have been handed back.
    pub fn handle_restore_done(&mut self, set: &SetId, block: u32) {
        if let Some(found) = self.sets.find(set) {
            self.collector.restored((found.number(), block));
        }
    }

    /// Whether a set is whole, as far as the disk has taken it, and waits to be judged.
    pub fn is_finishing(&self, set: &SetId) -> bool {
        let found = self.sets.find(set);
        found.is_some_and(|found| found.phase() == Phase::Finishing)
    }

    /// A block that was to be written has not found room on the disk.
    pub fn handle_write_failed(&mut self, set: &SetId, block: u32) {
        self.sets.block_lost(set, block);
    }

    /// A block that was to be spilled has not found room on the disk: its symbols are lost.
    pub fn handle_spill_failed(&mut self, set: &SetId, block: u32) {
        self.sets.spill_gone(set, block);
    }

    /// A set that was handed out has been judged.
    pub fn handle_finished(&mut self, set: &SetId, finished: Finished) {
        let Some(found) = self.sets.find(set) else {
            return;
        };
        if found.phase() != Phase::Finishing {
            return;
        }
        match finished {
            Finished::Judged(Verdict::Intact(hash)) => {
                if !self.completed.contains(set.serial, &hash.id()) {
                    self.completed.insert(set.serial, &hash.id());
                    self.set_counters.completed += 1;
                }
                self.forget(set, Cause::Completed);
                // The same container in other cuts: nothing of it is needed any more.
                for sibling in self.sets.collecting_of(set.serial, &set.container) {
                    self.forget(&sibling, Cause::Completed);
                }
            }
            Finished::Judged(Verdict::Poisoned) => {
                self.set_counters.poisoned += 1;
                self.forget(set, Cause::Poisoned);
            }
            Finished::NoDisk => {
                self.set_counters.yielded += 1;
                self.forget(set, Cause::Yielded);
            }
        }
    }

    /// Takes the memory of a block back that was handed out to be written or finished.
    pub fn recycle(&mut self, block: SourceBlock) {
        self.collector.recycle(block.into_buffer());
    }

    /// Takes the memory of a block that was spilled, if there is use for it.
    pub fn offer(&mut self, buffer: BlockBuffer) {
        self.collector.offer(buffer);
    }

    /// How sets ended.
    pub fn set_counters(&self) -> SetCounters {
        self.set_counters
    }

    /// The sets that are being collected, by serial.
    pub fn assembling(&self) -> impl Iterator<Item = Assembling> {
        self.sets.iter().map(|set| Assembling {
            set: set.id(),
            have_symbols: self.have_symbols(set),
            need_symbols: set.id().geometry.symbol_count(),
        })
    }

    /// How many sets are being collected.
    pub fn set_count(&self) -> usize {
        self.sets.count()
    }

    /// Bytes of memory that blocks take.
    pub fn memory_bytes(&self) -> usize {
        self.collector.used_bytes()
    }

    /// Bytes that the sets have on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.sets.disk_bytes()
    }

    fn have_symbols(&self, set: &Assembly) -> u64 {
        let on_disk = set
            .spilled()
            .filter(|(block, _)| !self.collector.holds((set.number(), *block)));
        let spilled: u64 = on_disk.map(|(_, symbols)| u64::from(symbols)).sum();
        set.done_symbols() + spilled + self.collector.symbol_count(set.number())
    }

    /// Puts a symbol into its block, and rebuilds a block that is full.
    fn insert(
        &mut self,
        now: Mono,
        set: &SetId,
        key: BlockKey,
        index: u16,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        match self.collector.insert(now, key, index, payload) {
            Collected::Duplicate => Err(DropReason::Duplicate),
            Collected::Stored => Ok(()),
            Collected::Full(buffer) => {
                self.rebuild(set, buffer);
                Ok(())
            }
        }
    }

    fn begin_set(&mut self, set: SetId) -> Result<SetNumber, DropReason> {
        if self.completed.contains(set.serial, &set.container) {
            return Err(DropReason::Completed);
        }
        if set.geometry.container_bytes() > self.disk_bytes_max {
            return Err(DropReason::NoDisk);
        }
        let no_memory = |NoRoom| DropReason::NoMemory;
        while let Some(yielding) = self.sets.poll_yielding(&set).map_err(no_memory)? {
            self.set_counters.yielded += 1;
            self.forget(&yielding, Cause::Yielded);
        }
        self.sets.begin(set).map_err(no_memory)
    }

    fn begin_block(
        &mut self,
        now: Mono,
        key: BlockKey,
        symbol: &Symbol,
        spilled: bool,
    ) -> Result<(), DropReason> {
        let set = symbol.set;
        let restore = if spilled {
            Restore::Pending
        } else {
            Restore::No
        };
        let mut evicted = std::mem::take(&mut self.evicted);
        let begun = self.collector.begin(
            now,
            key,
            &set.geometry,
            &symbol.block,
            restore,
            &mut evicted,
        );
        for (key, buffer) in evicted.drain(..) {
            self.spill(key, buffer);
        }
        self.evicted = evicted;
        if begun.is_err() {
            return Err(DropReason::NoMemory);
        }
        if spilled {
            self.effects
                .push_back(Effect::Restore { set, block: key.1 });
        }
        Ok(())
    }

    fn spill(&mut self, key: BlockKey, buffer: BlockBuffer) {
        let Some(set) = self.sets.find_number(key.0).map(|found| found.id()) else {
            return;
        };
        if buffer.held_count() == 0 {
            self.offer(buffer);
            return;
        }
        if self
            .sets
            .block_spilled(&set, key.1, buffer.held_count())
            .is_err()
        {
            // Too many are there already: these symbols are lost, as on a worse link.
            self.offer(buffer);
            return;
        }
        self.effects.push_back(Effect::Spill { set, buffer });
        self.make_disk_room(key.0);
    }

    fn rebuild(&mut self, set: &SetId, buffer: BlockBuffer) {
        let block = match self.rebuilder.rebuild(&set.geometry, buffer) {
            Ok(block) => block,
            Err(Forged(buffer)) => {
                self.collector.recycle(buffer);
                self.set_counters.poisoned += 1;
                self.forget(set, Cause::Poisoned);
                return;
            }
        };
        if set.geometry.block_count() == 1 {
            self.sets.finishing(set);
            self.effects
                .push_back(Effect::FinishBlock { set: *set, block });
            return;
        }
        let number = block.shape().number;
        let Some(found) = self.sets.find(set) else {
            self.recycle(block);
            return;
        };
        let before = found.prefix_bytes();
        let spilled = if found.is_spilled(number) {
            Spilled::Yes
        } else {
            Spilled::No
        };
        self.sets.block_done(set, number);
        self.effects.push_back(Effect::Write {
            set: *set,
            block,
            spilled,
        });
        let Some(found) = self.sets.find(set) else {
            return;
        };
        let (number, bytes) = (found.number(), found.prefix_bytes());
        if bytes / PREFIX_STEP_BYTES != before / PREFIX_STEP_BYTES {
            self.effects.push_back(Effect::Prefix { set: *set, bytes });
        }
        self.finish_if_whole(set);
        self.make_disk_room(number);
    }

    fn finish_if_whole(&mut self, set: &SetId) {
        if self.sets.find(set).is_some_and(|found| found.is_whole()) {
            self.sets.finishing(set);
            self.effects.push_back(Effect::FinishFile { set: *set });
        }
    }

    /// Discards what progressed least recently until the disk holds no more than it may; `growing` stays.
    fn make_disk_room(&mut self, growing: SetNumber) {
        while self.sets.disk_bytes() > self.disk_bytes_max {
            let Some(set) = self.sets.quietest(Some(growing)) else {
                return;
            };
            self.set_counters.yielded += 1;
            self.forget(&set, Cause::Yielded);
        }
    }

    fn forget(&mut self, set: &SetId, cause: Cause) {
        let Some(gone) = self.sets.remove(set) else {
            return;
        };
        self.collector.forget(gone.number());
        self.effects.push_back(Effect::Forget { set: *set, cause });
    }
}
