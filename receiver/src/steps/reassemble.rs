//! source block → container: knows of each set which blocks are there, and of the whole whether it is what its id says.
//!
//! Whoever steals the link key can claim any set. So the number of sets is bounded, for each serial and in all, and the
//! one that progressed least recently yields. Neither a serial nor an id is ever barred: what was forged is discarded
//! whole and may be collected anew.

use std::collections::BTreeMap;
use valise_common::limits;

use valise_common::ids::{ContainerHash, ContainerId, Serial};
use valise_common::limits::SETS_PER_SERIAL_MAX;
use valise_common::wire::SetId;

use super::collect::{NoRoom, Recency, SetNumber, Stamp};

/// What a set is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Symbols.
    Collecting,
    /// Its hash, and its name in `inbox/`.
    Finishing,
}

/// One set: a container as one geometry cuts it.
#[derive(Debug)]
pub(crate) struct Assembly {
    id: SetId,
    number: SetNumber,
    phase: Phase,
    done: Vec<u64>,
    done_count: u64,
    done_symbols: u64,
    // Every block below is done: the container is there up to here.
    prefix_blocks: u64,
    // Incomplete blocks on disk, with how many symbols each has.
    spilled: BTreeMap<u32, u16>,
    disk_bytes: u64,
    progress: u64,
    stamp: Stamp,
}

impl Assembly {
    /// Returns the set.
    pub(crate) fn id(&self) -> SetId {
        self.id
    }

    /// Its number here.
    pub(crate) fn number(&self) -> SetNumber {
        self.number
    }

    /// What it waits for.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether a block is rebuilt.
    pub(crate) fn is_done(&self, block: u32) -> bool {
        let (word, bit) = place(block);
        self.done.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns whether every block is rebuilt.
    pub(crate) fn is_whole(&self) -> bool {
        self.done_count == self.id.geometry.block_count()
    }

    /// Returns whether symbols of an incomplete block are on disk.
    pub(crate) fn is_spilled(&self, block: u32) -> bool {
        self.spilled.contains_key(&block)
    }

    /// Incomplete blocks on disk, with how many symbols each has.
    pub(crate) fn spilled(&self) -> impl Iterator<Item = (u32, u16)> {
        self.spilled
            .iter()
            .map(|(block, symbols)| (*block, *symbols))
    }

    /// Source symbols of the blocks that are rebuilt.
    pub(crate) fn done_symbols(&self) -> u64 {
        self.done_symbols
    }

    /// Bytes from the container's beginning that are there without a hole.
    pub(crate) fn prefix_bytes(&self) -> u64 {
        let last = self
            .prefix_blocks
            .checked_sub(1)
            .and_then(|last| u32::try_from(last).ok());
        let shape = last.and_then(|last| self.id.geometry.block(last));
        shape.map_or(0, |shape| self.id.geometry.block_range(&shape).end)
    }

    fn block_bytes(&self, block: u32) -> u64 {
        let range = self
            .id
            .geometry
            .block(block)
            .map(|shape| self.id.geometry.block_range(&shape));
        range.map_or(0, |range| range.end - range.start)
    }

    fn spilled_bytes(&self, symbols: u16) -> u64 {
        u64::from(symbols) * u64::from(self.id.geometry.symbol_bytes())
    }
}

fn place(block: u32) -> (usize, u64) {
    // A bitmap of more words than a 32-bit machine has is never made: see `limits::SET_BLOCKS_MAX`.
    (
        usize::try_from(block / 64).unwrap_or(usize::MAX),
        1 << (block % 64),
    )
}

/// Every set that is being collected.
///
/// # Bounds
/// Four sets a serial, [`limits::SETS_MAX`] in all, 8 MiB of bitmaps, [`limits::SPILLED_BLOCKS_MAX`] incomplete blocks on disk.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    by_serial: BTreeMap<Serial, Vec<Assembly>>,
    ids: BTreeMap<SetNumber, SetId>,
    recency: Recency<SetNumber>,
    next_number: u64,
    progress_count: u64,
    bitmap_bytes: usize,
    spilled_count: usize,
    disk_bytes: u64,
}

