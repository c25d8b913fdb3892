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
/// [`limits::REPAIR_BYTES_MAX`] and one block more, spare memory included; beyond it the oldest go, and are made again when
/// their turn comes.
#[derive(Default)]
pub struct Repairs {
    codec: BlockCodec,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    // Memory of symbols that have left, for the next ones.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
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
        let mut kept = self.spare();
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        kept.resize(usize::from(symbols.repair_count()) * symbol_bytes, 0);
        self.codec
            .encode_pass(geometry, symbols, shape, source.symbols(), &mut kept);
        self.kept_bytes += kept.len();
        self.kept.push_back(Kept { key, symbols: kept });
        while self.kept_bytes + self.spare_bytes > limits::REPAIR_BYTES_MAX {
            if !self.spare.is_empty() {
                drop(self.spare());
            } else if self.kept.len() > 1 {
                self.drop_at(0);
            } else {
                break;
            }
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
            let bytes = kept.symbols.capacity();
            if self.kept_bytes + self.spare_bytes + bytes <= limits::REPAIR_BYTES_MAX {
                self.spare_bytes += bytes;
                self.spare.push(kept.symbols);
            }
        }
    }

    fn spare(&mut self) -> Vec<u8> {
        let spare = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= spare.capacity();
        spare
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::{BlockBuffer, plan};
    use valise_common::units::Percent;

    use super::*;

    const REPAIR: Percent = Percent::from_ppm(250_000);

    fn container(padded: u64) -> (Geometry, Vec<u8>) {
        let length = 1_264 + padded + 16 * padded.div_ceil(65_536);
        let bytes = (0..length).map(|place| ((place * 31) >> 5) as u8).collect();
        (plan::choose(length, 1_400, REPAIR, 2).unwrap(), bytes)
    }

    fn key(block: u32, pass: u8) -> RepairKey {
        RepairKey {
            serial: Serial::FIRST,
            pass,
            block,
        }
    }

    fn load(geometry: &Geometry, shape: &BlockShape, container: &[u8]) -> SourceBlock {
        let mut source = SourceBlock::default();
        let (start, bytes) = source.begin(geometry, shape);
        bytes.copy_from_slice(&container[start as usize..][..bytes.len()]);
        source
    }

    #[test]
    fn the_repair_of_all_passes_rebuilds_a_block_of_which_a_part_came() {
        for padded in [4_096, 700_000] {
            let (geometry, container) = container(padded);
            let shape = geometry.block(0).unwrap();
            let source = load(&geometry, &shape, &container);
            let mut repairs = Repairs::new();
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            for pass in 0..2 {
                let symbols = plan::pass_symbols(&shape, REPAIR, pass);
                repairs.encode(key(0, pass), &geometry, &shape, &symbols, &source);
                let kept = repairs.symbols(&key(0, pass)).unwrap();
                assert_eq!(kept.len(), usize::from(symbols.repair_count()) * 1_400);
                for (n, symbol) in (u32::from(shape.k)..).zip(kept.chunks(1_400)) {
                    buffer.insert(symbols.index(n).unwrap(), symbol);
                }
            }
            for index in 0..shape.k {
                buffer.insert(
                    index,
                    &source.symbols()[usize::from(index) * 1_400..][..1_400],
                );
            }
            BlockCodec::new().rebuild(&geometry, &mut buffer).unwrap();
            assert!(buffer.source().unwrap() == source.symbols());
        }
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_newest_stay() {
        let (geometry, container) = container(120_000_000);
        let mut repairs = Repairs::new();
        for shape in geometry.blocks() {
            let source = load(&geometry, &shape, &container);
            let symbols = plan::pass_symbols(&shape, REPAIR, 0);
            repairs.encode(key(shape.number, 0), &geometry, &shape, &symbols, &source);
            assert!(repairs.kept_bytes + repairs.spare_bytes <= limits::REPAIR_BYTES_MAX);
        }
        let last = u32::try_from(geometry.block_count() - 1).unwrap();
        assert!(repairs.symbols(&key(0, 0)).is_none());
        assert!(repairs.symbols(&key(last, 0)).is_some());
        assert!(!repairs.has_room());
        repairs.drop_block(&key(last, 0));
        assert!(repairs.symbols(&key(last, 0)).is_none());
        repairs.drop_container(Serial::FIRST);
        assert_eq!((repairs.kept_bytes, repairs.kept.len()), (0, 0));
    }
}
