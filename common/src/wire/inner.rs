//! The inner header: what a datagram carries. Encrypted like the payload behind it.
//!
//! ```text
//!  0 type   1 codec   2 pass   3 zero   4 serial (8)   12 container id (12)   24 container length (6)
//! 30 source block (4)   34 symbol index (2)   36 k_max (2)   38 m (2)                       40 bytes
//! ```

use super::DropReason;
use crate::fec::{BlockShape, Codec, Geometry, GeometryError};
use crate::ids::{ContainerId, Serial};

/// Bytes of an inner header.
pub const INNER_BYTES: usize = 40;

const KIND_COVER: u8 = 0;
const KIND_SYMBOL: u8 = 1;
const KIND_BEACON: u8 = 2;

/// What a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerHeader {
    /// Nothing: there to hide when there is something.
    Cover,
    /// One symbol of a container.
    Symbol(SymbolHeader),
    /// What the sender knows of its serials; see [`super::Beacon`].
    Beacon,
}

/// Which symbol a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolHeader {
    /// The code.
    pub codec: Codec,
    /// The pass, from 0. For statistics only.
    pub pass: u8,
    /// The container's serial, as the sender claims.
    pub serial: Serial,
    /// The container's id: the symbols that are rebuilt must hash to it.
    pub container: ContainerId,
    /// The container's length.
    pub container_bytes: u64,
    /// The source block.
    pub block: u32,
    /// The symbol in its block: 0..k source, k..k+m repair.
    pub index: u16,
    /// The largest number of source symbols in a block.
    pub k_max: u16,
    /// Repair symbols of each block.
    pub m: u16,
}

/// Symbols pool only within one set: the same serial, container and geometry, symbol size included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId {
    /// The serial.
    pub serial: Serial,
    /// The container's id.
    pub container: ContainerId,
    /// Length, codec, k_max, m and symbol size.
    pub geometry: Geometry,
}

impl InnerHeader {
    /// Writes the header.
    pub fn encode(&self) -> [u8; INNER_BYTES] {
        todo!()
    }

    /// Reads a header. Whether its numbers fit together says [`SymbolHeader::check`].
    ///
    /// # Errors
    /// Unknown type or codec, bytes that must be zero, a serial out of range.
    pub fn decode(bytes: &[u8; INNER_BYTES]) -> Result<Self, DropReason> {
        let _ = (bytes, KIND_COVER, KIND_SYMBOL, KIND_BEACON);
        todo!()
    }
}

impl SymbolHeader {
    /// The header of a symbol that is sent.
    pub fn new(set: &SetId, pass: u8, block: &BlockShape, index: u16) -> Self {
        let geometry = &set.geometry;
        Self {
            codec: geometry.codec(),
            pass,
            serial: set.serial,
            container: set.container,
            container_bytes: geometry.container_bytes(),
            block: block.number,
            index,
            k_max: geometry.k_max(),
            m: geometry.m(),
        }
    }

    /// The geometry that the header claims, on a link with symbols of this size.
    ///
    /// # Errors
    /// [`DropReason::ContainerLength`] or [`DropReason::Geometry`].
    pub fn geometry(&self, symbol_bytes: u16) -> Result<Geometry, DropReason> {
        Geometry::new(
            self.container_bytes,
            self.codec,
            self.k_max,
            self.m,
            symbol_bytes,
        )
        .map_err(|error| match error {
            GeometryError::ContainerLength { .. } => DropReason::ContainerLength,
            _ => DropReason::Geometry,
        })
    }

    /// Every check of the format: the set that the symbol belongs to, and its block. After this the index is below k + m.
    ///
    /// # Errors
    /// As [`SymbolHeader::geometry`], and [`DropReason::BlockNumber`], [`DropReason::SymbolIndex`].
    pub fn check(&self, symbol_bytes: u16) -> Result<(SetId, BlockShape), DropReason> {
        let geometry = self.geometry(symbol_bytes)?;
        let block = geometry.block(self.block).ok_or(DropReason::BlockNumber)?;
        if u32::from(self.index) >= block.symbol_count() {
            return Err(DropReason::SymbolIndex);
        }
        Ok((
            SetId {
                serial: self.serial,
                container: self.container,
                geometry,
            },
            block,
        ))
    }
}
