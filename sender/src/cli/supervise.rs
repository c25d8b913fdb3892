//! `run`: gate and transmit as supervised children of one user.

use std::ffi::OsString;
use std::path::Path;

use valise_common::config::SenderConfig;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::supervise::{SuperviseError, supervise};
use valise_common::os::service;

use super::CliError;

/// `run`
pub fn run(path: &Path, config: &SenderConfig) -> Result<(), CliError> {
    service::init_logging("run", &config.log.level).map_err(CliError::usage)?;
    // What both would stumble over is better told once.
    let state = SenderState::new(&config.state);
    state.read_host()?;
    let program = std::env::current_exe().map_err(CliError::system)?;
    let path = path.canonicalize().map_err(CliError::usage)?;
    let arguments = [OsString::from("--config"), path.into_os_string()];
    let roles = [Role::Gate, Role::Transmit].map(|role| (role, state.forbidden_call(role)));
    supervise(&program, &roles, &arguments).map_err(|error| match error {
        SuperviseError::Configuration { .. } => CliError::usage(error),
        SuperviseError::Io { .. } | SuperviseError::Start { .. } => CliError::system(error),
    })
}
