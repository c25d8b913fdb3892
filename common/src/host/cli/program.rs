//! What both programs do in the same way: start a role or both, note the end of one, verify the logs, ask the daemon.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::audit::{self, Form};
use super::words::{AuditVerify, NoteEnd};
use super::{CliError, check_start, print_done, print_done_json, state_failure};
use crate::history::check::Place;
use crate::host::folders::Folders;
use crate::host::life::installation;
use crate::host::requests::{Answer, Request, SYSTEM_FAILURE};
use crate::host::supervise::{self, SuperviseError};
use crate::os::{sandbox, service};
use crate::role::Role;

/// One of the two programs.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The roles of its host.
    pub roles: [Role; 2],
    /// The role that takes requests.
    pub owner: Role,
}

/// The sender's program.
pub const SENDER: Program = Program {
    name: "valise-sender",
    roles: [Role::Gate, Role::Transmit],
    owner: Role::Gate,
};

/// The receiver's program.
pub const RECEIVER: Program = Program {
    name: "valise-receiver",
    roles: [Role::Receive, Role::Release],
    owner: Role::Release,
};

impl Program {
    /// Does what a role does before anything else. `level` is the least that it logs.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the user or a limit is wrong, [`CliError::System`] if the system fails.
    pub fn begin(&self, state: &Folders, role: Role, level: &str) -> Result<(), CliError> {
        supervise::follow_supervisor().map_err(CliError::system)?;
        service::init_logging(role.as_str(), level).map_err(CliError::usage)?;
        check_start(state.root(), &state.tmp(role))
    }

    /// `run`: both roles as supervised children of one user, until they end. `config` is the file that they read.
    ///
    /// # Errors
    /// [`CliError::Usage`] if starting them again would not help, otherwise [`CliError::System`].
    pub fn run(&self, state: &Folders, config: &Path, level: &str) -> Result<(), CliError> {
        service::init_logging("run", level).map_err(CliError::usage)?;
        // What both would fail on is better reported once.
        for role in self.roles {
            check_start(state.root(), &state.tmp(role))?;
        }
        let program = std::env::current_exe().map_err(CliError::system)?;
        let config = config.canonicalize().map_err(CliError::usage)?;
        let arguments = [OsString::from("--config"), config.into_os_string()];
        let roles = self.roles.map(|role| (role, state.forbidden_call(role)));
        supervise::supervise(&program, &roles, &arguments).map_err(|error| match error {
            SuperviseError::Configuration { .. } => CliError::usage(error),
            SuperviseError::Io { .. } | SuperviseError::Start { .. } => CliError::system(error),
        })
    }

    /// `note-end`: notes for a role's next start that a forbidden call ended it, if the service manager says so.
    ///
    /// # Errors
    /// [`CliError::System`] if the note cannot be written.
    pub fn note_end(
        &self,
        state: impl FnOnce() -> Result<Folders, CliError>,
        options: &NoteEnd,
    ) -> Result<(), CliError> {
        let ended = self.roles.into_iter();
        let mut ended = ended.filter(|role| role.as_str() == options.role);
        match ended.next() {
            Some(role) if sandbox::ended_by_breach() => {
                sandbox::note_breach(&state()?.forbidden_call(role)).map_err(CliError::system)
            }
            _ => Ok(()),
        }
    }

    /// `audit verify`: the log of a file, or those of both roles. The state is asked for only where no log is named.
    ///
    /// # Errors
    /// [`CliError::Refused`] if a log does not verify; the others as their names say.
    pub fn verify(
        &self,
        state: impl FnOnce() -> Result<Folders, CliError>,
        options: &AuditVerify,
    ) -> Result<(), CliError> {
        let brought = audit::read(&options.brought, self.name)?;
        let places = match &options.log {
            Some(log) => vec![Place::of_file(log, options.role.as_deref())],
            None => {
                let state = state()?;
                audit::places_of_host(&state.host(), &state.audit(), self.roles)?
            }
        };
        audit::verify(&places, &brought, Form::of_option(options.json))
    }

    /// Begins a request on this host.
    ///
    /// # Errors
    /// [`CliError::System`] if the folder of requests may not be written, with what to do.
    pub fn request(&self, state: &Folders) -> Result<Request, CliError> {
        let requests = state.requests();
        Request::new(&requests).map_err(|error| state_failure(&error, &requests, &requests))
    }

    /// Makes the request visible, waits, and returns the answer of its owner. `longer` is added to the time that an answer
    /// takes by its size.
    ///
    /// # Errors
    /// [`CliError::Refused`] with the owner's reason; [`CliError::System`] if the owner's system failed, or nobody answers.
    pub fn ask(
        &self,
        state: &Folders,
        request: Request,
        text: &impl Serialize,
        longer: Duration,
    ) -> Result<String, CliError> {
        let owner = self.owner;
        let text = toml::to_string(text).map_err(CliError::system)?;
        let placed = request.place(&text).map_err(CliError::system)?;
        let name = placed.name().to_owned();
        let patience = placed.patience() + longer;
        let answer = placed
            .wait(patience, &state.lock(owner))
            .map_err(CliError::system)?;
        let why = match answer {
            Answer::Accepted(text) => return Ok(text),
            Answer::Refused(reason) => return Err(refused(reason)),
            Answer::NoDaemon => {
                let runs = installation(owner, &state.lock(owner)).runs;
                format!(
                    "is not running; the request waits in PATH until it does ({})",
                    runs.start(owner)
                )
            }
            Answer::Waiting => format!(
                "runs and has not answered for {} s; the request stays and waits in PATH ({} status shows whether {owner} works)",
                patience.as_secs(),
                self.name
            ),
        };
        // From the root, whatever the configuration says: whoever reads it may be in another folder.
        let path = std::path::absolute(state.requests().join(&name)).map_err(CliError::system)?;
        let why = why.replacen("PATH", &path.display().to_string(), 1);
        Err(CliError::System(format!(
            "{owner} {why}, and the answer will appear beside it as {name}.accepted or {name}.refused"
        )))
    }
}

/// Returns the failure that a refusal is: the owner's system may have failed, which is no refusal.
pub fn refused(reason: String) -> CliError {
    match reason.starts_with(SYSTEM_FAILURE) {
        true => CliError::System(reason),
        false => CliError::Refused(reason),
    }
}

/// Prints an answer: its sentence, or as JSON what was done.
///
/// # Errors
/// As [`super::print_line`], and those of `fields`.
pub fn print_answer(
    answer: &str,
    json: bool,
    fields: impl FnOnce() -> Result<Value, CliError>,
) -> Result<(), CliError> {
    if json {
        print_done_json(&fields()?)
    } else {
        print_done(answer)
    }
}
