//! Symbols → the order in which they leave, so that a burst costs each block no more than its repair symbols make good.
//!
//! Blocks in work are lanes, of one container or of several. Lanes take turns; as many run in parallel as it takes for the
//! tolerance of all of them together to exceed the burst. A finished lane makes room for the next block at once.

use std::collections::VecDeque;

use valise_common::ids::Serial;
use valise_common::limits;

/// One block in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The container's serial.
    pub serial: Serial,
    /// The pass, from 0.
    pub pass: u8,
    /// The source block.
    pub block: u32,
    /// Source symbols.
    pub source_count: u32,
    /// Repair symbols that the pass sends of it.
    pub repair_count: u32,
    /// Symbols sent already.
    pub sent: u32,
}

impl Lane {
    /// Symbols that the pass sends of the block.
    pub(crate) fn count(&self) -> u32 {
        self.source_count + self.repair_count
    }

    /// Symbols that one burst may take: half of the repair, the other half is for losses that come one by one.
    fn tolerance(&self, burst_count: u64) -> u64 {
        match self.repair_count {
            // No order of sending helps a block without repair.
            0 => burst_count,
            repair => u64::from((repair / 2).max(1)),
        }
    }

    /// Symbols that leave in one turn: neighbouring ones are cheaper to take, and to collect. Turns are in proportion to the
    /// repair up to that of the largest blocks, so that of a burst each block bears what it can.
    fn turn(&self) -> u32 {
        (self.repair_count / 24).clamp(1, 8)
    }
}

/// Consecutive symbols of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The lane, as it was before these symbols: `lane.sent` is the first of them.
    pub lane: Lane,
    /// How many.
    pub count: u32,
}

impl Run {
    /// Returns whether nothing of the lane is left behind this run.
    pub(crate) fn ends_lane(&self) -> bool {
        self.lane.sent + self.count == self.lane.count()
    }
}

/// The lanes of one class.
#[derive(Debug)]
pub(crate) struct Interleaver {
    burst_count: u64,
    symbol_bytes: u64,
    lanes: VecDeque<Lane>,
    turn_left: u32,
    tolerance: u64,
    bytes: u64,
}

impl Interleaver {
    /// No lane yet.
    ///
    /// # Shape
    /// `burst_count`: datagrams that one burst takes from the link.
    pub(crate) fn new(burst_count: u64, symbol_bytes: u16) -> Self {
        Self {
            burst_count: burst_count.max(1),
            symbol_bytes: u64::from(symbol_bytes),
            lanes: VecDeque::new(),
            turn_left: 0,
            tolerance: 0,
            bytes: 0,
        }
    }

    /// Returns whether one more block should be opened before the next symbol leaves.
    pub(crate) fn wants_lane(&self) -> bool {
        self.lanes.is_empty()
            || (self.tolerance < self.burst_count
                && self.bytes < limits::INTERLEAVE_BYTES_MAX
                && self.lanes.len() < limits::LANES_MAX)
    }

    /// Adds a block that has something left to send.
    pub(crate) fn open(&mut self, lane: Lane) {
        assert!(lane.sent < lane.count(), "an empty lane would never end");
        self.tolerance += lane.tolerance(self.burst_count);
        self.bytes += u64::from(lane.count()) * self.symbol_bytes;
        self.lanes.push_back(lane);
    }

    /// Returns whether nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Returns the blocks in work.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// Takes the next symbols, at most so many.
    pub(crate) fn next_run(&mut self, count_max: u32) -> Option<Run> {
        let alone = self.lanes.len() == 1;
        let lane = self.lanes.front_mut()?;
        if self.turn_left == 0 {
            self.turn_left = lane.turn();
        }
        let left = lane.count() - lane.sent;
        let turn = if alone {
            left
        } else {
            self.turn_left.min(left)
        };
        let run = Run {
            lane: *lane,
            count: turn.min(count_max),
        };
        lane.sent += run.count;
        self.turn_left = self.turn_left.saturating_sub(run.count);
        if run.ends_lane() {
            self.turn_left = 0;
            self.close_front();
        } else if self.turn_left == 0 {
            self.lanes.rotate_left(1);
        }
        Some(run)
    }

    /// Drops what is left of a container.
    pub(crate) fn drop_container(&mut self, serial: Serial) {
        self.turn_left = 0;
        for _ in 0..self.lanes.len() {
            if self.lanes.front().is_some_and(|lane| lane.serial == serial) {
                self.close_front();
            } else {
                self.lanes.rotate_left(1);
            }
        }
    }

