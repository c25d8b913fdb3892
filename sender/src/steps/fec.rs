//! Source block → symbols: makes the repair symbols that a pass sends, and keeps them until they have left.

use valise_common::fec::plan::PassSymbols;
use valise_common::fec::{BlockCodec, BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::limits;

use super::kept::Kept;

/// Whose repair symbols, and of which pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepairKey {
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
pub(crate) struct Repairs {
    codec: BlockCodec,
    kept: Kept<RepairKey>,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            codec: BlockCodec::new(),
            kept: Kept::new(limits::REPAIR_BYTES_MAX),
        }
    }
}

impl Repairs {
    /// Makes the repair symbols that a pass sends of a block, from its k source symbols.
    pub(crate) fn encode(
        &mut self,
        key: RepairKey,
        geometry: &Geometry,
        shape: &BlockShape,
        symbols: &PassSymbols,
        source: &[u8],
    ) {
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        let repair_bytes = usize::from(symbols.repair_count()) * symbol_bytes;
        let mut repair = self.kept.spare(repair_bytes);
        repair.resize(repair_bytes, 0);
        self.codec
            .encode_pass(geometry, symbols, shape, source, &mut repair);
        self.kept.keep(key, repair);
    }

    /// Returns the repair symbols of a block, in the order in which the pass sends them.
    pub(crate) fn symbols(&self, key: &RepairKey) -> Option<&[u8]> {
        self.kept.find(key)
    }

    /// Forgets symbols that have left.
    pub(crate) fn drop_block(&mut self, key: &RepairKey) {
        self.kept.forget(|kept| kept == key);
    }

    /// Forgets whatever is kept of a container.
    pub(crate) fn drop_container(&mut self, serial: Serial) {
        self.kept.forget(|kept| kept.serial == serial);
    }

    /// Returns whether another block may be encoded ahead of its turn without pushing one out.
    pub(crate) fn has_room(&self) -> bool {
        self.kept.bytes() < limits::REPAIR_BYTES_MAX / 2
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::{BlockBuffer, plan};
    use valise_common::units::Percent;

    use super::*;
    use crate::steps::chunk::SourceBlock;

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
            let mut repairs = Repairs::default();
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            for pass in 0..2 {
                let symbols = plan::pass_symbols(&shape, REPAIR, pass);
                repairs.encode(key(0, pass), &geometry, &shape, &symbols, source.symbols());
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
        let mut repairs = Repairs::default();
        for shape in geometry.blocks() {
            let source = load(&geometry, &shape, &container);
            let symbols = plan::pass_symbols(&shape, REPAIR, 0);
            repairs.encode(
                key(shape.number, 0),
                &geometry,
                &shape,
                &symbols,
                source.symbols(),
            );
            assert!(repairs.kept.bytes() <= limits::REPAIR_BYTES_MAX);
        }
        let last = u32::try_from(geometry.block_count() - 1).unwrap();
        assert!(repairs.symbols(&key(0, 0)).is_none());
        assert!(repairs.symbols(&key(last, 0)).is_some());
        assert!(!repairs.has_room());
        repairs.drop_block(&key(last, 0));
        assert!(repairs.symbols(&key(last, 0)).is_none());
        repairs.drop_container(Serial::FIRST);
        assert_eq!(repairs.kept.bytes(), 0);
    }
}
