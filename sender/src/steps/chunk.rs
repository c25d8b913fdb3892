//! Container → source blocks: where a block lies in the container, and the blocks that are on the link, in memory.

use valise_common::fec::{BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::limits;

use super::kept::Kept;

/// A source block of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockKey {
    /// The container's serial.
    pub serial: Serial,
    /// The source block.
    pub block: u32,
}

/// One source block in memory: k symbols, the container's last one padded with zeros.
#[derive(Debug, Default)]
pub(crate) struct SourceBlock {
    bytes: Vec<u8>,
}

impl SourceBlock {
    /// Makes room for a block, and gives the part that must be filled from the container: all but the zero padding.
    pub(crate) fn begin(&mut self, geometry: &Geometry, shape: &BlockShape) -> (u64, &mut [u8]) {
        let range = geometry.block_range(shape);
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.bytes.resize(geometry.source_bytes(shape), 0);
        let (filled, padding) = self.bytes.split_at_mut(length);
        padding.fill(0);
        (range.start, filled)
    }

    /// Returns the block's k symbols.
    #[cfg(test)]
    pub fn symbols(&self) -> &[u8] {
        &self.bytes
    }
}

/// The source blocks on the link: each is read once a pass, for its symbols and for its repair.
///
/// # Bounds
/// [`limits::SOURCE_BYTES_MAX`] and one block more; beyond it the oldest go, and are read again when their turn comes.
#[derive(Debug)]
pub(crate) struct SourceBlocks {
    kept: Kept<BlockKey>,
}

impl Default for SourceBlocks {
    fn default() -> Self {
        Self {
            kept: Kept::new(limits::SOURCE_BYTES_MAX),
        }
    }
}

impl SourceBlocks {
    /// Returns the k symbols of a block, if it is in memory.
    pub(crate) fn symbols(&self, key: BlockKey) -> Option<&[u8]> {
        self.kept.find(&key)
    }

    /// Memory for a block that is to be read, of so many bytes; to be given back by [`SourceBlocks::keep`].
    pub(crate) fn spare(&mut self, bytes: usize) -> SourceBlock {
        SourceBlock {
            bytes: self.kept.spare(bytes),
        }
    }

    /// Keeps a block that has been read.
    pub(crate) fn keep(&mut self, key: BlockKey, block: SourceBlock) {
        self.kept.keep(key, block.bytes);
    }

    /// Forgets a block that has left.
    pub(crate) fn drop_block(&mut self, key: BlockKey) {
        self.kept.forget(|kept| *kept == key);
    }

    /// Forgets all blocks of a container.
    pub(crate) fn drop_container(&mut self, serial: Serial) {
        self.kept.forget(|kept| kept.serial == serial);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use valise_common::fec::Codec;

    fn geometry(padded: u64) -> Geometry {
        let container_bytes = 1_264 + padded + 16 * padded.div_ceil(65_536);
        Geometry::new(container_bytes, Codec::Rs16, 100, 16, 1_400).unwrap()
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
    fn the_oldest_blocks_go_and_the_newest_stay() {
        let geometry = geometry(60_000_000);
        let mut blocks = SourceBlocks::default();
        for shape in geometry.blocks() {
            let mut block = blocks.spare(geometry.source_bytes(&shape));
            block.begin(&geometry, &shape).1.fill(shape.number as u8);
            blocks.keep(key(shape.number), block);
            assert!(blocks.kept.bytes() <= limits::SOURCE_BYTES_MAX);
        }
        let last = u32::try_from(geometry.block_count() - 1).unwrap();
        assert!(blocks.symbols(key(0)).is_none());
        assert_eq!(blocks.symbols(key(last - 1)).unwrap()[0], (last - 1) as u8);
        blocks.drop_block(key(last - 1));
        assert!(blocks.symbols(key(last - 1)).is_none());
        blocks.drop_container(Serial::FIRST);
        assert_eq!(blocks.kept.bytes(), 0);
    }
}
