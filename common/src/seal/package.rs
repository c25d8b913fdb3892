//! The package inside a container: manifest, approvals, body, padding.

use std::io::{self, Read};

use crate::limits::PACKAGE_HEADER_BYTES;

/// P for a package of `length` bytes: rounded up by the Padmé rule, at least 1,024.
pub fn padded_bytes(_length: u64) -> u64 {
    todo!()
}

/// The fixed part of a package.
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
}

impl PackageHeader {
    /// The length of the package without padding; `None` if a field is beyond its bound.
    pub fn package_bytes(&self) -> Option<u64> {
        todo!()
    }

    /// Writes the header.
    pub fn encode(&self) -> [u8; PACKAGE_HEADER_BYTES] {
        todo!()
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn decode(_bytes: &[u8; PACKAGE_HEADER_BYTES]) -> Result<Self, PackageError> {
        todo!()
    }
}

/// Writes the approvals: their number, then each SSHSIG blob with its length.
///
/// # Errors
/// [`PackageError`] for none, too many or too long ones.
pub fn encode_approvals(_signatures: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, PackageError> {
    Err(PackageError::Magic)
}

/// Reads the approvals as blobs.
///
/// # Errors
/// [`PackageError`].
pub fn decode_approvals(_bytes: &[u8]) -> Result<Vec<Vec<u8>>, PackageError> {
    todo!()
}

/// Produces exactly P bytes: header, manifest, approvals, body, zeros.
pub struct PackageWriter<R> {
    _body: R,
}

impl<R: Read> PackageWriter<R> {
    /// Begins a package whose body is all that `body` yields, which must be `body_bytes`.
    ///
    /// # Errors
    /// [`PackageError`] for a manifest or approvals beyond their bounds.
    pub fn new(
        _manifest: &[u8],
        _approvals: &[u8],
        _body_bytes: u64,
        _body: R,
    ) -> Result<Self, PackageError> {
        todo!()
    }

    /// P.
    pub fn padded_bytes(&self) -> u64 {
        todo!()
    }

    /// Puts the next `bytes` bytes of the package into `segment`, in place of what it held.
    ///
    /// # Errors
    /// An error of the body, also if it yields fewer or more bytes than told.
    pub fn fill(&mut self, _segment: &mut Vec<u8>, _bytes: usize) -> io::Result<()> {
        todo!()
    }
}

/// Takes a package apart while its segments are being opened. It keeps the manifest and the approvals, never the body.
#[derive(Debug)]
pub struct PackageReader {}

/// All of a package but its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The approvals as blobs.
    pub approvals: Vec<Vec<u8>>,
    /// The length of the body.
    pub body_bytes: u64,
}

impl PackageReader {
    /// Expects a package of P bytes.
    pub fn new(_padded_bytes: u64) -> Self {
        todo!()
    }

    /// Takes the next opened bytes; returns those of them that belong to the body.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn push<'a>(&mut self, _opened: &'a [u8]) -> Result<&'a [u8], PackageError> {
        todo!()
    }

    /// The manifest's bytes, once they are complete.
    pub fn manifest(&self) -> Option<&[u8]> {
        todo!()
    }

    /// Ends the package.
    ///
    /// # Errors
    /// [`PackageError`] if bytes are missing.
    pub fn finish(self) -> Result<Package, PackageError> {
        todo!()
    }
}
