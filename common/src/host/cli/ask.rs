//! A command's end of a request.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{CliError, print_done, print_done_json, state_failure};
use crate::host::folders::{Layout, State};
use crate::host::life::installation;
use crate::host::requests::{Answer, Request, SYSTEM_FAILURE};

/// Begins a request on a host that is commissioned.
///
/// # Errors
/// [`CliError::Usage`] before `init`, [`CliError::System`] if the folder for requests is not open to this user.
pub fn begin<L: Layout>(state: &State<L>) -> Result<Request, CliError> {
    state.check_commissioned()?;
    let requests = state.requests();
    Request::new(&requests).map_err(|error| state_failure(&error, &requests, &requests))
}

/// Adds files that the caller named, each under its name in the request.
///
/// # Errors
/// As [`CliError::of_given`].
pub fn add_files(request: &mut Request, files: &[(String, PathBuf)]) -> Result<(), CliError> {
    files.iter().try_for_each(|(name, path)| {
        request
            .add_path(name, path)
            .map(drop)
            .map_err(|error| CliError::of_given(path, &error))
    })
}

/// Makes a request visible, waits, and returns the daemon's answer. `work` is the time for what must be made before it.
///
/// # Errors
/// [`CliError`] if the request is refused, or waits.
pub fn ask<L: Layout>(
    state: &State<L>,
    request: Request,
    text: &str,
    work: Duration,
) -> Result<String, CliError> {
    let placed = request.place(text).map_err(CliError::system)?;
    let name = placed.name().to_owned();
    let patience = placed.patience() + work;
    let role = L::KEEPER;
    let lock = state.lock(role);
    let answer = placed.wait(patience, &lock).map_err(CliError::system)?;
    // From the root, whatever the configuration says: who reads it may be in another folder.
    let path = || std::path::absolute(state.requests().join(&name)).map_err(CliError::system);
    let why = match answer {
        Answer::Accepted(answer) => return Ok(answer),
        Answer::Refused(reason) => return Err(refused(reason)),
        Answer::NoDaemon => format!(
            "{role} is not running; the request waits in {} until it does ({})",
            path()?.display(),
            installation(role, &lock).runs.start(role)
        ),
        Answer::Waiting => format!(
            "{role} runs and has not answered for {} s; the request stays and waits in {} ({} status shows whether {role} \
             works)",
            patience.as_secs(),
            path()?.display(),
            L::PROGRAM
        ),
    };
    Err(CliError::System(format!(
        "{why}, and the answer will appear beside it as {name}.accepted or {name}.refused"
    )))
}

/// Returns the failure that a refusal is: one that begins with [`SYSTEM_FAILURE`] is the host's.
pub fn refused(reason: String) -> CliError {
    if reason.starts_with(SYSTEM_FAILURE) {
        CliError::System(reason)
    } else {
        CliError::Refused(reason)
    }
}

/// Prints an answer: its sentence, or as JSON what was done.
///
/// # Errors
/// As [`print_done`].
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
