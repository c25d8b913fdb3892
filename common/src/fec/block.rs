//! Repair symbols of a block, and a block from any k of its symbols.

use super::{BlockBuffer, BlockShape, Geometry, NotEnough};

/// Encodes and rebuilds blocks. Keeps what a code needs between blocks (tables, work space), so that a run of like blocks
/// allocates nothing; one value for each thread.
#[derive(Default)]
pub struct BlockCodec {}

impl BlockCodec {
    /// A codec with nothing cached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes all m repair symbols of a block.
    ///
    /// # Shape
    /// `source`: k·S bytes, the last symbol zero-padded. `repair`: m·S bytes, overwritten; symbol index k + i at i·S.
    ///
    /// # Bounds
    /// With m = 0 nothing is done. Wrong lengths are our own bug and panic.
    pub fn encode(
        &mut self,
        geometry: &Geometry,
        shape: &BlockShape,
        source: &[u8],
        repair: &mut [u8],
    ) {
        let _ = (geometry, shape, source, repair);
        todo!()
    }

    /// Rebuilds a block in its buffer, of which [`BlockBuffer::source`] then is there. A block whose source symbols all came
    /// costs nothing.
    ///
    /// # Errors
    /// [`NotEnough`] while fewer than k symbols are held.
    pub fn rebuild(
        &mut self,
        geometry: &Geometry,
        buffer: &mut BlockBuffer,
    ) -> Result<(), NotEnough> {
        let _ = (geometry, buffer);
        todo!()
    }
}
