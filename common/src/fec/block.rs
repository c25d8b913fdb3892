//! Repair symbols of a block, and a block from any k of its symbols.

use reed_solomon_erasure::galois_8::ReedSolomon;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::buffer::Slot;
use super::plan::PassSymbols;
use super::{BlockBuffer, BlockShape, Codec, Geometry, NotEnough};
use crate::limits;

/// Bytes of work for each byte of a block above which its decoding is dear: see [`BlockBuffer::dear_bytes`].
const DEAR_RATIO: usize = 16;

/// Bytes of work up to which no decoding is dear.
const DEAR_BYTES_MIN: usize = 256 << 10;

/// Why the crates' errors cannot occur: they refuse only counts and lengths that [`Geometry::new`] refuses too.
const CHECKED: &str = "the geometry has been checked against the codec's limits";

/// Codecs of GF(2^8) that are kept: a sender's small containers come in few sizes.
const RS8_KEPT_MAX: usize = 16;

/// A codec of GF(2^8) keeps the inverted matrix of every loss pattern it has met, 254 at most, k² bytes each. When they may
/// take more than this, the codec is built anew.
const RS8_PATTERN_BYTES_MAX: usize = 1 << 20;

/// Work space of GF(2^16) above this is given back after use. It can be four times the block (both counts are rounded up to
/// powers of two), and whoever stole the link key chooses the counts.
const RS16_KEPT_BYTES_MAX: usize = 8 << 20;

/// Encodes and rebuilds blocks. Keeps what a code needs between blocks (tables, work space), so that a run of like blocks
/// allocates nothing; one value for each thread.
#[derive(Default)]
pub struct BlockCodec {
    rs8: Vec<Rs8>,
    rs8_repair: Vec<u8>,
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

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
        let wanted = repair
            .chunks_exact_mut(symbol_bytes)
            .zip(symbols.repair_numbers());
        match geometry.codec() {
            Codec::Rs8 => {
                // A repair symbol of this code does not depend on how many more there are, so that none is made beyond the
                // last one wanted.
                let needed = symbols.repair_numbers().max().map_or(0, |last| last + 1);
                let shape = BlockShape {
                    m: needed,
                    ..*shape
                };
                self.rs8_repair.resize(geometry.repair_bytes(&shape), 0);
                rs8(&mut self.rs8, &shape).encode(symbol_bytes, source, &mut self.rs8_repair);
                for (to, number) in wanted {
                    let start = usize::from(number) * symbol_bytes;
                    to.copy_from_slice(&self.rs8_repair[start..start + symbol_bytes]);
                }
            }
            Codec::Rs16 => {
                let (k, m) = (usize::from(shape.k), usize::from(shape.m));
                let encoder = ready_encoder(&mut self.encoder, k, m, symbol_bytes);
                for symbol in source.chunks_exact(symbol_bytes) {
                    encoder.add_original_shard(symbol).expect(CHECKED);
                }
                let encoded = encoder.encode().expect(CHECKED);
                for (to, number) in wanted {
                    to.copy_from_slice(encoded.recovery(usize::from(number)).expect(CHECKED));
                }
                drop(encoded);
                if rs16_work_bytes(k, m, symbol_bytes) > RS16_KEPT_BYTES_MAX {
                    self.encoder = None;
                }
            }
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
            Codec::Rs8 => {
                rs8(&mut self.rs8, &shape).rebuild(symbol_bytes, slots, bytes, &mut self.rs8_repair)
            }
            // Every repair symbol of a code with one source symbol is that symbol: there is nothing to decode.
            Codec::Rs16 if shape.k == 1 => {}
            Codec::Rs16 => {
                let (k, m) = (usize::from(shape.k), usize::from(shape.m));
                let decoder = ready_decoder(&mut self.decoder, k, m, symbol_bytes);
                rs16_rebuild(decoder, symbol_bytes, slots, bytes);
                if rs16_work_bytes(k, m, symbol_bytes) > RS16_KEPT_BYTES_MAX {
                    self.decoder = None;
                }
            }
        }
        buffer.set_rebuilt();
        Ok(())
    }
}

/// The encoder, its work space kept from the block before.
fn ready_encoder(
    kept: &mut Option<ReedSolomonEncoder>,
    k: usize,
    m: usize,
    symbol_bytes: usize,
) -> &mut ReedSolomonEncoder {
    match kept {
        Some(encoder) => {
            encoder.reset(k, m, symbol_bytes).expect(CHECKED);
            encoder
        }
        None => kept.insert(ReedSolomonEncoder::new(k, m, symbol_bytes).expect(CHECKED)),
    }
}

