//! A command's end of a request.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::program::{self, RECEIVER};
use valise_common::host::folders::ReceiverState;
use valise_common::manifest::FreeText;

use super::CliError;
use crate::release::requests::{Ask, REASON_CHARS_MAX};
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
    let mut request = RECEIVER.request(&state)?;
    for (name, path) in files {
        request
            .add_path(name, path)
            .map_err(|error| CliError::of_given(path, &error))?;
    }
    // A bundle's slots are made before the answer.
    let slots = match what {
        Ask::BundleCreate { slots, .. } => u64::from(*slots),
        _ => 0,
    };
    RECEIVER.ask(
        &state,
        request,
        what,
        Duration::from_millis(slots * SLOT_MS),
    )
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
    program::print_answer(&answer, json, || fields(&answer))
}
