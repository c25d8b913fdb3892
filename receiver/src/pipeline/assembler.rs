//! Symbols in, containers out: collect, rebuild and reassemble as one machine, without a clock and without a file.

use std::collections::VecDeque;

use valise_common::fec::BlockBuffer;
use valise_common::ids::{BundleId, ContainerId, Serial};
use valise_common::units::Mono;
use valise_common::wire::{DropReason, SetId};

use super::beacons::{Beacons, SignedBeacon};
use super::collection::{Collection, Gone};
use super::effect::{Assembling, Effect, Finished, Spilled};
use crate::steps::collect::{BlockKey, Collected, Collector, NoRoom, Restore, SetNumber};
use crate::steps::deframe::Symbol;
use crate::steps::fec::{Forged, Rebuilder, SourceBlock};

/// An incomplete block that has been quiet for so long goes to disk: a crash then loses little, and memory is free for
/// what is on the link now.
const IDLE_US: u64 = 2_000_000;

/// A container's beginning is announced for hashing in steps of this size.
const PREFIX_STEP_BYTES: u64 = 8 << 20;

/// Collects symbols, rebuilds blocks and reassembles containers.
///
/// # Bounds
/// `memory_bytes` of blocks, and the bounds of its sets; as many effects as the inputs since the last poll made.
pub(crate) struct Assembler {
    collector: Collector,
    rebuilder: Rebuilder,
    collection: Collection,
    beacons: Beacons,
    effects: VecDeque<Effect>,
    evicted: Vec<(BlockKey, BlockBuffer)>,
}

