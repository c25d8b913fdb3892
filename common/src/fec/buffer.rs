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
    held: SymbolSet,
    empty_count: u16,
    repair_count: u16,
    empty_hint: usize,
}

/// What a slot of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Empty,
    Source,
    /// The repair symbol with this number, 0..m.
    Repair(u16),
}

impl BlockBuffer {
    /// Creates an empty buffer for a block.
    pub fn new(geometry: &Geometry, shape: &BlockShape) -> Self {
        let mut buffer = Self {
            shape: *shape,
            symbol_bytes: 0,
            bytes: Vec::new(),
            slots: Vec::new(),
            held: SymbolSet::default(),
            empty_count: 0,
            repair_count: 0,
            empty_hint: 0,
        };
        buffer.reset(geometry, shape);
        buffer
    }

    /// Empties the buffer for another block and keeps its memory.
    pub fn reset(&mut self, geometry: &Geometry, shape: &BlockShape) {
        self.shape = *shape;
        self.symbol_bytes = usize::from(geometry.symbol_bytes());
        // Only what is new is zeroed: slots that hold nothing are never read.
        self.bytes.resize(geometry.source_bytes(shape), 0);
        self.slots.clear();
        self.slots.resize(usize::from(shape.k), Slot::Empty);
        self.held.clear(shape.symbol_count());
        self.empty_count = shape.k;
        self.repair_count = 0;
        self.empty_hint = 0;
    }

    /// Returns the block that this buffer is for.
    pub fn shape(&self) -> &BlockShape {
        &self.shape
    }

    /// Takes an arrived symbol in.
    ///
    /// # Bounds
    /// `index` must be below k + m and `symbol` be S bytes long: the wire has checked both, so anything else is our own bug
    /// and panics.
    pub fn insert(&mut self, index: u16, symbol: &[u8]) -> Insert {
        assert!(
            u32::from(index) < self.shape.symbol_count(),
            "symbol index {index}"
        );
        assert_eq!(symbol.len(), self.symbol_bytes, "symbol length");
        if self.held.contains(index) {
            return Insert::Duplicate;
        }
        if self.empty_count == 0 {
            return Insert::Surplus;
        }
        let (slot, holds) = match index.checked_sub(self.shape.k) {
            None => {
                self.vacate(usize::from(index));
                (usize::from(index), Slot::Source)
            }
            Some(number) => {
                self.repair_count += 1;
                (self.first_empty(), Slot::Repair(number))
            }
        };
        self.slots[slot] = holds;
        self.slot_bytes(slot).copy_from_slice(symbol);
        self.held.insert(index);
        self.empty_count -= 1;
        Insert::Stored
    }

    /// Returns whether a symbol is held.
    pub fn contains(&self, index: u16) -> bool {
        self.held.contains(index)
    }

    /// Symbols held, at most k.
    pub fn held_count(&self) -> u16 {
        self.shape.k - self.empty_count
    }

    /// Returns whether k symbols are here, so that the block can be rebuilt.
    pub fn is_enough(&self) -> bool {
        self.empty_count == 0
    }

    /// Returns the k·S bytes of the source, once every source symbol is there: all came, or the block has been rebuilt.
    pub fn source(&self) -> Option<&[u8]> {
        (self.empty_count == 0 && self.repair_count == 0).then_some(&self.bytes)
    }

    /// Returns every symbol held with its index, for a store that keeps partial blocks.
    pub fn symbols(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let symbols = self.bytes.chunks_exact(self.symbol_bytes);
        (0..self.shape.k)
            .zip(&self.slots)
            .zip(symbols)
            .filter_map(|((slot, holds), symbol)| match holds {
                Slot::Empty => None,
                Slot::Source => Some((slot, symbol)),
                Slot::Repair(number) => Some((self.shape.k.checked_add(*number)?, symbol)),
            })
    }

    /// Memory that the buffer holds.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Symbols that are needed still.
    pub(super) fn missing_count(&self) -> u16 {
        self.empty_count
    }

    /// Returns the slots and their bytes, for a codec.
    pub(super) fn parts(&mut self) -> (&[Slot], &mut [u8]) {
        (&self.slots, &mut self.bytes)
    }

    /// A codec has put the source symbol into every slot that held a repair symbol.
    pub(super) fn set_rebuilt(&mut self) {
        self.slots.fill(Slot::Source);
        self.repair_count = 0;
    }

    fn slot_bytes(&mut self, slot: usize) -> &mut [u8] {
        &mut self.bytes[slot * self.symbol_bytes..][..self.symbol_bytes]
    }

    /// Returns the lowest empty slot, of which there must be one. Slots never become empty again, so the search goes only upwards.
    fn first_empty(&mut self) -> usize {
        while self.slots[self.empty_hint] != Slot::Empty {
            self.empty_hint += 1;
        }
        self.empty_hint
    }

    /// Makes room for a source symbol in its own slot: a repair symbol that stands there moves to an empty one.
    fn vacate(&mut self, slot: usize) {
        if let Slot::Repair(number) = self.slots[slot] {
            let empty = self.first_empty();
            let start = slot * self.symbol_bytes;
            self.bytes
                .copy_within(start..start + self.symbol_bytes, empty * self.symbol_bytes);
            self.slots[empty] = Slot::Repair(number);
        }
    }
}

/// A bit for each symbol of a block.
#[derive(Debug, Default)]
struct SymbolSet(Vec<u64>);

impl SymbolSet {
    fn clear(&mut self, symbol_count: u32) {
        self.0.clear();
        // At most 65,536 symbols, by the geometry's checks.
        self.0.resize(
            usize::try_from(symbol_count.div_ceil(64)).unwrap_or(1_024),
            0,
        );
    }

    fn contains(&self, index: u16) -> bool {
        self.0[usize::from(index / 64)] >> (index % 64) & 1 == 1
    }

    fn insert(&mut self, index: u16) {
        self.0[usize::from(index / 64)] |= 1 << (index % 64);
    }
}
