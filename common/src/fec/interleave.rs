//! How many blocks run on the link in parallel, and in which order their symbols leave.

use super::{BlockShape, Geometry};

/// How many blocks must run in parallel so that a burst of lost symbols costs each no more than its repair makes good.
///
/// # Shape
/// `burst_symbols`: symbols that one burst takes from the link. `repair`: repair symbols that a pass sends of each block.
/// `memory_bytes`: what blocks in work may hold together. At least 1, at most the container's blocks.
pub fn depth(geometry: &Geometry, burst_symbols: u64, repair: u16, memory_bytes: u64) -> u32 {
    let _ = (geometry, burst_symbols, repair, memory_bytes);
    todo!()
}

/// The order in which the symbols of several blocks leave: each block's symbols spread evenly over the whole.
#[derive(Debug, Clone)]
pub struct Interleaver {
    lanes: Vec<Lane>,
}

#[derive(Debug, Clone)]
struct Lane {
    count: u32,
    sent: u32,
}

/// The next symbol to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Which of the blocks, 0..D, in the order given.
    pub lane: usize,
    /// The n-th symbol that the pass sends of that block (see [`super::plan::PassSymbols::index`]).
    pub n: u32,
}

impl Interleaver {
    /// Interleaves blocks of which a pass sends these numbers of symbols.
    pub fn new(counts: &[u32]) -> Self {
        let _: Option<BlockShape> = None;
        Self {
            lanes: counts
                .iter()
                .map(|&count| Lane { count, sent: 0 })
                .collect(),
        }
    }

    /// Begins `position` turns further on: where an interrupted group goes on.
    pub fn skip(&mut self, position: u64) {
        let _ = position;
        todo!()
    }
}

impl Iterator for Interleaver {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let _ = self.lanes.first().map(|lane| lane.sent < lane.count);
        todo!()
    }
}
