//! When the next datagrams may leave, and how many: the link keeps its rate, never more.
//!
//! Two token buckets. The long one holds the configured rate; it lets a sender that was kept from the processor or waited for
//! a disk make up its arrears. The peak one bounds how fast: arrears leave at 5/4 of the rate, because a diode's own buffers
//! are small and a receiver that is flooded for a moment loses what it cannot take. A link that had nothing to send is in no
//! arrears: what it did not use is gone.

use valise_common::units::{Mono, Rate};

/// Arrears that may be made up, in time on the link. Over any time that holds a stall and what follows it, the rate is kept;
/// a second that begins just behind the stall may exceed it by four per cent.
const ARREARS_US: u64 = 40_000;
/// What may leave back to back, in time on the link.
const PEAK_US: u64 = 4_000;
/// A batch is about so much time on the link: what a FLASH waits for at most.
const BATCH_US: u64 = 1_000;
/// Tokens are counted in bits times microseconds a second, so that no division rounds.
const TOKENS_PER_BIT: u128 = 1_000_000;

/// Token-bucket pacing of one link.
#[derive(Debug)]
pub(crate) struct Pace {
    wire_bits: u64,
    batch_count: u32,
    lead_count: u32,
    since: Since,
    buckets: Option<Buckets>,
}

/// What the link has done since tokens were last counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Busy,
    /// It had nothing to send.
    Idle,
}

#[derive(Debug)]
struct Buckets {
    long: Bucket,
    peak: Bucket,
    // What the long one holds at most when the link begins again.
    idle: u128,
}

impl Pace {
    /// Creates a pace of full buckets.
    ///
    /// # Shape
    /// `wire_bytes`: an IP packet with its headers. `batch_count_max`: datagrams that the link takes in one call.
    pub(crate) fn new(rate: Rate, wire_bytes: u32, batch_count_max: u32, now: Mono) -> Self {
        let wire_bits = u64::from(wire_bytes) * 8;
        assert!(
            wire_bits > 0 && batch_count_max > 0,
            "a link sends something"
        );
        let Rate::BitsPerSecond(rate) = rate else {
            // There is no millisecond of an unlimited link; a quarter of a batch is one buffer of segments.
            let lead_count = batch_count_max.div_ceil(4);
            return Self {
                wire_bits,
                batch_count: batch_count_max,
                lead_count,
                since: Since::Idle,
                buckets: None,
            };
        };
        let per_ms =
            u128::from(rate) * u128::from(BATCH_US) / (u128::from(wire_bits) * TOKENS_PER_BIT);
        let per_ms = u32::try_from(per_ms).unwrap_or(u32::MAX).max(1);
        let batch_count = per_ms.min(batch_count_max);
        let two_batches = u128::from(2 * batch_count) * u128::from(wire_bits) * TOKENS_PER_BIT;
        let depth = |us: u64| two_batches.max(u128::from(rate) * u128::from(us));
        let peak_rate = u128::from(rate) + u128::from(rate / 4);
        let buckets = Buckets {
            long: Bucket::full(u128::from(rate), depth(ARREARS_US), now),
            peak: Bucket::full(peak_rate, depth(PEAK_US), now),
            idle: two_batches,
        };
        Self {
            wire_bits,
            batch_count,
            lead_count: per_ms,
            since: Since::Idle,
            buckets: Some(buckets),
        }
    }

    /// There is nothing to send: the time until there is makes no arrears.
    pub(crate) fn rest(&mut self) {
        self.since = Since::Idle;
    }

    /// Returns how many datagrams may leave now: a whole batch, or none yet.
    pub(crate) fn allowance(&mut self, now: Mono) -> u32 {
        let cost = self.cost(self.batch_count);
        let Some(buckets) = &mut self.buckets else {
            return self.batch_count;
        };
        buckets.long.fill(now);
        buckets.peak.fill(now);
        if std::mem::replace(&mut self.since, Since::Busy) == Since::Idle {
            buckets.long.tokens = buckets.long.tokens.min(buckets.idle);
        }
        if buckets.long.tokens >= cost && buckets.peak.tokens >= cost {
            self.batch_count
        } else {
            0
        }
    }