impl Sets {
    /// Finds a set.
    pub(crate) fn find(&self, id: &SetId) -> Option<&Assembly> {
        self.by_serial
            .get(&id.serial)?
            .iter()
            .find(|set| set.id == *id)
    }

    /// Returns the sets of one container that are being collected, whatever their geometry: at most four.
    pub(crate) fn collecting_of(&self, serial: Serial, container: &ContainerId) -> Vec<SetId> {
        let of_serial = self.by_serial.get(&serial).into_iter().flatten();
        of_serial
            .filter(|set| set.phase == Phase::Collecting && set.id.container == *container)
            .map(|set| set.id)
            .collect()
    }

    /// Finds a set by its number.
    pub(crate) fn find_number(&self, number: SetNumber) -> Option<&Assembly> {
        self.find(self.ids.get(&number)?)
    }

    fn find_mut(&mut self, id: &SetId) -> Option<&mut Assembly> {
        self.by_serial
            .get_mut(&id.serial)?
            .iter_mut()
            .find(|set| set.id == *id)
    }

    /// Returns the number of sets.
    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    /// Bytes that all sets have on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Returns every set, by serial.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Assembly> {
        self.by_serial.values().flatten()
    }

    /// Which set must yield before `id` can begin; to be asked, and the answer removed, until `None`.
    ///
    /// # Errors
    /// [`NoRoom`] if the set has too many blocks, or whatever could yield is being finished.
    pub(crate) fn poll_yielding(&self, id: &SetId) -> Result<Option<SetId>, NoRoom> {
        let blocks = id.geometry.block_count();
        if blocks > limits::SET_BLOCKS_MAX {
            return Err(NoRoom);
        }
        if let Some(same) = self.by_serial.get(&id.serial)
            && same.len() >= SETS_PER_SERIAL_MAX
        {
            let collecting = same.iter().filter(|set| set.phase == Phase::Collecting);
            let quietest = collecting.min_by_key(|set| set.progress).ok_or(NoRoom)?;
            return Ok(Some(quietest.id));
        }
        let bitmap = bitmap_words(blocks)?.saturating_mul(8);
        if self.ids.len() < limits::SETS_MAX
            && self.bitmap_bytes + bitmap <= limits::BITMAP_BYTES_MAX
        {
            return Ok(None);
        }
        self.quietest(None).map(Some).ok_or(NoRoom)
    }

    /// Returns the set that progressed least recently, apart from one; sets that are being finished don't count.
    pub(crate) fn quietest(&self, besides: Option<SetNumber>) -> Option<SetId> {
        let mut sets = self
            .recency
            .iter()
            .filter(|number| Some(*number) != besides);
        sets.find_map(|number| {
            let set = self.find_number(number)?;
            (set.phase == Phase::Collecting).then_some(set.id)
        })
    }

    /// Begins a set; [`Sets::poll_yielding`] must have found room.
    ///
    /// # Errors
    /// [`NoRoom`] if there is none.
    pub(crate) fn begin(&mut self, id: SetId) -> Result<SetNumber, NoRoom> {
        if self.poll_yielding(&id)?.is_some() {
            return Err(NoRoom);
        }
        let words = bitmap_words(id.geometry.block_count())?;
        self.next_number += 1;
        self.progress_count += 1;
        let number = SetNumber(self.next_number);
        self.bitmap_bytes += words * 8;
        self.ids.insert(number, id);
        self.by_serial.entry(id.serial).or_default().push(Assembly {
            id,
            number,
            phase: Phase::Collecting,
            done: vec![0; words],
            done_count: 0,
            done_symbols: 0,
            prefix_blocks: 0,
            spilled: BTreeMap::new(),
            disk_bytes: 0,
            progress: self.progress_count,
            stamp: self.recency.insert(number),
        });
        Ok(number)
    }

    /// A new symbol of the set has come.
    pub(crate) fn progressed(&mut self, id: &SetId) {
        self.progress_count += 1;
        let sets = self.by_serial.get_mut(&id.serial);
        if let Some(set) = sets.and_then(|sets| sets.iter_mut().find(|set| set.id == *id)) {
            set.progress = self.progress_count;
            self.recency.touch(set.number, &mut set.stamp);
        }
    }

    /// A block of the set is rebuilt. What was on disk of it is not needed any more.
    pub(crate) fn block_done(&mut self, id: &SetId, block: u32) {
        self.spill_gone(id, block);
        let Some(set) = self.find_mut(id) else { return };
        if set.is_done(block) {
            return;
        }
        let (word, bit) = place(block);
        let (Some(word), Some(shape)) = (set.done.get_mut(word), id.geometry.block(block)) else {
            return;
        };
        *word |= bit;
        set.done_count += 1;
        set.done_symbols += u64::from(shape.k);
        while u32::try_from(set.prefix_blocks).is_ok_and(|next| set.is_done(next)) {
            set.prefix_blocks += 1;
        }
        let bytes = set.block_bytes(block);
        set.disk_bytes += bytes;
        self.disk_bytes += bytes;
    }

    /// A block that was rebuilt could not be written: it must be collected anew.
    pub(crate) fn block_lost(&mut self, id: &SetId, block: u32) {
        let Some(set) = self.find_mut(id) else { return };
        if !set.is_done(block) {
            return;
        }
        let (word, bit) = place(block);
        let (Some(word), Some(shape)) = (set.done.get_mut(word), id.geometry.block(block)) else {
            return;
        };
        *word &= !bit;
        set.done_count -= 1;
        set.done_symbols -= u64::from(shape.k);
        set.prefix_blocks = set.prefix_blocks.min(u64::from(block));
        set.phase = Phase::Collecting;
        let bytes = set.block_bytes(block);
        set.disk_bytes -= bytes;
        self.disk_bytes -= bytes;
    }

    /// An incomplete block goes to disk.
    ///
    /// # Errors
    /// [`NoRoom`] if there are too many there already: the block's symbols are lost.
    pub(crate) fn block_spilled(
        &mut self,
        id: &SetId,
        block: u32,
        symbols: u16,
    ) -> Result<(), NoRoom> {
        self.spill_gone(id, block);
        if self.spilled_count >= limits::SPILLED_BLOCKS_MAX {
            return Err(NoRoom);
        }
        let set = self.find_mut(id).ok_or(NoRoom)?;
        let bytes = set.spilled_bytes(symbols);
        set.spilled.insert(block, symbols);
        set.disk_bytes += bytes;
        self.disk_bytes += bytes;
        self.spilled_count += 1;
        Ok(())
    }

    /// What was on disk of an incomplete block is not there any more.
    pub(crate) fn spill_gone(&mut self, id: &SetId, block: u32) {
        let Some(set) = self.find_mut(id) else { return };
        let Some(symbols) = set.spilled.remove(&block) else {
            return;
        };
        let bytes = set.spilled_bytes(symbols);
        set.disk_bytes -= bytes;
        self.disk_bytes -= bytes;
        self.spilled_count -= 1;
    }

    /// The set is being finished: it takes no symbols and does not yield.
    pub(crate) fn finishing(&mut self, id: &SetId) {
        if let Some(set) = self.find_mut(id) {
            set.phase = Phase::Finishing;
        }
    }

    /// Forgets a set.
    pub(crate) fn remove(&mut self, id: &SetId) -> Option<Assembly> {
        let sets = self.by_serial.get_mut(&id.serial)?;
        let place = sets.iter().position(|set| set.id == *id)?;
        let set = sets.swap_remove(place);
        if sets.is_empty() {
            self.by_serial.remove(&id.serial);
        }
        self.ids.remove(&set.number);
        self.recency.remove(&set.stamp);
        self.bitmap_bytes -= set.done.len() * 8;
        self.spilled_count -= set.spilled.len();
        self.disk_bytes -= set.disk_bytes;
        Some(set)
    }
}

