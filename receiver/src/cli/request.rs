//! A command's end of a request.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::ask::{self, add_files, print_answer};
use valise_common::host::folders::ReceiverState;
use valise_common::manifest::FreeText;

use super::CliError;
use crate::release::request::RequestText;
use crate::release::requests::REASON_CHARS_MAX;

/// The time for each slot of a bundle, several times what a slow processor takes.
const SLOT_MS: u64 = 2;

/// Asks `release`, and waits for its answer.
pub(super) fn ask(
    config: &ReceiverConfig,
    what: &RequestText,
    files: &[(String, PathBuf)],
) -> Result<String, CliError> {
    let state = ReceiverState::new(&config.state);
    let mut request = ask::begin(&state)?;
    add_files(&mut request, files)?;
    let text = toml::to_string(what).map_err(CliError::system)?;
    // A bundle's slots are made before the answer.
    let slots = match what {
        RequestText::BundleCreate { slots, .. } => u64::from(*slots),
        _ => 0,
    };
    ask::ask(
        &state,
        request,
        &text,
        Duration::from_millis(slots * SLOT_MS),
    )
}

/// Checks a reason as release will, so that wrong usage is reported as such.
pub(super) fn check_reason(reason: &str) -> Result<(), CliError> {
    let checked = FreeText::normalize(reason, REASON_CHARS_MAX);
    checked
        .map(drop)
        .map_err(|error| CliError::Usage(format!("--reason: {error}")))
}

/// Asks, and prints the answer: its sentence, or as JSON what was done.
pub(super) fn ask_and_print(
    config: &ReceiverConfig,
    what: &RequestText,
    files: &[(String, PathBuf)],
    json: bool,
    fields: impl FnOnce(&str) -> Result<Value, CliError>,
) -> Result<(), CliError> {
    let answer = ask(config, what, files)?;
    print_answer(&answer, json, || fields(&answer))
}
