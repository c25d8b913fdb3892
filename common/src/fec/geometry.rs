//! How a container is cut into source blocks and symbols.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Codec;
use crate::limits;
use crate::seal::padded_of_container;

/// Why a container cannot be cut so. Each variant is a rule of the datagram format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GeometryError {
    /// No container has this length.
    #[error("{container_bytes} bytes is not the length of a container")]
    ContainerLength {
        /// The length.
        container_bytes: u64,
    },
    /// Symbols must have an even length that a datagram can hold.
    #[error("a symbol of {symbol_bytes} bytes does not fit a datagram, or is odd")]
    SymbolLength {
        /// The length.
        symbol_bytes: u16,
    },
    /// A block would have no source symbol.
    #[error("a block needs at least one source symbol")]
    NoSource,
    /// The code does not reach so far.
    #[error("{k_max} source and {m} repair symbols are too many for the codec")]
    CodecLimit {
        /// Source symbols of the largest block.
        k_max: u16,
        /// Repair symbols of each block.
        m: u16,
    },
    /// A block of codec 2 would cost far more to rebuild than it holds.
    #[error("{m} repair symbols are more than 8 for each of the {k} source symbols of a block")]
    RepairShare {
        /// Source symbols of the smallest block.
        k: u16,
        /// Repair symbols of each block.
        m: u16,
    },
    /// A block with its repair symbols would need too much memory.
    #[error("a block of {block_bytes} bytes is larger than 16 MiB")]
    BlockBytes {
        /// Bytes of the block with its repair symbols.
        block_bytes: u64,
    },
    /// The source block number has 32 bits.
    #[error("{block_count} source blocks are more than 2^32")]
    BlockCount {
        /// Blocks.
        block_count: u64,
    },
}

/// How one container is cut, fixed for the container's life: repair symbols of one m are garbage under another.
///
/// # Shape
/// A value exists only if every rule of the datagram format holds, so nothing that uses one checks again.
///
/// # Source
/// RFC 5052 §9.1 for the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Geometry {
    container_bytes: u64,
    codec: Codec,
    k_max: u16,
    m: u16,
    symbol_bytes: u16,
    symbol_count: u64,
    block_count: u64,
    large_count: u64,
    small_k: u16,
}

/// One source block of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockShape {
    /// Its number, from 0.
    pub number: u32,
    /// Source symbols, at least 1.
    pub k: u16,
    /// Repair symbols that the code makes: the same for every block of a container.
    pub m: u16,
    /// Number, in the container, of its first source symbol.
    pub first_symbol: u64,
}

impl BlockShape {
    /// Source and repair symbols together: symbol indexes are below this.
    pub fn symbol_count(&self) -> u32 {
        u32::from(self.k) + u32::from(self.m)
    }
}

/// What is stored and sent of a geometry; the rest follows from it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    container_bytes: u64,
    codec: Codec,
    k_max: u16,
    m: u16,
    symbol_bytes: u16,
}

impl TryFrom<Fields> for Geometry {
    type Error = GeometryError;

    fn try_from(fields: Fields) -> Result<Self, GeometryError> {
        let Fields {
            container_bytes,
            codec,
            k_max,
            m,
            symbol_bytes,
        } = fields;
        Self::new(container_bytes, codec, k_max, m, symbol_bytes)
    }
}

impl From<Geometry> for Fields {
    fn from(geometry: Geometry) -> Self {
        let Geometry {
            container_bytes,
            codec,
            k_max,
            m,
            symbol_bytes,
            ..
        } = geometry;
        Self {
            container_bytes,
            codec,
            k_max,
            m,
            symbol_bytes,
        }
    }
}

impl Geometry {
    /// Cuts a container, if every rule of the format allows it.
    ///
    /// # Errors
    /// The first rule that is broken.
    ///
    /// # Bounds
    /// Constant time, no allocation: what the link claims is checked with it before anything is kept.
    pub fn new(
        container_bytes: u64,
        codec: Codec,
        k_max: u16,
        m: u16,
        symbol_bytes: u16,
    ) -> Result<Self, GeometryError> {
        if padded_of_container(container_bytes).is_none() {
            return Err(GeometryError::ContainerLength { container_bytes });
        }
        let symbols_allowed = limits::DATAGRAM_BYTES_MIN - limits::DATAGRAM_OVERHEAD_BYTES
            ..=limits::DATAGRAM_BYTES_MAX - limits::DATAGRAM_OVERHEAD_BYTES;
        if !symbol_bytes.is_multiple_of(2) || !symbols_allowed.contains(&symbol_bytes) {
            return Err(GeometryError::SymbolLength { symbol_bytes });
        }
        if k_max == 0 {
            return Err(GeometryError::NoSource);
        }
        let (k, repair) = (u32::from(k_max), u32::from(m));
        let within_codec = match codec {
            Codec::Rs8 => k + repair <= limits::CODEC1_SYMBOLS_MAX,
            Codec::Rs16 => k <= limits::CODEC2_SYMBOLS_MAX && repair <= limits::CODEC2_SYMBOLS_MAX,
        };
        if !within_codec {
            return Err(GeometryError::CodecLimit { k_max, m });
        }
        let block_bytes = u64::from(k + repair) * u64::from(symbol_bytes);
        if block_bytes > limits::BLOCK_BYTES_MAX {
            return Err(GeometryError::BlockBytes { block_bytes });
        }
        let symbol_count = container_bytes.div_ceil(u64::from(symbol_bytes));
        let block_count = symbol_count.div_ceil(u64::from(k_max));
        if block_count > 1 << 32 {
            return Err(GeometryError::BlockCount { block_count });
        }
        // ⌊Kt/Z⌋ ≤ ⌈Kt/Z⌉ ≤ k_max, because Z = ⌈Kt/k_max⌉: the conversion cannot fail.
        let small_k = u16::try_from(symbol_count / block_count)
            .map_err(|_| GeometryError::CodecLimit { k_max, m })?;
        // What a transform of codec 2 costs grows with k + m, what it brings with k alone.
        let repair_max = u32::from(small_k) * limits::CODEC2_REPAIR_FACTOR_MAX;
        if codec == Codec::Rs16 && repair > repair_max {
            return Err(GeometryError::RepairShare { k: small_k, m });
        }
        Ok(Self {
            container_bytes,
            codec,
            k_max,
            m,
            symbol_bytes,
            symbol_count,
            block_count,
            large_count: symbol_count % block_count,
            small_k,
        })
    }

