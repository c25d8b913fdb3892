//! What the command lines of both programs share: how a command fails and which exit status says so, how it prints, and
//! how it reads its configuration.

mod administrators;
pub mod ask;
pub mod audit;
mod done;
mod first_keys;
pub mod follow;
pub mod init;
mod ports;
mod rights;
pub mod run;
pub mod trust;

pub use administrators::read_administrators;
pub use done::{print_done, print_done_json};
pub use ports::list_ports;
pub use rights::{check_reader, needs_root, state_failure};

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;

use super::alarms::command;
use super::commissioned::HostError;
use crate::history::check::CheckError;
use crate::limits;
use crate::manifest::{printable, printable_json, shown_name};
use crate::os::{service, tty};

/// How to show something.
#[derive(Debug, clap::Args)]
pub struct Shown {
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

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
    /// Creates an error of the system, in its own words.
    pub fn system(error: impl Display) -> Self {
        Self::System(error.to_string())
    }

    /// Creates a refusal, in its own words.
    pub fn refused(error: impl Display) -> Self {
        Self::Refused(error.to_string())
    }

    /// Wrong usage, in its own words.
    pub fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// Says why a file that a caller named cannot be used: the caller's mistake if it is not there or is not a file, a
    /// refusal if it changed while it was read, the system's failure otherwise.
    pub fn of_given(path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", shown_name(path.as_os_str()));
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge => Self::Usage(text),
            io::ErrorKind::ResourceBusy => Self::Refused(text),
            _ => Self::System(text),
        }
    }

    /// Returns the failure of a command that took back what it had written, or could not.
    #[must_use]
    pub(crate) fn after_undo(self, undone: Result<(), Self>, place: &Path) -> Self {
        let place = place.display();
        match undone {
            Ok(()) => Self::System(format!("{self}; nothing was changed in {place}")),
            Err(left) => Self::System(format!(
                "{self}; what was written by then could not be erased ({left}): destroy {place} before you try again"
            )),
        }
    }

    /// Returns the exit status of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Refused(_) => 1,
            CliError::Usage(_) => 2,
            CliError::System(_) => 3,
        })
    }
}

impl From<CheckError> for CliError {
    fn from(error: CheckError) -> CliError {
        match error {
            CheckError::Usage(_) => CliError::usage(error),
            CheckError::System(_) => CliError::system(error),
        }
    }
}

impl From<HostError> for CliError {
    /// A host that was never commissioned is a matter of its configuration; all else is the system's.
    fn from(error: HostError) -> CliError {
        match error {
            HostError::NotCommissioned { .. } => CliError::usage(error),
            _ => CliError::system(error),
        }
    }
}

/// Prints a line, or several; a reader that went away ends the command quietly. Characters that could mislead who reads them
/// on a terminal are printed as escapes.
///
/// # Errors
/// [`CliError::System`] if standard output takes nothing.
pub fn print_line(line: &str) -> Result<(), CliError> {
    write_out(&printable(line))
}

fn write_out(line: &str) -> Result<(), CliError> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        printed => printed.map_err(|error| CliError::System(format!("standard output: {error}"))),
    }
}

/// Prints a warning beside what a command shows. A standard error that is closed changes nothing.
pub fn warn(program: &str, warning: Option<String>) {
    if let Some(warning) = warning {
        let _ = writeln!(io::stderr(), "{program}: {warning}");
    }
}

/// Prints one JSON document.
///
/// # Errors
/// As [`print_line`].
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let document = serde_json::to_string_pretty(value).map_err(CliError::system)?;
    write_out(&printable_json(&document))
}

/// Prints one JSON document on one line, for a stream of them.
///
/// # Errors
/// As [`print_line`].
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), CliError> {
    let document = serde_json::to_string(value).map_err(CliError::system)?;
    write_out(&printable_json(&document))
}

/// Prints why a command of `program` failed, as one line on standard error, and returns its exit status.
pub fn print_failure(program: &str, error: &CliError) -> ExitCode {
    // A standard error that is closed changes nothing.
    let _ = writeln!(io::stderr(), "{program}: {}", printable(&error.to_string()));
    error.exit_code()
}

/// Shows a text to the person at the terminal and asks them to go on.
///
/// # Errors
/// [`CliError::Refused`] if they do not say yes, [`CliError::System`] if there is no terminal.
pub fn confirm(shown: &str, question: &str) -> Result<(), CliError> {
    let said_yes = tty::confirm(shown, question)
        .map_err(|error| CliError::System(format!("the terminal cannot be asked: {error}")))?;
    if said_yes {
        Ok(())
    } else {
        Err(CliError::refused("not confirmed; nothing was changed"))
    }
}

/// Asks the person at the terminal, if there is one, before something that cannot be undone. A script that runs such a
/// command means it, and is not asked.
///
/// # Errors
/// As [`confirm`].
pub fn confirm_if_attended(question: &str) -> Result<(), CliError> {
    if tty::is_attended() {
        confirm("It cannot be undone.", question)
    } else {
        Ok(())
    }
}

/// Reads the text of a configuration, which is the operator's own file and may be a link.
///
/// # Errors
/// [`CliError::Usage`], whatever is wrong with it.
pub fn config_text(path: &Path) -> Result<String, CliError> {
    let told = |text: String| CliError::Usage(format!("{}: {text}", path.display()));
    let file = File::open(path)
        .map_err(|error| told(format!("{error}; name the file with --config FILE")))?;
    let mut text = String::new();
    let most = u64::try_from(limits::CONFIG_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| told(error.to_string()))?;
    if text.len() > limits::CONFIG_BYTES_MAX {
        return Err(told("too long for a configuration".to_owned()));
    }
    Ok(text)
}

/// What a program is as the runner of an alarm command.
///
/// # Errors
/// [`CliError::System`].
pub fn run_alarm_commands(command: &[String]) -> Result<(), CliError> {
    // It has nothing to say but errors, and no configuration, which may have changed since its daemon read it.
    service::init_logging("alarm", "error").map_err(CliError::system)?;
    command::run_commands(command).map_err(CliError::system)
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
            (given(io::ErrorKind::ResourceBusy), 1),
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

    #[test]
    fn a_configuration_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let is_usage = |read: Result<String, CliError>| matches!(read, Err(CliError::Usage(_)));
        assert!(is_usage(config_text(&path)));
        std::fs::write(&path, vec![b'#'; limits::CONFIG_BYTES_MAX]).unwrap();
        assert_eq!(config_text(&path).unwrap().len(), limits::CONFIG_BYTES_MAX);
        std::fs::write(&path, vec![b'#'; limits::CONFIG_BYTES_MAX + 1]).unwrap();
        assert!(is_usage(config_text(&path)));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(is_usage(config_text(&path)));
    }
}
