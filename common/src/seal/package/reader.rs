//! Opened bytes → manifest, approvals, body.

use super::{PackageError, PackageHeader, decode_approvals};
use crate::limits::PACKAGE_HEADER_BYTES;

/// Takes a package apart while its segments are being opened.
///
/// What it hands out may be used only when the opener has finished *and* [`PackageReader::finish`]
/// has returned: until then the end of the container may still be missing.
///
/// # Bounds
/// It keeps header, manifest and approvals, at most 131,096 bytes, and never the body.
#[derive(Debug)]
pub struct PackageReader {
    padded_bytes: u64,
    seen_bytes: u64,
    head: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Less than 24 bytes were seen.
    Header,
    /// The header says how many bytes come before the body.
    Head {
        header: PackageHeader,
        head_bytes: usize,
    },
    /// Body and padding.
    Behind {
        package: Package,
        body_left_bytes: u64,
    },
}

/// All of a package but its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The manifest's bytes, not yet checked.
    pub manifest: Vec<u8>,
    /// The approvals as blobs, not yet verified.
    pub approvals: Vec<Vec<u8>>,
    /// The length of the body.
    pub body_bytes: u64,
}

impl PackageReader {
    /// Expects a package of P bytes.
    pub fn new(padded_bytes: u64) -> Self {
        Self {
            padded_bytes,
            seen_bytes: 0,
            head: Vec::new(),
            state: State::Header,
        }
    }