    fn close_front(&mut self) {
        if let Some(lane) = self.lanes.pop_front() {
            self.tolerance -= lane.tolerance(self.burst_count);
            self.bytes -= u64::from(lane.count()) * self.symbol_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use std::collections::BTreeMap;

    fn lane(serial: u64, block: u32, source: u32, repair: u32) -> Lane {
        let serial = Serial::new(serial).unwrap();
        Lane {
            serial,
            pass: 0,
            block,
            source_count: source,
            repair_count: repair,
            sent: 0,
        }
    }

    /// Sends all blocks and returns, for each symbol, its block.
    fn order(burst: u64, lanes: &[Lane], count_max: u32) -> Vec<(u64, u32)> {
        let mut interleaver = Interleaver::new(burst, 1_400);
        let mut waiting = lanes.iter();
        let mut order = Vec::new();
        loop {
            while interleaver.wants_lane() {
                let Some(lane) = waiting.next() else { break };
                interleaver.open(*lane);
            }
            let Some(run) = interleaver.next_run(count_max) else {
                return order;
            };
            assert!(run.count > 0 && run.count <= count_max);
            for _ in 0..run.count {
                order.push((run.lane.serial.get(), run.lane.block));
            }
        }
    }

    fn worst_of_a_burst(order: &[(u64, u32)], burst: usize) -> usize {
        let hits = |window: &[(u64, u32)]| {
            let mut hits = BTreeMap::new();
            window
                .iter()
                .for_each(|block| *hits.entry(*block).or_insert(0) += 1);
            hits.into_values().max().unwrap()
        };
        order.windows(burst).map(hits).max().unwrap()
    }

    #[test]
    fn every_symbol_leaves_once() {
        let lanes: Vec<Lane> = (0..9)
            .map(|block| lane(1, block, 100 + block, 25))
            .collect();
        for count_max in [1, 7, 44] {
            let order = order(60, &lanes, count_max);
            for lane in &lanes {
                let sent = order.iter().filter(|one| one.1 == lane.block).count();
                assert_eq!(sent, lane.count() as usize);
            }
        }
    }

    #[test]
    fn a_burst_takes_no_more_than_the_repair_of_any_block() {
        let lanes: Vec<Lane> = (0..40).map(|block| lane(1, block, 1_000, 250)).collect();
        assert!(worst_of_a_burst(&order(1_000, &lanes, 44), 1_000) <= 250);
        let lanes: Vec<Lane> = (0..40).map(|block| lane(1, block, 1_000, 50)).collect();
        assert!(worst_of_a_burst(&order(167, &lanes, 8), 167) <= 50);
    }

    #[test]
    fn a_burst_takes_no_more_than_its_repair_from_a_block_among_larger_ones() {
        let (large, small) = ((768, 192), (256, 64));
        let sizes = |number: u32| {
            if number % 13 == 12 || number > 80 && number.is_multiple_of(2) {
                small
            } else {
                large
            }
        };
        let lanes: Vec<Lane> = (0..120)
            .map(|number| lane(1, number, sizes(number).0, sizes(number).1))
            .collect();
        for burst in [200, 400, 680] {
            let order = order(burst, &lanes, 44);
            // The last ones have too few others to be among.
            for one in &lanes[..100] {
                let mut hits: Vec<usize> = Vec::new();
                let places = order.iter().enumerate();
                hits.extend(places.filter_map(|(at, sent)| (sent.1 == one.block).then_some(at)));
                // The symbol behind as many as the repair makes good lies beyond the burst.
                let beyond = hits.windows(one.repair_count as usize + 1);
                let beyond = beyond.map(|run| run[run.len() - 1] - run[0]).min().unwrap();
                assert!(
                    beyond >= burst as usize,
                    "block {} in a burst of {burst}",
                    one.block
                );
            }
        }
    }

    #[test]
    fn small_cables_are_interleaved_with_each_other() {
        let lanes: Vec<Lane> = (1..500).map(|serial| lane(serial, 0, 5, 3)).collect();
        assert!(worst_of_a_burst(&order(167, &lanes, 8), 167) <= 3);
    }

    #[test]
    fn a_block_alone_is_sent_in_long_runs() {
        let mut interleaver = Interleaver::new(10, 1_400);
        interleaver.open(lane(1, 0, 1_000, 250));
        assert!(!interleaver.wants_lane());
        assert_eq!(interleaver.next_run(44).unwrap().count, 44);
        assert_eq!(interleaver.next_run(2_000).unwrap().count, 1_206);
        assert!(interleaver.is_empty());
        assert_eq!(interleaver.next_run(44), None);
    }

    #[test]
    fn lanes_never_hold_more_than_their_bound() {
        let mut interleaver = Interleaver::new(u64::MAX, 1_400);
        let mut block = 0;
        while interleaver.wants_lane() {
            interleaver.open(lane(1, block, 1_000, 50));
            block += 1;
        }
        assert!(u64::from(block - 1) * 1_050 * 1_400 < limits::INTERLEAVE_BYTES_MAX);
    }

    #[test]
    fn a_dropped_container_leaves_the_others_in_order() {
        let mut interleaver = Interleaver::new(1_000, 1_400);
        for serial in 1..=4 {
            interleaver.open(lane(serial, 0, 5, 3));
        }
        interleaver.next_run(1);
        interleaver.drop_container(Serial::new(3).unwrap());
        let serials: Vec<u64> = std::iter::from_fn(|| interleaver.next_run(1))
            .map(|run| run.lane.serial.get())
            .collect();
        assert_eq!(serials.len(), 23);
        assert!(!serials.contains(&3));
        assert_eq!(interleaver.tolerance, 0);
        assert_eq!(interleaver.bytes, 0);
    }
}
