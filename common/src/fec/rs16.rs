//! The code of GF(2^16), for all larger containers.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::buffer::Slot;
use super::plan::PassSymbols;
use super::{BlockShape, Geometry};

/// Why the crate's errors cannot occur: it refuses only counts and lengths that [`Geometry::new`] refuses too.
const CHECKED: &str = "the geometry has been checked against the codec's limits";

/// Work space above this is given back after use. It can be four times the block (both counts are rounded up to powers of
/// two), and whoever stole the link key chooses the counts.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Encodes and rebuilds blocks of this code.
#[derive(Default)]
pub(super) struct Rs16 {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

impl Rs16 {
    /// Makes the repair symbols of a pass; see [`super::BlockCodec::encode_pass`].
    pub fn encode_pass(
        &mut self,
        geometry: &Geometry,
        symbols: &PassSymbols,
        shape: &BlockShape,
        source: &[u8],
        repair: &mut [u8],
    ) {
        let symbol_bytes = usize::from(geometry.symbol_bytes());
        let (k, m) = (usize::from(shape.k), usize::from(shape.m));
        let encoder = ready_encoder(&mut self.encoder, k, m, symbol_bytes);
        for symbol in source.chunks_exact(symbol_bytes) {
            encoder.add_original_shard(symbol).expect(CHECKED);
        }
        let encoded = encoder.encode().expect(CHECKED);
        let wanted = repair.chunks_exact_mut(symbol_bytes);
        for (to, number) in wanted.zip(symbols.repair_numbers()) {
            to.copy_from_slice(encoded.recovery(usize::from(number)).expect(CHECKED));
        }
        drop(encoded);
        if work_bytes(k, m, symbol_bytes) > KEPT_BYTES_MAX {
            self.encoder = None;
        }
    }

    /// Puts the source symbol into every slot that holds a repair symbol.
    pub fn rebuild(
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
        let decoder = ready_decoder(&mut self.decoder, k, m, symbol_bytes);
        decode(decoder, symbol_bytes, slots, bytes);
        if work_bytes(k, m, symbol_bytes) > KEPT_BYTES_MAX {
            self.decoder = None;
        }
    }

    /// Whether the decoder has never been called, or its work space was given back.
    #[cfg(test)]
    pub fn has_decoded_nothing(&self) -> bool {
        self.decoder.is_none()
    }

    /// Whether there is no work space of either kind.
    #[cfg(test)]
    pub fn is_unused(&self) -> bool {
        self.encoder.is_none() && self.decoder.is_none()
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
pub(super) fn work_bytes(k: usize, m: usize, symbol_bytes: usize) -> usize {
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
