//! Sizes, rates, spans and shares as a person writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// The number in front is missing, has more than six decimals, or is too large.
    #[error("expected a number and a unit, such as {example}")]
    Number {
        /// A text that would be right.
        example: &'static str,
    },
    /// The unit is not one of those that this quantity takes.
    #[error("unknown unit; use one of {units}")]
    Unit {
        /// The units, as a person would list them.
        units: &'static str,
    },
}

/// Splits `"2.5 KiB"` into millionths of its number and its unit.
fn split<'t>(text: &'t str, example: &'static str) -> Result<(u128, &'t str), UnitError> {
    let error = || UnitError::Number { example };
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || whole.len() > 18 || fraction.is_empty() || fraction.len() > 6 {
        return Err(error());
    }
    let whole: u128 = whole.parse().map_err(|_| error())?;
    let fraction: u128 = format!("{fraction:0<6}").parse().map_err(|_| error())?;
    Ok((whole * MILLION + fraction, unit.trim()))
}

const MILLION: u128 = 1_000_000;

/// Multiplies out, and refuses what does not fit or is not whole.
fn scale(
    text: &str,
    example: &'static str,
    units_text: &'static str,
    units: &[(&str, u128)],
) -> Result<u64, UnitError> {
    let (millionths, unit) = split(text, example)?;
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor);
    let factor = factor.ok_or(UnitError::Unit { units: units_text })?;
    let product = millionths
        .checked_mul(factor)
        .ok_or(UnitError::Number { example })?;
    u64::try_from(product / MILLION).map_err(|_| UnitError::Number { example })
}

/// Writes a number in the largest unit that leaves it whole.
fn write_scaled(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u128)]) -> fmt::Result {
    let number = u128::from(number);
    let fits = |factor: u128| number != 0 && number.is_multiple_of(factor);
    let (name, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| fits(*factor))
        .unwrap_or(&units[0]);
    write!(f, "{} {name}", number / factor)
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: &[(&str, u128)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Returns a number and the word for so many things: `"1 cable"`, `"2 cables"`, `"2 passes"`.
pub fn count_of(count: impl TryInto<u128>, thing: &str) -> String {
    match count.try_into().unwrap_or(u128::MAX) {
        1 => format!("1 {thing}"),
        count if thing.ends_with(['s', 'x']) || thing.ends_with("ch") => {
            format!("{count} {thing}es")
        }
        count => format!("{count} {thing}s"),
    }
}

impl ByteSize {
    /// Returns the size as a person reads it, to one decimal: `"8.6 MiB"`. The text does not parse back to the same size.
    pub fn rough(self) -> String {
        let bytes = u128::from(self.0);
        let fits = |(_, factor): &&(&str, u128)| bytes >= *factor;
        match SIZE_UNITS.iter().skip(1).rev().find(fits) {
            None if bytes == 1 => "1 byte".to_owned(),
            None => format!("{bytes} bytes"),
            Some((unit, factor)) => {
                // Rounded down: free space is never shown as more than it is.
                let tenths = bytes * 10 / factor;
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        scale(text, "\"64 MiB\"", "B, KiB, MiB, GiB, TiB", SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, SIZE_UNITS)
    }
}

text_serde!(ByteSize);

/// The rate of a link.
///
/// # Shape
/// Bits a second, counted over IP packets with their headers; or unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as the machine can. Loses datagrams wherever the receiver is slower.
    Unlimited,
    /// Paced; never zero.
    BitsPerSecond(u64),
}

const RATE_UNITS: &[(&str, u128)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
];

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "\"100 Mbit/s\" or \"unlimited\"";
        if text.trim() == "unlimited" {
            return Ok(Rate::Unlimited);
        }
        match scale(text, example, "bit/s, kbit/s, Mbit/s, Gbit/s", RATE_UNITS)? {
            0 => Err(UnitError::Number { example }),
            bits => Ok(Rate::BitsPerSecond(bits)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Unlimited => f.write_str("unlimited"),
            Rate::BitsPerSecond(bits) => write_scaled(f, *bits, RATE_UNITS),
        }
    }
}

text_serde!(Rate);

/// A span of time, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPAN_UNITS: &[(&str, u128)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl Span {
    /// Returns the span in microseconds.
    pub fn as_us(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the span in whole seconds.
    pub fn as_s(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let us = scale(text, "\"30 s\"", "us, ms, s, min, h, d", SPAN_UNITS)?;
        Ok(Self(Duration::from_micros(us)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.as_us(), SPAN_UNITS)
    }
}

text_serde!(Span);

/// A share in parts per million: `"25 %"` is 250,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    ppm: u32,
}

impl Percent {
    /// Takes parts per million.
    pub const fn from_ppm(ppm: u32) -> Self {
        Self { ppm }
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.ppm
    }

    /// Returns the share of a number, rounded up.
    pub const fn of_ceil(self, number: u64) -> u64 {
        // Widening u64 to u128 loses nothing; `From` is not const.
        #[allow(clippy::as_conversions)]
        let product = (number as u128 * self.ppm as u128).div_ceil(1_000_000);
        #[allow(clippy::as_conversions)]
        if product > u64::MAX as u128 {
            u64::MAX
        } else {
            product as u64
        }
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "\"25 %\"";
        let ppm = scale(text, example, "%", &[("%", 10_000)])?;
        u32::try_from(ppm)
            .map(Self::from_ppm)
            .map_err(|_| UnitError::Number { example })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.ppm / 10_000, self.ppm % 10_000);
        if rest == 0 {
            write!(f, "{whole} %")
        } else {
            let decimals = format!("{rest:04}");
            write!(f, "{whole}.{} %", decimals.trim_end_matches('0'))
        }
    }
}

text_serde!(Percent);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantities_round_trip_through_their_text() {
        for text in ["64 KiB", "1 TiB", "3 B", "0 B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["100 Mbit/s", "1 Gbit/s", "9600 bit/s", "unlimited"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["20 ms", "30 s", "14 d", "90 min"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["25 %", "0.1 %", "12.5 %", "0 %"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_space_may_be_left_out_and_fractions_count() {
        assert_eq!("1.5KiB".parse(), Ok(ByteSize(1536)));
        assert_eq!("20ms".parse(), Ok(Span(Duration::from_millis(20))));
        assert_eq!("2.5%".parse(), Ok(Percent::from_ppm(25_000)));
    }

    #[test]
    fn nonsense_gets_an_example_or_the_units() {
        for text in [
            "",
            "KiB",
            "-1 KiB",
            "1 kb",
            "1 KiB 2",
            ".5 KiB",
            "1.2.3 B",
            "99999999999 TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        assert!("0 bit/s".parse::<Rate>().is_err());
        assert!("9999999 %".parse::<Percent>().is_err());
    }

    #[test]
    fn one_thing_has_no_plural() {
        let words = [0_u64, 1, 2].map(|count| count_of(count, "slot"));
        assert_eq!(words, ["0 slots", "1 slot", "2 slots"]);
        assert_eq!(count_of(2_u8, "pass"), "2 passes");
    }

    #[test]
    fn a_size_is_shown_in_words_and_never_as_more_than_it_is() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 KiB"),
            (9_019_392, "8.6 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(ByteSize(bytes).rough(), words);
        }
    }

    #[test]
    fn a_share_rounds_up() {
        assert_eq!(Percent::from_ppm(250_000).of_ceil(5), 2);
        assert_eq!(Percent::from_ppm(0).of_ceil(5), 0);
        assert_eq!(Percent::from_ppm(u32::MAX).of_ceil(u64::MAX), u64::MAX);
    }
}
