//! Identifiers: byte strings shown in lower-case hexadecimal, numbers, and short names with a fixed alphabet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::limits;

/// Why a text is no identifier. The text itself is not repeated: it may come from a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// A hexadecimal identifier has the wrong length or an unknown digit.
    #[error("expected {digits} lower-case hexadecimal digits")]
    Hex {
        /// Digits that were expected.
        digits: usize,
    },
    /// A person or mailbox name does not follow its alphabet.
    #[error(
        "a person or mailbox id is 1 to 64 of a-z, 0-9, dot and hyphen, and begins with a letter or digit"
    )]
    Name,
    /// A classification or category name does not follow its alphabet.
    #[error("a classification or category id is 1 to 32 of A-Z, 0-9 and hyphen")]
    Marking,
    /// A serial outside 1 to 2^63 − 1.
    #[error("a serial is a decimal number from 1 to 9223372036854775807")]
    Serial,
    /// A number with a sign, leading zeros or other characters, or too large.
    #[error("expected a decimal number without leading zeros")]
    Number,
}

fn hex_encode(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn hex_decode<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let error = IdError::Hex { digits: N * 2 };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (hex_digit(pair[0]), hex_digit(pair[1])) else {
            return Err(error);
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// Parses a decimal number without sign or leading zeros.
///
/// # Errors
/// [`IdError::Number`] for anything else, and for numbers beyond 2^64 − 1.
pub fn parse_decimal(text: &str) -> Result<u64, IdError> {
    let canonical = !text.is_empty()
        && text.bytes().all(|digit| digit.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return Err(IdError::Number);
    }
    text.parse().map_err(|_| IdError::Number)
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
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes, in the order of the formats.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex_encode(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex_encode(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                hex_decode(text).map(Self)
            }
        }

        text_serde!($name);
    };
}

hex_id!(
    /// One sender–receiver pair.
    ChannelId,
    16
);
hex_id!(
    /// A cable's own identifier, random, the same in every container that ever carries it.
    MessageId,
    16
);
hex_id!(
    /// The first 12 bytes of [`ContainerHash`]: names a container on the link.
    ContainerId,
    12
);
hex_id!(
    /// BLAKE3 of a whole container: what hosts keep and compare.
    ContainerHash,
    32
);
hex_id!(
    /// A SHA-256, as `sha256sum` prints it.
    Sha256Digest,
    32
);
hex_id!(
    /// Random at each start of transmit; selects the key of one session on the link.
    SessionId,
    8
);

impl ContainerHash {
    /// Returns the container's short name on the link.
    pub fn id(&self) -> ContainerId {
        let mut id = [0; ContainerId::BYTES];
        id.copy_from_slice(&self.0[..ContainerId::BYTES]);
        ContainerId(id)
    }
}

/// The number of a sealed cable in its channel. Serials are issued without holes.
///
/// # Shape
/// 1 ≤ serial < 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Serial(u64);

impl Serial {
    /// The smallest serial.
    pub const FIRST: Serial = Serial(1);

    /// Takes a number in range.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number > limits::SERIAL_MAX {
            None
        } else {
            Some(Self(number))
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the serial after this one, while there is one.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// Returns the serial `count` further on, while there is one.
    pub const fn plus(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(number) => Self::new(number),
            None => None,
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Serial {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_decimal(text)
            .ok()
            .and_then(Self::new)
            .ok_or(IdError::Serial)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom(IdError::Serial))
    }
}

/// The number of a bundle in its channel; only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BundleId(pub u32);

/// Which link key a datagram was sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkKeyId(pub u8);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BundleId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = parse_decimal(text)?;
        u32::try_from(number).map(Self).map_err(|_| IdError::Number)
    }
}

impl fmt::Display for LinkKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LinkKeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = parse_decimal(text)?;
        u8::try_from(number).map(Self).map_err(|_| IdError::Number)
    }
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= limits::NAME_BYTES_MAX
        && text.bytes().next().is_some_and(alphanumeric)
        && text
            .bytes()
            .all(|c| alphanumeric(c) || c == b'.' || c == b'-')
}

fn is_marking(text: &str) -> bool {
    (1..=limits::MARKING_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'-')
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $check:ident, $error:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if $check(text) { Ok(Self(text.to_owned())) } else { Err($error) }
            }
        }

        text_serde!($name);
    };
}

name_id!(
    /// A person of the trust list.
    PersonId,
    is_name,
    IdError::Name
);
name_id!(
    /// A mailbox on the isolated network.
    MailboxId,
    is_name,
    IdError::Name
);
name_id!(
    /// A classification of the trust list.
    ClassificationId,
    is_marking,
    IdError::Marking
);
name_id!(
    /// A category (caveat) of the trust list.
    CategoryId,
    is_marking,
    IdError::Marking
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hexadecimal_ids_round_trip_and_refuse_upper_case() {
        let text = "0123456789abcdef0123456789abcdef";
        let id: ChannelId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert!(text.to_uppercase().parse::<ChannelId>().is_err());
        assert!("01".parse::<ChannelId>().is_err());
        assert!(
            "é123456789abcdef0123456789abcde"
                .parse::<ChannelId>()
                .is_err()
        );
    }

    #[test]
    fn a_serial_is_never_zero_and_stays_below_2_63() {
        assert_eq!(Serial::new(0), None);
        assert_eq!(Serial::new(1 << 63), None);
        let last = Serial::new((1 << 63) - 1).unwrap();
        assert_eq!(last.next(), None);
        assert_eq!(Serial::FIRST.plus(u64::MAX), None);
        for text in ["", "0", "01", "+1", "-1", "9223372036854775808", "1 "] {
            assert!(text.parse::<Serial>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_keep_to_their_alphabets() {
        for text in ["a.person", "0-desk", &"a".repeat(64)] {
            assert!(text.parse::<PersonId>().is_ok(), "{text}");
        }
        for text in ["", ".a", "-a", "A", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(text.parse::<PersonId>().is_err(), "{text}");
        }
        for text in ["", "eu", "EU RESTRICTED", "EU_R", &"A".repeat(33)] {
            assert!(text.parse::<ClassificationId>().is_err(), "{text}");
        }
        assert!("EU-RESTRICTED".parse::<ClassificationId>().is_ok());
    }

    #[test]
    fn a_container_id_is_the_head_of_the_hash() {
        let mut hash = [7; 32];
        hash[12] = 9;
        assert_eq!(ContainerHash::from_bytes(hash).id().as_bytes(), &[7; 12]);
    }
}
