//! The package inside a container: header, manifest, approvals, body, zeros.

mod approvals;
mod reader;
mod writer;

pub(crate) use approvals::decode_approvals;
pub use approvals::encode_approvals;
pub use reader::{Package, PackageReader};
pub use writer::PackageWriter;

use crate::limits::{
    APPROVALS_BYTES_MAX, APPROVALS_MAX, MANIFEST_BYTES_MAX, PACKAGE_BYTES_MAX,
    PACKAGE_BYTES_MIN_PADDED, PACKAGE_HEADER_BYTES,
};

/// The first eight bytes of a package.
const MAGIC: [u8; 8] = *b"VALPKG\x00\x01";

// The limits once more as the integers of the format; usize has no lossless conversion in a
// constant.
const MANIFEST_FIELD_MAX: u32 = 65_536;
const APPROVALS_FIELD_MAX: u32 = 65_536;
const HEADER_BYTES_U64: u64 = 24;

const _: () = {
    assert!(MANIFEST_BYTES_MAX == 65_536 && APPROVALS_BYTES_MAX == 65_536);
    assert!(PACKAGE_HEADER_BYTES == 24);
};

/// P for a package of `length` bytes: rounded up by the Padmé rule, at least 1,024, so that the
/// length on the link tells little about the cable.
///
/// # Source
/// Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
/// §4.
pub const fn padded_bytes(length: u64) -> u64 {
    if length <= PACKAGE_BYTES_MIN_PADDED {
        return PACKAGE_BYTES_MIN_PADDED;
    }
    // At least 10, since the floor was passed.
    let exponent = length.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1_u64 << (exponent - kept_bits)) - 1;
    match length.checked_add(mask) {
        Some(sum) => sum & !mask,
        None => u64::MAX,
    }
}

/// The fixed part of a package.
///
/// # Shape
/// ```text
///  0  8  magic "VALPKG" 00 01      12  4  length of the approvals, at most 65,536
///  8  4  length of the manifest,   16  8  length of the body
///        at most 65,536            24     manifest, approvals, body, zeros
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageHeader {
    /// Length of the manifest.
    pub manifest_bytes: u32,
    /// Length of the approvals.
    pub approvals_bytes: u32,
    /// Length of the parts together.
    pub body_bytes: u64,
}

/// Why a package is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Not a package of this version.
    #[error("not a package of this version")]
    Magic,
    /// The manifest is too long.
    #[error("manifest of {bytes} bytes; at most 65536 are allowed")]
    Manifest {
        /// Its length.
        bytes: u64,
    },
    /// The approvals are too long.
    #[error("approvals of {bytes} bytes; at most 65536 are allowed")]
    Approvals {
        /// Their length.
        bytes: u64,
    },
    /// No approval, or too many.
    #[error("package with {count} approvals; 1 to {APPROVALS_MAX} are allowed")]
    ApprovalCount {
        /// Their number.
        count: usize,
    },
    /// The approvals do not end where their lengths say.
    #[error("the approvals of the package do not end where they say")]
    ApprovalLengths,
    /// The package is longer than the container has room for.
    #[error("package does not fit the {padded_bytes} bytes that its container holds")]
    Length {
        /// P.
        padded_bytes: u64,
    },
    /// A byte of the padding is not zero.
    #[error("the padding of the package is not zero")]
    Padding,
    /// Bytes are missing.
    #[error("package ends after {bytes} of {padded_bytes} bytes")]
    Short {
        /// The bytes that came.
        bytes: u64,
        /// P.
        padded_bytes: u64,
    },
}

impl PackageHeader {
    /// Returns the length of the package without padding.
    ///
    /// # Errors
    /// [`PackageError`] if a length is beyond its bound.
    pub(crate) fn package_bytes(&self) -> Result<u64, PackageError> {
        let (manifest, approvals) = (self.manifest_bytes, self.approvals_bytes);
        if manifest > MANIFEST_FIELD_MAX {
            return Err(PackageError::Manifest {
                bytes: manifest.into(),
            });
        }
        if approvals > APPROVALS_FIELD_MAX {
            return Err(PackageError::Approvals {
                bytes: approvals.into(),
            });
        }
        self.body_bytes
            .checked_add(HEADER_BYTES_U64 + u64::from(manifest) + u64::from(approvals))
            .filter(|bytes| *bytes <= PACKAGE_BYTES_MAX)
            .ok_or(PackageError::Length {
                padded_bytes: PACKAGE_BYTES_MAX,
            })
    }

