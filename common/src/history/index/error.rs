//! Why a register could not be used.

use std::io;
use std::path::Path;

use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use crate::history::log::AuditLogError;
use crate::os::durable;
use crate::role::Role;

/// Why a register cannot be used.
#[derive(Debug, Error)]
pub enum IndexError {
    /// SQLite failed.
    #[error("the register of {role} failed: {source}; {}", advice(*.role, .source))]
    Sqlite {
        /// Its owner.
        role: Role,
        /// What SQLite reports.
        source: rusqlite::Error,
    },
    /// A file of it cannot be reached.
    #[error("register.db of {role} cannot be reached: {source}")]
    Io {
        /// Its owner.
        role: Role,
        /// What the system reports.
        source: io::Error,
    },
    /// It is not what this version of the program writes.
    #[error(
        "the register of {role} is damaged or of another version ({what}); {role} builds it again from the audit log \
         when it starts"
    )]
    Damaged {
        /// Its owner.
        role: Role,
        /// The part of it that is wrong.
        what: &'static str,
    },
    /// The log that it is built from.
    #[error(transparent)]
    Log(#[from] AuditLogError),
}

impl IndexError {
    /// Returns whether the file is at fault, so that it is built again from the log, and not the disk or the rights.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { .. } | Self::Log(_) => false,
            Self::Sqlite { source, .. } => !matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::PermissionDenied
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::OutOfMemory
                )
            ),
        }
    }

    /// Returns whether SQLite may not reach or make a file.
    pub(super) fn is_unreachable(&self) -> bool {
        let Self::Sqlite { source, .. } = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
        )
    }

    /// Returns whether the disk is full: SQLite found no room in its file, or none for the memory that its readers share.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Sqlite {
                source: rusqlite::Error::SqliteFailure(failure, _),
                ..
            } => {
                failure.code == ErrorCode::DiskFull
                    || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
            }
            Self::Io { source, .. } => durable::is_full(source),
            _ => false,
        }
    }
}

/// On a full disk a register that is built again would only need more room.
fn advice(role: Role, error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on the disk".to_owned(),
        _ => format!("a damaged one is built again from the audit log when {role} starts"),
    }
}

/// Returns the text of the alarm that a register was built again.
pub fn rebuilt_text(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} was damaged, missing or of another version, and was built again from the audit log"
    )
}

pub(super) fn sqlite(role: Role) -> impl Fn(rusqlite::Error) -> IndexError + Copy {
    move |source| IndexError::Sqlite { role, source }
}

pub(super) fn io(role: Role) -> impl Fn(io::Error) -> IndexError + Copy {
    move |source| IndexError::Io { role, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_however_it_shows() {
        let is_full = |code| {
            let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            sqlite(Role::Gate)(failure).is_full()
        };
        assert!(is_full(ffi::SQLITE_FULL) && is_full(ffi::SQLITE_IOERR_SHMSIZE));
        assert!(!is_full(ffi::SQLITE_IOERR) && !is_full(ffi::SQLITE_CORRUPT));
        let of_file = |kind: io::ErrorKind| io(Role::Gate)(kind.into()).is_full();
        assert!(of_file(io::ErrorKind::StorageFull));
        assert!(!of_file(io::ErrorKind::NotFound));
    }

    #[test]
    fn the_alarm_of_a_rebuilt_register_has_its_file() {
        let text = rebuilt_text(Path::new("/state/register.db"));
        assert!(text.starts_with("/state/register.db was damaged"));
    }
}
