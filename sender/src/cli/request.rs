//! Placing a request and waiting for gate's answer.

use serde_json::Value;
use valise_common::config::SenderConfig;
use valise_common::host::cli::state_failure;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::life::installation;
use valise_common::host::requests::{Answer, Request};

use super::{CliError, check_commissioned, print_done, print_done_json};
use crate::gate::refusal::SYSTEM_FAILURE;

/// Begins a request on this host.
pub fn begin(config: &SenderConfig) -> Result<Request, CliError> {
    let state = SenderState::new(&config.state);
    check_commissioned(&state)?;
    let requests = state.requests();
    Request::new(&requests).map_err(|error| state_failure(&error, &requests, &requests))
}

/// Makes the request visible, waits, and returns what gate says.
pub fn ask(
    config: &SenderConfig,
    request: Request,
    text: &toml::Table,
) -> Result<String, CliError> {
    let state = SenderState::new(&config.state);
    let text = toml::to_string(text).map_err(CliError::system)?;
    let placed = request.place(&text).map_err(CliError::system)?;
    let name = placed.name().to_owned();
    let patience = placed.patience();
    let answer = placed
        .wait(patience, &state.lock(Role::Gate))
        .map_err(CliError::system)?;
    match answer {
        Answer::Accepted(answer) => Ok(answer),
        // What failed on gate's side is no refusal.
        Answer::Refused(reason) if reason.starts_with(SYSTEM_FAILURE) => {
            Err(CliError::System(reason))
        }
        Answer::Refused(reason) => Err(CliError::Refused(reason)),
        answer @ (Answer::NoDaemon | Answer::Waiting) => {
            // From the root, whatever the configuration says: who reads it may be in another folder.
            let path =
                std::path::absolute(state.requests().join(&name)).map_err(CliError::system)?;
            let path = path.display();
            let why = match answer {
                Answer::NoDaemon => format!(
                    "gate is not running; the request waits in {path} until it does ({})",
                    installation(Role::Gate, &state.lock(Role::Gate))
                        .runs
                        .start(Role::Gate)
                ),
                _ => format!(
                    "gate runs and has not answered for {} s; the request stays and waits in {path} (valise-sender status \
                     shows whether gate works)",
                    patience.as_secs()
                ),
            };
            Err(CliError::System(format!(
                "{why}, and the answer will appear beside it as {name}.accepted or {name}.refused"
            )))
        }
    }
}

/// Prints gate's answer: its sentence, or as JSON what it did.
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

/// One key of a request's text.
pub fn set(table: &mut toml::Table, key: &str, value: impl Into<toml::Value>) {
    table.insert(key.to_owned(), value.into());
}
