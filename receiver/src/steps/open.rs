//! `Sealed → Opened`: opens a container segment by segment and takes its package apart.
//!
//! Two kinds of failure are told apart. A container that does *not open* may be anybody's: it claims nothing, and slot
//! and serial stay open. One that opens was sealed by who holds the bundle: if its package is *faulty*, it claims its
//! serial and is held.

mod fault;
mod parts;

use valise_common::ids::{BundleId, ChannelId, ContainerHash, ContainerId, MessageId, Serial};
use valise_common::limits;
use valise_common::manifest::Manifest;
use valise_common::seal::{Opener, Package, PackageReader, SlotSecret, container_bytes};

pub use fault::{Fault, NotOpened};
use parts::PartHashes;
pub use parts::Piece;

/// What a container's file name and the register say that it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The channel of this host.
    pub channel: ChannelId,
    /// The serial in the file's name.
    pub serial: Serial,
    /// The bundle that holds the serial's slot.
    pub bundle: BundleId,
    /// The container id in the file's name.
    pub container: ContainerId,
    /// The file's length.
    pub container_bytes: u64,
}

/// Everything before the body: enough to judge a cable by, before a byte of its content is written anywhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Preamble {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    approvals: Vec<Vec<u8>>,
}

impl Preamble {
    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the bytes that officers signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// Returns the approvals as they came: raw SSHSIG blobs that nobody has looked at.
    pub fn approvals(&self) -> &[Vec<u8>] {
        &self.approvals
    }
}

/// A container that opened whole: every segment verified, its header, length and hash are those expected, its package
/// is well-formed, and every part has the hash that the manifest names. Only [`Opening::finish`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    serial: Serial,
    container: ContainerHash,
    preamble: Preamble,
}

impl Opened {
    /// Returns the serial that it claims.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Returns the whole hash of the container.
    pub fn container(&self) -> ContainerHash {
        self.container
    }

    /// Manifest and approvals.
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Takes the proof apart, for the next one to be made of it.
    pub fn into_parts(self) -> (Serial, ContainerHash, Preamble) {
        (self.serial, self.container, self.preamble)
    }
}

