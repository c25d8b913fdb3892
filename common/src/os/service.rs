//! The service manager and the log.

mod log;

use std::time::Duration;

pub use log::{LogError, init_logging};

/// Tells the service manager that the role is ready.
pub fn ready() {
    notify("READY", "1");
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
