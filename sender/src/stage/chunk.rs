//! Container → source blocks: where a block lies in the container, and the blocks that are on the link, in memory.

use std::collections::VecDeque;

use valise_common::fec::{BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::limits;

/// A source block of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockKey {
    /// The container's serial.
    pub serial: Serial,
    /// The source block.
    pub block: u32,
}

/// One source block in memory: k symbols, the container's last one padded with zeros.
#[derive(Debug, Default)]
pub struct SourceBlock {
    bytes: Vec<u8>,
}

impl SourceBlock {
    /// Makes room for a block, and gives the part that must be filled from the container: all but the zero padding.
    pub fn begin(&mut self, geometry: &Geometry, shape: &BlockShape) -> (u64, &mut [u8]) {
        let range = geometry.block_range(shape);
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.bytes.resize(geometry.source_bytes(shape), 0);
        let (filled, padding) = self.bytes.split_at_mut(length);
        padding.fill(0);
        (range.start, filled)
    }

    /// The block's k symbols.
    pub fn symbols(&self) -> &[u8] {
        &self.bytes
    }
}

/// The source blocks on the link: each is read once a pass, for its symbols and for its repair.
///
/// # Bounds
/// [`limits::SOURCE_BYTES_MAX`] and one block more, spare memory included; beyond it the oldest go, and are read again when
/// their turn comes.
#[derive(Debug, Default)]
pub struct SourceBlocks {
    kept: VecDeque<(BlockKey, SourceBlock)>,
    kept_bytes: usize,
    // Memory of blocks that have left, for the next ones: interleaved blocks leave nearly together.
    spare: Vec<SourceBlock>,
    spare_bytes: usize,
}

impl SourceBlocks {
    /// A block, if it is in memory.
    pub fn block(&self, key: BlockKey) -> Option<&SourceBlock> {
        self.kept
            .iter()
            .rev()
            .find(|kept| kept.0 == key)
            .map(|kept| &kept.1)
    }

    /// Memory for a block that is to be read; to be given back by [`SourceBlocks::keep`].
    pub fn spare(&mut self) -> SourceBlock {
        let block = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= block.bytes.capacity();
        block
    }

    /// Keeps a block that has been read.
    pub fn keep(&mut self, key: BlockKey, block: SourceBlock) {
        self.kept_bytes += block.bytes.len();
        self.kept.push_back((key, block));
        while self.kept_bytes + self.spare_bytes > limits::SOURCE_BYTES_MAX {
            if !self.spare.is_empty() {
                drop(self.spare());
            } else if self.kept.len() > 1 {
                self.drop_at(0);
            } else {
                break;
            }
        }
    }

    /// Forgets a block that has left.
    pub fn drop_block(&mut self, key: BlockKey) {
        if let Some(position) = self.kept.iter().position(|kept| kept.0 == key) {
            self.drop_at(position);
        }
    }

    /// Forgets all blocks of a container.
    pub fn drop_container(&mut self, serial: Serial) {
        while let Some(position) = self.kept.iter().position(|kept| kept.0.serial == serial) {
            self.drop_at(position);
        }
    }

    fn drop_at(&mut self, position: usize) {
        if let Some((_, block)) = self.kept.remove(position) {
            self.kept_bytes -= block.bytes.len();
            let bytes = block.bytes.capacity();
            if self.kept_bytes + self.spare_bytes + bytes <= limits::SOURCE_BYTES_MAX {
                self.spare_bytes += bytes;
                self.spare.push(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use valise_common::fec::Codec;

    fn geometry(padded: u64) -> Geometry {
        let container_bytes = 1_264 + padded + 16 * padded.div_ceil(65_536);
        Geometry::new(container_bytes, Codec::Rs16, 100, 25, 1_400).unwrap()
    }

    fn key(block: u32) -> BlockKey {
        BlockKey {
            serial: Serial::FIRST,
            block,
        }
    }

    #[test]
    fn blocks_cover_the_container_once() {
        for padded in [1_024, 4_096, 99_999, 1_000_000] {
            let geometry = geometry(padded);
            let (mut next, mut source) = (0, SourceBlock::default());
            for shape in geometry.blocks() {
                let (start, filled) = source.begin(&geometry, &shape);
                assert_eq!(start, next);
                next += filled.len() as u64;
            }
            assert_eq!(next, geometry.container_bytes());
        }
    }

    #[test]
    fn what_the_container_does_not_fill_is_zero_even_behind_a_longer_block() {
        let geometry = geometry(1_024);
        let shape = geometry.block(0).unwrap();
        let mut block = SourceBlock {
            bytes: vec![9; 50_000],
        };
        let (start, filled) = block.begin(&geometry, &shape);
        assert_eq!((start, filled.len()), (0, 2_304));
        filled.fill(7);
        assert_eq!(block.symbols().len(), 2_800);
        assert!(block.symbols()[..2_304].iter().all(|byte| *byte == 7));
        assert!(block.symbols()[2_304..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_newest_stay() {
        let geometry = geometry(60_000_000);
        let mut blocks = SourceBlocks::default();
        for shape in geometry.blocks() {
            let mut block = blocks.spare();
            block.begin(&geometry, &shape).1.fill(shape.number as u8);
            blocks.keep(key(shape.number), block);
            assert!(blocks.kept_bytes + blocks.spare_bytes <= limits::SOURCE_BYTES_MAX);
        }
        let last = u32::try_from(geometry.block_count() - 1).unwrap();
        assert!(blocks.block(key(0)).is_none());
        assert_eq!(
            blocks.block(key(last - 1)).unwrap().symbols()[0],
            (last - 1) as u8
        );
        blocks.drop_block(key(last - 1));
        assert!(blocks.block(key(last - 1)).is_none());
        blocks.drop_container(Serial::FIRST);
        assert_eq!((blocks.kept_bytes, blocks.kept.len()), (0, 0));
    }
}