    /// Bytes of the container.
    pub fn container_bytes(&self) -> u64 {
        self.container_bytes
    }

    /// Returns the code.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the largest number of source symbols that a block may have: with the container's length, it fixes the partition.
    pub fn k_max(&self) -> u16 {
        self.k_max
    }

    /// Repair symbols that the code makes for each block.
    pub fn m(&self) -> u16 {
        self.m
    }

    /// Bytes of a symbol; even.
    pub fn symbol_bytes(&self) -> u16 {
        self.symbol_bytes
    }

    /// Source symbols of the whole container (Kt), the last one zero-padded.
    pub fn symbol_count(&self) -> u64 {
        self.symbol_count
    }

    /// Source blocks (Z), 1 to 2^32.
    pub fn block_count(&self) -> u64 {
        self.block_count
    }

    /// Returns the shape of a block, if there is one with this number.
    pub fn block(&self, number: u32) -> Option<BlockShape> {
        let before = u64::from(number);
        if before >= self.block_count {
            return None;
        }
        let large_before = before.min(self.large_count);
        let k = if before < self.large_count {
            self.small_k + 1
        } else {
            self.small_k
        };
        let first_symbol = before * u64::from(self.small_k) + large_before;
        Some(BlockShape {
            number,
            k,
            m: self.m,
            first_symbol,
        })
    }

    /// Returns all blocks in order.
    pub fn blocks(&self) -> impl Iterator<Item = BlockShape> + use<> {
        let geometry = *self;
        (0..=u32::MAX).map_while(move |number| geometry.block(number))
    }

    /// Where a block's source lies in the container. The last block's range ends with the container, so it may be shorter
    /// than k symbols: the rest is zero.
    pub fn block_range(&self, shape: &BlockShape) -> Range<u64> {
        let symbol_bytes = u64::from(self.symbol_bytes);
        let start = shape.first_symbol * symbol_bytes;
        let end = start + u64::from(shape.k) * symbol_bytes;
        start..end.min(self.container_bytes)
    }

    /// Bytes of a block's k source symbols, padding included: the length of the buffer that holds them.
    pub fn source_bytes(&self, shape: &BlockShape) -> usize {
        usize::from(shape.k) * usize::from(self.symbol_bytes)
    }

