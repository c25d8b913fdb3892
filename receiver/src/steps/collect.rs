//! symbol → full block: pools the symbols of source blocks, within a bound of memory.
//!
//! Blocks that have not progressed for the longest time leave memory first. They leave with all their symbols: whoever
//! drives the collector puts them on disk and brings them back when more of their symbols arrive.

use std::collections::BTreeMap;

use valise_common::fec::{BlockBuffer, BlockShape, Geometry, Insert};
use valise_common::units::Mono;

/// Names a set for as long as it is collected; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SetNumber(pub u64);

/// A block of a set that is being collected.
pub(crate) type BlockKey = (SetNumber, u32);

/// What became of a symbol.
#[derive(Debug)]
pub(crate) enum Collected {
    /// It is new, and more are needed.
    Stored,
    /// It is new, and the block has k symbols now. The collector has forgotten the block.
    Full(BlockBuffer),
    /// The block has this symbol, or is not being collected.
    Duplicate,
}

/// Blocks that are being collected, and the memory that they may take.
///
/// # Bounds
/// `budget_bytes` for all blocks, full ones that were handed out and not recycled yet included. A block that leaves for
/// the disk counts no more: it is written and freed before the next symbol is looked at.
#[derive(Debug)]
pub(crate) struct Collector {
    budget_bytes: usize,
    used_bytes: usize,
    blocks: BTreeMap<BlockKey, Held>,
    recency: Recency<BlockKey>,
    // Memory of finished blocks, for the next ones; counted in `used_bytes`.
    spare: Vec<BlockBuffer>,
    spare_bytes: usize,
}

#[derive(Debug)]
struct Held {
    buffer: BlockBuffer,
    stamp: Stamp,
    progressed: Mono,
    restore: Restore,
}

/// Whether symbols of a block are on their way back from disk: until then it must not leave, or they would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restore {
    /// They are; see [`Collector::restored`].
    Pending,
    /// There are none.
    No,
}

/// There is no memory for a block now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Spare buffers are kept up to this share of the budget, enough for the blocks that become whole nearly together.
const SPARE_SHARE: usize = 2;

/// Spare buffers are kept up to this number.
const SPARE_MAX: usize = 64;

/// What a block takes for each slot besides its symbol.
const SLOT_BYTES: usize = 8;

/// What a block takes besides: map entries, a stamp, the allocator's own.
const BLOCK_OVERHEAD_BYTES: usize = 512;