fn bitmap_words(blocks: u64) -> Result<usize, NoRoom> {
    usize::try_from(blocks.div_ceil(64)).map_err(|_| NoRoom)
}

/// Whether a container is what its id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Intact(ContainerHash),
    /// It is not: someone forged symbols, or a block was torn by a crash.
    Poisoned,
}

/// Hashes a container as it grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerHasher {
    hasher: blake3::Hasher,
    hashed_bytes: u64,
}

impl ContainerHasher {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }

    /// Bytes taken so far.
    pub(crate) fn hashed_bytes(&self) -> u64 {
        self.hashed_bytes
    }

    /// Compares what was taken with an id.
    pub(crate) fn verdict(&self, id: &ContainerId) -> Verdict {
        let hash = ContainerHash::from_bytes(*self.hasher.finalize().as_bytes());
        if hash.id() == *id {
            Verdict::Intact(hash)
        } else {
            Verdict::Poisoned
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::{Codec, Geometry};

    use super::*;

    fn set(serial: u64, id: u8) -> SetId {
        SetId {
            serial: Serial::new(serial).unwrap(),
            container: ContainerId::from_bytes([id; 12]),
            // 52 symbols in three blocks of 18, 17 and 17.
            geometry: Geometry::new(2304 + 1024, Codec::Rs8, 20, 4, 64).unwrap(),
        }
    }

    #[test]
    fn the_prefix_grows_over_blocks_that_came_before_it() {
        let (mut sets, set) = (Sets::default(), set(1, 1));
        sets.begin(set).unwrap();
        sets.block_done(&set, 2);
        assert_eq!(sets.find(&set).unwrap().prefix_bytes(), 0);
        sets.block_done(&set, 0);
        assert_eq!(sets.find(&set).unwrap().prefix_bytes(), 18 * 64);
        sets.block_done(&set, 1);
        assert_eq!(sets.find(&set).unwrap().prefix_bytes(), 3328);
        assert!(sets.find(&set).unwrap().is_whole());
        assert_eq!(sets.disk_bytes(), 3328);
        sets.block_lost(&set, 1);
        let found = sets.find(&set).unwrap();
        assert!(!found.is_whole() && !found.is_done(1));
        assert_eq!((found.prefix_bytes(), found.done_symbols()), (18 * 64, 35));
        sets.remove(&set);
        assert_eq!((sets.disk_bytes(), sets.count()), (0, 0));
    }

    #[test]
    fn a_set_that_is_being_finished_does_not_yield() {
        let mut sets = Sets::default();
        for id in 1..=4 {
            sets.begin(set(1, id)).unwrap();
            sets.finishing(&set(1, id));
        }
        assert_eq!(sets.poll_yielding(&set(1, 5)), Err(NoRoom));
        assert_eq!(sets.begin(set(1, 5)), Err(NoRoom));
        assert_eq!(sets.poll_yielding(&set(2, 1)), Ok(None));
    }

    #[test]
    fn beyond_the_bound_of_all_sets_the_quietest_yields() {
        let mut sets = Sets::default();
        for serial in 1..=limits::SETS_MAX as u64 {
            sets.begin(set(serial, 1)).unwrap();
        }
        for _ in 0..64 {
            sets.progressed(&set(1, 1));
        }
        let next = set(100_000, 1);
        assert_eq!(sets.poll_yielding(&next), Ok(Some(set(2, 1))));
        sets.remove(&set(2, 1));
        assert!(sets.begin(next).is_ok());
    }

    #[test]
    fn spilled_blocks_are_bounded_and_accounted() {
        let (mut sets, set) = (Sets::default(), set(1, 1));
        sets.begin(set).unwrap();
        sets.block_spilled(&set, 0, 5).unwrap();
        sets.block_spilled(&set, 0, 7).unwrap();
        assert_eq!((sets.spilled_count, sets.disk_bytes()), (1, 7 * 64));
        sets.spilled_count = limits::SPILLED_BLOCKS_MAX;
        assert_eq!(sets.block_spilled(&set, 1, 1), Err(NoRoom));
        sets.spilled_count = 1;
        sets.block_done(&set, 0);
        assert_eq!((sets.spilled_count, sets.disk_bytes()), (0, 18 * 64));
        assert!(!sets.find(&set).unwrap().is_spilled(0));
    }

    #[test]
    fn a_container_is_what_its_id_says_or_poisoned() {
        let mut hasher = ContainerHasher::default();
        hasher.update(b"con");
        hasher.update(b"tainer");
        let hash = ContainerHash::from_bytes(*blake3::hash(b"container").as_bytes());
        assert_eq!(hasher.verdict(&hash.id()), Verdict::Intact(hash));
        assert_eq!(
            hasher.verdict(&ContainerId::from_bytes([0; 12])),
            Verdict::Poisoned
        );
    }
}
