//! The line as a pure machine: datagrams in, time as an argument, datagrams out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use valise_common::units::Percent;

use super::{Prng, WireStatistics};

/// The most datagrams that are held back for reordering.
const HELD_MAX: usize = 16_384;
/// Spare buffers that are kept for later datagrams.
const SPARE_MAX: usize = 4_096;

/// The faults of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineConditions {
    /// The share that is lost in the long run.
    pub loss: Percent,
    /// The mean length of a burst of loss, in time on the line; zero makes losses independent.
    pub burst: Duration,
    /// The share that is held back, for a uniform time up to `reorder_hold`.
    pub reorder: Percent,
    /// The longest time for which a reordered datagram or a second copy is held back.
    pub reorder_hold: Duration,
    /// The share that arrives twice.
    pub duplicate: Percent,
    /// The share that arrives with one to eight flipped bits.
    pub corrupt: Percent,
}

impl LineConditions {
    /// A line without faults.
    pub const CLEAN: Self = Self {
        loss: Percent::from_ppm(0),
        burst: Duration::ZERO,
        reorder: Percent::from_ppm(0),
        reorder_hold: Duration::from_millis(2),
        duplicate: Percent::from_ppm(0),
        corrupt: Percent::from_ppm(0),
    };
}

/// A datagram that waits for its time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Duration,
    order: u64,
    delivered_before: u64,
    reordered: bool,
    bytes: Vec<u8>,
}

/// The line itself.
///
/// Loss follows the Gilbert–Elliott model in continuous time. The line is good or bad, and loses everything while it is
/// bad. The time in each state is exponential, with mean `burst` for the bad state, and for the good state the mean
/// that yields `loss` in the long run. The state is sampled when a datagram arrives. That is exact for such a chain and
/// needs no estimate of the rate: the length of a burst is the number of datagrams that the line carries in its time.
#[derive(Debug)]
pub struct Wire {
    conditions: LineConditions,
    prng: Prng,
    bad: bool,
    sampled_at: Option<Duration>,
    run: u64,
    ready: VecDeque<Vec<u8>>,
    held: BinaryHeap<Reverse<Held>>,
    order: u64,
    spare: Vec<Vec<u8>>,
    statistics: WireStatistics,
}

impl Wire {
    /// A line with these conditions; all of its decisions follow from `seed` and the input.
    pub fn new(conditions: LineConditions, seed: u64) -> Self {
        Self {
            conditions,
            prng: Prng::new(seed),
            bad: false,
            sampled_at: None,
            run: 0,
            ready: VecDeque::new(),
            held: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
            statistics: WireStatistics::default(),
        }
    }

    /// Takes a datagram that entered the line at `now`, which never decreases.
    pub fn handle_datagram(&mut self, now: Duration, bytes: &[u8]) {
        self.statistics.received += 1;
        self.statistics.received_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.is_lost(now) {
            self.statistics.lost += 1;
            if self.run == 0 {
                self.statistics.bursts += 1;
            }
            self.run += 1;
            self.statistics.longest_burst = self.statistics.longest_burst.max(self.run);
            return;
        }
        self.run = 0;
        let duplicate = self.happens(self.conditions.duplicate);
        if self.happens(self.conditions.reorder) && self.held.len() < HELD_MAX {
            self.hold(now, bytes, true);
        } else {
            let copy = self.copy(bytes);
            self.ready.push_back(copy);
        }
        if duplicate {
            self.statistics.duplicated += 1;
            if self.held.len() < HELD_MAX && self.prng.below(2) == 0 {
                self.hold(now, bytes, false);
            } else {
                let copy = self.copy(bytes);
                self.ready.push_back(copy);
            }
        }
    }

    /// The next datagram that leaves the line at `now`; the buffer may be returned with [`recycle`].
    ///
    /// [`recycle`]: Self::recycle
    pub fn poll_datagram(&mut self, now: Duration) -> Option<Vec<u8>> {
        let is_due = self
            .held
            .peek()
            .is_some_and(|Reverse(held)| held.due <= now);
        let bytes = if is_due {
            let Reverse(held) = self.held.pop()?;
            if held.reordered && self.statistics.sent > held.delivered_before {
                self.statistics.reordered += 1;
            }
            held.bytes
        } else {
            self.ready.pop_front()?
        };
        self.statistics.sent += 1;
        Some(bytes)
    }

