//! The files of one role's log, and how each is opened.

use crate::limits;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::AuditLogError;
use crate::audit::CheckpointKey;
use crate::os::durable::{read_bounded, read_secret_file};
use crate::secret::Secret32;

/// The files of one role.
pub(super) struct Paths {
    pub(super) folder: PathBuf,
    pub(super) role: String,
}

impl Paths {
    pub(super) fn of(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.role))
    }
}

/// Reads the key that signs checkpoints: its seed and its origin, a line each.
pub(super) fn read_signer(paths: &Paths) -> Result<CheckpointKey, AuditLogError> {
    let bytes = read_secret_file(&paths.of("signer"), limits::AUDIT_SIGNER_BYTES_MAX)
        .map_err(AuditLogError::io("open"))?;
    let read = || {
        let (seed, origin) = str::from_utf8(&bytes).ok()?.split_once('\n')?;
        let seed = Secret32::from_hex(seed)?;
        CheckpointKey::new(origin.strip_suffix('\n')?, &seed).ok()
    };
    read().ok_or_else(|| AuditLogError::KeyFile {
        path: paths.of("signer"),
    })
}

/// Compares the key with its public half, the file beside it: a flipped bit leaves another key.
pub(super) fn check_verifier(paths: &Paths, signer: &CheckpointKey) -> Result<(), AuditLogError> {
    let verifier = paths.of("verifier");
    match read_bounded(&verifier, limits::AUDIT_VERIFIER_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(text) if text == (signer.verifier_text() + "\n").as_bytes() => Ok(()),
        Ok(_) => Err(AuditLogError::Signer {
            signer: paths.of("signer"),
            verifier,
        }),
        Err(error) => Err(AuditLogError::io("open")(error)),
    }
}

pub(super) fn new_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

/// For bytes in their places, which a file that is open for appending does not take.
pub(super) fn overwrite_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

pub(super) fn log_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

pub(super) fn write_synced(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = new_options().truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
