//! `status --follow`: what `status` shows, and from then on what changes of it.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::audit::Form;
use super::{CliError, print_json_line, print_line};
use crate::manifest::printable;
use crate::os::tty;
use crate::os::watch::{DirWatch, Notice};

/// The longest wait for a change: a daemon that ends rewrites nothing, and only its lock tells.
const LOOK_MS: u16 = 2_000;

/// The first words of the lines of an alarm: what happened, what it means, what repairs it.
pub(crate) const ALARM_LINES: [&str; 3] = ["ALARM", "means", "repair"];

/// What `status` shows at one moment.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// What a person reads.
    pub lines: Vec<String>,
    /// Lines that change by themselves all the time, and so are no news: the last datagram, free space.
    pub passing: Vec<String>,
    /// The same as JSON.
    pub document: Value,
}

/// Shows what `look` returns, and shows it again as it changes, until the reader goes away: on a terminal redrawn in place,
/// elsewhere only the lines that changed, and as JSON one document a line.
///
/// # Errors
/// Those of `look`, and the system's.
pub fn follow(
    view: &Path,
    form: Form,
    mut look: impl FnMut() -> Result<Shown, CliError>,
) -> Result<(), CliError> {
    // First, so that a user without the right gets its reason.
    look()?;
    // Where the system has no watch left, every look comes after the same pause.
    let mut watch = DirWatch::new().and_then(|mut watch| {
        watch.add(view, Notice::Arrivals)?;
        Ok(watch)
    });
    let is_screen = form == Form::Text && io::stdout().is_terminal();
    let mut last: Option<Shown> = None;
    loop {
        let shown = look()?;
        let before = last.as_ref();
        let is_news = before.is_none_or(|before| before.lines != shown.lines);
        if is_screen {
            if is_news || before.is_some_and(|before| before.passing != shown.passing) {
                redraw(&shown, before.is_none()).map_err(CliError::system)?;
            }
        } else if is_news && form == Form::Json {
            print_json_line(&shown.document)?;
        } else if is_news {
            for line in changes(before, &shown) {
                print_line(&line)?;
            }
        }
        last = Some(shown);
        let watched = watch.iter().map(AsFd::as_fd);
        let mut ready: Vec<PollFd> = watched
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut ready, PollTimeout::from(LOOK_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(CliError::system(errno)),
        }
        if let Ok(watch) = &mut watch {
            watch.drain().map_err(CliError::system)?;
        }
    }
}

/// Returns every line at first, then those that are new, and those that went without another in their place.
fn changes(before: Option<&Shown>, now: &Shown) -> Vec<String> {
    let Some(before) = before else {
        return [&now.lines[..], &now.passing].concat();
    };
    let subject = |line: &str| -> String {
        // Lines of an alarm are about what its word names, every other line about its first word.
        let is_of_alarm = ALARM_LINES.iter().any(|word| line.starts_with(word));
        let count = if is_of_alarm { 2 } else { 1 };
        let words: Vec<&str> = line.split_whitespace().take(count).collect();
        words.join(" ")
    };
    let is_replaced = |line: &str| now.lines.iter().any(|one| subject(one) == subject(line));
    // What an alarm meant goes with it.
    let is_reported = |line: &&String| !ALARM_LINES[1..].iter().any(|word| line.starts_with(word));
    let gone = before.lines.iter().filter(is_reported);
    let gone = gone.filter(|line| !is_replaced(line));
    let new = now.lines.iter().filter(|line| !before.lines.contains(line));
    gone.map(|line| format!("ended: {line}"))
        .chain(new.cloned())
        .collect()
}

/// Draws over what was drawn before.
fn redraw(shown: &Shown, is_first: bool) -> io::Result<()> {
    const HOME: &str = "\x1b[H";
    const ERASE_SCREEN: &str = "\x1b[2J";
    const ERASE_LINE: &str = "\x1b[K";
    const ERASE_BELOW: &str = "\x1b[J";
    let (columns, rows) = tty::size().unwrap_or((80, 24));
    let mut text = String::from(if is_first { ERASE_SCREEN } else { "" });
    text.push_str(HOME);
    let mut room = rows.saturating_sub(2);
    let lines = shown.lines.iter().chain(&shown.passing);
    for (index, line) in lines.clone().enumerate() {
        let line = printable(line);
        let needed = line.chars().count().div_ceil(columns).max(1);
        if needed > room {
            let left = lines.clone().count().saturating_sub(index);
            text.push_str(&format!("… {left} more{ERASE_LINE}\n"));
            break;
        }
        room = room.saturating_sub(needed);
        text.push_str(&line);
        text.push_str(ERASE_LINE);
        text.push('\n');
    }
    text.push_str(ERASE_BELOW);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str]) -> Shown {
        Shown {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            passing: vec!["last datagram now".to_owned()],
            document: Value::Null,
        }
    }

    #[test]
    fn only_what_changed_is_printed() {
        let first = shown(&[
            "gate      running",
            "cables    none",
            "ALARM     slots: low",
        ]);
        assert_eq!(
            changes(None, &first),
            [
                "gate      running",
                "cables    none",
                "ALARM     slots: low",
                "last datagram now"
            ]
        );
        let second = shown(&[
            "gate      running",
            "cables    1 queued",
            "ALARM     disk: full",
        ]);
        assert_eq!(
            changes(Some(&first), &second),
            [
                "ended: ALARM     slots: low",
                "cables    1 queued",
                "ALARM     disk: full"
            ]
        );
        assert!(changes(Some(&second), &second).is_empty());
    }
}
