//! The slots of one bundle on disk: fixed records, one for each serial, each erased in place when it has been used.
//!
//! ```text
//! 0 magic "VALSLT" 00 01 (8)  8 channel (16)  24 bundle (4)  28 first serial (8)  36 count (4)  40 mark (24)
//! 64 + N·n  record of serial first + n; zeros once erased
//! ```
//!
//! A record begins with 32 secret bytes that are never all zero. The mark is zero if the records are stored as they are. If a
//! key covers them, the mark identifies that key. What a flash disk still holds of an erased record is out of reach.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::ids::{BundleId, ChannelId, Serial};
use crate::limits;
use crate::secret::Secret;

const MAGIC: &[u8; 8] = b"VALSLT\x00\x01";

/// Length of the header.
pub const HEADER_BYTES: usize = 64;

/// Bytes of the header that identify the bundle.
pub(crate) const BUNDLE_BYTES: usize = 40;

/// Length of the mark after them.
pub const MARK_BYTES: usize = HEADER_BYTES - BUNDLE_BYTES;

/// The mark of records that are stored as they are.
const PLAIN: [u8; MARK_BYTES] = [0; MARK_BYTES];

/// Causes for which slots cannot be used.
#[derive(Debug, Error)]
pub enum SlotsError {
    /// The file cannot be opened, read or written.
    #[error("the slots in {path} cannot be {doing}: {source}")]
    Io {
        /// The attempt.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "{path} holds keys and is open to others: chmod 600 it, and renew the bundle if anyone may have read it"
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
    },
    /// The records are covered with a key that this process does not have.
    #[error(
        "the slots in {path} are covered with the key of a credential, and this process has another or none: give \
         valise-receiver-release the credential valise-slots with which they were made, and set release.slots_credential"
    )]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the one that the log knows.
    #[error("{path} is damaged: it does not hold the slots of bundle {bundle}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The bundle that the log names.
        bundle: BundleId,
    },
}

impl SlotsError {
    /// Returns whether the file is damaged or absent, so that this bundle alone is unusable and the host works on without it.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::OpenToOthers { .. } | Self::OtherKey { .. } => false,
        }
    }
}

/// The header of a slot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotsHeader {
    /// The channel.
    pub channel: ChannelId,
    /// The bundle.
    pub bundle: BundleId,
    /// The serial of the first record.
    pub first: Serial,
    /// The number of records.
    pub count: u32,
}

impl SlotsHeader {
    /// Returns the bytes that identify the bundle, the first of the header.
    pub fn identity(&self) -> [u8; BUNDLE_BYTES] {
        let mut bytes = [0; BUNDLE_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.channel.as_bytes());
        bytes[24..28].copy_from_slice(&self.bundle.0.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.first.get().to_be_bytes());
        bytes[36..40].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// Returns the header's bytes. `mark` identifies the key that covers the records, if one does.
    pub fn encode(&self, mark: Option<&[u8; MARK_BYTES]>) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..BUNDLE_BYTES].copy_from_slice(&self.identity());
        bytes[BUNDLE_BYTES..].copy_from_slice(mark.unwrap_or(&PLAIN));
        bytes
    }
}

/// The slots of one bundle with records of `N` bytes, open for reading and erasing.
#[derive(Debug)]
pub struct SlotTable<const N: usize> {
    file: File,
    path: PathBuf,
    header: SlotsHeader,
    is_covered: bool,
    /// Records in the file.
    held: u32,
}

