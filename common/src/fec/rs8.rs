//! The code of GF(2^8), for small containers.

use reed_solomon_erasure::galois_8::ReedSolomon;

use super::buffer::Slot;
use super::plan::PassSymbols;
use super::{BlockShape, Geometry};
use crate::limits;

/// Why the crate's errors cannot occur: it refuses only counts and lengths that [`Geometry::new`] refuses too.
const CHECKED: &str = "the geometry has been checked against the codec's limits";

/// Codecs that are kept: a sender's small containers come in few sizes.
const KEPT_MAX: usize = 16;

/// A codec keeps the inverted matrix of every loss pattern it has met, 254 at most, k² bytes each. When they may take more
/// than this, the codec is built anew.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Encodes and rebuilds blocks of this code.
#[derive(Default)]
pub(super) struct Rs8 {
    // The one that was used last is the last.
    kept: Vec<OfCounts>,
    repair: Vec<u8>,
}

impl Rs8 {
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
        // A repair symbol of this code does not depend on how many more there are, so that none is made beyond the last one
        // wanted.
        let needed = symbols.repair_numbers().max().map_or(0, |last| last + 1);
        let shape = BlockShape {
            m: needed,
            ..*shape
        };
        self.repair.resize(geometry.repair_bytes(&shape), 0);
        of_counts(&mut self.kept, &shape).encode(symbol_bytes, source, &mut self.repair);
        let wanted = repair.chunks_exact_mut(symbol_bytes);
        for (to, number) in wanted.zip(symbols.repair_numbers()) {
            let start = usize::from(number) * symbol_bytes;
            to.copy_from_slice(&self.repair[start..start + symbol_bytes]);
        }
    }

    /// Puts the source symbol into every slot that holds a repair symbol.
    pub(super) fn rebuild(
        &mut self,
        shape: &BlockShape,
        symbol_bytes: usize,
        slots: &[Slot],
        bytes: &mut [u8],
    ) {
        of_counts(&mut self.kept, shape).rebuild(symbol_bytes, slots, bytes, &mut self.repair);
    }

    /// Returns whether it was called before.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.kept.is_empty()
    }
}

/// Returns the kept codec for these counts, or a new one; the least recently used one yields to it.
fn of_counts<'a>(kept: &'a mut Vec<OfCounts>, shape: &BlockShape) -> &'a mut OfCounts {
    let (k, m) = (usize::from(shape.k), usize::from(shape.m));
    let found = kept.iter().position(|one| one.k == k && one.m == m);
    let one = match found {
        Some(place) => kept.remove(place),
        None => {
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            OfCounts::new(k, m)
        }
    };
    kept.push(one);
    let last = kept.len() - 1;
    &mut kept[last]
}

/// A codec of GF(2^8) for one pair of counts.
struct OfCounts {
    k: usize,
    m: usize,
    codec: ReedSolomon,
    patterns_met: usize,
}

impl OfCounts {
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
        if self.patterns_met * self.k * self.k > PATTERN_BYTES_MAX {
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
    use super::*;

    #[test]
    fn codecs_of_few_counts_are_kept() {
        let mut kept = Vec::new();
        for k in 1..40 {
            of_counts(
                &mut kept,
                &BlockShape {
                    number: 0,
                    k,
                    m: 3,
                    first_symbol: 0,
                },
            );
        }
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept[KEPT_MAX - 1].k, 39);
    }
}
