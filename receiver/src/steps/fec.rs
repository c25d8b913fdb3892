//! full block → source block: rebuilds what was lost, and checks what must be zero.

use valise_common::fec::{BlockBuffer, BlockCodec, BlockShape, Geometry};

/// A source block, whole: every source symbol came or was rebuilt.
///
/// Whether they are the container's own symbols, only its hash can tell.
#[derive(Debug)]
pub(crate) struct SourceBlock {
    buffer: BlockBuffer,
    // Bytes of the container in the block; less than k·S in the last one.
    length: usize,
}

impl SourceBlock {
    /// Returns the container's bytes in this block, without the padding of the last symbol.
    pub(crate) fn bytes(&self) -> &[u8] {
        // There is a source for as long as this value exists: only `rebuild` makes one, and nothing changes the buffer.
        self.buffer
            .source()
            .and_then(|source| source.get(..self.length))
            .unwrap_or_default()
    }

    /// Which block it is.
    pub(crate) fn shape(&self) -> &BlockShape {
        self.buffer.shape()
    }

    /// Memory that the block holds: at least its bytes.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.buffer.allocated_bytes()
    }

    /// Returns the memory, for the next block.
    pub(crate) fn into_buffer(self) -> BlockBuffer {
        self.buffer
    }
}

/// A full block whose padding is not zero: some of its symbols are forged.
#[derive(Debug)]
pub(crate) struct Forged(pub BlockBuffer);

/// Rebuilds blocks; keeps the codec's tables and work space between them.
#[derive(Default)]
pub(crate) struct Rebuilder {
    codec: BlockCodec,
}

impl Rebuilder {
    /// Rebuilds a block that has k symbols. One whose source symbols all came costs nothing.
    ///
    /// # Errors
    /// [`Forged`] if the block's padding is not zero. A block of fewer than k symbols is our own bug and panics.
    pub(crate) fn rebuild(
        &mut self,
        geometry: &Geometry,
        mut buffer: BlockBuffer,
    ) -> Result<SourceBlock, Forged> {
        assert!(
            buffer.is_enough(),
            "a block is rebuilt from k symbols, not from fewer"
        );
        let enough = self.codec.rebuild(geometry, &mut buffer);
        assert!(enough.is_ok(), "any k distinct symbols rebuild a block");
        let range = geometry.block_range(buffer.shape());
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let padding = buffer.source().and_then(|source| source.get(length..));
        match padding {
            Some(padding) if padding.iter().all(|byte| *byte == 0) => {
                Ok(SourceBlock { buffer, length })
            }
            _ => Err(Forged(buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::Codec;

    use super::*;

    /// A container of one block: 2,304 bytes in 36 symbols of 64 bytes, none of it padding, or with `symbol_bytes` of 70.
    fn geometry(symbol_bytes: u16) -> Geometry {
        Geometry::new(2304, Codec::Rs8, 40, 8, symbol_bytes).unwrap()
    }

    fn source(geometry: &Geometry) -> Vec<u8> {
        let shape = geometry.block(0).unwrap();
        let mut source: Vec<u8> = (0..2304_u32).map(|n| (n % 251) as u8).collect();
        source.resize(geometry.source_bytes(&shape), 0);
        source
    }

    fn full_block(geometry: &Geometry, source: &[u8], lost: &[u16]) -> BlockBuffer {
        let shape = geometry.block(0).unwrap();
        let mut repair = vec![0; geometry.repair_bytes(&shape)];
        BlockCodec::new().encode(geometry, &shape, source, &mut repair);
        let symbols = [source, &repair].concat();
        let mut buffer = BlockBuffer::new(geometry, &shape);
        let symbols = symbols.chunks(usize::from(geometry.symbol_bytes()));
        for (index, symbol) in (0_u16..).zip(symbols) {
            if !lost.contains(&index) && !buffer.is_enough() {
                buffer.insert(index, symbol);
            }
        }
        buffer
    }

    #[test]
    fn lost_symbols_are_rebuilt_and_the_padding_is_cut_off() {
        for symbol_bytes in [64, 70] {
            let geometry = geometry(symbol_bytes);
            let source = source(&geometry);
            for lost in [&[][..], &[0], &[0, 5, 6, 30]] {
                let block = full_block(&geometry, &source, lost);
                let rebuilt = Rebuilder::default().rebuild(&geometry, block).unwrap();
                assert_eq!(rebuilt.bytes(), &source[..2304]);
            }
        }
    }

    #[test]
    fn padding_that_is_not_zero_tells_a_forged_symbol() {
        let geometry = geometry(70);
        let mut source = source(&geometry);
        *source.last_mut().unwrap() = 1;
        let block = full_block(&geometry, &source, &[1]);
        assert!(Rebuilder::default().rebuild(&geometry, block).is_err());
    }
}
