//! A serial line as a pure machine: bytes in, bytes out.

use std::time::Duration;

use super::model::fraction;
use super::{LineConditions, Prng, WireStatistics};

/// A start bit, eight bits, a stop bit.
const BITS_PER_BYTE: f64 = 10.0;

/// The line itself.
///
/// A serial line has no datagrams to lose: it loses, changes and adds bytes. Loss follows the Gilbert–Elliott model in
/// steps of a byte: the line is good or bad, and loses every byte while it is bad. The mean length of a burst is the
/// number of bytes that the line carries in the time `burst`. Without it, each byte is lost independently. Bytes keep
/// their order.
#[derive(Debug)]
pub struct SerialWire {
    conditions: LineConditions,
    /// The part of its state that the line still has after a byte: 0 forgets at once.
    memory: f64,
    prng: Prng,
    bad: bool,
    run: u64,
    statistics: WireStatistics,
}

impl SerialWire {
    /// A line with these conditions, whose reordering is ignored. All of its decisions follow from `seed` and the
    /// input.
    pub fn new(conditions: LineConditions, baud: u32, seed: u64) -> Self {
        let stretch_bytes = burst_bytes(conditions.burst, baud);
        let good = 1.0 - fraction(conditions.loss);
        Self {
            conditions,
            // A bad line stays bad with 1 - good·(1 - memory), and the mean burst is the inverse of the rest. Even
            // independent losses run together for 1/good bytes, so no burst can be shorter.
            memory: (1.0 - 1.0 / (stretch_bytes * good)).max(0.0),
            prng: Prng::new(seed),
            bad: false,
            run: 0,
            statistics: WireStatistics::default(),
        }
    }

    /// Takes bytes that entered the line, and appends the bytes that leave it to `out`.
    pub fn carry(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        for byte in bytes {
            if self.is_lost() {
                self.statistics.lost += 1;
                if self.run == 0 {
                    self.statistics.bursts += 1;
                }
                self.run += 1;
                self.statistics.longest_burst = self.statistics.longest_burst.max(self.run);
                continue;
            }
            self.run = 0;
            let byte = self.flipped(*byte);
            out.push(byte);
            if self.happens(self.conditions.duplicate) {
                self.statistics.duplicated += 1;
                out.push(byte);
            }
        }
        self.statistics.received += count(bytes.len());
        self.statistics.received_bytes += count(bytes.len());
        self.statistics.sent += count(out.len() - before);
    }

    /// The statistics so far, in bytes.
    pub fn statistics(&self) -> WireStatistics {
        self.statistics
    }

    fn is_lost(&mut self) -> bool {
        let loss = fraction(self.conditions.loss);
        if loss <= 0.0 {
            return false;
        }
        let bad_now = if self.bad {
            loss + (1.0 - loss) * self.memory
        } else {
            loss * (1.0 - self.memory)
        };
        self.bad = self.prng.fraction() < bad_now;
        self.bad
    }

    fn happens(&mut self, share: valise_common::units::Percent) -> bool {
        share.ppm() > 0 && self.prng.fraction() < fraction(share)
    }

    /// The byte, or another one in its place.
    fn flipped(&mut self, byte: u8) -> u8 {
        if !self.happens(self.conditions.corrupt) {
            return byte;
        }
        self.statistics.corrupted += 1;
        // Never 0, which would change nothing.
        let change = u8::try_from(1 + self.prng.below(255)).unwrap_or(u8::MAX);
        byte ^ change
    }
}

