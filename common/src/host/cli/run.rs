//! `run`, and what each role's own command does before anything else.

use crate::limits;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::CliError;
use crate::host::folders::{Layout, Role, State};
use crate::host::stand_in::check_owner;
use crate::host::supervise::{SuperviseError, follow_supervisor, supervise};
use crate::os::{sandbox, service};

/// The words of all roles.
pub(super) const ROLES: [&str; 4] = ["gate", "transmit", "receive", "release"];

/// Options of `note-end`.
#[derive(Debug, Args)]
pub struct NoteEnd {
    /// The role that ended.
    #[arg(value_parser = ROLES)]
    pub role: String,
}

/// Options of the generator.
#[derive(Debug, Args)]
pub struct SystemdGenerator {
    /// Where systemd reads units; it names three folders, and the first is meant.
    #[arg(value_name = "FOLDER", num_args = 1.., required = true)]
    pub folders: Vec<PathBuf>,
}

/// Options of the alarm's runner.
#[derive(Debug, Args)]
pub struct AlarmRunner {
    /// The alarm command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// `run`: both roles as children of one user, until one ends. They read the configuration `path`.
///
/// # Errors
/// [`CliError::Usage`] where another start would not help, [`CliError::System`] otherwise.
pub fn run<L: Layout>(state: &State<L>, path: &Path, log_level: &str) -> Result<(), CliError> {
    check_start(state, &L::ROLES)?;
    service::init_logging("run", log_level).map_err(CliError::usage)?;
    // A host without `init` is reported once, not by each role.
    state.read_host()?;
    let program = std::env::current_exe().map_err(CliError::system)?;
    let path = path.canonicalize().map_err(CliError::usage)?;
    let arguments = [OsString::from("--config"), path.into_os_string()];
    let roles = L::ROLES.map(|role| (role, state.forbidden_call(role)));
    supervise(&program, &roles, &arguments).map_err(|error| match error {
        SuperviseError::Configuration { .. } => CliError::usage(error),
        SuperviseError::Io { .. } | SuperviseError::Ended { .. } => CliError::system(error),
    })
}

/// Does what a role does before anything else.
///
/// # Errors
/// [`CliError::Usage`] if the state is another user's, or too few files may be open; [`CliError::System`] if the system fails.
pub fn begin<L: Layout>(state: &State<L>, role: Role, log_level: &str) -> Result<(), CliError> {
    follow_supervisor().map_err(CliError::system)?;
    service::init_logging(role.as_str(), log_level).map_err(CliError::usage)?;
    check_start(state, &[role])
}

/// Checks what roles need of their user and of the system before they touch anything.
///
/// # Errors
/// [`CliError::Usage`] if the state is another user's, or too few files may be open.
fn check_start<L: Layout>(state: &State<L>, roles: &[Role]) -> Result<(), CliError> {
    for role in roles {
        check_owner(state.root(), &state.tmp(*role)).map_err(CliError::usage)?;
    }
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(CliError::system)?;
    let wanted = most.min(limits::OPEN_FILES_WANTED).max(now);
    if wanted < limits::OPEN_FILES_MIN {
        return Err(CliError::Usage(format!(
            "only {wanted} files may be open, and {} are needed: raise LimitNOFILE in the unit, or ulimit -n",
            limits::OPEN_FILES_MIN
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most).map_err(CliError::system)
}

/// `note-end`: notes that a role was ended by a forbidden call, for its next start, if the service manager reports that.
///
/// # Errors
/// [`CliError::System`] if it cannot be noted.
pub fn note_end<L: Layout>(
    state: impl FnOnce() -> Result<State<L>, CliError>,
    options: &NoteEnd,
) -> Result<(), CliError> {
    let mut roles = L::ROLES.into_iter();
    match roles.find(|role| role.as_str() == options.role) {
        Some(role) if sandbox::ended_by_breach() => {
            sandbox::note_breach(&state()?.forbidden_call(role)).map_err(CliError::system)
        }
        _ => Ok(()),
    }
}
