//! Approved → Sealed.
//!
//! The body is read once more, and each part must still have the hash that the officers signed: a container is never
//! sealed over anything else. The container's own hash is made from what is written, not read back.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use valise_common::ids::{BundleId, ContainerHash, Serial};
use valise_common::limits;
use valise_common::manifest::Part;
use valise_common::seal::{
    Header, PackageError, PackageWriter, SealError, SealRandomness, Sealer, SlotPublic,
    encode_approvals,
};
use valise_common::sshsig::Signature;
use zeroize::Zeroizing;

use super::approve::Approved;

/// Why a container could not be made. No bytes of it may be used.
#[derive(Debug, Error)]
pub enum SealingError {
    /// A part cannot be read, is not what was signed, or the container cannot be written.
    #[error("sealing: {0}")]
    Io(#[from] io::Error),
    /// The package cannot be put together.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The slot cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A part that has not the length or the hash that its manifest line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("part {number} is not what was signed: its stored copy has changed")]
pub struct PartChanged {
    /// The part, from 1.
    pub number: usize,
}

/// What a finished container is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// BLAKE3 of all its bytes.
    pub hash: ContainerHash,
    /// Its length.
    pub bytes: u64,
}

/// Where a container goes: its serial and the slot that closes it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The serial.
    pub serial: Serial,
    /// The bundle of the slot.
    pub bundle: BundleId,
    /// The slot.
    pub slot: &'a SlotPublic,
}

/// Seals an approved cable. The proof is consumed; `body` yields the parts one after another.
///
/// # Errors
/// [`SealingError`]; what was written until then is no container.
///
/// # Bounds
/// Memory for one segment, whatever the length of the body.
pub fn seal<R: Read>(
    approved: Approved,
    place: Place<'_>,
    randomness: SealRandomness,
    body: impl Iterator<Item = io::Result<R>>,
    out: &mut impl Write,
) -> Result<Sealed, SealingError> {
    let manifest = approved.manifest();
    let blobs: Vec<&[u8]> = approved
        .approvals()
        .iter()
        .map(Signature::as_bytes)
        .collect();
    let approvals = encode_approvals(&blobs)?;
    let body = CheckedBody::new(&manifest.parts, body);
    let mut package =
        PackageWriter::new(approved.bytes(), &approvals, manifest.body_bytes(), body)?;
    let header = Header {
        channel: manifest.channel,
        serial: place.serial,
        bundle: place.bundle,
        padded_bytes: package.padded_bytes(),
    };
    let (prefix, mut sealer) = Sealer::new(&header, place.slot, randomness)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    let mut put = |chunk: &[u8]| -> io::Result<()> {
        hasher.update(chunk);
        bytes += u64::try_from(chunk.len()).map_err(io::Error::other)?;
        out.write_all(chunk)
    };
    put(&prefix[..])?;
    // Sealed in place, so the buffer holds plaintext only until the call returns; it is erased all the same.
    let mut segment = Zeroizing::new(Vec::with_capacity(
        limits::SEGMENT_BYTES + limits::TAG_BYTES,
    ));
    while !sealer.finished() {
        package.fill(&mut segment, sealer.next_bytes())?;
        sealer.seal_segment(&mut segment)?;
        put(&segment)?;
    }
    Ok(Sealed {
        hash: ContainerHash::from_bytes(*hasher.finalize().as_bytes()),
        bytes,
    })
}

/// Reads parts one after another and compares each with its line of the manifest.
struct CheckedBody<'a, I, R> {
    parts: std::slice::Iter<'a, Part>,
    readers: I,
    current: Option<Current<'a, R>>,
    number: usize,
}

struct Current<'a, R> {
    part: &'a Part,
    reader: R,
    hasher: Sha256,
    left_bytes: u64,
}

impl<'a, I: Iterator<Item = io::Result<R>>, R: Read> CheckedBody<'a, I, R> {
    fn new(parts: &'a [Part], readers: I) -> Self {
        Self {
            parts: parts.iter(),
            readers,
            current: None,
            number: 0,
        }
    }

    fn changed(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            PartChanged {
                number: self.number,
            },
        )
    }

    /// Ends the current part: it must be read to its end, and nothing may stand behind that.
    fn finish_part(&mut self) -> io::Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let longer = current.reader.read(&mut [0])? != 0;
        if longer || current.hasher.finalize().as_slice() != current.part.sha256 {
            return Err(self.changed());
        }
        Ok(())
    }
}

impl<I: Iterator<Item = io::Result<R>>, R: Read> Read for CheckedBody<'_, I, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(current) = self.current.as_mut() else {
                let Some(part) = self.parts.next() else {
                    return Ok(0);
                };
                self.number += 1;
                let reader = self.readers.next().ok_or_else(|| self.changed())??;
                let left_bytes = part.length;
                self.current = Some(Current {
                    part,
                    reader,
                    hasher: Sha256::new(),
                    left_bytes,
                });
                continue;
            };
            if current.left_bytes == 0 {
                self.finish_part()?;
                continue;
            }
            let wanted = usize::try_from(current.left_bytes).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            let count = match current.reader.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(self.changed()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            current.hasher.update(&buffer[..count]);
            current.left_bytes -= u64::try_from(count).map_err(io::Error::other)?;
            if current.left_bytes == 0 {
                // Judged before the bytes are handed on as the part's last.
                self.finish_part()?;
            }
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::manifest::{FileName, MediaType};

    use super::*;

    fn part(bytes: &[u8]) -> Part {
        Part {
            length: bytes.len() as u64,
            media_type: MediaType::for_extension("txt"),
            sha256: Sha256::digest(bytes).into(),
            name: FileName::parse("a.txt").unwrap(),
        }
    }

    fn read(parts: &[Part], bodies: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        CheckedBody::new(parts, bodies.iter().map(|body| Ok(*body))).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn parts_follow_one_another() {
        let parts = [part(b"one"), part(b""), part(b"three")];
        assert_eq!(read(&parts, &[b"one", b"", b"three"]).unwrap(), b"onethree");
    }

    #[test]
    fn a_part_that_changed_since_it_was_signed_is_never_sealed() {
        let parts = [part(b"one"), part(b"two")];
        for bodies in [
            [&b"one"[..], b"twO"],
            [b"on", b"two"],
            [b"ones", b"two"],
            [b"", b"two"],
            [b"one", b""],
        ] {
            assert!(read(&parts, &bodies).is_err(), "{bodies:?}");
        }
        assert!(read(&parts, &[b"one"]).is_err());
        assert!(read(&[part(b"")], &[b"x"]).is_err());
    }
}