impl Assembler {
    /// Creates an assembler with a bound of memory for its blocks.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        Self {
            collector: Collector::new(memory_bytes),
            rebuilder: Rebuilder::default(),
            collection: Collection::new(),
            beacons: Beacons::default(),
            effects: VecDeque::new(),
            evicted: Vec::new(),
        }
    }

    /// The next thing to do, in order.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Assembler::handle_time`] has something to do.
    pub(crate) fn next_wakeup(&self) -> Option<Mono> {
        let quiet_since = self.collector.oldest_progress();
        let idle_at = quiet_since.map(|since| since.plus_us(IDLE_US));
        let times = [idle_at, self.beacons.next_wakeup()];
        times.into_iter().flatten().min()
    }

    /// Puts quiet blocks on disk and writes a beacon that is due.
    pub(crate) fn handle_time(&mut self, now: Mono) {
        let before = Mono(now.0.saturating_sub(IDLE_US).saturating_add(1));
        while let Some((key, buffer)) = self.collector.poll_idle(before) {
            self.spill(key, buffer);
        }
        self.write_beacon(now);
    }

    /// Puts everything on disk that is in memory, before the end.
    pub(crate) fn handle_stop(&mut self) {
        while let Some((key, buffer)) = self.collector.poll_any() {
            self.spill(key, buffer);
        }
        if let Some(writing) = self.beacons.take_pending() {
            self.effects.push_back(Effect::Beacon(writing));
        }
    }

    /// Sets the bundles whose link keys are in force, and the highest serial that has a slot.
    pub(crate) fn handle_keys(&mut self, now: Mono, in_force: &[BundleId], issued_last: u64) {
        self.beacons.handle_keys(now, in_force, issued_last);
        self.write_beacon(now);
    }

    /// Sets how many bytes the sets may have on disk.
    pub(crate) fn handle_room(&mut self, disk_bytes_max: u64) {
        self.collection.handle_room(disk_bytes_max);
    }

    /// Notes a container that has been completed before the start.
    pub(crate) fn restore_completed(&mut self, serial: Serial, container: &ContainerId) {
        self.collection.completed_mut().insert(serial, container);
    }

    /// Forgets that a container was completed: it was damaged on the disk, and is collected again.
    pub(crate) fn handle_handed_back(&mut self, serial: Serial, container: &ContainerId) {
        self.collection.completed_mut().remove(serial, container);
    }

    /// Takes up the beacon that was written before the start.
    pub(crate) fn restore_beacon(&mut self, now: Mono, written: &SignedBeacon) {
        self.beacons.restore(now, written);
    }

    /// Takes up a set that was on disk before the start: blocks that are done, and incomplete ones with their symbols'
    /// numbers. One that has every block is finished at once.
    ///
    /// # Errors
    /// [`NoRoom`] if there are too many sets: whatever is on disk of it is to be deleted.
    pub(crate) fn restore_set(
        &mut self,
        set: SetId,
        done: impl Iterator<Item = u32>,
        spilled: impl Iterator<Item = (u32, u16)>,
    ) -> Result<(), NoRoom> {
        self.collection.restore(&set, done, spilled)?;
        self.finish_if_whole(&set);
        Ok(())
    }

    /// Takes an authentic beacon that the link key of `bundle` verified.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(crate) fn handle_beacon(
        &mut self,
        now: Mono,
        bundle: BundleId,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        self.beacons.handle(now, bundle, payload)?;
        self.write_beacon(now);
        Ok(())
    }

    /// Takes an authentic symbol, whose payload is S bytes long.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn handle_symbol(
        &mut self,
        now: Mono,
        symbol: &Symbol,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let set = symbol.set;
        let (number, spilled) = match self.collection.collecting(&set, symbol.block.number)? {
            Some(found) => (found.number(), found.is_spilled(symbol.block.number)),
            None => (self.begin_set(set)?, false),
        };
        let key = (number, symbol.block.number);
        if !self.collector.holds(key) {
            self.begin_block(now, key, symbol, spilled)?;
        }
        self.insert(now, &set, key, symbol.index, payload)?;
        self.collection.sets_mut().progressed(&set);
        Ok(())
    }

    /// Takes a symbol back that was on disk.
    pub(crate) fn handle_restored(
        &mut self,
        now: Mono,
        set: &SetId,
        block: u32,
        index: u16,
        bytes: &[u8],
    ) {
        let Some(found) = self.collection.sets().find(set) else {
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
    pub(crate) fn handle_restore_done(&mut self, set: &SetId, block: u32) {
        if let Some(found) = self.collection.sets().find(set) {
            self.collector.restored((found.number(), block));
        }
    }

    /// A block that was to be written has not found room on the disk.
    pub(crate) fn handle_write_failed(&mut self, set: &SetId, block: u32) {
        self.collection.sets_mut().block_lost(set, block);
    }

    /// A block that was to be spilled has not found room on the disk: its symbols are lost.
    pub(crate) fn handle_spill_failed(&mut self, set: &SetId, block: u32) {
        self.collection.sets_mut().spill_gone(set, block);
    }

    /// Takes the end of a set that was handed out to be finished.
    pub(crate) fn handle_finished(&mut self, set: &SetId, finished: Finished) {
        for gone in self.collection.handle_finished(set, finished) {
            self.forget(gone);
        }
    }

    /// Takes the memory of a block back that was handed out to be written or finished.
    pub(crate) fn recycle(&mut self, block: SourceBlock) {
        self.collector.recycle(block.into_buffer());
    }

    /// Takes the memory of a block that was spilled, if there is use for it.
    pub(crate) fn offer(&mut self, buffer: BlockBuffer) {
        self.collector.offer(buffer);
    }

    /// Returns the sets that are being collected, and how sets ended.
    pub(crate) fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Returns the sets that are being collected, for `status`, by serial.
    pub(crate) fn assembling(&self) -> impl Iterator<Item = Assembling> {
        self.collection.assembling(&self.collector)
    }

    /// Bytes of memory that blocks take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.collector.used_bytes()
    }

    fn write_beacon(&mut self, now: Mono) {
        let writing = self.beacons.poll(now);
        self.effects.extend(writing.map(Effect::Beacon));
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
        self.collection.admit(&set)?;
        while let Some(gone) = self.collection.poll_yielding(&set)? {
            self.forget(gone);
        }
        self.collection.begin(set)
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
        let Some(set) = self
            .collection
            .sets()
            .find_number(key.0)
            .map(|found| found.id())
        else {
            return;
        };
        if buffer.held_count() == 0 {
            self.offer(buffer);
            return;
        }
        if self
            .collection
            .sets_mut()
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
                if let Some(gone) = self.collection.poisoned(set) {
                    self.forget(gone);
                }
                return;
            }
        };
        if set.geometry.block_count() == 1 {
            self.collection.sets_mut().finishing(set);
            self.effects
                .push_back(Effect::FinishBlock { set: *set, block });
            return;
        }
        let number = block.shape().number;
        let Some(found) = self.collection.sets().find(set) else {
            self.recycle(block);
            return;
        };
        let before = found.prefix_bytes();
        let spilled = match found.is_spilled(number) {
            true => Spilled::Yes,
            false => Spilled::No,
        };
        self.collection.sets_mut().block_done(set, number);
        self.effects.push_back(Effect::Write {
            set: *set,
            block,
            spilled,
        });
        let Some(found) = self.collection.sets().find(set) else {
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
        if self
            .collection
            .sets()
            .find(set)
            .is_some_and(|found| found.is_whole())
        {
            self.collection.sets_mut().finishing(set);
            self.effects.push_back(Effect::FinishFile { set: *set });
        }
    }

    /// Discards what progressed least recently until the disk holds no more than it may; `growing` stays.
    fn make_disk_room(&mut self, growing: SetNumber) {
        while let Some(gone) = self.collection.poll_over_disk(growing) {
            self.forget(gone);
        }
    }

    fn forget(&mut self, gone: Gone) {
        let Gone { set, number, cause } = gone;
        self.collector.forget(number);
        self.effects.push_back(Effect::Forget { set, cause });
    }
}
