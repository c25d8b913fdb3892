//! What a command reports of something that is done, such as the id of a cable: it is printed once, and cannot be asked for
//! again. Where standard output does not take it, it is on standard error.

use std::io::{self, Write as _};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use serde::Serialize;

use super::CliError;
use crate::limits::ANSWER_BYTES_MAX;
use crate::manifest::{one_line, printable, printable_json};

/// The device of `/dev/null` (devices.txt of the kernel: character device 1, 3).
const NULL_DEVICE: (u64, u64) = (1, 3);

/// Prints what is done: a line, or several.
///
/// # Errors
/// [`CliError::System`] if standard output takes nothing. The text has what was to be printed.
pub fn print_done(line: &str) -> Result<(), CliError> {
    write_done(&printable(line))
}

/// Prints what is done as one JSON document.
///
/// # Errors
/// As [`print_done`].
pub fn print_done_json(value: &impl Serialize) -> Result<(), CliError> {
    let document = serde_json::to_string_pretty(value).map_err(CliError::system)?;
    write_done(&printable_json(&document))
}

/// Returns whether what is printed on standard output is lost, although writing it fails nowhere.
///
/// Rust opens `/dev/null` for reading and writing in place of a standard output that is closed (`>&-`), before any code of
/// this program runs. A shell opens it for writing alone (`>/dev/null`), and then nobody wants the output. A program that
/// starts this one may do either.
pub(super) fn is_lost(output: impl AsFd) -> bool {
    let flags = fcntl(&output, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    let device = fstat(&output).map(|stat| {
        (
            nix::sys::stat::major(stat.st_rdev),
            nix::sys::stat::minor(stat.st_rdev),
        )
    });
    device == Ok(NULL_DEVICE) && flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
}

fn write_done(text: &str) -> Result<(), CliError> {
    if is_lost(io::stdout()) {
        // Not a failure: what was asked for is done, and a second try would do it twice.
        let _ = writeln!(io::stderr(), "{text}");
        return Ok(());
    }
    writeln!(io::stdout(), "{text}").map_err(|error| {
        let text = one_line(text, ANSWER_BYTES_MAX);
        CliError::System(format!(
            "it is done, and standard output did not take what is to be printed ({error}): {text}"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_closed_output_is_told_from_one_that_a_shell_discards() {
        let null = |read: bool| {
            let opened = OpenOptions::new().read(read).write(true).open("/dev/null");
            is_lost(opened.unwrap())
        };
        assert!(null(true));
        assert!(!null(false));
        assert!(!is_lost(tempfile::tempfile().unwrap()));
        let zero = OpenOptions::new().read(true).write(true).open("/dev/zero");
        assert!(!is_lost(zero.unwrap()));
    }
}