/// The decoder, its work space kept from the block before.
fn ready_decoder(
    kept: &mut Option<ReedSolomonDecoder>,
    k: usize,
    m: usize,
    symbol_bytes: usize,
) -> &mut ReedSolomonDecoder {
    match kept {
        Some(decoder) => {
            decoder.reset(k, m, symbol_bytes).expect(CHECKED);
            decoder
        }
        None => kept.insert(ReedSolomonDecoder::new(k, m, symbol_bytes).expect(CHECKED)),
    }
}

/// Upper bound of a codec's work space: symbols are padded to 64 bytes, counts to powers of two.
fn rs16_work_bytes(k: usize, m: usize, symbol_bytes: usize) -> usize {
    let high = (k + m.next_power_of_two()).next_power_of_two();
    let low = (m + k.next_power_of_two()).next_power_of_two();
    high.max(low) * symbol_bytes.next_multiple_of(64)
}

impl BlockBuffer {
    /// The work of the decoding, in bytes, that the symbol `index` would bring about, if it is out of proportion to the block:
    /// one of two symbols may cost a transform over 32,768. The format allows that, and no sender needs it.
    pub fn dear_bytes(&self, geometry: &Geometry, index: u16) -> Option<usize> {
        let shape = self.shape();
        if geometry.codec() != Codec::Rs16 || shape.k == 1 || !self.would_decode(index) {
            return None;
        }
        let (k, m) = (usize::from(shape.k), usize::from(shape.m));
        let bytes = rs16_work_bytes(k, m, usize::from(geometry.symbol_bytes()));
        let proportion = geometry.source_bytes(shape).saturating_mul(DEAR_RATIO);
        (bytes > proportion.max(DEAR_BYTES_MIN)).then_some(bytes)
    }
}

fn rs16_rebuild(
    decoder: &mut ReedSolomonDecoder,
    symbol_bytes: usize,
    slots: &[Slot],
    bytes: &mut [u8],
) {
    for ((number, holds), symbol) in slots
        .iter()
        .enumerate()
        .zip(bytes.chunks_exact(symbol_bytes))
    {
        match holds {
            Slot::Source => decoder.add_original_shard(number, symbol).expect(CHECKED),
            Slot::Repair(repair) => {
                decoder
                    .add_recovery_shard(usize::from(*repair), symbol)
                    .expect(CHECKED);
            }
            Slot::Empty => unreachable!("a block is rebuilt only when no slot is empty"),
        }
    }
    let decoded = decoder.decode().expect(CHECKED);
    for (number, symbol) in decoded.restored_original_iter() {
        bytes[number * symbol_bytes..][..symbol_bytes].copy_from_slice(symbol);
    }
}

/// A codec of GF(2^8) for one pair of counts.
struct Rs8 {
    k: usize,
    m: usize,
    codec: ReedSolomon,
    patterns_met: usize,
}

/// The kept codec for these counts, or a new one; the least recently used one yields to it.
fn rs8<'a>(kept: &'a mut Vec<Rs8>, shape: &BlockShape) -> &'a mut Rs8 {
    let (k, m) = (usize::from(shape.k), usize::from(shape.m));
    let found = kept.iter().position(|rs8| rs8.k == k && rs8.m == m);
    let rs8 = match found {
        Some(place) => kept.remove(place),
        None => {
            if kept.len() >= RS8_KEPT_MAX {
                kept.remove(0);
            }
            Rs8::new(k, m)
        }
    };
    kept.push(rs8);
    let last = kept.len() - 1;
    &mut kept[last]
}

impl Rs8 {
    fn new(k: usize, m: usize) -> Self {
        Self {
            k,
            m,
            codec: ReedSolomon::new(k, m).expect(CHECKED),
            patterns_met: 0,
        }
    }

    // The crate takes slices of slices. Arrays of the code's full length on the stack spare an allocation a block.

    fn encode(&self, symbol_bytes: usize, source: &[u8], repair: &mut [u8]) {
        let mut sources: [&[u8]; LENGTH] = [&[]; LENGTH];
        for (slice, symbol) in sources.iter_mut().zip(source.chunks_exact(symbol_bytes)) {
            *slice = symbol;
        }
        let mut repairs: [&mut [u8]; LENGTH] = std::array::from_fn(|_| &mut [][..]);
        for (slice, symbol) in repairs
            .iter_mut()
            .zip(repair.chunks_exact_mut(symbol_bytes))
        {
            *slice = symbol;
        }
        self.codec
            .encode_sep(&sources[..self.k], &mut repairs[..self.m])
            .expect(CHECKED);
    }

