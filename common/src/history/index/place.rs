//! The files of a register.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::{IndexError, io};
use crate::os::durable::remove_any;
use crate::os::group::give_to_group_of;
use crate::role::Role;

/// The endings of SQLite's side files, and that of the file itself.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Where a role has its register, and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its owner.
    pub role: Role,
    /// The layout of the role's rows. A register of another layout is built again.
    pub layout: i64,
    /// A folder whose group may read the register, if anybody but its owner may.
    pub readers: Option<&'a Path>,
}

impl Place<'_> {
    pub(super) fn damaged(&self, what: &'static str) -> IndexError {
        IndexError::Damaged {
            role: self.role,
            what,
        }
    }

    pub(super) fn file(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Returns the same file below its folder's real path. SQLite refuses a link anywhere in a path, where only a link in the state
    /// folder itself would be a danger.
    pub(super) fn resolved(&self) -> io::Result<PathBuf> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "its path has no folder");
        let folder = self.path.parent().ok_or_else(none)?.canonicalize()?;
        Ok(folder.join(self.path.file_name().ok_or_else(none)?))
    }

    /// Makes an empty file if the register is absent, and sets the file's mode. SQLite would use the process's umask. SQLite's
    /// side files copy the mode.
    pub(super) fn create(&self) -> Result<(), IndexError> {
        let mode = match self.readers {
            Some(_) => 0o640,
            None => 0o600,
        };
        let mut options = OpenOptions::new();
        options
            .write(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits());
        let opened = match options.clone().create_new(true).open(self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = self.path.symlink_metadata().map_err(io(self.role))?;
                if !metadata.is_file() {
                    return Err(self.damaged("its file"));
                }
                options.open(self.path)
            }
            created => created,
        };
        let set_mode = |file: File| match file.metadata()?.mode() & 0o7777 == mode {
            true => Ok(()),
            false => file.set_permissions(Permissions::from_mode(mode)),
        };
        opened.and_then(set_mode).map_err(io(self.role))
    }

    /// Gives an open register to its readers. Its side files exist as long as it is open, and SQLite makes them with the
    /// owner's group.
    pub(super) fn give(&self, readers: &Path) -> io::Result<()> {
        for suffix in SUFFIXES {
            match give_to_group_of(readers, &self.file(suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes a register that nobody has open, to be built again from the log.
    pub(super) fn remove(&self) -> Result<(), IndexError> {
        SUFFIXES
            .iter()
            .try_for_each(|suffix| remove_any(&self.file(suffix)))
            .map_err(io(self.role))
    }
}
