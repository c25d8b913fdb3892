//! The inner header: what a datagram carries. Encrypted like the payload behind it.
//!
//! ```text
//!  0 type   1 codec   2 pass   3 zero   4 serial (8)   12 container id (12)   24 container length (6)
//! 30 source block (4)   34 symbol index (2)   36 k_max (2)   38 m (2)                       40 bytes
//! ```

use super::DropReason;
use crate::fec::{BlockShape, Codec, Geometry, GeometryError};
use crate::ids::{ContainerId, Serial};
use crate::limits;

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
    pub fn encode(&self) -> [u8; limits::INNER_BYTES] {
        let mut bytes = [0; limits::INNER_BYTES];
        match self {
            Self::Cover => bytes[0] = KIND_COVER,
            Self::Beacon => bytes[0] = KIND_BEACON,
            Self::Symbol(symbol) => {
                bytes[0] = KIND_SYMBOL;
                bytes[1] = symbol.codec.number();
                bytes[2] = symbol.pass;
                bytes[4..12].copy_from_slice(&symbol.serial.get().to_be_bytes());
                bytes[12..24].copy_from_slice(symbol.container.as_bytes());
                bytes[24..30].copy_from_slice(&u48(symbol.container_bytes));
                bytes[30..34].copy_from_slice(&symbol.block.to_be_bytes());
                bytes[34..36].copy_from_slice(&symbol.index.to_be_bytes());
                bytes[36..38].copy_from_slice(&symbol.k_max.to_be_bytes());
                bytes[38..40].copy_from_slice(&symbol.m.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads a header. Whether its numbers fit together says [`SymbolHeader::check`].
    ///
    /// # Errors
    /// Unknown type or codec, bytes that must be zero, a serial out of range.
    pub fn decode(bytes: &[u8; limits::INNER_BYTES]) -> Result<Self, DropReason> {
        let (kind, rest) = (bytes[0], &bytes[1..]);
        if kind == KIND_SYMBOL {
            return SymbolHeader::decode(bytes).map(Self::Symbol);
        }
        let header = match kind {
            KIND_COVER => Self::Cover,
            KIND_BEACON => Self::Beacon,
            _ => return Err(DropReason::Kind),
        };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(DropReason::NotZero);
        }
        Ok(header)
    }
}

/// Copies `N` bytes out of a header at a fixed offset.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

/// Returns the low 48 bits of a number, big-endian. What is written is checked where it is made.
pub(super) fn u48(number: u64) -> [u8; 6] {
    assert!(number < 1 << 48, "{number} has more than 48 bits");
    field(&number.to_be_bytes(), 2)
}

/// Reads 48 bits, big-endian.
pub(super) fn read_u48(bytes: [u8; 6]) -> u64 {
    let mut number = [0; 8];
    number[2..].copy_from_slice(&bytes);
    u64::from_be_bytes(number)
}

impl SymbolHeader {
    fn decode(bytes: &[u8; limits::INNER_BYTES]) -> Result<Self, DropReason> {
        if bytes[3] != 0 {
            return Err(DropReason::NotZero);
        }
        let serial = u64::from_be_bytes(field(bytes, 4));
        Ok(Self {
            codec: Codec::from_number(bytes[1]).ok_or(DropReason::Codec)?,
            pass: bytes[2],
            serial: Serial::new(serial).ok_or(DropReason::Serial)?,
            container: ContainerId::from_bytes(field(bytes, 12)),
            container_bytes: read_u48(field(bytes, 24)),
            block: u32::from_be_bytes(field(bytes, 30)),
            index: u16::from_be_bytes(field(bytes, 34)),
            k_max: u16::from_be_bytes(field(bytes, 36)),
            m: u16::from_be_bytes(field(bytes, 38)),
        })
    }

    /// Creates the header of a symbol that is sent.
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

    /// Returns the geometry that the header claims, on a link with symbols of this size.
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

    /// Makes every check of the format: the set that the symbol belongs to, and its block. After this the index is below k + m.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    fn symbol() -> SymbolHeader {
        SymbolHeader {
            codec: Codec::Rs8,
            pass: 3,
            serial: Serial::new(0x0102_0304_0506_0708).unwrap(),
            container: ContainerId::from_bytes([0xcc; 12]),
            container_bytes: 1_281,
            block: 0,
            index: 4,
            k_max: 1,
            m: 4,
        }
    }

    #[test]
    fn a_symbol_header_stands_at_its_offsets() {
        let header = SymbolHeader {
            container_bytes: 0x0a0b_0c0d_0e0f,
            block: 0x1011_1213,
            ..symbol()
        };
        let bytes = InnerHeader::Symbol(header).encode();
        let expected = "0101030001020304050607080000cccccccccccccccccccccccc";
        let expected = expected.replace("080000cc", "08cc");
        assert_eq!(hex::encode(&bytes[..24]), expected);
        assert_eq!(
            hex::encode(&bytes[24..]),
            "0a0b0c0d0e0f10111213000400010004"
        );
        assert_eq!(InnerHeader::decode(&bytes), Ok(InnerHeader::Symbol(header)));
    }

    #[test]
    fn each_fault_of_a_header_has_its_reason() {
        let good = InnerHeader::Symbol(symbol()).encode();
        let with = |offset: usize, byte: u8| {
            let mut bytes = good;
            bytes[offset] = byte;
            InnerHeader::decode(&bytes).err()
        };
        assert_eq!(with(0, 3), Some(DropReason::Kind));
        assert_eq!(with(0, 0), Some(DropReason::NotZero));
        assert_eq!(with(0, 2), Some(DropReason::NotZero));
        assert_eq!(with(1, 0), Some(DropReason::Codec));
        assert_eq!(with(1, 3), Some(DropReason::Codec));
        assert_eq!(with(3, 1), Some(DropReason::NotZero));
        assert_eq!(with(4, 0x80), Some(DropReason::Serial));
        let mut bytes = good;
        bytes[4..12].fill(0);
        assert_eq!(InnerHeader::decode(&bytes), Err(DropReason::Serial));
    }

    #[test]
    fn each_claim_that_does_not_fit_has_its_reason() {
        let good = symbol();
        let (set, block) = good.check(1_400).unwrap();
        assert_eq!((block.k, block.m), (1, 4));
        assert_eq!(SymbolHeader::new(&set, 3, &block, 4), good);
        let check = |header: SymbolHeader| header.check(1_400).err();
        let bad = SymbolHeader {
            container_bytes: 1_280,
            ..good
        };
        assert_eq!(check(bad), Some(DropReason::ContainerLength));
        assert_eq!(
            check(SymbolHeader { k_max: 0, ..good }),
            Some(DropReason::Geometry)
        );
        assert_eq!(
            check(SymbolHeader { m: 255, ..good }),
            Some(DropReason::Geometry)
        );
        assert_eq!(
            check(SymbolHeader { block: 1, ..good }),
            Some(DropReason::BlockNumber)
        );
        assert_eq!(
            check(SymbolHeader { index: 5, ..good }),
            Some(DropReason::SymbolIndex)
        );
    }

    proptest! {
        #[test]
        fn any_forty_bytes_are_a_header_that_encodes_the_same_or_none(
            kind in 0_u8..4, codec in 0_u8..4, rest: [u8; 32], tail: [u8; 6],
        ) {
            let mut bytes = [0; limits::INNER_BYTES];
            bytes[0] = kind;
            bytes[1] = codec;
            bytes[2..34].copy_from_slice(&rest);
            bytes[3] &= 1;
            bytes[34..].copy_from_slice(&tail);
            if let Ok(header) = InnerHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
                if let InnerHeader::Symbol(symbol) = header {
                    let _ = symbol.check(1_400);
                }
            }
        }
    }
}
