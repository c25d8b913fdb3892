//! How many blocks run on the link in parallel, and in which order their symbols leave.
//!
//! A burst takes consecutive symbols. Sent one block after the other, it would take them all from one block; sent from D
//! blocks in turn, it takes a D-th from each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::Geometry;

/// How many blocks must run in parallel so that a burst costs each no more than half of its repair symbols: the other half is
/// for what is lost besides.
///
/// # Shape
/// `burst_symbols`: symbols that one burst takes from the link. `repair`: repair symbols that a pass sends of each block.
/// `memory_bytes`: what the blocks in work, with this repair, may hold together on one host. At least 1, at most the
/// container's blocks; fewer than the burst asks for when memory does not suffice. 1 without repair: spreading losses that
/// nothing makes good would hit more blocks.
pub fn depth(geometry: &Geometry, burst_symbols: u64, repair: u16, memory_bytes: u64) -> u32 {
    if repair == 0 {
        return 1;
    }
    let a_block = u64::from((repair / 2).max(1));
    let wanted = burst_symbols.div_ceil(a_block);
    let symbols = u64::from(geometry.k_max()) + u64::from(repair);
    let fit = memory_bytes / (symbols * u64::from(geometry.symbol_bytes()));
    let depth = wanted.min(fit).min(geometry.block_count()).max(1);
    u32::try_from(depth).unwrap_or(u32::MAX)
}

/// Cuts a container's blocks into groups of at most `depth` that run in parallel, and as equal as can be: a last group of one
/// block would take a burst alone. Returns the blocks of group `number`, if there is one.
pub fn group(block_count: u64, depth: u32, number: u64) -> Option<Range<u64>> {
    let group_count = block_count.div_ceil(u64::from(depth.max(1)));
    if number >= group_count {
        return None;
    }
    let (small, larger_count) = (block_count / group_count, block_count % group_count);
    let start = number * small + number.min(larger_count);
    Some(start..start + small + u64::from(number < larger_count))
}

/// The order in which the symbols of several blocks leave: each block's symbols spread evenly over the whole.
///
/// The blocks may have different numbers of symbols, and be of different containers. Symbol n of c stands at (n + ½)/c of the
/// way. Among B consecutive turns a block with a share s of all symbols has at most s·(B + D) + 1; blocks of one size take
/// turns exactly, so at most ⌈B/D⌉.
#[derive(Debug, Clone)]
pub struct Interleaver {
    counts: Vec<u32>,
    /// Place, lane and n of each lane's next symbol, the smallest first.
    next: BinaryHeap<Reverse<(u64, usize, u32)>>,
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
        let lanes = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let next = lanes
            .map(|(lane, count)| Reverse((place(0, *count), lane, 0)))
            .collect();
        Self {
            counts: counts.to_vec(),
            next,
        }
    }

    /// Begins `position` turns further on: where an interrupted group goes on.
    pub fn skip_turns(&mut self, position: u64) {
        for _ in 0..position {
            if self.next().is_none() {
                return;
            }
        }
    }
}

impl Iterator for Interleaver {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let mut first = self.next.peek_mut()?;
        let Reverse((_, lane, n)) = *first;
        let count = self.counts[lane];
        if n + 1 < count {
            // Replaced in place: the heap sinks it once when the borrow ends.
            *first = Reverse((place(n + 1, count), lane, n + 1));
        } else {
            std::collections::binary_heap::PeekMut::pop(first);
        }
        Some(Turn { lane, n })
    }
}

