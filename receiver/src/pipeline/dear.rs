//! Full blocks whose decoding is out of proportion to them: one behind the other, with a pause behind each.
//!
//! One such block can cost some fifty milliseconds for two datagrams: whoever stole the link key would stop everybody
//! else's cables with it. No sender needs them, and the format allows them, so that they are decoded, only slowly.

use std::collections::VecDeque;

use valise_common::fec::BlockBuffer;
use valise_common::units::Mono;
use valise_common::wire::SetId;

/// Bytes of work in a microsecond that such decodings may make.
const WORK_BYTES_US: u64 = 64;

/// Full blocks that wait for their time. Beyond them the symbol that would make another one full is dropped.
const WAITING_MAX: usize = 64;

/// And the share of the memory that they may take.
const WAITING_SHARE: usize = 8;

/// A full block that costs much to decode.
pub struct DearBlock {
    /// Its set.
    pub set: SetId,
    /// Its symbols.
    pub buffer: BlockBuffer,
    /// The work of its decoding.
    pub work_bytes: usize,
}

/// The dear blocks that wait, and the time of the next.
///
/// # Bounds
/// 64 blocks, and an eighth of the memory for blocks.
pub struct DearBlocks {
    until: Mono,
    waiting: VecDeque<DearBlock>,
    bytes_max: usize,
}

impl DearBlocks {
    /// None yet, of so much memory for blocks.
    pub fn new(memory_bytes: usize) -> Self {
        Self {
            until: Mono(0),
            waiting: VecDeque::new(),
            bytes_max: memory_bytes / WAITING_SHARE,
        }
    }

    /// Whether one that comes now has to wait.
    pub fn must_wait(&self, now: Mono) -> bool {
        now < self.until || !self.waiting.is_empty()
    }

    /// Whether a block of so many bytes finds room among those that wait.
    pub fn has_room(&self, block_bytes: usize) -> bool {
        let waiting = self.waiting.iter();
        let bytes: usize = waiting.map(|one| one.buffer.allocated_bytes()).sum();
        self.waiting.len() < WAITING_MAX && bytes + block_bytes <= self.bytes_max
    }

    /// Takes a block that waits.
    pub fn push(&mut self, block: DearBlock) {
        self.waiting.push_back(block);
    }

    /// One is being decoded now: the next has to wait.
    pub fn begin(&mut self, now: Mono, work_bytes: usize) {
        let pause_us = u64::try_from(work_bytes).unwrap_or(u64::MAX) / WORK_BYTES_US;
        self.until = now.plus_us(pause_us);
    }

    /// The next block to be decoded, if its time has come.
    pub fn poll(&mut self, now: Mono) -> Option<DearBlock> {
        if now < self.until {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.begin(now, next.work_bytes);
        Some(next)
    }

    /// Any that waits, before the end.
    pub fn poll_any(&mut self) -> Option<DearBlock> {
        self.waiting.pop_front()
    }

    /// When to ask again.
    pub fn next_wakeup(&self) -> Option<Mono> {
        (!self.waiting.is_empty()).then_some(self.until)
    }

    /// Whether a block waits.
    pub fn contains(&self, set: &SetId, block: u32) -> bool {
        let mut waiting = self.waiting.iter();
        waiting.any(|one| one.set == *set && one.buffer.shape().number == block)
    }

    /// Symbols of a set's blocks that wait.
    pub fn symbol_count(&self, set: &SetId) -> u64 {
        let of_set = self.waiting.iter().filter(|one| one.set == *set);
        of_set.map(|one| u64::from(one.buffer.shape().k)).sum()
    }

    /// Takes out what waits of a set that is forgotten.
    pub fn take_set(&mut self, set: &SetId) -> Vec<BlockBuffer> {
        let all = std::mem::take(&mut self.waiting);
        let (of_set, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.set == *set);
        self.waiting = others.into();
        of_set.into_iter().map(|one| one.buffer).collect()
    }
}
