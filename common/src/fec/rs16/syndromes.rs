//! A block of GF(2^16) that lacks few of its source symbols, rebuilt without the transform over all of its points.
//!
//! The code is linear, so the repair symbols of what came, with zeros for what did not, differ from the repair symbols that
//! came by what the missing symbols contribute: the *syndromes*. As many of them as symbols are missing make a system of
//! equations with one solution, because any k symbols rebuild a block. Its coefficients are the repair symbols of a one in
//! the place of each missing symbol; the encoder makes them, too. What that costs grows with the square of the missing
//! symbols, where the decoder's cost depends on the block alone.
//!
//! In a block of few source symbols and a code of many repair symbols, encoding would make all m of these for the two that
//! came. There the coefficients of every source symbol are asked for, and each syndrome is summed up by itself.
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

/// How the syndromes of a block are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By encoding what came.
    Encoded,
    /// Each by itself, from the coefficients of all source symbols.
    Summed,
}

impl Way {
    /// Creates the way in which a block with so many missing symbols is rebuilt faster than by the decoder, if there is one.
    pub(super) fn choose(
        k: usize,
        m: usize,
        symbol_bytes: usize,
        loss_count: usize,
    ) -> Option<Self> {
        let is_summed = k * loss_count < k + m && 4 * unit_bytes(k) <= symbol_bytes;
        match loss_count <= LOSSES_MAX {
            true if is_summed => Some(Self::Summed),
            true if m <= k => Some(Self::Encoded),
            _ => None,
        }
    }
}

/// Bytes of a symbol with a lane for each of so many ones.
pub(super) fn unit_bytes(lane_count: usize) -> usize {
    lane_count.div_ceil(LANES) * CHUNK_BYTES
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
    // Summed syndromes need those of all k source symbols, a row for each loss.
    coefficients: Option<Vec<GfElement>>,
}

/// Rebuilds blocks, and keeps its work space between them.
#[derive(Default)]
pub(super) struct Syndromes {
    // Made when it is needed: its table has 8 MiB.
    engine: Option<DefaultEngine>,
    units: Option<ReedSolomonEncoder>,
    // Of each loss in turn, one slice of its symbol.
    syndromes: Vec<Chunk>,
    symbol: Vec<Chunk>,
    product: Vec<Chunk>,
    sum: Vec<Chunk>,
}

impl Syndromes {
    /// Gives work space back.
    pub(super) fn give_back(&mut self) {
        self.units = None;
        self.syndromes = Vec::new();
    }