/// (2n + 1)/2c in units of 2^-31; n < c < 2^32, so that nothing overflows.
fn place(n: u32, count: u32) -> u64 {
    ((2 * u64::from(n) + 1) << 31) / (2 * u64::from(count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::super::Codec;
    use super::*;

    #[test]
    fn the_depth_follows_the_burst_and_keeps_to_memory() {
        // A gigabyte: 715 blocks or so of 1,024.
        let bytes = 1_264 + 1_000_000_000 + 16 * 1_000_000_000_u64.div_ceil(65_536);
        let geometry = Geometry::new(bytes, Codec::Rs16, 1_024, 512, 1_400).unwrap();
        // 20 ms at 100 Mbit/s are 167 datagrams of 1,500 bytes, 154 repair symbols a block bear 77.
        assert_eq!(depth(&geometry, 167, 154, 16 << 20), 3);
        assert_eq!(depth(&geometry, 1_000_000, 154, 16 << 20), 10);
        assert_eq!(depth(&geometry, 0, 154, 16 << 20), 1);
        assert_eq!(depth(&geometry, 167, 154, 0), 1);
        assert_eq!(depth(&geometry, 167, 0, 16 << 20), 1);
        let one = Geometry::new(1_281, Codec::Rs8, 1, 4, 1_400).unwrap();
        assert_eq!(depth(&one, 1_000, 4, 16 << 20), 1);
    }

    #[test]
    fn no_group_is_much_smaller_than_another() {
        let groups: Vec<_> = (0..).map_while(|number| group(10, 4, number)).collect();
        assert_eq!(groups, [0..4, 4..7, 7..10]);
        assert_eq!(group(1, 1, 0), Some(0..1));
        assert_eq!(group(1, 1, 1), None);
        assert_eq!(group(5, 0, 4), Some(4..5));
    }

    #[test]
    fn blocks_of_one_size_take_turns() {
        let turns: Vec<_> = Interleaver::new(&[3, 3])
            .map(|turn| (turn.lane, turn.n))
            .collect();
        assert_eq!(turns, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]);
    }

    #[test]
    fn nothing_to_send_ends_at_once() {
        assert_eq!(Interleaver::new(&[]).next(), None);
        assert_eq!(Interleaver::new(&[0, 0]).next(), None);
        let mut one = Interleaver::new(&[0, 1]);
        assert_eq!(one.next(), Some(Turn { lane: 1, n: 0 }));
        assert_eq!(one.next(), None);
    }

    proptest! {
        #[test]
        fn groups_cover_every_block_once(blocks in 1_u64..10_000, depth in 1_u32..200) {
            let mut end = 0;
            for range in (0..).map_while(|number| group(blocks, depth, number)) {
                prop_assert_eq!(range.start, end);
                prop_assert!(!range.is_empty() && range.end - range.start <= u64::from(depth));
                end = range.end;
            }
            prop_assert_eq!(end, blocks);
        }

        #[test]
        fn a_burst_never_costs_a_block_more_than_its_share(
            lanes in 1_usize..12, count in 1_u32..60, uneven in 0_u32..3, burst in 1_usize..100,
        ) {
            let counts: Vec<u32> =
                (0..lanes).map(|lane| count + if lane % 2 == 0 { uneven } else { 0 }).collect();
            let turns: Vec<_> = Interleaver::new(&counts).collect();
            let slack = if uneven == 0 { 0 } else { 2 };
            for window in turns.windows(burst.min(turns.len())) {
                for lane in 0..lanes {
                    let hits = window.iter().filter(|turn| turn.lane == lane).count();
                    prop_assert!(hits <= window.len().div_ceil(lanes) + slack + uneven as usize);
                }
            }
        }

        #[test]
        fn every_symbol_leaves_once_and_in_order(counts in prop::collection::vec(0_u32..50, 0..9)) {
            let mut next = vec![0; counts.len()];
            for turn in Interleaver::new(&counts) {
                prop_assert_eq!(turn.n, next[turn.lane]);
                next[turn.lane] += 1;
            }
            prop_assert_eq!(next, counts);
        }

        #[test]
        fn skipping_goes_on_where_the_group_stood(
            counts in prop::collection::vec(0_u32..50, 0..9), position in 0_usize..300,
        ) {
            let expected: Vec<_> = Interleaver::new(&counts).skip(position).collect();
            let mut resumed = Interleaver::new(&counts);
            resumed.skip_turns(position as u64);
            prop_assert_eq!(resumed.collect::<Vec<_>>(), expected);
        }
    }
}
