//! Repair symbols of a block, and a block from any k of its symbols.

use super::plan::PassSymbols;
use super::rs8::Rs8;
use super::rs16::Rs16;
use super::{BlockBuffer, BlockShape, Codec, Geometry, NotEnough};

/// Encodes and rebuilds blocks. Keeps what a code needs between blocks (tables, work space), so that a run of like blocks
/// allocates nothing; one value for each thread.
#[derive(Default)]
pub struct BlockCodec {
    rs8: Rs8,
    rs16: Rs16,
}

impl BlockCodec {
    /// Creates a codec with nothing cached.
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
        self.encode_pass(geometry, &PassSymbols::all(shape), shape, source, repair);
    }

    /// Makes the repair symbols that a pass sends of a block, in the order in which it sends them.
    ///
    /// # Shape
    /// `source` as above. `repair`: as many symbols as the pass has repair symbols, overwritten; the n-th symbol of the pass
    /// (see [`PassSymbols::index`]), n from k, at (n − k)·S.
    ///
    /// # Bounds
    /// As [`BlockCodec::encode`].
    pub fn encode_pass(
        &mut self,
        geometry: &Geometry,
        symbols: &PassSymbols,
        shape: &BlockShape,
        source: &[u8],
        repair: &mut [u8],
    ) {
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        assert_eq!(
            source.len(),
            geometry.source_bytes(shape),
            "source of the block"
        );
        assert_eq!(
            repair.len(),
            usize::from(symbols.repair_count()) * symbol_bytes,
            "repair of the pass"
        );
        if repair.is_empty() {
            return;
        }
        match geometry.codec() {
            Codec::Rs8 => self
                .rs8
                .encode_pass(geometry, symbols, shape, source, repair),
            Codec::Rs16 => self
                .rs16
                .encode_pass(geometry, symbols, shape, source, repair),
        }
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
        if !buffer.is_enough() {
            return Err(NotEnough {
                missing: buffer.missing_count(),
            });
        }
        if buffer.source().is_some() {
            return Ok(());
        }
        let shape = *buffer.shape();
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        let (slots, bytes) = buffer.parts();
        match geometry.codec() {
            Codec::Rs8 => self.rs8.rebuild(&shape, symbol_bytes, slots, bytes),
            Codec::Rs16 => self.rs16.rebuild(&shape, symbol_bytes, slots, bytes),
        }
        buffer.set_rebuilt();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::super::Insert;
    use super::*;
    use crate::testing::{bytes, vector, vectors};

    /// A geometry whose blocks all have k source symbols: of a container long enough to be one.
    fn geometry(codec: Codec, k: u16, m: u16, symbol_bytes: u16) -> (Geometry, BlockShape) {
        let blocks = 1_300_u64.div_ceil(u64::from(k) * u64::from(symbol_bytes)) + 2;
        let container_bytes = blocks * u64::from(k) * u64::from(symbol_bytes);
        // The next shorter length that a container has, if this is none: less than a symbol away.
        let geometry = (0..32)
            .find_map(|less| Geometry::new(container_bytes - less, codec, k, m, symbol_bytes).ok());
        let geometry = geometry.unwrap();
        let shape = geometry.block(0).unwrap();
        assert_eq!((shape.k, geometry.block_count()), (k, blocks));
        (geometry, shape)
    }

    /// Bytes that look random and depend on the seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&seed.to_be_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    /// Symbol `index` of a block.
    fn symbol<'a>(
        shape: &BlockShape,
        source: &'a [u8],
        repair: &'a [u8],
        index: usize,
        symbol_bytes: usize,
    ) -> &'a [u8] {
        let k = usize::from(shape.k);
        match index.checked_sub(k) {
            None => &source[index * symbol_bytes..][..symbol_bytes],
            Some(number) => &repair[number * symbol_bytes..][..symbol_bytes],
        }
    }

    #[test]
    fn repair_symbols_are_those_of_the_vectors() {
        for name in vectors("fec-") {
            let vector = vector(&name);
            let number = |field: &str| vector[field].as_u64().unwrap() as u16;
            let codec = Codec::from_number(number("codec") as u8).unwrap();
            let join = |field: &str| -> Vec<u8> {
                vector[field]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(bytes)
                    .collect()
            };
            let (geometry, shape) =
                geometry(codec, number("k"), number("m"), number("symbol_bytes"));
            let source = join("source");
            let mut repair = vec![0xee; geometry.repair_bytes(&shape)];
            BlockCodec::new().encode(&geometry, &shape, &source, &mut repair);
            assert_eq!(repair, join("repair"), "{name}");
        }
    }

    #[test]
    fn a_block_is_rebuilt_from_repair_symbols_alone_and_in_any_order() {
        for (codec, k, m) in [
            (Codec::Rs8, 1, 1),
            (Codec::Rs8, 1, 254),
            (Codec::Rs8, 127, 128),
            (Codec::Rs16, 1, 1),
            (Codec::Rs16, 1, 5),
            (Codec::Rs16, 3, 3),
            (Codec::Rs16, 40, 41),
            (Codec::Rs16, 65, 129),
        ] {
            let (geometry, shape) = geometry(codec, k, m, 66);
            let source = noise(1, geometry.source_bytes(&shape));
            let mut repair = vec![0; geometry.repair_bytes(&shape)];
            let mut codec = BlockCodec::new();
            codec.encode(&geometry, &shape, &source, &mut repair);
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            for index in (0..shape.symbol_count() as usize).rev() {
                if buffer.is_enough() {
                    break;
                }
                let symbol = symbol(&shape, &source, &repair, index, 66);
                assert_eq!(buffer.insert(index as u16, symbol), Insert::Stored);
            }
            codec.rebuild(&geometry, &mut buffer).unwrap();
            assert_eq!(buffer.source(), Some(&source[..]), "{k} + {m}");
        }
    }

    #[test]
    fn every_repair_symbol_of_one_source_symbol_is_that_symbol() {
        for m in 1..=8 {
            let (geometry, shape) = geometry(Codec::Rs16, 1, m, 66);
            let source = noise(3, 66);
            let mut repair = vec![0; geometry.repair_bytes(&shape)];
            let mut codec = BlockCodec::new();
            codec.encode(&geometry, &shape, &source, &mut repair);
            assert!(repair.chunks(66).all(|symbol| symbol == source), "{m}");
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            buffer.insert(m, &source);
            codec.rebuild(&geometry, &mut buffer).unwrap();
            assert_eq!(buffer.source(), Some(&source[..]));
            assert!(codec.rs16.has_decoded_nothing());
        }
    }

    #[test]
    fn without_repair_or_with_all_source_at_hand_no_codec_is_called() {
        let (geometry, shape) = geometry(Codec::Rs16, 3, 0, 64);
        let source = noise(2, 192);
        let mut codec = BlockCodec::new();
        codec.encode(&geometry, &shape, &source, &mut []);
        let mut buffer = BlockBuffer::new(&geometry, &shape);
        for (index, symbol) in source.chunks(64).enumerate() {
            assert_eq!(buffer.source(), None);
            assert_eq!(
                codec.rebuild(&geometry, &mut buffer),
                Err(NotEnough {
                    missing: 3 - index as u16
                })
            );
            buffer.insert(index as u16, symbol);
        }
        codec.rebuild(&geometry, &mut buffer).unwrap();
        assert_eq!(buffer.source(), Some(&source[..]));
        assert!(codec.rs8.is_unused() && codec.rs16.is_unused());
    }

    #[test]
    fn duplicates_and_surplus_change_nothing() {
        let (geometry, shape) = geometry(Codec::Rs8, 2, 2, 64);
        let mut buffer = BlockBuffer::new(&geometry, &shape);
        assert_eq!(buffer.insert(3, &[1; 64]), Insert::Stored);
        assert_eq!(buffer.insert(3, &[2; 64]), Insert::Duplicate);
        assert_eq!(buffer.insert(0, &[3; 64]), Insert::Stored);
        assert_eq!(buffer.insert(0, &[4; 64]), Insert::Duplicate);
        assert_eq!(buffer.insert(3, &[4; 64]), Insert::Duplicate);
        assert_eq!(buffer.insert(1, &[5; 64]), Insert::Surplus);
        assert!(buffer.contains(3) && !buffer.contains(1));
        let held: Vec<_> = buffer
            .symbols()
            .map(|(index, symbol)| (index, symbol[0]))
            .collect();
        assert_eq!(held, [(0, 3), (3, 1)]);
    }

    #[test]
    fn a_pass_gets_its_own_repair_symbols_in_its_order() {
        use super::super::plan::pass_symbols;
        use crate::units::Percent;
        for codec in [Codec::Rs8, Codec::Rs16] {
            let (geometry, shape) = geometry(codec, 20, 11, 66);
            let source = noise(4, geometry.source_bytes(&shape));
            let mut all = vec![0; geometry.repair_bytes(&shape)];
            let mut codec = BlockCodec::new();
            codec.encode(&geometry, &shape, &source, &mut all);
            for pass in 0..6 {
                let symbols = pass_symbols(&shape, Percent::from_ppm(250_000), pass);
                let mut repair = vec![0; usize::from(symbols.repair_count()) * 66];
                codec.encode_pass(&geometry, &symbols, &shape, &source, &mut repair);
                for (n, sent) in (20..).zip(repair.chunks(66)) {
                    let index = usize::from(symbols.index(n).unwrap());
                    assert_eq!(
                        sent,
                        symbol(&shape, &source, &all, index, 66),
                        "pass {pass}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_large_code_does_not_hoard_memory() {
        let mut codec = BlockCodec::new();
        let (geometry, shape) = geometry(Codec::Rs16, 1_025, 1_025, 8_000);
        let source = noise(3, geometry.source_bytes(&shape));
        let mut repair = vec![0; geometry.repair_bytes(&shape)];
        codec.encode(&geometry, &shape, &source, &mut repair);
        assert!(codec.rs16.is_unused());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn any_k_symbols_rebuild_a_block(
            rs16: bool, k in 1_u16..90, m in 1_u16..90, half in 32_u16..60, seed: u64,
        ) {
            let m = if rs16 { m.min(8 * k) } else { m };
            let codec = if rs16 { Codec::Rs16 } else { Codec::Rs8 };
            let symbol_bytes = usize::from(half) * 2;
            let (geometry, shape) = geometry(codec, k, m, half * 2);
            let source = noise(seed, geometry.source_bytes(&shape));
            let mut repair = vec![0; geometry.repair_bytes(&shape)];
            let mut codec = BlockCodec::new();
            codec.encode(&geometry, &shape, &source, &mut repair);
            // All symbols in an order that the seed decides: the first k of them must do.
            let mut order: Vec<usize> = (0..shape.symbol_count() as usize).collect();
            order.sort_by_key(|index| *blake3::hash(&[seed, *index as u64].map(u64::to_be_bytes).concat()).as_bytes());
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            for index in &order[..usize::from(k)] {
                prop_assert!(codec.rebuild(&geometry, &mut buffer).is_err());
                let symbol = symbol(&shape, &source, &repair, *index, symbol_bytes);
                prop_assert_eq!(buffer.insert(*index as u16, symbol), Insert::Stored);
                let held = buffer.symbols().find(|(held, _)| *held == *index as u16).unwrap();
                prop_assert_eq!(held.1, symbol);
            }
            codec.rebuild(&geometry, &mut buffer).unwrap();
            prop_assert_eq!(buffer.source(), Some(&source[..]));
        }
    }
}
