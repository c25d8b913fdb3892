//! The service manager and the log.

mod log;

use std::env;
use std::io;
use std::time::Duration;

use nix::unistd::write;

pub use log::{LogError, init_logging};

/// Tells a child of `run` which process started it, and that its standard input is a pipe to that process.
pub(super) const SUPERVISOR_VARIABLE: &str = "VALISE_SUPERVISOR";

/// Tells the service manager, and the supervisor where there is one, that the role is ready.
pub fn ready() {
    notify("READY", "1");
    if env::var_os(SUPERVISOR_VARIABLE).is_some() {
        // Standard input, because no other descriptor has a number that both know without `unsafe`, and no role reads
        // any. A supervisor that does not hear it ended, and this process is about to.
        let _ = write(io::stdin(), b"ready\n");
    }
}

/// Tells the service manager that the role is ending.
pub fn stopping() {
    notify("STOPPING", "1");
}

/// Tells the service manager that the role is alive.
pub fn watchdog() {
    notify("WATCHDOG", "1");
}

/// Shows one line in `systemctl status`.
pub fn status(line: &str) {
    notify("STATUS", &plain(line));
}

/// How often [`watchdog`] must be called, if the service manager watches this process: half the
/// time that it allows.
#[cfg(feature = "systemd")]
pub fn watchdog_interval() -> Option<Duration> {
    match systemd::daemon::watchdog_enabled() {
        Ok(allowed_us) if allowed_us > 0 => Some(Duration::from_micros(allowed_us / 2)),
        _ => None,
    }
}

/// How often [`watchdog`] must be called: without systemd, never.
#[cfg(not(feature = "systemd"))]
pub fn watchdog_interval() -> Option<Duration> {
    None
}

#[cfg(feature = "systemd")]
fn notify(key: &str, value: &str) {
    // Without a service manager there is nobody to tell, and nothing to do about it.
    let _ = systemd::daemon::notify([(key, value)].iter());
}

#[cfg(not(feature = "systemd"))]
fn notify(_key: &str, _value: &str) {}

/// One line without control characters: a line end would begin another field, and a NUL ends the
/// message.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_service_manager() {
        assert_eq!(plain("3 queued\nREADY=1\0"), "3 queued READY=1 ");
    }

    #[test]
    fn without_a_service_manager_notices_are_lost_quietly() {
        ready();
        status("nothing\0to tell");
        watchdog();
        stopping();
    }
}