    fn rebuild(
        &mut self,
        symbol_bytes: usize,
        slots: &[Slot],
        bytes: &mut [u8],
        scratch: &mut Vec<u8>,
    ) {
        self.patterns_met += 1;
        if self.patterns_met * self.k * self.k > RS8_PATTERN_BYTES_MAX {
            *self = Self::new(self.k, self.m);
        }
        // The repair symbols make way: the source is rebuilt where they stood.
        scratch.resize(self.m * symbol_bytes, 0);
        let mut shards: [(&mut [u8], bool); LENGTH] = std::array::from_fn(|_| (&mut [][..], false));
        let (sources, rest) = shards.split_at_mut(self.k);
        let repairs = &mut rest[..self.m];
        for (shard, symbol) in repairs
            .iter_mut()
            .zip(scratch.chunks_exact_mut(symbol_bytes))
        {
            *shard = (symbol, false);
        }
        let symbols = bytes.chunks_exact_mut(symbol_bytes);
        for ((shard, holds), symbol) in sources.iter_mut().zip(slots).zip(symbols) {
            let is_source = match holds {
                Slot::Source => true,
                Slot::Repair(number) => {
                    let (copy, is_held) = &mut repairs[usize::from(*number)];
                    copy.copy_from_slice(symbol);
                    *is_held = true;
                    false
                }
                Slot::Empty => unreachable!("a block is rebuilt only when no slot is empty"),
            };
            *shard = (symbol, is_source);
        }
        self.codec
            .reconstruct_data(&mut shards[..self.k + self.m])
            .expect(CHECKED);
    }
}

/// Symbols of the longest code of GF(2^8).
const LENGTH: usize = 255;

const _: () = {
    assert!(limits::CODEC1_SYMBOLS_MAX == 255);
};

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
        for m in [1, 2, 3, 254, 255, 4_096, 11_980, 32_768] {
            let (geometry, shape) = geometry(Codec::Rs16, 1, m, 66);
            let source = noise(3, 66);
            let mut repair = vec![0; geometry.repair_bytes(&shape)];
            let mut codec = BlockCodec::new();
            codec.encode(&geometry, &shape, &source, &mut repair);
            assert!(repair.chunks(66).all(|symbol| symbol == source), "{m}");
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            buffer.insert(m, &source);
            assert_eq!(buffer.dear_bytes(&geometry, m), None);
            codec.rebuild(&geometry, &mut buffer).unwrap();
            assert_eq!(buffer.source(), Some(&source[..]));
            assert!(codec.decoder.is_none(), "nothing was decoded");
        }
    }

    #[test]
    fn only_a_decoding_out_of_all_proportion_to_its_block_is_dear() {
        let dear = |k, m, symbol_bytes, last: u16| {
            let (geometry, shape) = geometry(Codec::Rs16, k, m, symbol_bytes);
            let mut buffer = BlockBuffer::new(&geometry, &shape);
            let symbol = vec![0; usize::from(symbol_bytes)];
            (1..k).for_each(|index| {
                buffer.insert(index, &symbol);
            });
            buffer.dear_bytes(&geometry, last)
        };
        for (k, m) in [(768, 256), (768, 2_048), (41, 128), (100, 256), (2, 62)] {
            assert_eq!(dear(k, m, 1_400, k), None, "{k} + {m}");
        }
        assert!(dear(2, 11_978, 1_400, 2).is_some_and(|bytes| bytes > 16 << 20));
        assert_eq!(dear(2, 11_978, 1_400, 0), None, "every source symbol came");
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
        assert!(codec.rs8.is_empty() && codec.encoder.is_none() && codec.decoder.is_none());
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
        assert!(codec.encoder.is_none());
        for k in 1..40 {
            rs8(
                &mut codec.rs8,
                &BlockShape {
                    number: 0,
                    k,
                    m: 3,
                    first_symbol: 0,
                },
            );
        }
        assert_eq!(codec.rs8.len(), RS8_KEPT_MAX);
        assert_eq!(codec.rs8[RS8_KEPT_MAX - 1].k, 39);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn any_k_symbols_rebuild_a_block(
            rs16: bool, k in 1_u16..90, m in 1_u16..90, half in 32_u16..60, seed: u64,
        ) {
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
