//! Which exit status says what this host's errors mean for a command.

use valise_common::host::cli::CliError;

use crate::receive::ReceiveError;
use crate::release::ReleaseError;
use crate::spool::publish::GroupError;

impl From<ReceiveError> for CliError {
    fn from(error: ReceiveError) -> CliError {
        match error {
            ReceiveError::Host(error) => error.into(),
            ReceiveError::NoAddress
            | ReceiveError::NoDevice
            | ReceiveError::OtherAddress { .. } => CliError::usage(error),
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
    use std::process::ExitCode;

    use valise_common::host::cli::ask::refused;
    use valise_common::host::commissioned::HostError;
    use valise_common::host::requests::SYSTEM_FAILURE;

    use super::*;

    const NOT_COMMISSIONED: HostError = HostError::NotCommissioned { program: "x" };

    #[test]
    fn each_failure_has_its_exit_status() {
        for (error, code) in [
            (CliError::refused("no"), 1),
            (CliError::usage("what"), 2),
            (CliError::system("disk"), 3),
            (NOT_COMMISSIONED.into(), 2),
            (ReleaseError::Host(NOT_COMMISSIONED).into(), 2),
            (
                HostError::Damaged {
                    path: "x".into(),
                    reason: "x".to_owned(),
                }
                .into(),
                3,
            ),
            (ReceiveError::Host(NOT_COMMISSIONED).into(), 2),
            (ReceiveError::NoAddress.into(), 2),
            (ReceiveError::NoDevice.into(), 2),
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
