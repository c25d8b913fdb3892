//! Requests: what a command, or another program, asks of gate or release, as a folder.
//!
//! ```text
//! requests/.NAME/           being written, invisible
//! requests/NAME/            request.toml and files, made visible by a rename
//! requests/NAME.accepted    the answer: an id or a sentence, ended by LF
//! requests/NAME.refused     the reason; the folder stays where its author put it
//! ```
//!
//! The person who asks is the folder's owner, never what the folder says. The daemon judges a copy
//! that only it can write.

mod abandoned;
mod client;
mod intake;
mod queue;
mod server;
mod service;
mod unanswered;

use std::io;
use std::path::Path;

pub use client::{Placed, Request};
pub use intake::{RequestRefused, TakeLimits, Taken, TakenFile};
use queue::RequestQueue;
pub use server::{Found, Requests};
pub use service::RequestService;

use crate::limits::ANSWER_BYTES_MAX;
use crate::manifest::one_line;
use crate::os::durable::read_bounded;

/// The file that says what is asked.
pub const REQUEST_FILE: &str = "request.toml";

/// How a refusal begins that is this host's fault, not the request's: the command ends with another exit status.
pub const SYSTEM_FAILURE: &str = "system failure";

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; the text is the answer (an id, a sentence).
    Accepted(String),
    /// Refused, and why.
    Refused(String),
    /// No daemon runs; the request stays and will be answered when one starts.
    NoDaemon,
    /// The daemon runs but has not answered in time; the request stays.
    Waiting,
}

/// The two answers and the ends of their files' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Accepted,
    Refused,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Accepted, Kind::Refused];

    const fn suffix(self) -> &'static str {
        match self {
            Kind::Accepted => ".accepted",
            Kind::Refused => ".refused",
        }
    }

    fn file(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }
}

/// Makes the text of an answer: one line that its reader takes, whatever a reason quotes of a request.
pub fn answer_text(text: &str) -> String {
    one_line(text, ANSWER_BYTES_MAX - 1)
}

/// Tells whether a folder may have this name: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`, and not an
/// answer's.
fn is_request_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && Kind::ALL.iter().all(|kind| !name.ends_with(kind.suffix()))
}

/// Reads the answer beside a name, if a whole one of this owner is there.
///
/// An answer that does not end in LF was torn by a crash, and no daemon writes one that is longer than the bound: neither
/// counts, and the daemon replaces it.
fn read_answer(requests: &Path, name: &str, owner_uid: u32) -> io::Result<Option<Answer>> {
    use std::os::unix::fs::MetadataExt as _;
    for kind in Kind::ALL {
        let path = requests.join(kind.file(name));
        match std::fs::symlink_metadata(&path) {
            // Anybody may place files beside another's request; only the daemon's count.
            Ok(metadata) if metadata.uid() == owner_uid && metadata.is_file() => {}
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        let bytes = match read_bounded(&path, ANSWER_BYTES_MAX) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge
                ) =>
            {
                continue;
            }
            read => read?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(text) = text.strip_suffix('\n') else {
            continue;
        };
        return Ok(Some(match kind {
            Kind::Accepted => Answer::Accepted(text.to_owned()),
            Kind::Refused => Answer::Refused(text.to_owned()),
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
