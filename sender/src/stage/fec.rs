//! Source block → symbols: makes the repair symbols that a pass sends, and keeps them until they have left.

use std::collections::VecDeque;

use valise_common::fec::plan::PassSymbols;
use valise_common::fec::{BlockCodec, BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::limits;

use super::chunk::SourceBlock;

/// Whose repair symbols, and of which pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairKey {
    /// The container's serial.
    pub serial: Serial,
    /// The pass, from 0.
    pub pass: u8,
    /// The source block.
    pub block: u32,
}

/// Repair symbols of the blocks on the link.
///
/// # Bounds
/// [`limits::REPAIR_BYTES_MAX`] and one block more; beyond it the oldest go, and are made again when their turn comes.
#[derive(Default)]
pub struct Repairs {
    codec: BlockCodec,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    spare: Vec<Vec<u8>>,
}

struct Kept {
    key: RepairKey,
    symbols: Vec<u8>,
}

impl Repairs {
    /// Nothing kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the repair symbols that a pass sends of a block.
    pub fn encode(
        &mut self,
        key: RepairKey,
        geometry: &Geometry,
        shape: &BlockShape,
        symbols: &PassSymbols,
        source: &SourceBlock,
    ) {
        let mut kept = self.spare.pop().unwrap_or_default();
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        kept.resize(usize::from(symbols.repair_count()) * symbol_bytes, 0);
        self.codec
            .encode_pass(geometry, symbols, shape, source.symbols(), &mut kept);
        self.kept_bytes += kept.len();
        self.kept.push_back(Kept { key, symbols: kept });
        while self.kept_bytes > limits::REPAIR_BYTES_MAX && self.kept.len() > 1 {
            self.drop_at(0);
        }
    }

    /// The repair symbols of a block, in the order in which the pass sends them.
    pub fn symbols(&self, key: &RepairKey) -> Option<&[u8]> {
        // A handful of blocks is on the link at a time, and the one asked for is usually among the newest.
        self.kept
            .iter()
            .rev()
            .find(|kept| kept.key == *key)
            .map(|kept| kept.symbols.as_slice())
    }

    /// Forgets symbols that have left.
    pub fn drop_block(&mut self, key: &RepairKey) {
        if let Some(position) = self.kept.iter().position(|kept| kept.key == *key) {
            self.drop_at(position);
        }
    }

    /// Forgets whatever is kept of a container.
    pub fn drop_container(&mut self, serial: Serial) {
        while let Some(position) = self.kept.iter().position(|kept| kept.key.serial == serial) {
            self.drop_at(position);
        }
    }

    /// Whether another block may be encoded ahead of its turn without pushing one out.
    pub fn has_room(&self) -> bool {
        self.kept_bytes < limits::REPAIR_BYTES_MAX / 2
    }

    fn drop_at(&mut self, position: usize) {
        if let Some(kept) = self.kept.remove(position) {
            self.kept_bytes -= kept.symbols.len();
            if self.spare.len() < 4 {
                self.spare.push(kept.symbols);
            }
        }
    }
}
