//! What two administrators sign for a bundle: it names the bundle without holding a secret.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Bundle, BundleError};
use crate::ids::{BundleId, ChannelId, IdError, Serial, parse_decimal};
use crate::limits::SLOTS_MAX;

/// The statement beside a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The channel.
    pub channel: ChannelId,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The serial of its first slot.
    pub first_serial: Serial,
    /// The number of its slots.
    pub count: u32,
    /// The bundle whose unused slots become void.
    pub replaces: Option<BundleId>,
    /// SHA-256 of the bundle's file.
    pub sha256: [u8; 32],
}

/// Why a statement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// A line is not what this version writes there.
    #[error("line {line} of the statement is not what this version writes there")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// The bundle is another one than the statement's.
    #[error("the bundle is not the one that the statement names: another {field}")]
    Mismatch {
        /// What differs.
        field: &'static str,
    },
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Statement {
    /// Makes the statement of a bundle's file.
    ///
    /// # Errors
    /// If the file is no bundle.
    pub fn of(bundle_bytes: &[u8], replaces: Option<BundleId>) -> Result<Self, StatementError> {
        let bundle = Bundle::decode(bundle_bytes)?;
        Ok(Self {
            channel: bundle.channel,
            bundle: bundle.id,
            first_serial: bundle.first,
            count: bundle.count(),
            replaces,
            sha256: Sha256::digest(bundle_bytes).into(),
        })
    }

    /// Writes the text that is signed.
    pub fn encode(&self) -> String {
        let replaces = self
            .replaces
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        let mut text = format!(
            "VALISE-BUNDLE 1\nchannel: {}\nbundle: {}\nfirst-serial: {}\ncount: {}\n\
             replaces: {replaces}\nsha256: ",
            self.channel, self.bundle, self.first_serial, self.count,
        );
        for byte in self.sha256 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("\nend\n");
        text
    }

    /// Reads the text, which must be exactly what [`Statement::encode`] writes.
    ///
    /// # Errors
    /// [`StatementError::Line`] with the first line that differs.
    pub fn decode(text: &[u8]) -> Result<Self, StatementError> {
        let text = std::str::from_utf8(text).map_err(|_| StatementError::Line { line: 1 })?;
        let mut lines = Lines {
            rest: text,
            line: 0,
        };
        lines.value("VALISE-BUNDLE 1", |rest| rest.is_empty().then_some(()))?;
        let channel = lines.value("channel: ", |text| text.parse().ok())?;
        let bundle = lines.value("bundle: ", |text| bundle_id(text).ok())?;
        let first_serial = lines.value("first-serial: ", |text| text.parse().ok())?;
        let count = lines.value("count: ", |text| {
            let count = u32::try_from(parse_decimal(text).ok()?).ok()?;
            (1..=SLOTS_MAX).contains(&count).then_some(count)
        })?;
        let replaces = lines.value("replaces: ", |text| match text {
            "-" => Some(None),
            text => bundle_id(text).ok().map(Some),
        })?;
        let sha256 = lines.value("sha256: ", |text| {
            // Not a secret, but the same hexadecimal as one.
            crate::secret::Secret32::from_hex(text).map(|hash| *hash.expose())
        })?;
        lines.value("end", |rest| rest.is_empty().then_some(()))?;
        lines.ended()?;
        Ok(Self {
            channel,
            bundle,
            first_serial,
            count,
            replaces,
            sha256,
        })
    }

    /// Checks that a bundle's file is the one that the statement names.
    ///
    /// # Errors
    /// What differs.
    pub fn matches(&self, bundle_bytes: &[u8]) -> Result<(), StatementError> {
        let actual = Self::of(bundle_bytes, self.replaces)?;
        let field = if actual.channel != self.channel {
            "channel"
        } else if actual.bundle != self.bundle {
            "bundle id"
        } else if actual.first_serial != self.first_serial {
            "first serial"
        } else if actual.count != self.count {
            "number of slots"
        } else if actual.sha256 != self.sha256 {
            "content"
        } else {
            return Ok(());
        };
        Err(StatementError::Mismatch { field })
    }
}

