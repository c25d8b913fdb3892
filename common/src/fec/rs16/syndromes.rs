//! A block of GF(2^16) that lacks few of its source symbols, rebuilt without the transform over all of its points.
//!
//! The code is linear, so the repair symbols of what came, with zeros for what did not, differ from the repair symbols that
//! came by what the missing symbols contribute: the *syndromes*. As many of them as symbols are missing make a system of
//! equations with one solution, because any k symbols rebuild a block. Its coefficients are the repair symbols of a one in
//! the place of each missing symbol; the encoder makes them, too. What that costs grows with the square of the missing
//! symbols, where the decoder's cost depends on the block alone.
//!
//! Source of the idea: the syndromes of any linear code (MacWilliams and Sloane, The Theory of Error-Correcting Codes,
//! chapter 1).

use std::ops::Range;

use reed_solomon_simd::ReedSolomonEncoder;
use reed_solomon_simd::engine::{DefaultEngine, Engine as _, GF_MODULUS, GfElement, tables};

use super::{CHECKED, CHUNK_BYTES, encode, ready_encoder};

/// Field elements in a chunk of 64 bytes: the crate keeps their low bytes in its first half, their high bytes in the second.
const LANES: usize = CHUNK_BYTES / 2;

type Chunk = [u8; CHUNK_BYTES];

/// More missing symbols than this are the decoder's.
const LOSSES_MAX: usize = 48;

/// Whether a block with so many missing symbols is rebuilt faster here.
pub(super) fn are_cheaper(k: usize, m: usize, loss_count: usize) -> bool {
    loss_count <= LOSSES_MAX && m <= k
}

/// A source symbol that did not come, and the repair symbol that came in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// The source symbol, 0..k.
    pub source: usize,
    /// The repair symbol, 0..m.
    pub repair: usize,
}

/// The equations of one block, solved: row l, column j of the inverse says how much of syndrome j is in missing symbol l.
pub(super) struct System<'l> {
    losses: &'l [Loss],
    inverse: Vec<GfElement>,
}

/// Rebuilds blocks, and keeps its work space between them.
#[derive(Default)]
pub(super) struct Syndromes {
    // Made when it is needed: its table has 8 MiB.
    engine: Option<DefaultEngine>,
    units: Option<ReedSolomonEncoder>,
    // Of each loss in turn, one slice of its symbol.
    syndromes: Vec<Chunk>,
    product: Vec<Chunk>,
    sum: Vec<Chunk>,
}

impl Syndromes {
    /// Sets up and solves the equations of a block. `losses` are in the order of their source symbols.
    pub fn solve<'l>(&mut self, k: usize, m: usize, losses: &'l [Loss]) -> System<'l> {
        let count = losses.len();
        let unit_bytes = count.div_ceil(LANES) * CHUNK_BYTES;
        // Behind the zeros stands a one for each loss, in a lane of its own.
        let mut units = vec![0; (1 + count) * unit_bytes];
        for (lane, unit) in units.chunks_exact_mut(unit_bytes).skip(1).enumerate() {
            unit[low_byte(lane)] = 1;
        }
        let (zeros, units) = units.split_at(unit_bytes);
        let mut next = losses.iter().zip(units.chunks_exact(unit_bytes)).peekable();
        let symbols = (0..k).map(|number| {
            let unit = next.next_if(|(loss, _)| loss.source == number);
            unit.map_or(zeros, |(_, unit)| unit)
        });
        let encoder = ready_encoder(&mut self.units, k, m, unit_bytes);
        let encoded = encode(encoder, symbols);
        let mut rows = vec![0; count * count];
        for (row, loss) in rows.chunks_exact_mut(count).zip(losses) {
            let symbol = encoded.recovery(loss.repair).expect(CHECKED);
            for (lane, coefficient) in row.iter_mut().enumerate() {
                let low = low_byte(lane);
                *coefficient = GfElement::from_le_bytes([symbol[low], symbol[low + LANES]]);
            }
        }
        invert(&mut rows, count);
        System {
            losses,
            inverse: rows,
        }
    }

    /// Rebuilds one slice of the missing symbols.
    ///
    /// # Shape
    /// `slice`: which bytes of each symbol; `encoder` is ready for as many. `bytes`: k·S; in the place of a missing source
    /// symbol stands the repair symbol that came, and afterwards what was rebuilt.
    pub fn rebuild(
        &mut self,
        encoder: &mut ReedSolomonEncoder,
        system: &System<'_>,
        slice: Range<usize>,
        symbol_bytes: usize,
        bytes: &mut [u8],
    ) {
        let losses = system.losses;
        let chunk_count = slice.len().div_ceil(CHUNK_BYTES);
        let mut difference = vec![0; slice.len()];
        let zeros = difference.clone();
        let mut next = losses.iter().map(|loss| loss.source).peekable();
        let symbols = bytes.chunks_exact(symbol_bytes).enumerate();
        let came = symbols.map(|(number, symbol)| match next.next_if_eq(&number) {
            Some(_) => &zeros[..],
            None => &symbol[slice.clone()],
        });
        let encoded = encode(encoder, came);
        self.syndromes
            .resize(losses.len() * chunk_count, [0; CHUNK_BYTES]);
        for (syndrome, loss) in self.syndromes.chunks_exact_mut(chunk_count).zip(losses) {
            let came = &bytes[loss.source * symbol_bytes..][..symbol_bytes][slice.clone()];
            let of_known = encoded.recovery(loss.repair).expect(CHECKED);
            difference.copy_from_slice(came);
            add(&mut difference, of_known);
            to_lanes(&difference, syndrome);
        }
        drop(encoded);
        let engine = self.engine.get_or_insert_default();
        let log = &tables::get_exp_log().log;
        self.product.resize(chunk_count, [0; CHUNK_BYTES]);
        self.sum.resize(chunk_count, [0; CHUNK_BYTES]);
        for (row, loss) in system.inverse.chunks_exact(losses.len()).zip(losses) {
            self.sum.fill([0; CHUNK_BYTES]);
            for (factor, syndrome) in row.iter().zip(self.syndromes.chunks_exact(chunk_count)) {
                if *factor != 0 {
                    self.product.copy_from_slice(syndrome);
                    engine.mul(&mut self.product, log[usize::from(*factor)]);
                    add(self.sum.as_flattened_mut(), self.product.as_flattened());
                }
            }
            let place = &mut bytes[loss.source * symbol_bytes..][..symbol_bytes][slice.clone()];
            from_lanes(&self.sum, place);
        }
    }
}