    /// Writes the header.
    pub fn encode(&self) -> [u8; PACKAGE_HEADER_BYTES] {
        let mut bytes = [0; PACKAGE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.manifest_bytes.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.approvals_bytes.to_be_bytes());
        bytes[16..].copy_from_slice(&self.body_bytes.to_be_bytes());
        bytes
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`PackageError`] for another magic or a length beyond its bound.
    pub fn decode(bytes: &[u8; PACKAGE_HEADER_BYTES]) -> Result<Self, PackageError> {
        if bytes[..8] != MAGIC {
            return Err(PackageError::Magic);
        }
        let [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            m0,
            m1,
            m2,
            m3,
            a0,
            a1,
            a2,
            a3,
            body @ ..,
        ] = *bytes;
        let header = Self {
            manifest_bytes: u32::from_be_bytes([m0, m1, m2, m3]),
            approvals_bytes: u32::from_be_bytes([a0, a1, a2, a3]),
            body_bytes: u64::from_be_bytes(body),
        };
        header.package_bytes()?;
        Ok(header)
    }

    /// Returns the bytes in front of the body.
    fn head_bytes(&self) -> u64 {
        HEADER_BYTES_U64 + u64::from(self.manifest_bytes) + u64::from(self.approvals_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_padding_is_that_of_the_vectors() {
        let vector = crate::seal::tests::vector("padme");
        let cases = vector["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 11);
        for case in cases {
            let length = case["length"].as_u64().unwrap();
            assert_eq!(
                padded_bytes(length),
                case["padded"].as_u64().unwrap(),
                "{length}"
            );
        }
    }

    #[test]
    fn the_largest_package_still_fits() {
        assert_eq!(padded_bytes(PACKAGE_BYTES_MAX), PACKAGE_BYTES_MAX);
        assert_eq!(padded_bytes(PACKAGE_BYTES_MAX - 1), PACKAGE_BYTES_MAX);
        assert_eq!(padded_bytes(0), 1024);
        assert_eq!(padded_bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn lengths_beyond_their_bounds_are_refused() {
        let header = PackageHeader {
            manifest_bytes: 65_536,
            approvals_bytes: 65_536,
            body_bytes: 0,
        };
        assert_eq!(header.package_bytes(), Ok(24 + 131_072));
        let long = PackageHeader {
            manifest_bytes: 65_537,
            ..header
        };
        assert_eq!(
            PackageHeader::decode(&long.encode()),
            Err(PackageError::Manifest { bytes: 65_537 })
        );
        let long = PackageHeader {
            approvals_bytes: 65_537,
            ..header
        };
        assert_eq!(
            PackageHeader::decode(&long.encode()),
            Err(PackageError::Approvals { bytes: 65_537 })
        );
        for body_bytes in [PACKAGE_BYTES_MAX, u64::MAX] {
            let long = PackageHeader {
                body_bytes,
                ..header
            };
            assert!(PackageHeader::decode(&long.encode()).is_err());
        }
    }

    proptest! {
        #[test]
        fn padding_adds_little_and_is_stable(length in 1..=PACKAGE_BYTES_MAX) {
            let padded = padded_bytes(length);
            prop_assert!(padded >= length);
            prop_assert_eq!(padded_bytes(padded), padded);
            if length >= 1024 {
                prop_assert!((padded - length) * 100 <= length * 12);
            }
        }

        #[test]
        fn any_header_returns(mut noise: [u8; PACKAGE_HEADER_BYTES], like_ours: bool) {
            if like_ours {
                noise[..8].copy_from_slice(&MAGIC);
                noise[8..10].fill(0);
                noise[12..14].fill(0);
                noise[16..20].fill(0);
            }
            match PackageHeader::decode(&noise) {
                Ok(header) => prop_assert_eq!(header.encode(), noise),
                Err(_) => prop_assert!(!like_ours),
            }
        }
    }
}
