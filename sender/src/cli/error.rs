//! Why a command did not do what was asked, and the exit status that says so.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

/// The three ways in which a command fails.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CliError {
    /// Policy or gate said no: exit status 1. One line, with what to do about it.
    #[error("{0}")]
    Refused(String),
    /// Wrong usage or configuration: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The system failed, or no daemon runs and the request waits: exit status 3.
    #[error("{0}")]
    System(String),
}

impl CliError {
    /// An error of the system, in its own words.
    pub fn system(error: impl Display) -> Self {
        Self::System(error.to_string())
    }

    /// A refusal, in its own words.
    pub fn refused(error: impl Display) -> Self {
        Self::Refused(error.to_string())
    }

    /// Wrong usage, in its own words.
    pub fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// A file that a caller named and that cannot be read: the caller's mistake if it is not there or no file, the system's
    /// failure otherwise.
    pub fn of_given(path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge => Self::Usage(text),
            _ => Self::System(text),
        }
    }

    /// The exit status of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Refused(_) => 1,
            CliError::Usage(_) => 2,
            CliError::System(_) => 3,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn each_failure_has_its_exit_status() {
        let given = |kind| CliError::of_given(Path::new("a"), &io::Error::from(kind));
        for (error, code) in [
            (CliError::refused("no"), 1),
            (CliError::usage("what"), 2),
            (CliError::system("disk"), 3),
            (given(io::ErrorKind::NotFound), 2),
            (given(io::ErrorKind::PermissionDenied), 3),
            (
                CliError::of_given(Path::new("a"), &io::Error::from_raw_os_error(5)),
                3,
            ),
        ] {
            assert_eq!(
                format!("{:?}", error.exit_code()),
                format!("{:?}", ExitCode::from(code))
            );
        }
    }
}
