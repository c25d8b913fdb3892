//! Points in time: of the calendar for people, of a monotonic clock for machines.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a time is written in UTC to the second, such as 2026-11-22T21:53:18Z")]
pub struct TimeError;

/// The calendar reaches further than time-stamps do: the last two days of 9999 are valid times.
const CIVIL_EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A point in time, UTC, in whole seconds since 1970-01-01T00:00:00Z.
///
/// # Shape
/// 0 to 253,402,300,799 (9999-12-31T23:59:59Z), so that four digits hold the year.
///
/// # Source
/// RFC 3339, restricted to `Z` and whole seconds. Leap seconds are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime(u64);

impl UtcTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: UtcTime = UtcTime(0);
    /// 9999-12-31T23:59:59Z.
    pub const LAST: UtcTime = UtcTime(253_402_300_799);

    /// Takes seconds since 1970; times beyond the year 9999 become [`UtcTime::LAST`].
    pub const fn from_s(seconds: u64) -> Self {
        if seconds > Self::LAST.0 {
            Self::LAST
        } else {
            Self(seconds)
        }
    }

    /// Seconds since 1970.
    pub const fn as_s(self) -> u64 {
        self.0
    }

    /// Returns the time so many seconds later, at most [`UtcTime::LAST`].
    pub const fn plus_s(self, seconds: u64) -> Self {
        Self::from_s(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this time; zero when it is later.
    pub const fn since(self, earlier: UtcTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let time = CIVIL_EPOCH
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .map_err(|_| fmt::Error)?;
        write!(f, "{time:.0}Z")
    }
}

impl FromStr for UtcTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let digits = |range: std::ops::Range<usize>| -> Result<i16, TimeError> {
            let field = text.get(range).ok_or(TimeError)?;
            let decimal = field.bytes().all(|c| c.is_ascii_digit());
            if decimal {
                field.parse().map_err(|_| TimeError)
            } else {
                Err(TimeError)
            }
        };
        let small = |range| digits(range).and_then(|n| i8::try_from(n).map_err(|_| TimeError));
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ];
        let bytes = text.as_bytes();
        if bytes.len() != 20 || marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
            return Err(TimeError);
        }
        let time = jiff::civil::DateTime::new(
            digits(0..4)?,
            small(5..7)?,
            small(8..10)?,
            small(11..13)?,
            small(14..16)?,
            small(17..19)?,
            0,
        )
        .map_err(|_| TimeError)?;
        let seconds = time.duration_since(CIVIL_EPOCH).as_secs();
        u64::try_from(seconds).map(Self).map_err(|_| TimeError)
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A reading of a clock that never goes back, in microseconds since some start.
///
/// The pure parts take it as an argument, so that a test owns time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Microseconds from `earlier` to this reading; zero when it is later.
    pub const fn since_us(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the reading so many microseconds later.
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, span: Duration) -> Mono {
        self.plus_us(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Sub for Mono {
    type Output = Duration;

    fn sub(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.since_us(earlier))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_round_trip() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T21:53:18Z", 1_795_384_398),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("9999-12-31T23:59:59Z", UtcTime::LAST.as_s()),
        ] {
            let time: UtcTime = text.parse().unwrap();
            assert_eq!(time.as_s(), seconds, "{text}");
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "2026-11-22T21:53:18+00:00",
            "2026-11-22t21:53:18z",
            "2026-11-22T21:53:18.0Z",
            "2026-11-22 21:53:18Z",
            "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "+026-11-22T21:53:18Z",
            "2026-11-22T21:53:1éZ",
        ] {
            assert_eq!(text.parse::<UtcTime>(), Err(TimeError), "{text:?}");
        }
    }

    #[test]
    fn the_monotonic_clock_saturates() {
        assert_eq!(Mono(5).since_us(Mono(9)), 0);
        assert_eq!(Mono(u64::MAX).plus_us(1), Mono(u64::MAX));
        assert_eq!(Mono(9) - Mono(5), Duration::from_micros(4));
    }
}