/// The bytes that a line carries in this time; at least one.
fn burst_bytes(burst: Duration, baud: u32) -> f64 {
    (burst.as_secs_f64() * f64::from(baud) / BITS_PER_BYTE).max(1.0)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::as_conversions)]
    use super::*;

    const BAUD: u32 = 115_200;
    const MILLION: usize = 1_000_000;

    fn share(text: &str) -> valise_common::units::Percent {
        text.parse().expect("a percentage")
    }

    /// The output of a line for these bytes, in reads of changing length.
    fn run(conditions: LineConditions, seed: u64, bytes: &[u8]) -> (Vec<u8>, WireStatistics) {
        let mut wire = SerialWire::new(conditions, BAUD, seed);
        let mut out = Vec::new();
        let mut rest = bytes;
        let mut length = 1;
        while !rest.is_empty() {
            let (next, later) = rest.split_at(length.min(rest.len()));
            wire.carry(next, &mut out);
            rest = later;
            length = length % 4_093 + 7;
        }
        let statistics = wire.statistics();
        assert_eq!(statistics.received, bytes.len() as u64);
        assert_eq!(statistics.sent, out.len() as u64);
        assert_eq!(
            statistics.sent,
            statistics.received - statistics.lost + statistics.duplicated
        );
        (out, statistics)
    }

    /// Bytes of all values, each different from its neighbours.
    fn counting() -> Vec<u8> {
        (0..MILLION).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn a_clean_line_changes_nothing() {
        let bytes: Vec<u8> = (0..MILLION).map(|index| index as u8).collect();
        let (out, statistics) = run(LineConditions::CLEAN, 1, &bytes);
        assert_eq!(out, bytes);
        assert_eq!((statistics.lost, statistics.corrupted), (0, 0));
    }

    #[test]
    fn one_seed_gives_one_run_however_the_bytes_are_read() {
        let conditions = LineConditions {
            loss: share("1%"),
            burst: Duration::from_millis(1),
            duplicate: share("0.5%"),
            corrupt: share("0.5%"),
            ..LineConditions::CLEAN
        };
        let bytes = counting();
        let first = run(conditions, 42, &bytes);
        let mut whole = Vec::new();
        SerialWire::new(conditions, BAUD, 42).carry(&bytes, &mut whole);
        assert_eq!(first.0, whole);
        assert_eq!(first, run(conditions, 42, &bytes));
        assert_ne!(first, run(conditions, 43, &bytes));
    }

    #[test]
    fn without_a_burst_bytes_are_lost_one_by_one() {
        let conditions = LineConditions {
            loss: share("1%"),
            ..LineConditions::CLEAN
        };
        let bytes = counting();
        let (out, statistics) = run(conditions, 3, &bytes);
        assert!(
            (9_600..=10_400).contains(&statistics.lost),
            "{statistics:?}"
        );
        let mean = statistics.lost as f64 / statistics.bursts as f64;
        assert!((1.0..1.03).contains(&mean), "{mean}");
        // The remaining bytes are in order: the steps between them are those of the losses, and no others.
        let steps: u64 = out
            .windows(2)
            .map(|pair| (u64::from(pair[1]) + 251 - u64::from(pair[0])) % 251)
            .sum();
        let ends = bytes.len() as u64 - 1 - steps;
        assert!(
            ends <= 4,
            "{ends} bytes are missing beyond the losses at both ends"
        );
    }

    #[test]
    fn lost_stretches_are_as_long_as_asked_and_of_the_same_share() {
        // 115,200 baud carry 11.52 bytes in a millisecond.
        for (burst_ms, mean) in [(1, 11.52), (10, 115.2)] {
            let conditions = LineConditions {
                loss: share("5%"),
                burst: Duration::from_millis(burst_ms),
                ..LineConditions::CLEAN
            };
            let bytes: Vec<u8> = vec![7; 10 * MILLION];
            let (_, statistics) = run(conditions, 4, &bytes);
            let lost = statistics.lost as f64 / bytes.len() as f64;
            assert!((0.046..=0.054).contains(&lost), "{lost}");
            let found = statistics.lost as f64 / statistics.bursts as f64;
            assert!((found / mean - 1.0).abs() < 0.06, "{found} for {mean}");
        }
    }

    #[test]
    fn flipped_bytes_arrive_changed_and_in_their_place() {
        let conditions = LineConditions {
            corrupt: share("1%"),
            ..LineConditions::CLEAN
        };
        let bytes = counting();
        let (out, statistics) = run(conditions, 5, &bytes);
        assert_eq!(out.len(), bytes.len());
        let changed = out.iter().zip(&bytes).filter(|(a, b)| a != b).count();
        assert_eq!(changed as u64, statistics.corrupted);
        assert!((9_600..=10_400).contains(&changed), "{changed}");
        let bits: u32 = out
            .iter()
            .zip(&bytes)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        let mean = f64::from(bits) / changed as f64;
        assert!((3.9..=4.1).contains(&mean), "{mean} bits of a changed byte");
    }

    #[test]
    fn inserted_bytes_follow_the_byte_that_they_repeat() {
        let conditions = LineConditions {
            duplicate: share("1%"),
            ..LineConditions::CLEAN
        };
        let bytes = counting();
        let (mut out, statistics) = run(conditions, 6, &bytes);
        let doubled = out.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!(doubled as u64, statistics.duplicated);
        assert!((9_600..=10_400).contains(&doubled), "{doubled}");
        out.dedup();
        assert_eq!(out, bytes);
    }

    #[test]
    fn a_line_that_loses_everything_is_one_stretch() {
        for burst in [Duration::ZERO, Duration::from_millis(5)] {
            let conditions = LineConditions {
                loss: share("100%"),
                burst,
                ..LineConditions::CLEAN
            };
            let (out, statistics) = run(conditions, 7, &[0; 5_000]);
            assert!(out.is_empty());
            assert_eq!((statistics.bursts, statistics.longest_burst), (1, 5_000));
        }
    }
}
