//! A command's end of a request.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::state_failure;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::life::installation;
use valise_common::host::requests::{Answer, Request};
use valise_common::manifest::FreeText;

use super::CliError;
use crate::release::requests::{Ask, REASON_CHARS_MAX, SYSTEM_FAILURE};
use crate::spool::host::{Host, HostError};

/// The time for each slot of a bundle, several times what a slow processor takes.
const SLOT_MS: u64 = 2;

/// Asks `release`, and waits for its answer.
pub fn ask(
    config: &ReceiverConfig,
    what: &Ask,
    files: &[(String, PathBuf)],
) -> Result<String, CliError> {
    let state = ReceiverState::new(&config.state);
    if let Err(error @ HostError::Absent) = Host::read(&state.host()) {
        return Err(error.into());
    }
    let requests = state.requests();
    let mut request =
        Request::new(&requests).map_err(|error| state_failure(&error, &requests, &requests))?;
    for (name, path) in files {
        request
            .add_path(name, path)
            .map_err(|error| CliError::of_given(path, &error))?;
    }
    let text = toml::to_string(what).map_err(CliError::system)?;
    let placed = request.place(&text).map_err(CliError::system)?;
    let name = placed.name().to_owned();
    // A bundle's slots are made before the answer.
    let slots = match what {
        Ask::BundleCreate { slots, .. } => u64::from(*slots),
        _ => 0,
    };
    let patience = placed.patience() + Duration::from_millis(slots * SLOT_MS);
    let answer = placed
        .wait(patience, &state.lock(Role::Release))
        .map_err(CliError::system)?;
    match answer {
        Answer::Accepted(text) => Ok(text),
        Answer::Refused(reason) => Err(refused(reason)),
        Answer::NoDaemon => Err(CliError::System(format!(
            "release is not running; the request waits in {} until it does ({}), and the answer will appear beside it \
             as {name}.accepted or {name}.refused",
            requests.join(&name).display(),
            installation(Role::Release, &state.lock(Role::Release))
                .runs
                .start(Role::Release)
        ))),
        Answer::Waiting => Err(CliError::System(format!(
            "release runs and has not answered for {} s; the request stays and waits in {} (valise-receiver status shows \
             whether release works), and the answer will appear beside it as {name}.accepted or {name}.refused",
            patience.as_secs(),
            requests.join(&name).display()
        ))),
    }
}

/// A refusal, or that this host's system failed: the text tells, and the exit status after it.
pub fn refused(reason: String) -> CliError {
    if reason.starts_with(SYSTEM_FAILURE) {
        CliError::System(reason)
    } else {
        CliError::Refused(reason)
    }
}

/// Checks a reason as release will, so that wrong usage is reported as such.
pub fn check_reason(reason: &str) -> Result<(), CliError> {
    let checked = FreeText::normalize(reason, REASON_CHARS_MAX);
    checked
        .map(drop)
        .map_err(|error| CliError::Usage(format!("--reason: {error}")))
}

/// Asks, and prints the answer: its sentence, or as JSON what was done.
pub fn ask_and_print(
    config: &ReceiverConfig,
    what: &Ask,
    files: &[(String, PathBuf)],
    json: bool,
    fields: impl FnOnce(&str) -> Result<Value, CliError>,
) -> Result<(), CliError> {
    let answer = ask(config, what, files)?;
    print_answer(&answer, json, fields)
}

/// Prints an answer: its sentence, or as JSON what was done.
pub fn print_answer(
    answer: &str,
    json: bool,
    fields: impl FnOnce(&str) -> Result<Value, CliError>,
) -> Result<(), CliError> {
    if json {
        super::print_done_json(&fields(answer)?)
    } else {
        super::print_done(answer)
    }
}
