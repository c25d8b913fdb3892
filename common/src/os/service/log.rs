//! The log: one plain line an event, to the journal or to standard error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use nix::unistd::write;
use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::{connected, plain};
use crate::os::clock;

/// The journal's own protocol: one entry a datagram, one field a line.
///
/// # Source
/// systemd, Native Journal Protocol
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The longest message: a datagram takes so much under every default of the kernel.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The log could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// An unknown level.
    #[error("log level is none of error, warn, info, debug, trace")]
    Level,
    /// Somebody set up a log before.
    #[error("the log is set up already")]
    Twice,
}

/// Sends log lines of `level` (error, warn, info, debug, trace) and above to the journal, if
/// standard error leads there, and else to standard error.
///
/// # Errors
/// [`LogError`].
pub fn init_logging(role: &str, level: &str) -> Result<(), LogError> {
    let filter = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(LogError::Level),
    };
    // Connected once, before the fences, which allow no new socket.
    let journal = stderr_is_journal().then(|| connected(OsStr::new(JOURNAL)).ok());
    let output = journal.flatten().map_or(Output::Stderr, Output::Journal);
    let lines = Lines {
        role: role.to_owned(),
        output,
        dated: !io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

enum Output {
    Stderr,
    Journal(UnixDatagram),
}

struct Lines {
    role: String,
    output: Output,
    dated: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let text = text.joined();
        if let Output::Journal(journal) = &self.output
            && write(journal, entry(level, &self.role, &text).as_bytes()).is_ok()
        {
            return;
        }
        let line = self.line(level, &text);
        // Whom could it be told to that the log cannot be written?
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

impl Lines {
    fn line(&self, level: Level, text: &str) -> String {
        let mut line = String::with_capacity(text.len() + 48);
        if self.dated {
            // Writing to a string cannot fail.
            let _ = write!(line, "{} ", clock::utc_now());
        }
        let _ = writeln!(line, "{level:5} {}: {text}", self.role);
        line
    }
}

/// The message of an event, then its fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn joined(&self) -> String {
        plain(&format!("{}{}", self.message, self.fields))
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => {
                let _ = write!(self.fields, " {name}={value:?}");
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Tells whether standard error is the socket that the service manager made for the journal.
///
/// # Source
/// systemd.exec(5), `JOURNAL_STREAM`: device and inode of the socket.
fn stderr_is_journal() -> bool {
    let Ok(told) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(status) = nix::sys::stat::fstat(io::stderr()) else {
        return false;
    };
    told == format!("{}:{}", status.st_dev, status.st_ino)
}

/// An entry of the journal. The text has no line end.
fn entry(level: Level, role: &str, text: &str) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let text = &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)];
    format!(
        "PRIORITY={priority}\nMESSAGE={role}: {text}\nVALISE_ROLE={role}\nSYSLOG_IDENTIFIER=valise\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps lines instead of writing them.
    struct Kept(Lines, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut text = Text::default();
            event.record(&mut text);
            let line = self.0.line(*event.metadata().level(), &text.joined());
            self.1.lock().unwrap().push(line);
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines {
            role: "gate".into(),
            output: Output::Stderr,
            dated: false,
        };
        let subscriber = tracing_subscriber::registry().with(Kept(lines, kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                serial = 7,
                reason = "a\nb\x1b[2J",
                "sealing {}",
                "stopped\r\n"
            );
        });
        let expected = "WARN  gate: sealing stopped   serial=7 reason=\"a\\nb\\u{1b}[2J\"\n";
        assert_eq!(kept.lock().unwrap().as_slice(), [expected]);
    }

    #[test]
    fn an_entry_of_the_journal_has_one_field_a_line_and_fits_a_datagram() {
        let entry_of = |text: &str| entry(Level::WARN, "gate", text);
        assert_eq!(
            entry_of("sealing stopped"),
            "PRIORITY=4\nMESSAGE=gate: sealing stopped\nVALISE_ROLE=gate\nSYSLOG_IDENTIFIER=valise\n"
        );
        let (from, _to) = UnixDatagram::pair().unwrap();
        let long = entry_of(&"é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(write(&from, long.as_bytes()), Ok(long.len()));
    }

    #[test]
    fn unknown_levels_are_refused() {
        assert_eq!(init_logging("gate", "loud"), Err(LogError::Level));
    }
}
