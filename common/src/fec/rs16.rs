//! The code of GF(2^16), for all larger containers.

mod syndromes;

use std::ops::Range;

use reed_solomon_simd::{EncoderResult, ReedSolomonDecoder, ReedSolomonEncoder};

use super::buffer::Slot;
use super::plan::PassSymbols;
use super::{BlockShape, Geometry};
use syndromes::{Loss, Syndromes, Way};

/// Why the crate's errors cannot occur: it refuses only counts and lengths that [`Geometry::new`] refuses too.
const CHECKED: &str = "the geometry has been checked against the codec's limits";

/// Bytes that the crate takes at a time.
const CHUNK_BYTES: usize = 64;

/// Work space above this is given back after use. It can be four times the block (both counts are rounded up to powers of
/// two), and whoever stole the link key chooses the counts.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Longer symbols are encoded in slices, so that the block's share of them stays in a core's own cache. The code takes each
/// pair of bytes for itself, 64 bytes at a time.
const SLICE_BYTES_MAX: usize = 3_072;

/// Encodes and rebuilds blocks of this code.
#[derive(Default)]
pub(super) struct Rs16 {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
    syndromes: Syndromes,
}

impl Rs16 {
    /// Makes the repair symbols of a pass; see [`super::BlockCodec::encode_pass`].
    pub(super) fn encode_pass(
        &mut self,
        geometry: &Geometry,
        symbols: &PassSymbols,
        shape: &BlockShape,
        source: &[u8],
        repair: &mut [u8],
    ) {
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        let (k, m) = (usize::from(shape.k), usize::from(shape.m));
        for slice in slices(symbol_bytes) {
            let encoder = ready_encoder(&mut self.encoder, k, m, slice.len());
            let sliced = source.chunks_exact(symbol_bytes);
            let encoded = encode(encoder, sliced.map(|symbol| &symbol[slice.clone()]));
            let wanted = repair.chunks_exact_mut(symbol_bytes);
            for (to, number) in wanted.zip(symbols.repair_numbers()) {
                let made = encoded.recovery(usize::from(number)).expect(CHECKED);
                to[slice.clone()].copy_from_slice(made);
            }
        }
        self.give_back(k, m, symbol_bytes);
    }

    /// Puts the source symbol into every slot that holds a repair symbol.
    pub(super) fn rebuild(
        &mut self,
        shape: &BlockShape,
        symbol_bytes: usize,
        slots: &[Slot],
        bytes: &mut [u8],
    ) {
        // Every repair symbol of a code with one source symbol is that symbol: there is nothing to decode.
        if shape.k == 1 {
            return;
        }
        let (k, m) = (usize::from(shape.k), usize::from(shape.m));
        let losses = losses(slots);
        if let Some(way) = Way::choose(k, m, symbol_bytes, losses.len()) {
            let system = self.syndromes.solve(way, k, m, &losses);
            for slice in slices(symbol_bytes) {
                self.syndromes.rebuild(
                    &mut self.encoder,
                    (k, m),
                    &system,
                    slice,
                    symbol_bytes,
                    bytes,
                );
            }
        } else {
            let decoder = ready_decoder(&mut self.decoder, k, m, symbol_bytes);
            decode(decoder, symbol_bytes, slots, bytes);
        }
        self.give_back(k, m, symbol_bytes);
    }

    fn give_back(&mut self, k: usize, m: usize, symbol_bytes: usize) {
        if work_bytes(k, m, symbol_bytes) > KEPT_BYTES_MAX {
            (self.encoder, self.decoder) = (None, None);
            self.syndromes.give_back();
        }
    }

    /// Returns whether the decoder has never been called, or its work space was given back.
    #[cfg(test)]
    pub(crate) fn has_decoded_nothing(&self) -> bool {
        self.decoder.is_none()
    }

    /// Returns whether there is no work space of either kind.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.encoder.is_none() && self.decoder.is_none()
    }
}

/// Returns the missing source symbols, each with the repair symbol in its slot.
fn losses(slots: &[Slot]) -> Vec<Loss> {
    let numbered = slots.iter().enumerate();
    let losses = numbered.filter_map(|(source, holds)| match holds {
        Slot::Source => None,
        Slot::Repair(number) => Some(Loss {
            source,
            repair: usize::from(*number),
        }),
        Slot::Empty => unreachable!("a block is rebuilt only when no slot is empty"),
    });
    losses.collect()
}

