//! The first keys of the audit logs, which `init` shows once: on standard output, or in a file for the auditor.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::CliError;
use super::done::{is_lost, print_done};
use crate::manifest::printable;
use crate::os::durable::{erase, sync_parent};

/// Where the first keys go. A file that is not kept is erased when this is dropped.
#[derive(Debug)]
pub(super) struct FirstKeys {
    file: Option<(PathBuf, File)>,
}

impl FirstKeys {
    /// Makes the file, if one is named: before anything is commissioned, so that no key is made that nobody can be given.
    ///
    /// # Errors
    /// [`CliError::Refused`] if something has its name, [`CliError::Usage`] if none is named and nothing that is printed is
    /// seen, [`CliError::System`] if it cannot be made.
    pub(super) fn open(out: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = out else {
            if is_lost(io::stdout()) {
                return Err(CliError::usage(
                    "the auditor's keys are shown only once, and standard output is closed: name a file with --out",
                ));
            }
            return Ok(Self { file: None });
        };
        let shown = path.display();
        if fs::symlink_metadata(path).is_ok() {
            let text = format!(
                "{shown} exists: name a new file for the auditor's keys. If it is of an init that was cut short, its keys are \
                 void: shred -u {shown}"
            );
            return Err(CliError::Refused(text));
        }
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(|error| CliError::System(format!("{shown}: {error}")))?;
        Ok(Self {
            file: Some((path.to_owned(), opened)),
        })
    }

    /// Writes what the auditor is given, durably, or prints it: before the host is commissioned, so that no kill can leave a
    /// host whose first keys nobody has.
    ///
    /// # Errors
    /// [`CliError::System`] if it cannot be written.
    pub(super) fn hand_over(&mut self, text: &Zeroizing<String>) -> Result<(), CliError> {
        let failed = |place: &dyn Display, error: &io::Error| {
            CliError::System(format!("the auditor's keys: {place}: {error}"))
        };
        let Some((path, file)) = &mut self.file else {
            return writeln!(io::stdout(), "{}", printable(text.trim_end()))
                .map_err(|error| failed(&"standard output", &error));
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_parent(path))
            .map_err(|error| failed(&path.display(), &error))
    }

    /// Keeps the file of a host that is commissioned.
    ///
    /// # Errors
    /// As [`print_done`].
    pub(super) fn keep(mut self) -> Result<(), CliError> {
        let Some((path, _)) = self.file.take() else {
            return Ok(());
        };
        print_done(&format!(
            "the first keys of the audit logs are in {}: the auditor takes this file away, and no copy stays here",
            path.display()
        ))
    }
}

/// Returns what `init` gives the auditor: secret first keys and public checkpoint keys, by role.
pub(super) fn text(
    keys: &BTreeMap<&str, String>,
    checkpoint_keys: &BTreeMap<&str, String>,
) -> Zeroizing<String> {
    let mut text = String::from(
        "first keys of the audit logs, for the auditor alone; they are shown this once:\n",
    );
    for (role, key) in keys {
        text.extend(["  ", role, ": ", key, "\n"]);
    }
    text.push_str("public keys of the checkpoints, for the auditor too:\n");
    for (role, key) in checkpoint_keys {
        text.extend(["  ", role, ": ", key, "\n"]);
    }
    Zeroizing::new(text)
}

impl Drop for FirstKeys {
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.take() {
            // Nothing was commissioned: its keys are void. A name that stays is refused with its path next time.
            let _ = erase(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_file_is_new_its_owners_alone_and_gone_when_nothing_was_commissioned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auditor.txt");
        drop(FirstKeys::open(Some(&path)).unwrap());
        assert!(!path.exists());
        let text = Zeroizing::new("gate: 00\n".to_owned());
        let mut keys = FirstKeys::open(Some(&path)).unwrap();
        keys.hand_over(&text).unwrap();
        assert!(path.exists());
        drop(keys);
        assert!(!path.exists());
        let mut keys = FirstKeys::open(Some(&path)).unwrap();
        keys.hand_over(&text).unwrap();
        keys.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "gate: 00\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(
            FirstKeys::open(Some(&path)),
            Err(CliError::Refused(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "gate: 00\n");
    }
}