    /// Sets up and solves the equations of a block. `losses` are in the order of their source symbols.
    pub(crate) fn solve<'l>(
        &mut self,
        way: Way,
        k: usize,
        m: usize,
        losses: &'l [Loss],
    ) -> System<'l> {
        let (mut inverse, coefficients) = match way {
            Way::Encoded => {
                let lost: Vec<usize> = losses.iter().map(|loss| loss.source).collect();
                (self.coefficients(k, m, &lost, losses), None)
            }
            Way::Summed => {
                let all: Vec<usize> = (0..k).collect();
                let rows = self.coefficients(k, m, &all, losses);
                let of_lost = |row: &[GfElement]| -> Vec<GfElement> {
                    losses.iter().map(|loss| row[loss.source]).collect()
                };
                let inverse = rows.chunks_exact(k).flat_map(of_lost).collect();
                (inverse, Some(rows))
            }
        };
        invert(&mut inverse, losses.len());
        System {
            losses,
            inverse,
            coefficients,
        }
    }

    /// How much of each of these source symbols, in ascending order, is in the repair symbols that came: a row for each.
    fn coefficients(
        &mut self,
        k: usize,
        m: usize,
        sources: &[usize],
        losses: &[Loss],
    ) -> Vec<GfElement> {
        let unit_bytes = unit_bytes(sources.len());
        // Behind the zeros stands a one for each source symbol, in a lane of its own.
        let mut units = vec![0; (1 + sources.len()) * unit_bytes];
        for (lane, unit) in units.chunks_exact_mut(unit_bytes).skip(1).enumerate() {
            unit[low_byte(lane)] = 1;
        }
        let (zeros, units) = units.split_at(unit_bytes);
        let mut next = sources
            .iter()
            .zip(units.chunks_exact(unit_bytes))
            .peekable();
        let symbols = (0..k).map(|number| {
            let unit = next.next_if(|(source, _)| **source == number);
            unit.map_or(zeros, |(_, unit)| unit)
        });
        let encoder = ready_encoder(&mut self.units, k, m, unit_bytes);
        let encoded = encode(encoder, symbols);
        let mut rows = vec![0; losses.len() * sources.len()];
        for (row, loss) in rows.chunks_exact_mut(sources.len()).zip(losses) {
            let symbol = encoded.recovery(loss.repair).expect(CHECKED);
            for (lane, coefficient) in row.iter_mut().enumerate() {
                let low = low_byte(lane);
                *coefficient = GfElement::from_le_bytes([symbol[low], symbol[low + LANES]]);
            }
        }
        rows
    }

    /// Rebuilds one slice of the missing symbols.
    ///
    /// # Shape
    /// `slice`: which bytes of each symbol; `encoder` is kept for encoded syndromes. `bytes`: k·S; in the place of a missing
    /// source symbol stands the repair symbol that came, and afterwards what was rebuilt.
    pub(super) fn rebuild(
        &mut self,
        encoder: &mut Option<ReedSolomonEncoder>,
        (k, m): (usize, usize),
        system: &System<'_>,
        slice: Range<usize>,
        symbol_bytes: usize,
        bytes: &mut [u8],
    ) {
        let losses = system.losses;
        let chunk_count = slice.len().div_ceil(CHUNK_BYTES);
        for (kept, count) in [
            (&mut self.syndromes, losses.len() * chunk_count),
            (&mut self.symbol, chunk_count),
            (&mut self.product, chunk_count),
            (&mut self.sum, chunk_count),
        ] {
            kept.resize(count, [0; CHUNK_BYTES]);
        }
        match &system.coefficients {
            None => {
                let encoder = ready_encoder(encoder, k, m, slice.len());
                self.encode_syndromes(encoder, losses, slice.clone(), symbol_bytes, bytes);
            }
            Some(rows) => self.sum_syndromes(rows, losses, slice.clone(), symbol_bytes, bytes),
        }
        let engine = self.engine.get_or_insert_default();
        for (row, loss) in system.inverse.chunks_exact(losses.len()).zip(losses) {
            self.sum.fill([0; CHUNK_BYTES]);
            for (factor, syndrome) in row.iter().zip(self.syndromes.chunks_exact(chunk_count)) {
                add_product(engine, *factor, syndrome, &mut self.product, &mut self.sum);
            }
            let place = &mut bytes[loss.source * symbol_bytes..][..symbol_bytes][slice.clone()];
            from_lanes(&self.sum, place);
        }
    }

    fn encode_syndromes(
        &mut self,
        encoder: &mut ReedSolomonEncoder,
        losses: &[Loss],
        slice: Range<usize>,
        symbol_bytes: usize,
        bytes: &[u8],
    ) {
        let mut difference = vec![0; slice.len()];
        let zeros = difference.clone();
        let mut next = losses.iter().map(|loss| loss.source).peekable();
        let symbols = bytes.chunks_exact(symbol_bytes).enumerate();
        let came = symbols.map(|(number, symbol)| match next.next_if_eq(&number) {
            Some(_) => &zeros[..],
            None => &symbol[slice.clone()],
        });
        let encoded = encode(encoder, came);
        let syndromes = self.syndromes.chunks_exact_mut(self.sum.len());
        for (syndrome, loss) in syndromes.zip(losses) {
            let came = &bytes[loss.source * symbol_bytes..][..symbol_bytes][slice.clone()];
            let of_known = encoded.recovery(loss.repair).expect(CHECKED);
            difference.copy_from_slice(came);
            add(&mut difference, of_known);
            to_lanes(&difference, syndrome);
        }
    }

    fn sum_syndromes(
        &mut self,
        rows: &[GfElement],
        losses: &[Loss],
        slice: Range<usize>,
        symbol_bytes: usize,
        bytes: &[u8],
    ) {
        let (k, chunk_count) = (rows.len() / losses.len(), self.sum.len());
        let engine = self.engine.get_or_insert_default();
        let mut lost = losses.iter().enumerate().peekable();
        self.syndromes.fill([0; CHUNK_BYTES]);
        for (number, symbol) in bytes.chunks_exact(symbol_bytes).enumerate() {
            let came = &symbol[slice.clone()];
            to_lanes(came, &mut self.symbol);
            if let Some((place, _)) = lost.next_if(|(_, loss)| loss.source == number) {
                // Here stands the repair symbol of this loss.
                let syndrome = &mut self.syndromes[place * chunk_count..][..chunk_count];
                add(syndrome.as_flattened_mut(), self.symbol.as_flattened());
                continue;
            }
            let syndromes = self.syndromes.chunks_exact_mut(chunk_count);
            for (row, syndrome) in rows.chunks_exact(k).zip(syndromes) {
                let factor = row[number];
                add_product(engine, factor, &self.symbol, &mut self.product, syndrome);
            }
        }
    }
}

/// Adds the product of a factor and a symbol to a sum.
fn add_product(
    engine: &DefaultEngine,
    factor: GfElement,
    symbol: &[Chunk],
    product: &mut [Chunk],
    sum: &mut [Chunk],
) {
    if factor != 0 {
        product.copy_from_slice(symbol);
        engine.mul(product, tables::get_exp_log().log[usize::from(factor)]);
        add(sum.as_flattened_mut(), product.as_flattened());
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
