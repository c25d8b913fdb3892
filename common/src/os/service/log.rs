//! The log: one plain line an event, to the journal or to standard error.

use crate::limits;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use nix::unistd::write;

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Map, Value};
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
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// How long an entry waits for a journal that has no room, before the role goes on without it.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);

/// The fields of an audit line that go to the journal: numbers, ids and fixed words. None holds persons, mailboxes, labels or
/// what somebody typed.
const EVENT_FIELDS: [&str; 17] = [
    "alarm",
    "bundle",
    "channel",
    "code",
    "container",
    "count",
    "first",
    "id",
    "last",
    "message_id",
    "passes",
    "replaces",
    "seq",
    "serial",
    "session",
    "sha256",
    "version",
];

/// Where this process logs, if that is the journal. Connected once, before the fences, which allow no new socket.
static JOURNAL: OnceLock<Journal> = OnceLock::new();

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
pub(crate) fn init_logging(role: &str, level: &str) -> Result<(), LogError> {
    let filter = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(LogError::Level),
    };
    if stderr_is_journal()
        && let Ok(journal) = Journal::connect(role)
    {
        // A second call is refused below.
        let _ = JOURNAL.set(journal);
    }
    let lines = Lines {
        role: role.to_owned(),
        dated: !io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

/// Sends the lines that an audit log made durable to the journal, if this process logs there: each an entry with fields of its
/// own, so that `journalctl VALISE_EVENT=sealed` finds them.
pub(crate) fn log_events(lines: &[u8]) {
    let Some(journal) = JOURNAL.get() else {
        return;
    };
    for line in lines.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice(line) else {
            continue;
        };
        let fields = event_fields(&line);
        let words = fields.iter().map(|(name, value)| match *name {
            "event" => value.clone(),
            name => format!("{name}={value}"),
        });
        let text = words.collect::<Vec<_>>().join(" ");
        if journal.send(Level::INFO, &text, &fields).is_err() {
            // One that takes nothing must not hold up the role for each line; the audit log has them all.
            return;
        }
    }
}

/// Returns the event of an audit line, and its fields that the journal gets.
fn event_fields(line: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let text_of = |name: &&'static str| {
        let text = match line.get(*name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some((*name, text))
    };
    let names = [&["event"], &EVENT_FIELDS[..]].concat();
    names.iter().filter_map(text_of).collect()
}

struct Journal {
    role: String,
    socket: UnixDatagram,
}

impl Journal {
    fn connect(role: &str) -> io::Result<Self> {
        let socket = connected(OsStr::new(JOURNAL_SOCKET))?;
        socket.set_write_timeout(Some(JOURNAL_WAIT))?;
        let role = role.to_owned();
        Ok(Self { role, socket })
    }

    fn send(&self, level: Level, text: &str, fields: &[(&str, String)]) -> nix::Result<()> {
        let entry = entry(level, &self.role, text, fields);
        write(&self.socket, entry.as_bytes()).map(drop)
    }
}

struct Lines {
    role: String,
    dated: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        if let Some(journal) = JOURNAL.get()
            && journal.send(level, &text.joined(), &text.named).is_ok()
        {
            return;
        }
        let line = self.line(level, &text.joined());
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
    named: Vec<(&'static str, String)>,
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
                self.named.push((name, value.to_owned()));
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                self.named.push((name, format!("{value:?}")));
                write!(self.fields, " {name}={value:?}")
            }
        };
    }
}

/// Returns whether standard error is the socket that the service manager made for the journal.
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

/// Returns an entry of the journal. The text has no line end.
fn entry(level: Level, role: &str, text: &str, fields: &[(&str, String)]) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let text = &text[..text.floor_char_boundary(limits::JOURNAL_MESSAGE_BYTES_MAX)];
    let mut entry = format!(
        "PRIORITY={priority}\nMESSAGE={role}: {text}\nVALISE_ROLE={role}\nSYSLOG_IDENTIFIER=valise\n"
    );
    for (name, value) in fields {
        let value = plain(value);
        let value = &value[..value.floor_char_boundary(limits::JOURNAL_VALUE_BYTES_MAX)];
        let _ = writeln!(entry, "VALISE_{}={value}", name.to_ascii_uppercase());
    }
    entry
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
        let entry_of = |text: &str| {
            let value = "x\nMESSAGE=evil".to_owned() + &"é".repeat(limits::JOURNAL_VALUE_BYTES_MAX);
            entry(Level::WARN, "gate", text, &[("since", value)])
        };
        let short = entry_of("sealing stopped");
        let expected = "PRIORITY=4\nMESSAGE=gate: sealing stopped\nVALISE_ROLE=gate\nSYSLOG_IDENTIFIER=valise\n\
                        VALISE_SINCE=x MESSAGE=evilé";
        assert!(short.starts_with(expected), "{short}");
        assert_eq!(short.lines().count(), 5);
        let (from, _to) = UnixDatagram::pair().unwrap();
        let long = entry_of(&"é".repeat(limits::JOURNAL_MESSAGE_BYTES_MAX));
        assert_eq!(write(&from, long.as_bytes()), Ok(long.len()));
    }

    #[test]
    fn the_journal_gets_the_numbers_and_fixed_words_of_an_audit_line_and_nothing_a_person_typed() {
        let line = br#"{"seq":9,"time":"2026-11-22T21:53:18Z","event":"submitted","id":"00","serial":7,"drafter":"a.person",
            "to":["paris-desk"],"label":"X","reason":"typed","mac":"11"}"#;
        let fields = event_fields(&serde_json::from_slice(line).unwrap());
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(fields, ["event=submitted", "id=00", "seq=9", "serial=7"]);
    }

    #[test]
    fn a_journal_that_takes_nothing_holds_an_entry_up_for_a_second() {
        let (socket, _other) = UnixDatagram::pair().unwrap();
        socket.set_write_timeout(Some(JOURNAL_WAIT)).unwrap();
        let role = "gate".to_owned();
        let journal = Journal { role, socket };
        let mut sent = 0;
        while journal.send(Level::INFO, "started", &[]).is_ok() {
            sent += 1;
        }
        assert!(sent > 0);
    }

    #[test]
    fn unknown_levels_are_refused() {
        assert_eq!(init_logging("gate", "loud"), Err(LogError::Level));
    }
}
