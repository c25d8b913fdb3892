//! Placing a request and waiting for gate's answer.

use std::time::Duration;

use valise_common::config::SenderConfig;
use valise_common::host::cli::ask;
pub(super) use valise_common::host::cli::ask::print_answer;
use valise_common::host::folders::SenderState;
use valise_common::host::requests::Request;

use super::CliError;

/// Begins a request on this host.
pub(super) fn begin(config: &SenderConfig) -> Result<Request, CliError> {
    ask::begin(&SenderState::new(&config.state))
}

/// Makes the request visible, waits, and returns gate's answer.
pub(super) fn ask(
    config: &SenderConfig,
    request: Request,
    text: &toml::Table,
) -> Result<String, CliError> {
    let text = toml::to_string(text).map_err(CliError::system)?;
    let state = SenderState::new(&config.state);
    ask::ask(&state, request, &text, Duration::ZERO)
}

/// One key of a request's text.
pub(super) fn set(table: &mut toml::Table, key: &str, value: impl Into<toml::Value>) {
    table.insert(key.to_owned(), value.into());
}
