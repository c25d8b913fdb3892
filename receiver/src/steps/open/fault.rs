//! The two kinds of failure: a container that does not open, and one that opens and is faulty.

use thiserror::Error;
use valise_common::manifest::ManifestError;
use valise_common::seal::{OpenError, PackageError};

/// The reason why a container did not open. It claims nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotOpened {
    /// No slot of this host is for its serial: never made, destroyed, or used.
    #[error("there is no slot for its serial")]
    Slot,
    /// It does not open under its serial's slot.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// It names another channel.
    #[error("it is for another channel")]
    Channel,
    /// It names another serial than its datagrams did.
    #[error("it is for another serial")]
    Serial,
    /// It names another bundle than the one of its serial.
    #[error("it is for another bundle")]
    Bundle,
    /// Its file is longer or shorter than its header says.
    #[error("its length is not the one that its header names")]
    Length,
    /// Its hash does not begin with its name.
    #[error("its hash is not its name")]
    Hash,
    /// The disk does not give back what was written.
    #[error("the disk cannot read it")]
    Disk,
}

impl NotOpened {
    /// Returns one word for the log.
    pub fn code(&self) -> &'static str {
        match self {
            NotOpened::Slot => "no-slot",
            NotOpened::Open(_) => "not-opened",
            NotOpened::Channel => "other-channel",
            NotOpened::Serial => "other-serial",
            NotOpened::Bundle => "other-bundle",
            NotOpened::Length => "length",
            NotOpened::Hash => "hash",
            NotOpened::Disk => "disk",
        }
    }

    /// Returns whether the file was damaged after it arrived: `receive` compares each container with its name before it hands it
    /// over. A container whose hash is its name was sealed or forged as it is.
    pub fn is_damage(&self) -> bool {
        matches!(self, NotOpened::Hash | NotOpened::Disk)
    }
}

/// A fault in the package of a container that opened. It claims its serial and is held.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The package itself.
    #[error("the package is malformed: {0}")]
    Package(#[from] PackageError),
    /// Its manifest.
    #[error("the manifest is malformed: {0}")]
    Manifest(#[from] ManifestError),
    /// The manifest's parts are not as long as the body.
    #[error("the manifest names {manifest_bytes} bytes of parts, the body has {body_bytes}")]
    BodyLength {
        /// The sum of the parts' lengths.
        manifest_bytes: u64,
        /// The body's length.
        body_bytes: u64,
    },
    /// A part is not the one that was signed.
    #[error("part {part} does not have the hash that its manifest names")]
    PartHash {
        /// The part's number, from 1.
        part: usize,
    },
}

impl Fault {
    /// Returns one word for the log.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Package(_) => "malformed-package",
            Fault::Manifest(_) => "malformed-manifest",
            Fault::BodyLength { .. } => "body-length",
            Fault::PartHash { .. } => "part-hash",
        }
    }
}
