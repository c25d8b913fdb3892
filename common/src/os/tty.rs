//! The person at a terminal: how wide it is, and what they answer.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};

/// The terminal of this process, whatever its standard streams are.
const TERMINAL: &str = "/dev/tty";

/// Bytes of the longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64;

/// Returns the columns and rows of the terminal on standard output, or nothing if it is not a terminal.
pub fn size() -> Option<(usize, usize)> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(&out).ok()?;
    (size.ws_col > 0 && size.ws_row > 0)
        .then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Returns whether a person types at standard input.
pub fn is_attended() -> bool {
    io::stdin().is_terminal()
}

/// Shows a text to the person at the terminal, asks a question, and returns whether they said yes. Both go to the terminal
/// itself, so that nobody answers what a redirection has hidden. What was typed before the question is no answer to it.
///
/// # Errors
/// If this process has no terminal.
pub fn confirm(shown: &str, question: &str) -> io::Result<bool> {
    let terminal = match OpenOptions::new().read(true).write(true).open(TERMINAL) {
        Ok(terminal) => terminal,
        // A terminal that does not control this process, as in some containers, is open for both ways all the same.
        Err(_) if io::stdin().is_terminal() => {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        }
        Err(error) => return Err(error),
    };
    tcflush(&terminal, QueueSelector::IFlush)?;
    write!(&terminal, "{shown}\n{question} [y/N] ")?;
    let mut answer = String::new();
    BufReader::new(&terminal)
        .take(ANSWER_BYTES_MAX)
        .read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