impl Collector {
    /// Creates a collector with a bound of memory.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            used_bytes: 0,
            blocks: BTreeMap::new(),
            recency: Recency::default(),
            spare: Vec::new(),
            spare_bytes: 0,
        }
    }

    /// Returns whether symbols of this block are in memory.
    pub(crate) fn holds(&self, key: BlockKey) -> bool {
        self.blocks.contains_key(&key)
    }

    /// Returns how many symbols of a set's blocks are in memory.
    pub(crate) fn symbol_count(&self, set: SetNumber) -> u64 {
        let blocks = self.blocks.range((set, 0)..=(set, u32::MAX));
        blocks
            .map(|(_, held)| u64::from(held.buffer.held_count()))
            .sum()
    }

    /// Bytes of memory in use: blocks, spare buffers, and full blocks that were handed out.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Begins a block, if there is room or room can be made. What had to leave is added to `evicted`.
    ///
    /// # Errors
    /// [`NoRoom`] if the block is begun already, or not even everything that may leave would make room.
    pub(crate) fn begin(
        &mut self,
        now: Mono,
        key: BlockKey,
        geometry: &Geometry,
        shape: &BlockShape,
        restore: Restore,
        evicted: &mut Vec<(BlockKey, BlockBuffer)>,
    ) -> Result<(), NoRoom> {
        if self.blocks.contains_key(&key) {
            return Err(NoRoom);
        }
        let buffer = self.buffer(geometry, shape, evicted)?;
        let stamp = self.recency.insert(key);
        let held = Held {
            buffer,
            stamp,
            progressed: now,
            restore,
        };
        self.blocks.insert(key, held);
        Ok(())
    }

    /// Puts a symbol into a block that was begun. The index is below k + m and the symbol S bytes long.
    pub(crate) fn insert(
        &mut self,
        now: Mono,
        key: BlockKey,
        index: u16,
        symbol: &[u8],
    ) -> Collected {
        let Some(held) = self.blocks.get_mut(&key) else {
            return Collected::Duplicate;
        };
        match held.buffer.insert(index, symbol) {
            Insert::Stored => {}
            Insert::Duplicate | Insert::Surplus => return Collected::Duplicate,
        }
        held.progressed = now;
        self.recency.touch(key, &mut held.stamp);
        if !held.buffer.is_enough() {
            return Collected::Stored;
        }
        match self.take(key) {
            Some(buffer) => Collected::Full(buffer),
            None => Collected::Duplicate,
        }
    }

    /// The symbols of a block have come back from disk, or never will: it may leave again.
    pub(crate) fn restored(&mut self, key: BlockKey) {
        if let Some(held) = self.blocks.get_mut(&key) {
            held.restore = Restore::No;
        }
    }

    /// Takes a block out that has not progressed since `before`; to be repeated until `None`. Its memory does not count
    /// any more.
    pub(crate) fn poll_idle(&mut self, before: Mono) -> Option<(BlockKey, BlockBuffer)> {
        let key = self.recency.oldest()?;
        let held = self.blocks.get(&key)?;
        if held.restore == Restore::Pending || held.progressed >= before {
            return None;
        }
        self.evict(key).map(|buffer| (key, buffer))
    }

    /// When the block that has been quiet for the longest progressed.
    pub(crate) fn oldest_progress(&self) -> Option<Mono> {
        let held = self.blocks.get(&self.recency.oldest()?)?;
        Some(held.progressed)
    }

    /// Takes any block out; to be repeated until `None`. Its memory does not count any more.
    pub(crate) fn poll_any(&mut self) -> Option<(BlockKey, BlockBuffer)> {
        let key = *self.blocks.first_key_value()?.0;
        self.evict(key).map(|buffer| (key, buffer))
    }

    /// Forgets every block of a set.
    pub(crate) fn forget(&mut self, set: SetNumber) {
        let blocks = self.blocks.range((set, 0)..=(set, u32::MAX));
        let keys: Vec<BlockKey> = blocks.map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(buffer) = self.take(key) {
                self.recycle(buffer);
            }
        }
    }

    /// Takes the memory of a full block back.
    pub(crate) fn recycle(&mut self, buffer: BlockBuffer) {
        self.release(cost_bytes(&buffer));
        self.offer(buffer);
    }

    /// Takes the memory of a block that left as a spare, if there is use for it.
    pub(crate) fn offer(&mut self, buffer: BlockBuffer) {
        let cost = cost_bytes(&buffer);
        let bound = self.budget_bytes / SPARE_SHARE;
        let fits = self.spare_bytes + cost <= bound && self.used_bytes + cost <= self.budget_bytes;
        if fits && self.spare.len() < SPARE_MAX {
            self.spare_bytes += cost;
            self.used_bytes += cost;
            self.spare.push(buffer);
        }
    }

    fn release(&mut self, cost: usize) {
        assert!(
            self.used_bytes >= cost,
            "more memory came back than went out"
        );
        self.used_bytes -= cost;
    }

    fn take(&mut self, key: BlockKey) -> Option<BlockBuffer> {
        let held = self.blocks.remove(&key)?;
        self.recency.remove(&held.stamp);
        Some(held.buffer)
    }

    fn evict(&mut self, key: BlockKey) -> Option<BlockBuffer> {
        let buffer = self.take(key)?;
        self.release(cost_bytes(&buffer));
        Some(buffer)
    }

    fn pop_spare(&mut self, place: usize) -> BlockBuffer {
        let buffer = self.spare.swap_remove(place);
        let cost = cost_bytes(&buffer);
        self.spare_bytes -= cost;
        self.release(cost);
        buffer
    }

    /// Returns an empty buffer: a spare one, or a new one within the budget.
    fn buffer(
        &mut self,
        geometry: &Geometry,
        shape: &BlockShape,
        evicted: &mut Vec<(BlockKey, BlockBuffer)>,
    ) -> Result<BlockBuffer, NoRoom> {
        let source_bytes = geometry.source_bytes(shape);
        // A spare buffer that is much too large would waste what the budget counts.
        let fits = |spare: &BlockBuffer| {
            let allocated = spare.allocated_bytes();
            (source_bytes..=source_bytes.saturating_mul(2)).contains(&allocated)
        };
        let spare = self
            .spare
            .iter()
            .position(fits)
            .map(|place| self.pop_spare(place));
        let buffer = match spare {
            Some(mut buffer) => {
                buffer.reset(geometry, shape);
                buffer
            }
            None => {
                self.make_room(source_bytes + overhead_bytes(shape), evicted)?;
                BlockBuffer::new(geometry, shape)
            }
        };
        self.used_bytes += cost_bytes(&buffer);
        Ok(buffer)
    }

    fn make_room(
        &mut self,
        cost: usize,
        evicted: &mut Vec<(BlockKey, BlockBuffer)>,
    ) -> Result<(), NoRoom> {
        while self.used_bytes + cost > self.budget_bytes {
            if !self.spare.is_empty() {
                self.pop_spare(0);
                continue;
            }
            let may_leave = |key: &BlockKey| {
                self.blocks
                    .get(key)
                    .is_some_and(|held| held.restore == Restore::No)
            };
            let key = self.recency.iter().find(may_leave).ok_or(NoRoom)?;
            let buffer = self.evict(key).ok_or(NoRoom)?;
            evicted.push((key, buffer));
        }
        Ok(())
    }
}

