//! Shares of datagrams ("5%") and the times of the harness ("20ms").

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A share of all datagrams, from none to all.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Share(f64);

/// Why a share or a time of the command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The text is not a number followed by a percent sign.
    #[error("\"{0}\" is not a percentage; write for example 5% or 0.1%")]
    NotAPercentage(String),
    /// The share is negative or above 100 %.
    #[error("\"{0}\" is not between 0% and 100%")]
    OutOfRange(String),
    /// The text is not a number followed by a unit of time.
    #[error("\"{0}\" is not a time; write for example 20ms, 500us or 2s")]
    NotATime(String),
}

impl Share {
    /// No datagram at all.
    pub const NONE: Self = Self(0.0);

    /// The share as a fraction from 0.0 to 1.0.
    pub fn fraction(self) -> f64 {
        self.0
    }

    /// Whether the share is nothing.
    pub fn is_none(self) -> bool {
        self.0 <= 0.0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let number = text.trim().strip_suffix('%').unwrap_or_else(|| text.trim());
        let percent: f64 = number
            .trim()
            .parse()
            .map_err(|_| ShareError::NotAPercentage(text.to_owned()))?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(ShareError::OutOfRange(text.to_owned()));
        }
        Ok(Self(percent / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to a ten-thousandth of a percent, so that 0.1 % is not shown as 0.10000000000000001.
        write!(f, "{}%", (self.0 * 1_000_000.0).round() / 10_000.0)
    }
}

/// Reads a time as the command line gives it: `20ms`, `20 ms`, `500us`, `2s`.
///
/// # Errors
/// When the number or its unit is not one of these.
pub fn parse_duration(text: &str) -> Result<Duration, ShareError> {
    let wrong = || ShareError::NotATime(text.to_owned());
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit.trim() {
        "us" | "µs" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_with_or_without_a_space_and_shown_again() {
        for (text, shown) in [
            ("5%", "5%"),
            ("0.1 %", "0.1%"),
            ("100%", "100%"),
            ("2", "2%"),
        ] {
            assert_eq!(text.parse::<Share>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn absurd_shares_are_refused() {
        assert!(matches!(
            "-1%".parse::<Share>(),
            Err(ShareError::OutOfRange(_))
        ));
        assert!(matches!(
            "101%".parse::<Share>(),
            Err(ShareError::OutOfRange(_))
        ));
        assert!(matches!(
            "NaN%".parse::<Share>(),
            Err(ShareError::OutOfRange(_))
        ));
        assert!(matches!(
            "much".parse::<Share>(),
            Err(ShareError::NotAPercentage(_))
        ));
    }

    #[test]
    fn times_are_read_in_three_units() {
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("500 us"), Ok(Duration::from_micros(500)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert!(parse_duration("20").is_err());
        assert!(parse_duration("ms").is_err());
        assert!(parse_duration("").is_err());
    }
}