/// What an opened container turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sound.
    Opened(Opened),
    /// Opened, and faulty.
    Faulty {
        /// The whole hash of the container.
        container: ContainerHash,
        /// The cable, when its manifest could be read.
        message_id: Option<MessageId>,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// A container being opened.
pub struct Opening {
    expected: Expected,
    opener: Opener,
    hasher: blake3::Hasher,
    package: Progress,
}

/// How far the package has been understood.
enum Progress {
    /// The preamble is not complete.
    Preamble(PackageReader),
    /// The parts are going by.
    Body {
        reader: PackageReader,
        preamble: Preamble,
        parts: PartHashes,
    },
    /// It is faulty; the remaining segments are only opened.
    Faulty {
        message_id: Option<MessageId>,
        fault: Fault,
    },
}

impl Opening {
    /// Begins with the container's prefix. The slot's key is used here and nowhere else.
    ///
    /// # Errors
    /// [`NotOpened`] when it is not the container that was expected, or not sealed for the slot.
    pub fn start(
        expected: Expected,
        prefix: &[u8; limits::CONTAINER_PREFIX_BYTES],
        slot: &SlotSecret,
    ) -> Result<Opening, NotOpened> {
        let opener = Opener::new(prefix, slot)?;
        let header = opener.header();
        if header.channel != expected.channel {
            return Err(NotOpened::Channel);
        }
        if header.serial != expected.serial {
            return Err(NotOpened::Serial);
        }
        if header.bundle != expected.bundle {
            return Err(NotOpened::Bundle);
        }
        if container_bytes(header.padded_bytes) != expected.container_bytes {
            return Err(NotOpened::Length);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(prefix);
        let package = Progress::Preamble(PackageReader::new(header.padded_bytes));
        Ok(Opening {
            expected,
            opener,
            hasher,
            package,
        })
    }

    /// Bytes of the next segment, tag included; 0 after the last.
    pub fn next_bytes(&self) -> usize {
        self.opener.next_bytes()
    }

    /// Opens the next segment in place and returns what it holds of the parts. Whoever keeps that must have judged the
    /// [`Opening::preamble`] before, and must keep it out of sight until [`Opening::finish`].
    ///
    /// # Errors
    /// [`NotOpened`] when the segment was altered.
    pub fn handle_segment<'a>(
        &mut self,
        segment: &'a mut Vec<u8>,
    ) -> Result<Vec<Piece<'a>>, NotOpened> {
        self.hasher.update(segment);
        self.opener.open_segment(segment)?;
        Ok(self.take_apart(segment))
    }

    /// Manifest and approvals, once they are complete and while nothing is wrong.
    pub fn preamble(&self) -> Option<&Preamble> {
        match &self.package {
            Progress::Body { preamble, .. } => Some(preamble),
            _ => None,
        }
    }

    fn take_apart<'a>(&mut self, opened: &'a [u8]) -> Vec<Piece<'a>> {
        let none = Progress::Faulty {
            message_id: None,
            fault: Fault::PartHash { part: 0 },
        };
        let (package, pieces) = match std::mem::replace(&mut self.package, none) {
            Progress::Preamble(reader) => read_preamble(reader, opened),
            Progress::Body {
                reader,
                preamble,
                parts,
            } => read_body(reader, preamble, parts, opened),
            faulty => (faulty, Vec::new()),
        };
        self.package = package;
        pieces
    }

    /// Ends after the last segment.
    ///
    /// # Errors
    /// [`NotOpened`] when segments are missing or the hash is not the name.
    pub fn finish(self) -> Result<Outcome, NotOpened> {
        if !self.opener.finished() {
            return Err(NotOpened::Length);
        }
        let container = ContainerHash::from_bytes(*self.hasher.finalize().as_bytes());
        if container.id() != self.expected.container {
            return Err(NotOpened::Hash);
        }
        Ok(match self.package {
            Progress::Faulty { message_id, fault } => Outcome::Faulty {
                container,
                message_id,
                fault,
            },
            // The package ended before its preamble did; the reader says what is missing.
            Progress::Preamble(reader) => Outcome::Faulty {
                container,
                message_id: None,
                fault: reader
                    .finish()
                    .err()
                    .map_or(Fault::PartHash { part: 0 }, Fault::from),
            },
            Progress::Body {
                reader,
                preamble,
                parts,
            } => {
                let message_id = Some(preamble.manifest.message_id);
                match reader
                    .finish()
                    .map_err(Fault::from)
                    .and_then(|_| parts.finish())
                {
                    Ok(()) => Outcome::Opened(Opened {
                        serial: self.expected.serial,
                        container,
                        preamble,
                    }),
                    Err(fault) => Outcome::Faulty {
                        container,
                        message_id,
                        fault,
                    },
                }
            }
        })
    }
}

fn read_preamble(mut reader: PackageReader, opened: &[u8]) -> (Progress, Vec<Piece<'_>>) {
    let faulty = |message_id, fault| (Progress::Faulty { message_id, fault }, Vec::new());
    let body = match reader.push(opened) {
        Ok(body) => body,
        Err(error) => return faulty(None, error.into()),
    };
    let Some(package) = reader.package() else {
        return (Progress::Preamble(reader), Vec::new());
    };
    let manifest = match Manifest::decode(&package.manifest) {
        Ok(manifest) => manifest,
        Err(error) => return faulty(None, error.into()),
    };
    let Package {
        manifest: manifest_bytes,
        approvals,
        body_bytes,
    } = package.clone();
    if manifest.body_bytes() != body_bytes {
        let manifest_bytes = manifest.body_bytes();
        let fault = Fault::BodyLength {
            manifest_bytes,
            body_bytes,
        };
        return faulty(Some(manifest.message_id), fault);
    }
    let mut parts = PartHashes::new(&manifest);
    let message_id = manifest.message_id;
    let preamble = Preamble {
        manifest,
        manifest_bytes,
        approvals,
    };
    match parts.handle_body(body) {
        Ok(pieces) => (
            Progress::Body {
                reader,
                preamble,
                parts,
            },
            pieces,
        ),
        Err(fault) => faulty(Some(message_id), fault),
    }
}

fn read_body(
    mut reader: PackageReader,
    preamble: Preamble,
    mut parts: PartHashes,
    opened: &[u8],
) -> (Progress, Vec<Piece<'_>>) {
    let pieces = match reader.push(opened) {
        Ok(body) => parts.handle_body(body),
        Err(error) => Err(error.into()),
    };
    match pieces {
        Ok(pieces) => (
            Progress::Body {
                reader,
                preamble,
                parts,
            },
            pieces,
        ),
        Err(fault) => {
            let message_id = Some(preamble.manifest.message_id);
            (Progress::Faulty { message_id, fault }, Vec::new())
        }
    }
}