impl<const N: usize> SlotTable<N> {
    /// Opens the slots of a bundle, whose records may be covered with the key of this mark.
    ///
    /// # Errors
    /// [`SlotsError`] when the file is absent, open to others, of another bundle, or covered with another key.
    pub fn open(
        path: &Path,
        header: SlotsHeader,
        mark: Option<&[u8; MARK_BYTES]>,
    ) -> Result<Self, SlotsError> {
        let failed = |doing| {
            move |source| SlotsError::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(failed("opened"))?;
        let metadata = file.metadata().map_err(failed("examined"))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(SlotsError::OpenToOthers {
                path: path.to_owned(),
            });
        }
        let damaged = || SlotsError::Damaged {
            path: path.to_owned(),
            bundle: header.bundle,
        };
        let records_bytes = metadata
            .len()
            .checked_sub(offset::<N>(0))
            .ok_or_else(damaged)?;
        if metadata.len() > offset::<N>(u64::from(header.count)) {
            return Err(damaged());
        }
        // What was cut off is lost; the records before the cut are not.
        let record_bytes = offset::<N>(1) - offset::<N>(0);
        let held = u32::try_from(records_bytes / record_bytes).map_err(|_| damaged())?;
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(failed("read"))?;
        let wrong = |mark| {
            let whole = header.encode(mark);
            let pairs = bytes.iter().zip(whole);
            pairs.filter(|(found, right)| *found != right).count()
        };
        let mark = mark.filter(|mark| wrong(Some(mark)) < wrong(None));
        let whole = header.encode(mark);
        match wrong(mark) {
            0 => {}
            // The log has all that the header holds, and another bundle's file differs in more.
            1 => {
                let path = path.display();
                tracing::warn!(%path, "a byte of the header was damaged, and is written again");
                file.write_all_at(&whole, 0)
                    .and_then(|()| file.sync_data())
                    .map_err(failed("written"))?;
            }
            _ if bytes[..BUNDLE_BYTES] == whole[..BUNDLE_BYTES] => {
                return Err(SlotsError::OtherKey {
                    path: path.to_owned(),
                });
            }
            _ => return Err(damaged()),
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            header,
            is_covered: mark.is_some(),
            held,
        })
    }

    /// Returns the header.
    pub fn header(&self) -> &SlotsHeader {
        &self.header
    }

    /// Returns whether the key of the mark covers the records.
    pub fn is_covered(&self) -> bool {
        self.is_covered
    }

    /// Returns whether no record was cut off.
    pub fn is_whole(&self) -> bool {
        self.held == self.header.count
    }

    /// Returns whether the record of a serial is in the file, erased or not.
    pub fn holds(&self, serial: Serial) -> bool {
        self.offset_of(serial).is_some()
    }

    /// Returns the record of a serial as it is stored; `None` if it is erased or not in the file.
    ///
    /// # Errors
    /// [`SlotsError::Io`] when the disk fails.
    pub fn read(&self, serial: Serial) -> Result<Option<Secret<N>>, SlotsError> {
        let Some(at) = self.offset_of(serial) else {
            return Ok(None);
        };
        let record = Secret::<N>::try_fill(|bytes| self.file.read_exact_at(bytes, at))
            .map_err(|source| self.failed("read", source))?;
        let is_erased = record.expose().iter().take(32).all(|byte| *byte == 0);
        Ok((!is_erased).then_some(record))
    }

    /// Overwrites the record of a serial with zeros. It is gone for sure only after [`SlotTable::sync`].
    ///
    /// # Errors
    /// [`SlotsError::Io`] when the disk fails.
    pub fn erase(&self, serial: Serial) -> Result<(), SlotsError> {
        let Some(at) = self.offset_of(serial) else {
            return Ok(());
        };
        self.file
            .write_all_at(&[0; N], at)
            .map_err(|source| self.failed("erased", source))
    }

    /// Makes erasures durable.
    ///
    /// # Errors
    /// [`SlotsError::Io`] when the disk fails; the process must end.
    pub fn sync(&self) -> Result<(), SlotsError> {
        self.file
            .sync_data()
            .map_err(|source| self.failed("synced", source))
    }

    fn offset_of(&self, serial: Serial) -> Option<u64> {
        let index = serial.get().checked_sub(self.header.first.get())?;
        (index < u64::from(self.held)).then(|| offset::<N>(index))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> SlotsError {
        SlotsError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

/// Where a record begins. The count is bounded, so that nothing saturates.
fn offset<const N: usize>(index: u64) -> u64 {
    let [header, record] = [HEADER_BYTES, N].map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
    header.saturating_add(index.saturating_mul(record))
}

const _: () = assert!(limits::SLOTS_MAX < 1 << 24);