fn bundle_id(text: &str) -> Result<BundleId, IdError> {
    let number = parse_decimal(text)?;
    Ok(BundleId(
        u32::try_from(number).map_err(|_| IdError::Number)?,
    ))
}

/// Lines that end in LF, with their number for the error.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl Lines<'_> {
    fn value<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StatementError> {
        self.line += 1;
        let error = StatementError::Line { line: self.line };
        let (line, rest) = self.rest.split_once('\n').ok_or(error)?;
        self.rest = rest;
        line.strip_prefix(key).and_then(read).ok_or(error)
    }

    fn ended(&self) -> Result<(), StatementError> {
        match self.rest {
            "" => Ok(()),
            _ => Err(StatementError::Line {
                line: self.line + 1,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::tests::vector;

    fn statement() -> Statement {
        Statement {
            channel: ChannelId::from_bytes([0xab; 16]),
            bundle: BundleId(2),
            first_serial: Serial::new(10_001).unwrap(),
            count: 10_000,
            replaces: Some(BundleId(1)),
            sha256: [0xcd; 32],
        }
    }

    #[test]
    fn every_line_is_fixed() {
        let text = statement().encode();
        assert_eq!(Statement::decode(text.as_bytes()), Ok(statement()));
        for (from, to, line) in [
            ("VALISE-BUNDLE 1", "VALISE-BUNDLE 2", 1),
            ("channel: ab", "channel: AB", 2),
            ("bundle: 2", "bundle: 02", 3),
            ("bundle: 2", "bundle: 4294967296", 3),
            ("first-serial: 10001", "first-serial: 0", 4),
            ("count: 10000", "count: 0", 5),
            ("count: 10000", "count: 1000001", 5),
            ("replaces: 1", "replaces: ", 6),
            ("replaces: 1", "replaces: -1", 6),
            ("sha256: cd", "sha256: c", 7),
            ("\nend\n", "\nend", 8),
            ("\nend\n", "\nend\n\n", 9),
            ("\nend\n", "\r\nend\n", 7),
            ("\nend\n", "\nbundle: 2\nend\n", 8),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text);
            let refused = Statement::decode(altered.as_bytes());
            assert_eq!(refused, Err(StatementError::Line { line }), "{to}");
        }
        assert!(Statement::decode(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn a_statement_matches_its_bundle_alone() {
        let (bundle, _) = vector();
        let good = Statement::of(&bundle, None).unwrap();
        assert_eq!(good.matches(&bundle), Ok(()));
        let others = [
            (
                "channel",
                Statement {
                    channel: ChannelId::from_bytes([0; 16]),
                    ..good.clone()
                },
            ),
            (
                "bundle id",
                Statement {
                    bundle: BundleId(77),
                    ..good.clone()
                },
            ),
            (
                "first serial",
                Statement {
                    first_serial: Serial::new(99).unwrap(),
                    ..good.clone()
                },
            ),
            (
                "number of slots",
                Statement {
                    count: 3,
                    ..good.clone()
                },
            ),
            (
                "content",
                Statement {
                    sha256: [0; 32],
                    ..good.clone()
                },
            ),
        ];
        for (field, other) in others {
            assert_eq!(
                other.matches(&bundle),
                Err(StatementError::Mismatch { field })
            );
        }
        let mut altered = bundle.clone();
        altered[80] ^= 1;
        assert_eq!(
            good.matches(&altered),
            Err(StatementError::Mismatch { field: "content" })
        );
        assert!(good.matches(&altered[..100]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_returns(noise in ".*", at in 0..200_usize) {
            let _ = Statement::decode(noise.as_bytes());
            let mut text = statement().encode();
            if at < text.len() {
                text.insert_str(at, &noise);
                if let Ok(read) = Statement::decode(text.as_bytes()) {
                    prop_assert_eq!(read.encode(), text);
                }
            }
        }
    }
}