/// Returns the slices of a symbol, of nearly one length: whole chunks, but for what the last one has at its end.
fn slices(symbol_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let chunks = symbol_bytes.div_ceil(CHUNK_BYTES);
    let count = symbol_bytes.div_ceil(SLICE_BYTES_MAX);
    let slice_bytes = chunks.div_ceil(count) * CHUNK_BYTES;
    let starts = (0..symbol_bytes).step_by(slice_bytes);
    starts.map(move |start| start..symbol_bytes.min(start + slice_bytes))
}

/// Encodes a slice of every source symbol.
fn encode<'e, 's>(
    encoder: &'e mut ReedSolomonEncoder,
    slices: impl Iterator<Item = &'s [u8]>,
) -> EncoderResult<'e> {
    for slice in slices {
        encoder.add_original_shard(slice).expect(CHECKED);
    }
    encoder.encode().expect(CHECKED)
}

/// Returns the encoder, its work space kept from the block before.
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

/// Returns the decoder, its work space kept from the block before.
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
fn work_bytes(k: usize, m: usize, symbol_bytes: usize) -> usize {
    let high = (k + m.next_power_of_two()).next_power_of_two();
    let low = (m + k.next_power_of_two()).next_power_of_two();
    high.max(low) * symbol_bytes.next_multiple_of(64)
}

