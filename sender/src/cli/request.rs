//! Placing a request and waiting for gate's answer.

use std::time::Duration;

use valise_common::config::SenderConfig;
use valise_common::host::cli::program::SENDER;
pub use valise_common::host::cli::program::print_answer;
use valise_common::host::folders::SenderState;
use valise_common::host::requests::Request;

use super::{CliError, check_commissioned};

/// Begins a request on this host.
pub fn begin(config: &SenderConfig) -> Result<Request, CliError> {
    let state = SenderState::new(&config.state);
    check_commissioned(&state)?;
    SENDER.request(&state)
}

/// Makes the request visible, waits, and returns what gate says.
pub fn ask(
    config: &SenderConfig,
    request: Request,
    text: &toml::Table,
) -> Result<String, CliError> {
    SENDER.ask(
        &SenderState::new(&config.state),
        request,
        text,
        Duration::ZERO,
    )
}

/// One key of a request's text.
pub fn set(table: &mut toml::Table, key: &str, value: impl Into<toml::Value>) {
    table.insert(key.to_owned(), value.into());
}
