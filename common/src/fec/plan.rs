//! Which geometry a container gets, and which symbols each pass sends.

use super::{BlockShape, Geometry, GeometryError};
use crate::units::Percent;

/// Chooses how a container is cut.
///
/// # Errors
/// Only what the caller's own values make impossible: a length that no container has, a symbol size that no link has.
pub fn choose(
    container_bytes: u64,
    symbol_bytes: u16,
    repair: Percent,
    passes: u8,
) -> Result<Geometry, GeometryError> {
    let _ = (container_bytes, symbol_bytes, repair, passes);
    todo!()
}

/// The symbols that one pass sends of a block: all source symbols, then its share of the repair symbols.
///
/// Repair symbols run on from pass to pass, so that each brings new ones as far as m reaches; then they begin again at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassSymbols {
    k: u16,
    m: u16,
    repair_start: u16,
    repair_count: u16,
}

/// The symbols of a block that a pass sends.
pub fn pass_symbols(shape: &BlockShape, repair: Percent, pass: u8) -> PassSymbols {
    let _ = (shape, repair, pass);
    todo!()
}

impl PassSymbols {
    /// Source symbols: always all k.
    pub fn source_count(&self) -> u16 {
        self.k
    }

    /// Repair symbols, at most m.
    pub fn repair_count(&self) -> u16 {
        self.repair_count
    }

    /// Symbols of this block in the pass.
    pub fn count(&self) -> u32 {
        u32::from(self.k) + u32::from(self.repair_count)
    }

    /// The symbol index of the n-th symbol that the pass sends, n from 0.
    pub fn index(&self, n: u32) -> Option<u16> {
        let _ = (n, self.m, self.repair_start);
        todo!()
    }
}
