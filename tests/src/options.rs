//! The values of options that several of these programs take, within their valid ranges.

use valise_common::limits;
use valise_common::units::{Percent, Rate, Span};

/// Takes a share of all datagrams: 0 % to 100 %.
///
/// # Errors
/// The valid range.
pub fn share(text: &str) -> Result<Percent, String> {
    percent(text, 1_000_000)
}

/// Takes repair for each source symbol: 0 % to 300 %, as the sender's configuration.
///
/// # Errors
/// The valid range.
pub fn repair(text: &str) -> Result<Percent, String> {
    percent(text, 3_000_000)
}

fn percent(text: &str, ppm_max: u32) -> Result<Percent, String> {
    let percent: Percent = text.parse().map_err(described)?;
    if percent.ppm() > ppm_max {
        return Err(format!("from 0 % to {}", Percent::from_ppm(ppm_max)));
    }
    Ok(percent)
}

/// Takes the bytes of a datagram.
///
/// # Errors
/// The valid range.
pub fn datagram_bytes(text: &str) -> Result<u16, String> {
    let range = limits::DATAGRAM_BYTES_MIN..=limits::DATAGRAM_BYTES_MAX;
    let bytes = text.parse::<u16>().ok();
    bytes
        .filter(|bytes| range.contains(bytes) && bytes.is_multiple_of(2))
        .ok_or_else(|| format!("an even number from {} to {}", range.start(), range.end()))
}

/// Takes the speed of a serial line, as both configurations.
///
/// # Errors
/// The valid range.
pub fn baud(text: &str) -> Result<u32, String> {
    let range = limits::BAUD_MIN..=limits::BAUD_MAX;
    let baud = text.parse::<u32>().ok();
    baud.filter(|baud| range.contains(baud))
        .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
}

/// Takes the burst that interleaving must survive: up to 10 s, as the sender's configuration.
///
/// # Errors
/// The valid range.
pub fn interleave(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(described)?;
    if span.as_us() > 10_000_000 {
        return Err("at most 10 s".to_owned());
    }
    Ok(span)
}

/// Takes a rate of the link, as the sender's configuration.
///
/// # Errors
/// The valid form.
pub fn rate(text: &str) -> Result<Rate, String> {
    match text.parse().map_err(described)? {
        Rate::BitsPerSecond(bits) if !(300..=400_000_000_000).contains(&bits) => {
            Err("from 300 bit/s to 400 Gbit/s, or unlimited".to_owned())
        }
        rate => Ok(rate),
    }
}

fn described(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_meaning_are_refused() {
        assert!(share("100 %").is_ok() && share("100.0001 %").is_err());
        assert!(repair("300 %").is_ok() && repair("301 %").is_err());
        assert!(datagram_bytes("1472").is_ok());
        for wrong in ["0", "64", "1471", "70000", "x"] {
            assert!(datagram_bytes(wrong).is_err(), "{wrong}");
        }
        assert!(baud("300").is_ok() && baud("4000000").is_ok());
        for wrong in ["299", "4000001", "fast"] {
            assert!(baud(wrong).is_err(), "{wrong}");
        }
        assert!(interleave("10 s").is_ok() && interleave("11 s").is_err());
        assert!(rate("unlimited").is_ok() && rate("300 bit/s").is_ok());
        assert!(rate("299 bit/s").is_err() && rate("401 Gbit/s").is_err());
    }
}
