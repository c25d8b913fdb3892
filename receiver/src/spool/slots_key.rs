//! The key that covers slots on the disk, where the operator wants one: a credential of release's unit, which the service
//! manager decrypts with a key of this machine (LoadCredentialEncrypted=). A copied or stolen disk opens nothing without it.
//! The slots themselves stay in their file, where each is erased by itself.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake3::{Hasher, OutputReader};
use thiserror::Error;
use valise_common::host::slots::MARK_BYTES;
use valise_common::ids::Serial;
use valise_common::os::durable::read_bounded;
use valise_common::secret::{Secret, Secret32};
use zeroize::Zeroizing;

use super::slots::RECORD_BYTES;

/// The name of the credential.
pub(crate) const CREDENTIAL: &str = "valise-slots";

const KEY_BYTES: usize = 32;

/// Why the key of `release.slots_credential` cannot be used.
#[derive(Debug, Error)]
pub enum SlotsKeyError {
    /// The service manager gave none.
    #[error(
        "release.slots_credential is true, and this process has no credential {CREDENTIAL}: only the unit gets it. Start \
         valise-receiver-release with LoadCredentialEncrypted={CREDENTIAL}:FILE, and do this again"
    )]
    None,
    /// It cannot be read.
    #[error("the credential {CREDENTIAL} cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no key.
    #[error("the credential {CREDENTIAL} has another length than 32 bytes")]
    Length,
}

/// Where the service manager puts the credential, if it gave this process any.
pub(crate) fn credential() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(CREDENTIAL))
}

/// What slots are covered with on the disk.
#[derive(Clone)]
pub(crate) struct SlotsKey(Arc<Secret32>);

impl SlotsKey {
    /// Reads the credential of this process.
    ///
    /// # Errors
    /// [`SlotsKeyError`].
    pub(crate) fn load() -> Result<Self, SlotsKeyError> {
        let path = credential().ok_or(SlotsKeyError::None)?;
        match read_bounded(&path, KEY_BYTES).map(Zeroizing::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SlotsKeyError::None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(SlotsKeyError::Length),
            bytes => Self::from_slice(&bytes?).ok_or(SlotsKeyError::Length),
        }
    }

    /// Takes a key of 32 bytes; `None` for another length.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        Secret32::from_slice(bytes).map(|key| Self(Arc::new(key)))
    }

    /// Returns the mark of this key for the header of a file. `bundle` is the field before the mark. The mark does not reveal the key.
    pub(super) fn mark(&self, bundle: &[u8]) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        self.stream("valise v1 slots mark", bundle, &[])
            .fill(&mut mark);
        mark
    }

    /// What covers the record of a serial: bytes to be combined with it by exclusive or. A record is written once, and no
    /// other has its bundle and serial.
    pub(super) fn cover(&self, bundle: &[u8], serial: Serial) -> Secret<RECORD_BYTES> {
        let mut stream = self.stream("valise v1 slots cover", bundle, &serial.get().to_be_bytes());
        Secret::fill(|bytes| stream.fill(bytes))
    }

    fn stream(&self, use_: &str, bundle: &[u8], serial: &[u8]) -> OutputReader {
        let mut hasher = Hasher::new_derive_key(use_);
        hasher.update(self.0.expose());
        hasher.update(bundle);
        hasher.update(serial);
        hasher.finalize_xof()
    }
}