fn overhead_bytes(shape: &BlockShape) -> usize {
    let (k, m) = (usize::from(shape.k), usize::from(shape.m));
    k * SLOT_BYTES + m.div_ceil(8) + BLOCK_OVERHEAD_BYTES
}

fn cost_bytes(buffer: &BlockBuffer) -> usize {
    buffer.allocated_bytes() + overhead_bytes(buffer.shape())
}

/// Which of many things progressed when, exactly enough to tell the quiet ones.
///
/// Stamps move only every 64th time that anything progresses, so that a symbol costs a comparison and not two map
/// operations.
#[derive(Debug)]
pub(crate) struct Recency<K> {
    order: BTreeMap<Stamp, K>,
    next: u64,
    progress_count: u64,
}

/// The place of a thing in the order of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    epoch: u64,
    distinct: u64,
}

impl<K> Default for Recency<K> {
    fn default() -> Self {
        Self {
            order: BTreeMap::new(),
            next: 0,
            progress_count: 0,
        }
    }
}

impl<K: Copy> Recency<K> {
    /// Adds a thing that progressed just now.
    pub(crate) fn insert(&mut self, key: K) -> Stamp {
        self.next += 1;
        let stamp = Stamp {
            epoch: self.progress_count / 64,
            distinct: self.next,
        };
        self.order.insert(stamp, key);
        stamp
    }

    /// The thing has progressed.
    pub(crate) fn touch(&mut self, key: K, stamp: &mut Stamp) {
        self.progress_count += 1;
        if stamp.epoch != self.progress_count / 64 {
            self.order.remove(stamp);
            *stamp = self.insert(key);
        }
    }

    /// The thing is gone.
    pub(crate) fn remove(&mut self, stamp: &Stamp) {
        self.order.remove(stamp);
    }

    /// What has been quiet for the longest.
    pub(crate) fn oldest(&self) -> Option<K> {
        self.iter().next()
    }