    /// The time at which the next held datagram is due.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// Takes a buffer back, so that a fast line does not allocate for each datagram.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// The statistics so far.
    pub fn statistics(&self) -> WireStatistics {
        self.statistics
    }

    fn is_lost(&mut self, now: Duration) -> bool {
        let loss = fraction(self.conditions.loss);
        let burst_s = self.conditions.burst.as_secs_f64();
        if loss <= 0.0 {
            return false;
        }
        let remembered = match self.sampled_at.replace(now) {
            Some(last) if burst_s > 0.0 && loss < 1.0 => {
                // The state decays with the sum of both rates: 1/burst + loss/((1-loss)·burst).
                let elapsed_s = now.saturating_sub(last).as_secs_f64();
                (-elapsed_s / (burst_s * (1.0 - loss))).exp()
            }
            _ => 0.0,
        };
        let bad_now = if self.bad {
            loss + (1.0 - loss) * remembered
        } else {
            loss * (1.0 - remembered)
        };
        self.bad = self.prng.fraction() < bad_now;
        self.bad
    }

    fn happens(&mut self, share: Percent) -> bool {
        share.ppm() > 0 && self.prng.fraction() < fraction(share)
    }

    fn hold(&mut self, now: Duration, bytes: &[u8], reordered: bool) {
        let hold_ns = u64::try_from(self.conditions.reorder_hold.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let due = now + Duration::from_nanos(1 + self.prng.below(hold_ns));
        let bytes = self.copy(bytes);
        self.order += 1;
        self.held.push(Reverse(Held {
            due,
            order: self.order,
            delivered_before: self.statistics.sent,
            reordered,
            bytes,
        }));
    }

    /// A copy as the line delivers it, possibly with flipped bits.
    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        if !copy.is_empty() && self.happens(self.conditions.corrupt) {
            self.statistics.corrupted += 1;
            let byte_count = u64::try_from(copy.len()).unwrap_or(u64::MAX);
            for _ in 0..=self.prng.below(8) {
                let position = usize::try_from(self.prng.below(byte_count)).unwrap_or(0);
                copy[position] ^= 1 << self.prng.below(8);
            }
        }
        copy
    }
}