    /// Bytes of a block's m repair symbols: the length of the buffer that holds them.
    pub fn repair_bytes(&self, shape: &BlockShape) -> usize {
        usize::from(shape.m) * usize::from(self.symbol_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The length of a container whose padded package is P bytes long.
    fn container(padded: u64) -> u64 {
        1_264 + padded + 16 * padded.div_ceil(65_536)
    }

    #[test]
    fn the_partition_is_the_one_of_the_vectors() {
        let vector = crate::testing::vector("partition");
        for case in vector["cases"].as_array().unwrap() {
            let number = |name: &str| case[name].as_u64().unwrap();
            let (kt, k_max) = (number("kt"), number("k_max"));
            // A symbol size at which some container has exactly kt symbols.
            let (bytes, symbol_bytes) = (2..=4_540)
                .rev()
                .find_map(|half| {
                    let symbol = half * 2;
                    (0..32).map(|less| kt * symbol - less).find_map(|bytes| {
                        padded_of_container(bytes).map(|_| (bytes, symbol as u16))
                    })
                })
                .unwrap();
            let geometry = Geometry::new(bytes, Codec::Rs16, k_max as u16, 0, symbol_bytes);
            let geometry = geometry.unwrap();
            assert_eq!(geometry.symbol_count(), kt);
            assert_eq!(geometry.block_count(), number("z"));
            let shapes: Vec<_> = geometry.blocks().collect();
            assert_eq!(shapes.len() as u64, number("z"));
            for (shape, place) in shapes.iter().zip(0..) {
                let name = if place < number("i") {
                    "large"
                } else {
                    "small"
                };
                assert_eq!(u64::from(shape.k), number(name));
            }
        }
        assert!(vector["what"] != Value::Null);
    }

    #[test]
    fn only_lengths_of_containers_are_taken() {
        let lengths = [
            (0, false),
            (1_264, false),
            (1_280, false),
            (1_281, true),
            (container(65_536), true),
            // A second segment of less than one byte.
            (container(65_536) + 1, false),
            (container(65_536) + 16, false),
            (container(65_537), true),
            (container(1 << 40), true),
            (container(1 << 40) + 17, false),
            (u64::MAX, false),
        ];
        for (bytes, is_one) in lengths {
            assert_eq!(padded_of_container(bytes).is_some(), is_one, "{bytes}");
        }
    }

    #[test]
    fn each_rule_of_the_format_refuses_what_breaks_it() {
        let bytes = container(1 << 20);
        let new = |codec, k_max, m, symbol_bytes| {
            Geometry::new(bytes, codec, k_max, m, symbol_bytes).err()
        };
        assert_eq!(new(Codec::Rs8, 200, 55, 1_400), None);
        assert_eq!(
            new(Codec::Rs8, 200, 56, 1_400),
            Some(GeometryError::CodecLimit { k_max: 200, m: 56 })
        );
        assert_eq!(new(Codec::Rs16, 32_768, 32_768, 256), None);
        assert_eq!(
            new(Codec::Rs16, 32_769, 1, 64),
            Some(GeometryError::CodecLimit {
                k_max: 32_769,
                m: 1
            })
        );
        assert_eq!(
            new(Codec::Rs16, 1, 32_769, 64),
            Some(GeometryError::CodecLimit {
                k_max: 1,
                m: 32_769
            })
        );
        assert_eq!(
            new(Codec::Rs16, 32_768, 32_768, 258),
            Some(GeometryError::BlockBytes {
                block_bytes: 65_536 * 258
            })
        );
        assert_eq!(new(Codec::Rs16, 0, 1, 1_400), Some(GeometryError::NoSource));
        // 751 symbols in 76 blocks: 67 of ten and 9 of nine.
        assert_eq!(new(Codec::Rs16, 10, 72, 1_400), None);
        assert_eq!(
            new(Codec::Rs16, 10, 73, 1_400),
            Some(GeometryError::RepairShare { k: 9, m: 73 })
        );
        assert_eq!(new(Codec::Rs8, 10, 73, 1_400), None);
        for symbol_bytes in [0, 2, 63, 1_401, 9_082, u16::MAX] {
            let error = Some(GeometryError::SymbolLength { symbol_bytes });
            assert_eq!(new(Codec::Rs16, 1, 1, symbol_bytes), error);
        }
        let huge = Geometry::new(container(1 << 40), Codec::Rs16, 1, 0, 64).err();
        assert!(matches!(huge, Some(GeometryError::BlockCount { .. })));
    }

    #[test]
    fn json_keeps_a_geometry_and_is_checked_when_read() {
        let geometry = Geometry::new(1_281, Codec::Rs8, 1, 4, 1_400).unwrap();
        let json = serde_json::to_string(&geometry).unwrap();
        assert_eq!(serde_json::from_str::<Geometry>(&json).unwrap(), geometry);
        for bad in [
            json.replace("1281", "1280"),
            json.replace("\"k_max\":1", "\"k_max\":0"),
        ] {
            assert!(serde_json::from_str::<Geometry>(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_claim_is_refused_or_cuts_the_container_without_a_gap(
            bytes in prop_oneof![any::<u64>(), (1_u64..1 << 40).prop_map(container)],
            rs16: bool, k_max: u16, m: u16, symbol_bytes in prop_oneof![any::<u16>(), 64_u16..9_080],
            number: u32,
        ) {
            let codec = if rs16 { Codec::Rs16 } else { Codec::Rs8 };
            if let Ok(geometry) = Geometry::new(bytes, codec, k_max, m, symbol_bytes) {
                let last = u32::try_from(geometry.block_count() - 1).unwrap();
                let shape = geometry.block(last).unwrap();
                prop_assert_eq!(shape.first_symbol + u64::from(shape.k), geometry.symbol_count());
                prop_assert_eq!(geometry.block_range(&shape).end, bytes);
                prop_assert!(!rs16 || u32::from(m) <= 8 * u32::from(shape.k));
                prop_assert!(geometry.block(last.saturating_add(1)).is_none() || last == u32::MAX);
                if let Some(shape) = geometry.block(number) {
                    prop_assert!(shape.k >= 1 && shape.k <= k_max);
                    if let Some(next) = geometry.block(number.saturating_add(1)) {
                        let end = shape.first_symbol + u64::from(shape.k);
                        prop_assert!(next.first_symbol == end || number == u32::MAX);
                        prop_assert!(shape.k >= next.k && shape.k - next.k <= 1);
                    }
                }
            }
        }
    }
}
