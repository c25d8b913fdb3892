//! `run`, and what each role's own command does before anything else.

use std::ffi::OsString;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::CliError;
use crate::host::folders::{Layout, Role, State};
use crate::host::stand_in::check_owner;
use crate::host::supervise::{SuperviseError, supervise};
use crate::os::{sandbox, service};

/// Open files that a role needs: a cable of a hundred parts, and what it holds besides.
const OPEN_FILES_MIN: u64 = 256;

/// Open files that a role asks for.
const OPEN_FILES_WANTED: u64 = 65_536;

/// `run`: both roles as supervised children of one user. They read the configuration `path`.
///
/// # Errors
/// [`CliError::Usage`] where another start would not help, [`CliError::System`] otherwise.
pub fn run<L: Layout>(state: &State<L>, path: &Path, log_level: &str) -> Result<(), CliError> {
    check_start(state, &L::ROLES)?;
    service::init_logging("run", log_level).map_err(CliError::usage)?;
    // What both would stumble over is better told once.
    state.read_host()?;
    let program = std::env::current_exe().map_err(CliError::system)?;
    let path = path.canonicalize().map_err(CliError::usage)?;
    let arguments = [OsString::from("--config"), path.into_os_string()];
    let roles = L::ROLES.map(|role| (role, state.forbidden_call(role)));
    supervise(&program, &roles, &arguments).map_err(|error| match error {
        SuperviseError::Configuration { .. } => CliError::usage(error),
        SuperviseError::Io { .. } | SuperviseError::Start { .. } => CliError::system(error),
    })
}

/// Checks what roles need of their user and of the system before they touch anything.
///
/// # Errors
/// [`CliError::Usage`] if the state is another user's, or too few files may be open.
pub fn check_start<L: Layout>(state: &State<L>, roles: &[Role]) -> Result<(), CliError> {
    for role in roles {
        check_owner(state.root(), &state.tmp(*role)).map_err(CliError::usage)?;
    }
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(CliError::system)?;
    let wanted = most.min(OPEN_FILES_WANTED).max(now);
    if wanted < OPEN_FILES_MIN {
        return Err(CliError::Usage(format!(
            "only {wanted} files may be open, and {OPEN_FILES_MIN} are needed: raise LimitNOFILE in the unit, or ulimit -n"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most).map_err(CliError::system)
}

/// Notes that a role was ended by a forbidden call, for its next start.
///
/// # Errors
/// [`CliError::System`] if it cannot be noted.
pub fn note_end<L: Layout>(state: &State<L>, ended: &str) -> Result<(), CliError> {
    let mut roles = L::ROLES.into_iter();
    match roles.find(|role| role.as_str() == ended) {
        Some(role) => sandbox::note_breach(&state.forbidden_call(role)).map_err(CliError::system),
        None => Ok(()),
    }
}