    /// Takes the tokens of datagrams that leave, at most the allowance.
    pub(crate) fn spend(&mut self, count: u32) {
        let cost = self.cost(count);
        if let Some(buckets) = &mut self.buckets {
            assert!(count <= self.batch_count, "no more leaves than was allowed");
            buckets.long.tokens -= cost;
            buckets.peak.tokens -= cost;
        }
    }

    /// Returns when a whole batch may leave; in the past if it may already.
    pub(crate) fn ready_at(&self) -> Option<Mono> {
        let cost = self.cost(self.batch_count);
        let buckets = self.buckets.as_ref()?;
        Some(buckets.long.ready_at(cost).max(buckets.peak.ready_at(cost)))
    }

    /// Datagrams of about a millisecond, at least one: the cover before the first symbol and behind the last.
    pub(crate) fn lead_count(&self) -> u32 {
        self.lead_count
    }

    /// Time on the link of so many datagrams, rounded up; nothing is known of an unlimited link.
    pub(crate) fn time_us(&self, count: u32) -> Option<u64> {
        let rate = self.buckets.as_ref()?.long.rate;
        u64::try_from(self.cost(count).div_ceil(rate)).ok()
    }

    fn cost(&self, count: u32) -> u128 {
        u128::from(count) * u128::from(self.wire_bits) * TOKENS_PER_BIT
    }
}

