//! Why a command did not do what was asked, and the exit status that says so.

use std::fmt::Display;
use std::process::ExitCode;

use thiserror::Error;

use crate::io::host::HostError;
use crate::io::publish::GroupError;
use crate::receive::ReceiveError;
use crate::release::ReleaseError;

/// The three ways in which a command fails.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CliError {
    /// Policy or the daemon said no: exit status 1. One line, with what to do about it.
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

    /// The exit status of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Refused(_) => 1,
            CliError::Usage(_) => 2,
            CliError::System(_) => 3,
        })
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> CliError {
        match error {
            HostError::Absent => CliError::usage(error),
            other => CliError::system(other),
        }
    }
}

impl From<ReceiveError> for CliError {
    fn from(error: ReceiveError) -> CliError {
        match error {
            ReceiveError::Host(error) => error.into(),
            ReceiveError::NoAddress => CliError::usage(error),
            other => CliError::system(other),
        }
    }
}

impl From<GroupError> for CliError {
    fn from(error: GroupError) -> CliError {
        CliError::usage(error)
    }
}

impl From<ReleaseError> for CliError {
    fn from(error: ReleaseError) -> CliError {
        match error {
            ReleaseError::Host(error) => error.into(),
            ReleaseError::Groups(error) => error.into(),
            other => CliError::system(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::super::request::refused;
    use super::*;
    use crate::release::requests::SYSTEM_FAILURE;

    #[test]
    fn each_failure_has_its_exit_status() {
        for (error, code) in [
            (CliError::refused("no"), 1),
            (CliError::usage("what"), 2),
            (CliError::system("disk"), 3),
            (HostError::Absent.into(), 2),
            (ReleaseError::Host(HostError::Absent).into(), 2),
            (HostError::Damaged("x".to_owned()).into(), 3),
            (ReceiveError::Host(HostError::Absent).into(), 2),
            (ReceiveError::NoAddress.into(), 2),
            (ReceiveError::Running.into(), 3),
            (refused("no bundle 9".to_owned()), 1),
            (refused(format!("{SYSTEM_FAILURE}: no room")), 3),
        ] {
            assert_eq!(
                format!("{:?}", error.exit_code()),
                format!("{:?}", ExitCode::from(code))
            );
        }
    }
}
