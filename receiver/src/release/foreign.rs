//! Files that stop a part of this host's work: those that Valise did not make, and its own that `release` may not read.
//! `status` shows each with its path until it is gone or can be read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::alarms::Alarms;
use valise_common::units::UtcTime;

use crate::spool::regular::{is_in_the_way, open_regular};

/// Paths that are kept at a time; more than a person looks at.
const FILES_MAX: usize = 64;

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 200;

/// Why a file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Valise did not make it.
    Foreign,
    /// A cable that arrived, and that `release` has no right to read.
    Unreadable,
}

impl Trouble {
    const ALL: [Trouble; 2] = [Trouble::Foreign, Trouble::Unreadable];

    fn alarm(self) -> Alarm {
        match self {
            Trouble::Foreign => Alarm::ForeignFile,
            Trouble::Unreadable => Alarm::Unreadable,
        }
    }

    fn repair(self, path: &Path) -> String {
        match self {
            Trouble::Foreign => format!(
                "sudo ls -l {}, then move it out of the state folder",
                path.display()
            ),
            Trouble::Unreadable => format!("sudo chmod 0640 {}", path.display()),
        }
    }
}

/// The files.
///
/// # Bounds
/// [`FILES_MAX`]; while there are more, each that goes makes room for one that is found again.
#[derive(Debug, Default)]
pub struct Foreign {
    files: BTreeMap<PathBuf, (Trouble, String)>,
}

impl Foreign {
    /// Adds a file, or says something else of one that is known. `advice` follows the file's description.
    pub fn note(&mut self, trouble: Trouble, path: &Path, advice: &str) {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(path) {
            return;
        }
        let text = format!("{}{advice}", describe(path));
        self.files.insert(path.to_path_buf(), (trouble, text));
    }

    /// Removes a file that no longer stops anything.
    pub fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Removes what is gone, and sets the alarms.
    pub fn show(&mut self, alarms: &mut Alarms, now: UtcTime) {
        self.files.retain(|path, (trouble, _)| match trouble {
            Trouble::Foreign => fs::symlink_metadata(path).is_ok(),
            Trouble::Unreadable => open_regular(path).is_err_and(|error| is_in_the_way(&error)),
        });
        for trouble in Trouble::ALL {
            let mut texts = self
                .files
                .iter()
                .filter(|(_, (of, _))| *of == trouble)
                .map(|(path, (_, text))| Cause::repaired_by(text, trouble.repair(path)));
            let first = texts.next();
            let others = texts.count();
            let count = others.saturating_add(usize::from(first.is_some()));
            let level = u64::try_from(count).unwrap_or(u64::MAX);
            alarms.set(trouble.alarm(), now, level, || {
                let mut first = first.unwrap_or_else(|| "".into());
                if others > 0 {
                    first
                        .text
                        .push_str(&format!("; {others} more of this kind"));
                }
                first
            });
        }
    }
}

/// Returns path, type, owner and mode of a file, as the beginning of a sentence.
fn describe(path: &Path) -> String {
    let shown: String = path
        .to_string_lossy()
        .chars()
        .flat_map(char::escape_debug)
        .take(PATH_CHARS_MAX)
        .collect();
    let Ok(found) = fs::symlink_metadata(path) else {
        return shown;
    };
    let file_type = found.file_type();
    let kind = if file_type.is_symlink() {
        "a symbolic link"
    } else if file_type.is_dir() {
        "a folder"
    } else if file_type.is_file() {
        "a file"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    format!(
        "{shown} is {kind} of user {} and group {}, mode {:04o}",
        found.uid(),
        found.gid(),
        found.mode() & 0o7777
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use valise_common::role::Role;

    use super::*;

    fn shown(foreign: &mut Foreign, alarms: &mut Alarms) -> Vec<(String, String)> {
        foreign.show(alarms, UtcTime::from_s(5));
        let views = alarms.views();
        views
            .into_iter()
            .map(|alarm| (alarm.alarm, alarm.text))
            .collect()
    }

    #[test]
    fn a_file_is_named_with_owner_and_mode_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut foreign, mut alarms) = (
            Foreign::default(),
            Alarms::new(Role::Release, Path::new("/state")),
        );
        let (one, two) = (folder.path().join("o\u{1b}ne"), folder.path().join("two"));
        for path in [&one, &two] {
            fs::write(path, "x").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
            foreign.note(Trouble::Foreign, path, ": look");
            foreign.note(Trouble::Foreign, path, ": look");
        }
        let alarm = shown(&mut foreign, &mut alarms).remove(0);
        let root = folder.path().display();
        let uid = fs::metadata(&one).unwrap().uid();
        let gid = fs::metadata(&one).unwrap().gid();
        assert_eq!(alarm.0, "foreign-file");
        assert_eq!(
            alarm.1,
            format!(
                "{root}/o\\u{{1b}}ne is a file of user {uid} and group {gid}, mode 0640: look; 1 more of this kind"
            )
        );
        fs::remove_file(&one).unwrap();
        let alarm = shown(&mut foreign, &mut alarms).remove(0);
        assert!(
            alarm.1.starts_with(&format!("{root}/two is a file")),
            "{}",
            alarm.1
        );
        foreign.note(Trouble::Unreadable, &two, ": look");
        assert!(
            shown(&mut foreign, &mut alarms).is_empty(),
            "it can be read"
        );
        foreign.note(Trouble::Foreign, &two, ": look");
        foreign.forget(&two);
        assert!(shown(&mut foreign, &mut alarms).is_empty());
    }
}