/// Where the low byte of an element stands in a symbol of whole chunks.
fn low_byte(lane: usize) -> usize {
    lane / LANES * CHUNK_BYTES + lane % LANES
}

/// Addition in the field, and so subtraction.
fn add(sum: &mut [u8], summand: &[u8]) {
    for (a, b) in sum.iter_mut().zip(summand) {
        *a ^= b;
    }
}

/// Bytes as the crate multiplies them: of what does not fill a chunk, the first half are low bytes, the second high ones.
fn to_lanes(bytes: &[u8], chunks: &mut [Chunk]) {
    let (whole, tail) = bytes.as_chunks();
    let (filled, last) = chunks.split_at_mut(whole.len());
    filled.copy_from_slice(whole);
    if let [last] = last {
        let (low, high) = tail.split_at(tail.len() / 2);
        *last = [0; CHUNK_BYTES];
        last[..low.len()].copy_from_slice(low);
        last[LANES..][..high.len()].copy_from_slice(high);
    }
}

/// The reverse of [`to_lanes`].
fn from_lanes(chunks: &[Chunk], bytes: &mut [u8]) {
    let (whole, tail) = bytes.as_chunks_mut();
    let (filled, last) = chunks.split_at(whole.len());
    whole.copy_from_slice(filled);
    if let [last] = last {
        let (low, high) = tail.split_at_mut(tail.len() / 2);
        low.copy_from_slice(&last[..low.len()]);
        high.copy_from_slice(&last[LANES..][..high.len()]);
    }
}

/// Inverts the coefficients in their place, by Gauss and Jordan's elimination.
///
/// No pivot has to be looked for: any k symbols rebuild a block, so that every square part of the coefficients has an
/// inverse, those at the upper left included.
fn invert(rows: &mut [GfElement], count: usize) {
    let tables = tables::get_exp_log();
    let log = |element: GfElement| tables.log[usize::from(element)];
    let times = |element, log_factor| tables::mul(element, log_factor, &tables.exp, &tables.log);
    let mut pivot_row = vec![0; count];
    for step in 0..count {
        let row = &mut rows[step * count..][..count];
        assert_ne!(row[step], 0, "the code rebuilds a block from any k symbols");
        // The logarithm of an inverse; 2^16 - 1 elements have one.
        let log_divisor = GF_MODULUS - log(row[step]);
        row[step] = 1;
        for element in &mut *row {
            *element = times(*element, log_divisor);
        }
        pivot_row.copy_from_slice(row);
        for (number, row) in rows.chunks_exact_mut(count).enumerate() {
            let factor = std::mem::take(&mut row[step]);
            if number == step || factor == 0 {
                row[step] = factor;
                continue;
            }
            let log_factor = log(factor);
            for (element, of_pivot) in row.iter_mut().zip(&pivot_row) {
                *element ^= times(*of_pivot, log_factor);
            }
        }
    }
}