/// Returns how many datagrams a span of time on the link holds, rounded up.
pub(crate) fn datagrams_in(rate_bits: u64, wire_bytes: u32, span_us: u64) -> u64 {
    let bits = u128::from(rate_bits) * u128::from(span_us);
    let each = u128::from(wire_bytes) * 8 * TOKENS_PER_BIT;
    u64::try_from(bits.div_ceil(each)).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Bucket {
    rate: u128,
    depth: u128,
    tokens: u128,
    filled_at: Mono,
}

impl Bucket {
    fn full(rate: u128, depth: u128, now: Mono) -> Self {
        Self {
            rate,
            depth,
            tokens: depth,
            filled_at: now,
        }
    }

    fn fill(&mut self, now: Mono) {
        let gained = u128::from(now.since_us(self.filled_at)) * self.rate;
        self.tokens = self.depth.min(self.tokens.saturating_add(gained));
        self.filled_at = self.filled_at.max(now);
    }

    fn ready_at(&self, cost: u128) -> Mono {
        let missing = cost.saturating_sub(self.tokens);
        let wait_us = u64::try_from(missing.div_ceil(self.rate)).unwrap_or(u64::MAX);
        self.filled_at.plus_us(wait_us)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    const WIRE_BYTES: u32 = 1_500;

    fn bits_sent(rate: u64, span_us: u64, mut late_us: impl FnMut() -> u64) -> u64 {
        let mut now = Mono(7);
        let mut pace = Pace::new(Rate::BitsPerSecond(rate), WIRE_BYTES, 176, now);
        // The buckets are full at first; the measure begins when they have been drawn down.
        let mut start = None;
        let mut sent = 0;
        while start.is_none_or(|start| now.since_us(start) < span_us) {
            if start.is_none() && now.0 > 200_000 {
                start = Some(now);
                sent = 0;
            }
            let count = pace.allowance(now);
            if count > 0 {
                pace.spend(count);
                sent += u64::from(count) * u64::from(WIRE_BYTES) * 8;
            } else {
                now = pace.ready_at().unwrap().max(now).plus_us(late_us());
            }
        }
        sent * 1_000_000 / now.since_us(start.unwrap())
    }

    #[test]
    fn the_rate_is_kept_within_two_per_cent() {
        for rate in [
            2_000_000,
            10_000_000,
            100_000_000,
            1_000_000_000,
            10_000_000_000_u64,
        ] {
            let exact = bits_sent(rate, 2_000_000, || 0);
            assert!(exact.abs_diff(rate) * 100 <= rate, "{rate}: {exact}");
        }
    }

    #[test]
    fn a_sender_woken_late_makes_up_its_arrears() {
        for rate in [10_000_000, 100_000_000, 1_000_000_000_u64] {
            let mut state = 1_u64;
            let late = bits_sent(rate, 2_000_000, || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) % 1_500
            });
            assert!(late.abs_diff(rate) * 50 <= rate, "{rate}: {late}");
        }
    }

    /// Bits that leave from `from` to `to` of a link that always has something to send.
    fn bits_between(pace: &mut Pace, from: Mono, to: Mono) -> u64 {
        let (mut now, mut sent) = (from, 0);
        while now < to {
            match pace.allowance(now) {
                0 => now = pace.ready_at().unwrap().max(now),
                count => {
                    pace.spend(count);
                    sent += u64::from(count) * u64::from(WIRE_BYTES) * 8;
                }
            }
        }
        sent
    }

    #[test]
    fn a_second_with_a_stall_of_forty_milliseconds_keeps_the_rate() {
        let rate = 100_000_000_u64;
        let mut pace = Pace::new(Rate::BitsPerSecond(rate), WIRE_BYTES, 44, Mono(0));
        bits_between(&mut pace, Mono(0), Mono(1_000_000));
        let sent = bits_between(&mut pace, Mono(1_040_000), Mono(2_000_000));
        assert!(sent.abs_diff(rate) * 100 <= rate, "{sent}");
        let next = bits_between(&mut pace, Mono(2_000_000), Mono(3_000_000));
        assert!(next.abs_diff(rate) * 100 <= rate, "{next}");
    }

    #[test]
    fn no_second_exceeds_the_rate_by_more_than_four_per_cent_even_behind_a_stall() {
        let rate = 100_000_000_u64;
        let mut pace = Pace::new(Rate::BitsPerSecond(rate), WIRE_BYTES, 44, Mono(0));
        bits_between(&mut pace, Mono(0), Mono(1_000_000));
        let sent = bits_between(&mut pace, Mono(5_000_000), Mono(6_000_000));
        assert!(sent <= rate + rate / 25 + 12_000 * 8, "{sent}");
    }

    #[test]
    fn a_link_that_was_idle_begins_at_its_rate() {
        let rate = 100_000_000_u64;
        let mut pace = Pace::new(Rate::BitsPerSecond(rate), WIRE_BYTES, 44, Mono(0));
        let first = bits_between(&mut pace, Mono(0), Mono(1_000_000));
        pace.rest();
        let second = bits_between(&mut pace, Mono(5_000_000), Mono(6_000_000));
        for sent in [first, second] {
            assert!(sent.abs_diff(rate) * 100 <= rate, "{sent}");
        }
    }

    #[test]
    fn what_leaves_back_to_back_is_four_milliseconds_at_most() {
        let mut pace = Pace::new(Rate::BitsPerSecond(100_000_000), WIRE_BYTES, 44, Mono(0));
        let mut count = 0;
        while pace.allowance(Mono(1_000_000)) > 0 {
            pace.spend(pace.batch_count);
            count += pace.batch_count;
        }
        assert!(count <= 34, "{count} datagrams of 120 us each");
    }

    #[test]
    fn a_batch_is_a_millisecond_and_at_least_one_datagram() {
        let batch =
            |rate| Pace::new(Rate::BitsPerSecond(rate), WIRE_BYTES, 176, Mono(0)).batch_count;
        assert_eq!(batch(100_000_000), 8);
        assert_eq!(batch(9_600), 1);
        assert_eq!(batch(100_000_000_000), 176);
    }

    #[test]
    fn an_unlimited_link_always_takes_a_batch() {
        let mut pace = Pace::new(Rate::Unlimited, WIRE_BYTES, 176, Mono(0));
        for _ in 0..1_000 {
            assert_eq!(pace.allowance(Mono(0)), 176);
            pace.spend(176);
        }
        assert_eq!((pace.ready_at(), pace.time_us(50)), (None, None));
    }

    #[test]
    fn a_slow_link_still_ends_its_wait() {
        let mut pace = Pace::new(Rate::BitsPerSecond(300), WIRE_BYTES, 44, Mono(0));
        pace.spend(1);
        pace.spend(1);
        assert_eq!(pace.allowance(Mono(0)), 0);
        let ready = pace.ready_at().unwrap();
        assert_eq!(ready, Mono(40_000_000));
        assert_eq!(pace.allowance(ready), 1);
    }
}
