//! The service manager and the log.

use std::time::Duration;

/// Tells the service manager that the role is ready.
pub fn ready() {
    todo!()
}

/// Tells the service manager that the role is ending.
pub fn stopping() {
    todo!()
}

/// Tells the service manager that the role is alive.
pub fn watchdog() {
    todo!()
}

/// How often [`watchdog`] must be called, if the service manager watches this process.
pub fn watchdog_interval() -> Option<Duration> {
    todo!()
}

/// Shows one line in `systemctl status`.
pub fn status(_line: &str) {
    todo!()
}

/// Sends log lines of `level` (error, warn, info, debug, trace) and above to the journal or to standard error.
///
/// # Errors
/// If the level is none of the five, or a log is set up already.
pub fn init_logging(_role: &str, _level: &str) -> Result<(), LogError> {
    todo!()
}

/// The log could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// An unknown level.
    #[error("log level is none of error, warn, info, debug, trace")]
    Level,
    /// Somebody set up a log before.
    #[error("the log is set up already")]
    Twice,
}
