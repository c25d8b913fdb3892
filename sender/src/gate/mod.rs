//! The process that takes submissions, collects approvals, judges and seals. It has no network and no key that opens
//! anything.

pub mod event;
pub mod ledger;

use std::io;

use thiserror::Error;
use valise_common::config::SenderConfig;

/// Why `gate` ended.
#[derive(Debug, Error)]
pub enum GateError {
    /// A file, a directory or a system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Runs `gate` until it is told to stop.
///
/// # Errors
/// [`GateError`] when anything that durability rests on fails.
pub fn run(_config: &SenderConfig) -> Result<(), GateError> {
    Ok(())
}
