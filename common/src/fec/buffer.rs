//! The symbols of one source block as they arrive.

use thiserror::Error;

use super::{BlockShape, Geometry};

/// What became of an arrived symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// It was new and is kept; [`BlockBuffer::is_enough`] may have become true.
    Stored,
    /// It was here before.
    Duplicate,
    /// The block has k symbols already.
    Surplus,
}

/// A block cannot be rebuilt yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{missing} more symbols are needed")]
pub struct NotEnough {
    /// Symbols, of any kind, that are still needed.
    pub missing: u16,
}

/// Holds at most k symbols of a block in exactly k·S bytes.
///
/// Source symbol j lives in slot j. A repair symbol stands in the slot of a source symbol that has not come; when that one
/// comes after all, the repair symbol moves to another empty slot. So a block never needs memory for its repair symbols,
/// and a block whose source symbols all came needs no decoding and no copy.
#[derive(Debug)]
pub struct BlockBuffer {
    shape: BlockShape,
    symbol_bytes: usize,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    repair_seen: Vec<u64>,
    empty_count: u16,
    repair_count: u16,
    empty_hint: usize,
}

/// What a slot of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "bodies follow")]
pub(super) enum Slot {
    Empty,
    Source,
    /// The repair symbol with this number, 0..m.
    Repair(u16),
}

impl BlockBuffer {
    /// An empty buffer for a block.
    pub fn new(geometry: &Geometry, shape: &BlockShape) -> Self {
        let _ = (geometry, shape);
        todo!()
    }

    /// Empties the buffer for another block and keeps its memory.
    pub fn reset(&mut self, geometry: &Geometry, shape: &BlockShape) {
        let _ = (geometry, shape);
        todo!()
    }

    /// The block that this buffer is for.
    pub fn shape(&self) -> &BlockShape {
        &self.shape
    }

    /// Takes an arrived symbol in.
    ///
    /// # Bounds
    /// `index` must be below k + m and `symbol` be S bytes long; the wire has checked both.
    pub fn insert(&mut self, index: u16, symbol: &[u8]) -> Insert {
        let _ = (index, symbol, &self.repair_seen, self.empty_hint);
        todo!()
    }

    /// Whether a symbol is held.
    pub fn contains(&self, index: u16) -> bool {
        let _ = index;
        todo!()
    }

    /// Symbols held, at most k.
    pub fn held_count(&self) -> u16 {
        self.shape.k - self.empty_count
    }

    /// Whether k symbols are here, so that the block can be rebuilt.
    pub fn is_enough(&self) -> bool {
        self.empty_count == 0
    }

    /// The k·S bytes of the source, once every source symbol is there: all came, or the block has been rebuilt.
    pub fn source(&self) -> Option<&[u8]> {
        (self.empty_count == 0 && self.repair_count == 0).then_some(&self.bytes)
    }

    /// Every symbol held with its index, for a store that keeps partial blocks.
    pub fn symbols(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.slots
            .iter()
            .zip(self.bytes.chunks_exact(self.symbol_bytes))
            .enumerate()
            .filter_map(|(slot, (held, symbol))| match held {
                Slot::Empty => None,
                Slot::Source => Some((u16::try_from(slot).ok()?, symbol)),
                Slot::Repair(number) => Some((self.shape.k.checked_add(*number)?, symbol)),
            })
    }

    /// Memory that the buffer holds.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
