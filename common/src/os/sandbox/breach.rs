//! The end of a role by a forbidden call: whoever sees the end notes it, and the role's next start reports it.
//!
//! ```text
//! SIGSYS ──► supervisor of `run`, or ExecStopPost= of the unit ── a line ──► audit/ROLE.forbidden-call ──► alarm
//! ```

use crate::limits;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc;

use crate::os::clock::utc_now;
use crate::os::durable::read_bounded;
use crate::role::Role;
use crate::units::count_of;

/// The subcommand of both programs that ExecStopPost= runs.
pub const NOTE_END: &str = "note-end";

/// Notes that a role ended by a forbidden call.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn note_breach(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.len() < u64::try_from(limits::BREACH_NOTES_BYTES_MAX).unwrap_or(u64::MAX) {
        file.write_all(format!("{}\n", utc_now()).as_bytes())?;
    }
    file.sync_all()
}

/// Returns whether the service manager reports in its variables that a forbidden call ended the unit's process.
///
/// # Source
/// systemd.exec(5), `$EXIT_CODE` and `$EXIT_STATUS`
pub(crate) fn ended_by_breach() -> bool {
    let is = |name, wanted: &[&str]| env::var(name).is_ok_and(|value| wanted.contains(&&*value));
    is("EXIT_CODE", &["killed", "dumped"]) && is("EXIT_STATUS", &["SYS"])
}

/// Returns the text of the alarm, if ends were noted.
pub(super) fn report(role: Role, path: &Path) -> Option<String> {
    let noted = read_bounded(path, 2 * limits::BREACH_NOTES_BYTES_MAX);
    let text = match noted {
        Ok(noted) => String::from_utf8_lossy(&noted).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => String::new(),
    };
    let last = text.lines().last().unwrap_or("at an unknown time");
    Some(format!(
        "the kernel ended {role} {}, the last {last}, because it made a system call that no role makes; see {}",
        count_of(u64::try_from(text.lines().count()).unwrap_or(0), "time"),
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_end_is_a_line_and_all_are_one_alarm_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.forbidden-call");
        assert_eq!(report(Role::Gate, &path), None);
        note_breach(&path).unwrap();
        let text = report(Role::Gate, &path).unwrap();
        assert!(text.contains("ended gate 1 time,"), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
        note_breach(&path).unwrap();
        assert!(report(Role::Gate, &path).unwrap().contains("2 times,"));
        for _ in 0..1_000 {
            note_breach(&path).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 5_000);
        assert!(report(Role::Gate, &path).is_some());
    }
}