    /// Takes the next opened bytes; returns those of them that belong to the body.
    ///
    /// # Errors
    /// [`PackageError`]; the package is then to be dropped.
    pub fn push<'a>(&mut self, opened: &'a [u8]) -> Result<&'a [u8], PackageError> {
        let too_long = PackageError::Length {
            padded_bytes: self.padded_bytes,
        };
        let opened_bytes = u64::try_from(opened.len()).map_err(|_| too_long)?;
        self.seen_bytes = self.seen_bytes.saturating_add(opened_bytes);
        if self.seen_bytes > self.padded_bytes {
            return Err(too_long);
        }
        let mut rest = opened;
        if matches!(self.state, State::Header) {
            if !self.gather(&mut rest, PACKAGE_HEADER_BYTES) {
                return Ok(&[]);
            }
            let bytes = self.head.first_chunk().ok_or(PackageError::Magic)?;
            let header = PackageHeader::decode(bytes)?;
            if header.package_bytes()? > self.padded_bytes {
                return Err(too_long);
            }
            let head_bytes = usize::try_from(header.head_bytes()).map_err(|_| too_long)?;
            self.state = State::Head { header, head_bytes };
        }
        if let State::Head { header, head_bytes } = self.state {
            if !self.gather(&mut rest, head_bytes) {
                return Ok(&[]);
            }
            let behind_header = &self.head[PACKAGE_HEADER_BYTES..];
            let manifest_bytes = usize::try_from(header.manifest_bytes).map_err(|_| too_long)?;
            let (manifest, approvals) = behind_header
                .split_at_checked(manifest_bytes)
                .ok_or(too_long)?;
            let package = Package {
                manifest: manifest.to_vec(),
                approvals: decode_approvals(approvals)?,
                body_bytes: header.body_bytes,
            };
            self.head = Vec::new();
            self.state = State::Behind {
                package,
                body_left_bytes: header.body_bytes,
            };
        }
        let State::Behind {
            body_left_bytes, ..
        } = &mut self.state
        else {
            return Ok(&[]);
        };
        let take = usize::try_from(*body_left_bytes)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (body, padding) = rest.split_at(take);
        *body_left_bytes -= u64::try_from(take).map_err(|_| too_long)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(PackageError::Padding);
        }
        Ok(body)
    }

    /// Manifest and approvals, once they are complete.
    pub fn package(&self) -> Option<&Package> {
        match &self.state {
            State::Behind { package, .. } => Some(package),
            _ => None,
        }
    }

    /// Ends the package.
    ///
    /// # Errors
    /// [`PackageError::Short`] if bytes are missing.
    pub fn finish(self) -> Result<Package, PackageError> {
        match self.state {
            State::Behind { package, .. } if self.seen_bytes == self.padded_bytes => Ok(package),
            _ => Err(PackageError::Short {
                bytes: self.seen_bytes,
                padded_bytes: self.padded_bytes,
            }),
        }
    }

    /// Moves bytes to the head until it holds `wanted_bytes`; tells whether it does.
    fn gather(&mut self, rest: &mut &[u8], wanted_bytes: usize) -> bool {
        let take = wanted_bytes.saturating_sub(self.head.len()).min(rest.len());
        let (now, behind) = rest.split_at(take);
        self.head.extend_from_slice(now);
        *rest = behind;
        self.head.len() >= wanted_bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;
    use crate::seal::package::{PackageWriter, encode_approvals};

    fn package(manifest: &[u8], body: &[u8]) -> Vec<u8> {
        let approvals = encode_approvals(&[b"one", b"two"]).unwrap();
        let mut writer = PackageWriter::new(manifest, &approvals, body.len() as u64, body).unwrap();
        let mut bytes = Vec::new();
        let padded_bytes = writer.padded_bytes() as usize;
        writer.fill(&mut bytes, padded_bytes).unwrap();
        bytes
    }

    #[test]
    fn a_nonzero_byte_of_the_padding_is_refused() {
        let good = package(b"manifest", b"body");
        let used = 24 + 8 + 1 + 2 * 5 + 4;
        for at in [used, used + 1, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] = 1;
            let mut reader = PackageReader::new(bad.len() as u64);
            assert_eq!(reader.push(&bad), Err(PackageError::Padding));
        }
        let mut reader = PackageReader::new(good.len() as u64);
        assert_eq!(reader.push(&good), Ok(&b"body"[..]));
    }

    #[test]
    fn a_package_that_does_not_fill_its_container_is_refused() {
        let good = package(b"manifest", b"body");
        let mut reader = PackageReader::new(good.len() as u64);
        reader.push(&good[..good.len() - 1]).unwrap();
        assert!(matches!(
            reader.finish(),
            Err(PackageError::Short { bytes: 1023, .. })
        ));
        let mut reader = PackageReader::new(good.len() as u64 - 1);
        assert!(matches!(
            reader.push(&good),
            Err(PackageError::Length { .. })
        ));
        // A body that would end behind the container.
        let mut long = good.clone();
        long[16..24].copy_from_slice(&1000_u64.to_be_bytes());
        let mut reader = PackageReader::new(long.len() as u64);
        assert!(matches!(
            reader.push(&long),
            Err(PackageError::Length { padded_bytes: 1024 })
        ));
    }

    #[test]
    fn any_padding_that_holds_the_package_is_accepted() {
        let mut bytes = package(b"manifest", b"body");
        for length in [47, 48, 1023, 5000] {
            bytes.resize(length, 0);
            let mut reader = PackageReader::new(length as u64);
            assert_eq!(reader.push(&bytes), Ok(&b"body"[..]));
            assert_eq!(reader.finish().unwrap().body_bytes, 4);
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(
            manifest in proptest::collection::vec(any::<u8>(), 0..300),
            body in proptest::collection::vec(any::<u8>(), 0..3000),
            cut in 1..500_usize,
        ) {
            let bytes = package(&manifest, &body);
            let mut reader = PackageReader::new(bytes.len() as u64);
            let mut collected = Vec::new();
            for piece in bytes.chunks(cut) {
                collected.extend_from_slice(reader.push(piece).unwrap());
            }
            prop_assert_eq!(collected, body.clone());
            let read = reader.finish().unwrap();
            prop_assert_eq!(read.manifest, manifest);
            prop_assert_eq!(read.approvals, [b"one", b"two"]);
            prop_assert_eq!(read.body_bytes, body.len() as u64);
        }

        #[test]
        fn any_bytes_return(
            mut noise in proptest::collection::vec(any::<u8>(), 0..400),
            like_ours: bool,
            cut in 1..50_usize,
        ) {
            if like_ours && noise.len() > 24 {
                noise[..8].copy_from_slice(b"VALPKG\x00\x01");
                for at in [8, 9, 10, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22] {
                    noise[at] = 0;
                }
            }
            let mut reader = PackageReader::new(noise.len() as u64);
            let refused = noise.chunks(cut).any(|piece| reader.push(piece).is_err());
            if !refused && let Ok(package) = reader.finish() {
                prop_assert!(package.body_bytes < noise.len() as u64);
            }
        }
    }
}