fn decode(decoder: &mut ReedSolomonDecoder, symbol_bytes: usize, slots: &[Slot], bytes: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::time::{Duration, Instant};

    use super::super::Codec;
    use super::*;

    /// A block of k symbols of which evenly spread ones are missing, with repair symbols in their slots; and its source.
    fn with_losses(
        k: usize,
        m: usize,
        symbol_bytes: usize,
        loss_count: usize,
    ) -> (Vec<Slot>, Vec<u8>, Vec<u8>) {
        let mut source = vec![0; k * symbol_bytes];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(k as u64).to_be_bytes());
        hasher.finalize_xof().fill(&mut source);
        let mut encoder = None;
        let encoder = ready_encoder(&mut encoder, k, m, symbol_bytes);
        let encoded = encode(encoder, source.chunks_exact(symbol_bytes));
        let (mut slots, mut bytes) = (vec![Slot::Source; k], source.clone());
        for loss in 0..loss_count {
            let (number, repair) = (loss * k / loss_count, m - 1 - loss);
            slots[number] = Slot::Repair(repair as u16);
            bytes[number * symbol_bytes..][..symbol_bytes]
                .copy_from_slice(encoded.recovery(repair).unwrap());
        }
        (slots, bytes, source)
    }

    fn by_syndromes(
        rs16: &mut Rs16,
        way: Way,
        (k, m, symbol_bytes): (usize, usize, usize),
        slots: &[Slot],
        bytes: &mut [u8],
    ) {
        let losses = losses(slots);
        let system = rs16.syndromes.solve(way, k, m, &losses);
        for slice in slices(symbol_bytes) {
            let encoder = &mut rs16.encoder;
            rs16.syndromes
                .rebuild(encoder, (k, m), &system, slice, symbol_bytes, bytes);
        }
    }

    fn best(mut work: impl FnMut()) -> Duration {
        let once = |_| {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        (0..20).map(once).min().unwrap()
    }

    #[test]
    fn syndromes_and_the_decoder_rebuild_the_same_block() {
        // Symbols of one slice and of several, with every kind of end.
        for symbol_bytes in [64, 66, 126, 130, 3_072, 3_074, 8_900, 9_080] {
            for (k, m, loss_count, way) in [
                (2, 2, 2, Way::Encoded),
                (41, 41, 41, Way::Encoded),
                (100, 33, 33, Way::Encoded),
                (100, 50, 2, Way::Encoded),
                (9, 72, 3, Way::Summed),
                (20, 160, 8, Way::Summed),
                (2, 16, 2, Way::Summed),
                (33, 264, 1, Way::Summed),
            ] {
                let (slots, bytes, source) = with_losses(k, m, symbol_bytes, loss_count);
                let chosen = Way::choose(k, m, symbol_bytes, loss_count);
                if chosen != Some(way) {
                    assert!(
                        way == Way::Summed && symbol_bytes <= 512,
                        "{k}+{m} of {symbol_bytes}"
                    );
                    continue;
                }
                let shape = BlockShape {
                    number: 0,
                    k: k as u16,
                    m: m as u16,
                    first_symbol: 0,
                };
                let (mut rs16, mut rebuilt) = (Rs16::default(), bytes.clone());
                rs16.rebuild(&shape, symbol_bytes, &slots, &mut rebuilt);
                assert!(rs16.has_decoded_nothing() && rebuilt == source);
                let mut decoded = bytes;
                let decoder = ready_decoder(&mut rs16.decoder, k, m, symbol_bytes);
                decode(decoder, symbol_bytes, &slots, &mut decoded);
                assert!(decoded == source, "{k}+{m} of {symbol_bytes}");
            }
        }
    }

    #[test]
    fn slices_are_encoded_as_whole_symbols_are() {
        for symbol_bytes in [64, 66, 3_072, 3_074, 6_146, 8_900, 9_080] {
            let whole: Vec<usize> = slices(symbol_bytes).flatten().collect();
            assert_eq!(whole, (0..symbol_bytes).collect::<Vec<_>>());
            let (k, m) = (20, 7);
            let (_, _, source) = with_losses(k, m, symbol_bytes, 0);
            let mut encoder = None;
            let encoder = ready_encoder(&mut encoder, k, m, symbol_bytes);
            let encoded = encode(encoder, source.chunks_exact(symbol_bytes));
            let expected: Vec<u8> = encoded.recovery_iter().flatten().copied().collect();
            let geometry = (0..64).find_map(|less| {
                let container_bytes = (2 * k * symbol_bytes) as u64 - less;
                let (k, m, symbol_bytes) = (k as u16, m as u16, symbol_bytes as u16);
                Geometry::new(container_bytes, Codec::Rs16, k, m, symbol_bytes).ok()
            });
            let shape = geometry.unwrap().block(0).unwrap();
            let mut repair = vec![0; m * symbol_bytes];
            let all = PassSymbols::all(&shape);
            let mut rs16 = Rs16::default();
            rs16.encode_pass(&geometry.unwrap(), &all, &shape, &source, &mut repair);
            assert!(repair == expected, "{symbol_bytes}");
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -p valise-common --lib fec::rs16 -- --ignored --nocapture"]
    fn how_long_a_block_takes_to_be_rebuilt_either_way() {
        for (k, m, symbol_bytes) in [
            (768, 154, 1_400),
            (384, 58, 8_900),
            (192, 64, 1_400),
            (64, 32, 1_400),
            (9, 72, 1_400),
            (20, 160, 1_400),
        ] {
            for loss_count in [1, 5, 10, 20, 30, 40, 48, 58, 64, 80, 100] {
                if loss_count > m.min(k) {
                    continue;
                }
                let (slots, bytes, source) = with_losses(k, m, symbol_bytes, loss_count);
                let mut rs16 = Rs16::default();
                let shape = (k, m, symbol_bytes);
                let chosen = Way::choose(k, m, symbol_bytes, loss_count);
                let way = chosen.unwrap_or(Way::Encoded);
                let mut rebuilt = bytes.clone();
                let few = best(|| {
                    rebuilt.copy_from_slice(&bytes);
                    by_syndromes(&mut rs16, way, shape, &slots, &mut rebuilt);
                });
                assert!(rebuilt == source);
                let decoder = best(|| {
                    rebuilt.copy_from_slice(&bytes);
                    let decoder = ready_decoder(&mut rs16.decoder, k, m, symbol_bytes);
                    decode(decoder, symbol_bytes, &slots, &mut rebuilt);
                });
                assert!(rebuilt == source);
                println!(
                    "{k}+{m} of {symbol_bytes}, {loss_count} lost: {few:?} by syndromes ({chosen:?}), {decoder:?} by the decoder"
                );
            }
        }
    }
}