    /// Everything, the quietest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = K> {
        self.order.values().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::Codec;

    use super::*;

    /// Blocks of 18 and 17 symbols of 64 bytes.
    fn geometry() -> Geometry {
        Geometry::new(2304 + 1024, Codec::Rs8, 20, 4, 64).unwrap()
    }

    fn begin(
        collector: &mut Collector,
        number: u64,
        restore: Restore,
    ) -> Result<Vec<BlockKey>, NoRoom> {
        let (geometry, mut evicted) = (geometry(), Vec::new());
        let shape = geometry.block(0).unwrap();
        let key = (SetNumber(number), 0);
        collector.begin(Mono(number), key, &geometry, &shape, restore, &mut evicted)?;
        Ok(evicted.into_iter().map(|(key, _)| key).collect())
    }

    fn cost() -> usize {
        let geometry = geometry();
        cost_bytes(&BlockBuffer::new(&geometry, &geometry.block(0).unwrap()))
    }

    #[test]
    fn the_block_that_was_quiet_the_longest_leaves_first_and_a_pinned_one_stays() {
        let mut collector = Collector::new(3 * cost());
        assert_eq!(begin(&mut collector, 1, Restore::Pending), Ok(vec![]));
        assert_eq!(begin(&mut collector, 2, Restore::No), Ok(vec![]));
        assert_eq!(begin(&mut collector, 3, Restore::No), Ok(vec![]));
        assert_eq!(
            begin(&mut collector, 4, Restore::No),
            Ok(vec![(SetNumber(2), 0)])
        );
        collector.restored((SetNumber(1), 0));
        assert_eq!(
            begin(&mut collector, 5, Restore::No),
            Ok(vec![(SetNumber(1), 0)])
        );
        assert_eq!(collector.used_bytes(), 3 * cost());
    }

    #[test]
    fn without_anything_that_may_leave_there_is_no_room() {
        let mut collector = Collector::new(cost());
        begin(&mut collector, 1, Restore::Pending).unwrap();
        assert_eq!(begin(&mut collector, 2, Restore::No), Err(NoRoom));
        assert_eq!(
            begin(&mut collector, 1, Restore::No),
            Err(NoRoom),
            "it is begun already"
        );
        assert!(collector.holds((SetNumber(1), 0)));
    }

    #[test]
    fn a_full_block_counts_until_it_is_recycled() {
        let mut collector = Collector::new(8 * cost());
        begin(&mut collector, 1, Restore::No).unwrap();
        let key = (SetNumber(1), 0);
        let k = geometry().block(0).unwrap().k;
        for index in 0..k - 1 {
            assert!(matches!(
                collector.insert(Mono(1), key, index, &[1; 64]),
                Collected::Stored
            ));
        }
        assert!(matches!(
            collector.insert(Mono(1), key, 0, &[1; 64]),
            Collected::Duplicate
        ));
        let Collected::Full(buffer) = collector.insert(Mono(1), key, k - 1, &[1; 64]) else {
            panic!("k symbols make a block");
        };
        assert!(!collector.holds(key));
        assert_eq!(collector.used_bytes(), cost());
        collector.recycle(buffer);
        assert_eq!(collector.used_bytes(), cost(), "kept as a spare");
        begin(&mut collector, 2, Restore::No).unwrap();
        assert_eq!(collector.used_bytes(), cost(), "and used again");
        collector.forget(SetNumber(2));
        assert!(!collector.holds((SetNumber(2), 0)));
    }

    #[test]
    fn recency_follows_progress_within_its_grain() {
        let mut recency = Recency::default();
        let mut stamps: Vec<Stamp> = (0..3).map(|key| recency.insert(key)).collect();
        for _ in 0..64 {
            recency.touch(0, &mut stamps[0]);
        }
        assert_eq!(recency.iter().collect::<Vec<_>>(), [1, 2, 0]);
        recency.remove(&stamps[1]);
        assert_eq!(recency.oldest(), Some(2));
    }
}
