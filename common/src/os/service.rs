//! The service manager and the log.

mod log;
pub mod units;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::write;

pub use log::LogError;
pub(crate) use log::{init_logging, log_events};

/// The command that systemd runs when it reads its units.
pub const GENERATOR: &str = "systemd-generator";

/// The variable that tells a child of `run` which process started it.
pub(crate) const SUPERVISOR_VARIABLE: &str = "VALISE_SUPERVISOR";

/// The longest step of a start that is not finished, several times over.
const START_STEP_US: &str = "120000000";

/// Tells the service manager that the start goes on, however long it takes in all.
///
/// # Source
/// sd_notify(3), EXTEND_TIMEOUT_USEC
pub(crate) fn extend_start() {
    notify("EXTEND_TIMEOUT_USEC", START_STEP_US);
}

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

/// The socket of the service manager: connected once, before the fences, which allow no new one and no address.
static MANAGER: OnceLock<Option<UnixDatagram>> = OnceLock::new();

/// Connects to the service manager. To be called before the fences.
pub(crate) fn connect() {
    MANAGER.get_or_init(|| connected(&env::var_os("NOTIFY_SOCKET")?).ok());
}

/// Connects a datagram socket to a path, or to the abstract name after an `@`.
fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// # Source
/// sd_notify(3)
fn notify(key: &str, value: &str) {
    connect();
    if let Some(Some(manager)) = MANAGER.get() {
        // Nothing is to be done about a service manager that does not listen.
        let _ = write(manager, format!("{key}={value}\n").as_bytes());
    }
}

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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_notice_reaches_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("@{}", path.display());
        for name in [path.as_os_str(), OsStr::new(&abstract_name)] {
            let address = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).unwrap(),
                None => SocketAddr::from_pathname(name).unwrap(),
            };
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            let socket = connected(name).unwrap();
            write(&socket, b"READY=1\n").unwrap();
            let mut buffer = [0; 64];
            let bytes = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"READY=1\n");
        }
        assert!(connected(OsStr::new("/nonexistent/notify")).is_err());
    }

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