/// A share as a number from 0.0 to 1.0, at most 1.0.
pub(super) fn fraction(share: Percent) -> f64 {
    (f64::from(share.ppm()) / 1_000_000.0).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::as_conversions)]
    use super::*;

    fn share(text: &str) -> Percent {
        text.parse().expect("a percentage")
    }

    /// Sends `count` numbered datagrams, one every `gap`, and returns the arrived ones, in order.
    fn run(conditions: LineConditions, seed: u64, count: u64, gap: Duration) -> (Vec<u64>, Wire) {
        let mut wire = Wire::new(conditions, seed);
        let mut arrived = Vec::new();
        let mut now = Duration::ZERO;
        for number in 0..count {
            wire.handle_datagram(now, &number.to_be_bytes());
            now += gap;
            while let Some(bytes) = wire.poll_datagram(now) {
                arrived.push(u64::from_be_bytes(
                    bytes.as_slice().try_into().expect("eight"),
                ));
                wire.recycle(bytes);
            }
        }
        while let Some(due) = wire.next_wakeup() {
            let bytes = wire.poll_datagram(due).expect("due");
            arrived.push(u64::from_be_bytes(
                bytes.as_slice().try_into().expect("eight"),
            ));
        }
        (arrived, wire)
    }

    #[test]
    fn a_clean_line_changes_nothing() {
        let (arrived, wire) = run(LineConditions::CLEAN, 1, 1000, Duration::from_micros(10));
        assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
        assert_eq!((wire.statistics().lost, wire.statistics().sent), (0, 1000));
    }

    #[test]
    fn one_seed_gives_one_run() {
        let conditions = LineConditions {
            loss: share("5%"),
            burst: Duration::from_millis(2),
            reorder: share("3%"),
            duplicate: share("2%"),
            corrupt: share("1%"),
            ..LineConditions::CLEAN
        };
        let (first, wire) = run(conditions, 42, 20_000, Duration::from_micros(50));
        let (second, again) = run(conditions, 42, 20_000, Duration::from_micros(50));
        assert_eq!((first, wire.statistics()), (second, again.statistics()));
        let (_, other) = run(conditions, 43, 20_000, Duration::from_micros(50));
        assert_ne!(wire.statistics(), other.statistics());
    }

    #[test]
    fn independent_loss_is_of_the_share_asked_for() {
        let conditions = LineConditions {
            loss: share("5%"),
            ..LineConditions::CLEAN
        };
        let (_, wire) = run(conditions, 3, 200_000, Duration::from_micros(10));
        let lost = wire.statistics().lost;
        assert!((9_500..=10_500).contains(&lost), "{lost}");
        let mean = lost as f64 / wire.statistics().bursts as f64;
        assert!(mean < 1.1, "independent losses hardly run together: {mean}");
    }

    #[test]
    fn bursts_last_as_long_as_asked_and_lose_the_same_share() {
        let conditions = LineConditions {
            loss: share("5%"),
            burst: Duration::from_millis(2),
            ..LineConditions::CLEAN
        };
        // One datagram every 20 µs: a mean burst is 100 datagrams; 2,000 bursts are expected.
        let (_, wire) = run(conditions, 4, 4_000_000, Duration::from_micros(20));
        let statistics = wire.statistics();
        let share = statistics.lost as f64 / 4_000_000.0;
        assert!((0.045..=0.055).contains(&share), "{share}");
        let mean = statistics.lost as f64 / statistics.bursts as f64;
        assert!((85.0..=115.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_burst_is_shorter_in_datagrams_on_a_slower_line() {
        let conditions = LineConditions {
            loss: share("5%"),
            burst: Duration::from_millis(2),
            ..LineConditions::CLEAN
        };
        let (_, wire) = run(conditions, 5, 400_000, Duration::from_millis(1));
        let statistics = wire.statistics();
        let mean = statistics.lost as f64 / statistics.bursts as f64;
        assert!((2.2..=3.0).contains(&mean), "{mean}");
    }

    #[test]
    fn reordered_datagrams_arrive_late_but_arrive() {
        let conditions = LineConditions {
            reorder: share("2%"),
            ..LineConditions::CLEAN
        };
        let (mut arrived, wire) = run(conditions, 6, 50_000, Duration::from_micros(20));
        let reordered = wire.statistics().reordered;
        assert!((850..=1_150).contains(&reordered), "{reordered}");
        assert!(!arrived.is_sorted());
        arrived.sort_unstable();
        assert_eq!(arrived, (0..50_000).collect::<Vec<_>>());
    }

    #[test]
    fn duplicates_arrive_twice() {
        let conditions = LineConditions {
            duplicate: share("1%"),
            ..LineConditions::CLEAN
        };
        let (arrived, wire) = run(conditions, 7, 50_000, Duration::from_micros(20));
        let duplicated = wire.statistics().duplicated;
        assert!((400..=600).contains(&duplicated), "{duplicated}");
        assert_eq!(arrived.len() as u64, 50_000 + duplicated);
    }

    #[test]
    fn corrupted_datagrams_keep_their_length_and_lose_their_bits() {
        let conditions = LineConditions {
            corrupt: share("100%"),
            ..LineConditions::CLEAN
        };
        let mut wire = Wire::new(conditions, 8);
        let mut changed = 0;
        for _ in 0..1000 {
            wire.handle_datagram(Duration::ZERO, &[0; 1472]);
            let bytes = wire.poll_datagram(Duration::ZERO).expect("nothing is lost");
            assert_eq!(bytes.len(), 1472);
            let bits: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
            assert!(bits <= 8);
            changed += u64::from(bits > 0);
        }
        assert_eq!(wire.statistics().corrupted, 1000);
        assert!(
            changed > 990,
            "two flips of one bit undo each other only rarely: {changed}"
        );
    }

    #[test]
    fn empty_datagrams_and_total_loss_are_survived() {
        let conditions = LineConditions {
            loss: share("100%"),
            corrupt: share("100%"),
            ..LineConditions::CLEAN
        };
        let (arrived, wire) = run(conditions, 9, 100, Duration::from_micros(20));
        assert!(arrived.is_empty());
        assert_eq!(
            (wire.statistics().bursts, wire.statistics().longest_burst),
            (1, 100)
        );
        let mut wire = Wire::new(
            LineConditions {
                corrupt: share("100%"),
                ..LineConditions::CLEAN
            },
            1,
        );
        wire.handle_datagram(Duration::ZERO, &[]);
        assert_eq!(wire.poll_datagram(Duration::ZERO), Some(Vec::new()));
    }
}
