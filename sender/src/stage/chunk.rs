//! Container → source blocks: where the symbols of a block lie in the container, and the block in memory while its repair
//! symbols are made.

use std::ops::Range;

use valise_common::fec::{BlockShape, Geometry};

/// Where a run of source symbols of a block lies in the container. The container's last symbol may be cut short: what is
/// missing of it is zero on the link.
pub fn symbol_range(geometry: &Geometry, shape: &BlockShape, symbols: Range<u16>) -> Range<u64> {
    let symbol_bytes = u64::from(geometry.symbol_bytes());
    let start = (shape.first_symbol + u64::from(symbols.start)) * symbol_bytes;
    let end = (shape.first_symbol + u64::from(symbols.end)) * symbol_bytes;
    start..end.min(geometry.container_bytes())
}

/// One source block in memory, its buffer reused from block to block.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use valise_common::fec::Codec;

    fn container_bytes(padded: u64) -> u64 {
        1_264 + padded + 16 * padded.div_ceil(65_536)
    }

    #[test]
    fn blocks_and_their_symbols_cover_the_container_once() {
        for padded in [1_024, 4_096, 99_999, 1_000_000] {
            let geometry =
                Geometry::new(container_bytes(padded), Codec::Rs16, 100, 25, 1_400).unwrap();
            let mut next = 0;
            for shape in geometry.blocks() {
                assert_eq!(geometry.block_range(&shape).start, next);
                for symbol in 0..shape.k {
                    let range = symbol_range(&geometry, &shape, symbol..symbol + 1);
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                let whole = symbol_range(&geometry, &shape, 0..shape.k);
                assert_eq!(whole, geometry.block_range(&shape));
            }
            assert_eq!(next, geometry.container_bytes());
        }
    }

    #[test]
    fn what_the_container_does_not_fill_is_zero_even_behind_a_longer_block() {
        let geometry = Geometry::new(container_bytes(1_024), Codec::Rs8, 2, 1, 1_400).unwrap();
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
}
