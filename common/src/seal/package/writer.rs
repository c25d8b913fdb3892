//! Manifest, approvals, body → exactly P bytes.

use std::io::{self, Read};

use super::{PackageError, PackageHeader, padded_bytes};

/// Produces exactly P bytes: header, manifest, approvals, body, zeros.
///
/// # Bounds
/// It keeps header, manifest and approvals, and never the body.
pub struct PackageWriter<R> {
    head: Vec<u8>,
    head_done_bytes: usize,
    body: R,
    body_left_bytes: u64,
    body_ended: bool,
    left_bytes: u64,
    padded_bytes: u64,
}

impl<R: Read> PackageWriter<R> {
    /// Begins a package whose body is all that `body` yields, which must be `body_bytes`.
    ///
    /// # Errors
    /// [`PackageError`] for a manifest, approvals or body beyond their bounds.
    pub fn new(
        manifest: &[u8],
        approvals: &[u8],
        body_bytes: u64,
        body: R,
    ) -> Result<Self, PackageError> {
        let told = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let header = PackageHeader {
            manifest_bytes: u32::try_from(manifest.len()).map_err(|_| PackageError::Manifest {
                bytes: told(manifest.len()),
            })?,
            approvals_bytes: u32::try_from(approvals.len()).map_err(|_| {
                PackageError::Approvals {
                    bytes: told(approvals.len()),
                }
            })?,
            body_bytes,
        };
        let padded_bytes = padded_bytes(header.package_bytes()?);
        Ok(Self {
            head: [&header.encode()[..], manifest, approvals].concat(),
            head_done_bytes: 0,
            body,
            body_left_bytes: body_bytes,
            body_ended: false,
            left_bytes: padded_bytes,
            padded_bytes,
        })
    }

    /// P.
    pub fn padded_bytes(&self) -> u64 {
        self.padded_bytes
    }

    /// Puts the next `bytes` bytes of the package into `segment`, in place of what it held.
    ///
    /// # Errors
    /// An error of the body, also if it yields fewer or more bytes than told, or if `bytes` is more
    /// than is left of P.
    pub fn fill(&mut self, segment: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
        let asked_bytes = u64::try_from(bytes).map_err(io::Error::other)?;
        self.left_bytes = self.left_bytes.checked_sub(asked_bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "more bytes asked for than the package has",
            )
        })?;
        // A reused segment keeps its room, and only what it grows by is zeroed before it is
        // overwritten.
        segment.resize(bytes, 0);
        let head = &self.head[self.head_done_bytes..];
        let head_now = head.len().min(bytes);
        segment[..head_now].copy_from_slice(&head[..head_now]);
        self.head_done_bytes += head_now;
        let room = bytes - head_now;
        let body_now = usize::try_from(self.body_left_bytes)
            .unwrap_or(usize::MAX)
            .min(room);
        self.body
            .read_exact(&mut segment[head_now..head_now + body_now])?;
        self.body_left_bytes -= u64::try_from(body_now).map_err(io::Error::other)?;
        segment[head_now + body_now..].fill(0);
        let head_done = self.head_done_bytes == self.head.len();
        if head_done && self.body_left_bytes == 0 && !self.body_ended {
            self.body_ended = true;
            let behind = self.body.by_ref().take(1).read_to_end(&mut Vec::new())?;
            if behind != 0 {
                let text = "the body is longer than it was when it was measured";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn write(body_bytes: u64, body: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut writer = PackageWriter::new(b"manifest", b"approvals", body_bytes, body).unwrap();
        let mut left = writer.padded_bytes() as usize;
        let (mut package, mut segment) = (Vec::new(), vec![0xff; 77]);
        while left > 0 {
            let now = step.min(left);
            writer.fill(&mut segment, now)?;
            package.extend_from_slice(&segment);
            left -= now;
        }
        assert!(
            writer.fill(&mut segment, 1).is_err(),
            "nothing comes behind P"
        );
        Ok(package)
    }

    #[test]
    fn the_pieces_stand_in_order_and_the_rest_is_zero() {
        for step in [1, 23, 24, 25, 40, 41, 1024, 5000] {
            let package = write(2000, &[9; 2000], step).unwrap();
            assert_eq!(package.len() as u64, padded_bytes(2000 + 24 + 17));
            assert_eq!(&package[24..41], b"manifestapprovals");
            assert_eq!(package[41..2041], [9; 2000]);
            assert!(package[2041..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_body_that_changed_under_our_hands_is_an_error() {
        assert_eq!(
            write(10, &[9; 9], 100).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            write(10, &[9; 11], 100).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            write(0, &[9; 1], 100).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(write(0, &[], 100).unwrap().len(), 1024);
    }

    #[test]
    fn pieces_beyond_their_bounds_are_refused() {
        let long = vec![0; 65_537];
        assert!(PackageWriter::new(&long, b"", 0, io::empty()).is_err());
        assert!(PackageWriter::new(b"", &long, 0, io::empty()).is_err());
        assert!(PackageWriter::new(b"", b"", u64::MAX, io::empty()).is_err());
        assert!(PackageWriter::new(b"", b"", 1 << 40, io::empty()).is_err());
    }
}
