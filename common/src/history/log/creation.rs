//! How a log begins, and how one that was never used is taken away again.

use crate::limits;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::files::{Paths, log_options, write_synced};
use super::key_file::KeyFile;
use super::{AuditLog, AuditLogError, Open, parts};
use crate::audit::{Chain, CheckpointKey};
use crate::os::durable::{erase, finish_erasing, read_bounded, sync_dir};
use crate::os::entropy;
use crate::secret::Secret32;

impl AuditLog {
    /// Begins a log in `folder` (which exists): `origin` names it in checkpoints, for example `valise/CHANNEL/gate`. Returns
    /// K_0, which the caller shows to the auditor once and forgets.
    ///
    /// # Errors
    /// The system's, and a log that exists already.
    pub fn create(
        folder: &Path,
        role: &str,
        origin: &str,
    ) -> Result<(Self, Secret32), AuditLogError> {
        let paths = Paths {
            folder: folder.to_owned(),
            role: role.to_owned(),
        };
        if paths
            .of("log")
            .try_exists()
            .map_err(AuditLogError::io("create"))?
        {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(AuditLogError::Io {
                doing: "create",
                source,
            });
        }
        let first_key: Secret32 = entropy::secret()?;
        let seed: Secret32 = entropy::secret()?;
        let signer = CheckpointKey::new(origin, &seed).map_err(|_| {
            let path = paths.of("signer");
            AuditLogError::KeyFile { path }
        })?;
        let chain = Chain::start(Secret32::new(*first_key.expose()));
        let write = || {
            let signer_text = Zeroizing::new(format!("{}\n{origin}\n", seed.to_hex().as_str()));
            // Without a log nothing was committed: files of a creation that was cut short are overwritten.
            write_synced(&paths.of("signer"), 0o600, signer_text.as_bytes())?;
            let verifier = signer.verifier_text() + "\n";
            write_synced(&paths.of("verifier"), 0o644, verifier.as_bytes())?;
            write_synced(&paths.of("checkpoints"), 0o640, b"")?;
            let key_file = KeyFile::create(&paths.of("key"), &chain)?;
            let log = log_options().create_new(true).open(paths.of("log"))?;
            log.sync_all()?;
            sync_dir(folder)?;
            Ok((key_file, log))
        };
        let (key_file, log) = match write() {
            Ok(written) => written,
            Err(error) => {
                // There was no log before: whatever is there is of this creation. The error says more than another would.
                let _ = Self::discard(folder, role);
                return Err(AuditLogError::io("create")(error));
            }
        };
        let open = Open {
            parts: parts(&paths.of("log")).map_err(AuditLogError::io("create"))?,
            log,
            log_bytes: 0,
            key_file,
        };
        Ok((Self::new(paths, open, signer, chain), first_key))
    }

    /// Erases a log and its keys: of a commissioning that failed. What is gone already is no error.
    ///
    /// # Errors
    /// If something stays.
    pub fn discard(folder: &Path, role: &str) -> io::Result<()> {
        let paths = Paths {
            folder: folder.to_owned(),
            role: role.to_owned(),
        };
        // The log first: without it a creation overwrites the others.
        for suffix in ["log", "key", "signer", "verifier", "checkpoints"] {
            erase(&paths.of(suffix))?;
        }
        Ok(())
    }

    /// Checks that a log holds no more than the line of an `init`, which may have been cut short before the host was
    /// commissioned: the log may be discarded.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::AlreadyExists`] if it holds more.
    pub(crate) fn check_unused(folder: &Path, role: &str) -> io::Result<()> {
        let path = folder.join(format!("{role}.log"));
        let bytes = match read_bounded(&path, limits::AUDIT_INIT_LINE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(error),
            read => Ok(read?),
        };
        let is_unused = bytes.is_ok_and(|bytes| {
            let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let first = lines.next().unwrap_or_default();
            // A line without its LF was never committed.
            lines.next().is_none() && (!first.ends_with(b"\n") || is_of_init(first))
        });
        if is_unused {
            return Ok(());
        }
        let text = format!(
            "{} has a history, but this host's file host.toml is missing: restore the state from its backup, or move all of \
             it away to begin a new channel",
            path.display()
        );
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    /// Discards a log for which [`AuditLog::check_unused`] found nothing, and what a kill left of an earlier discarding.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn discard_unused(folder: &Path, role: &str) -> io::Result<()> {
        finish_erasing(folder)?;
        Self::discard(folder, role)
    }
}

fn is_of_init(line: &[u8]) -> bool {
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(line);
    parsed.is_ok_and(|line| line["event"] == "init")
}
