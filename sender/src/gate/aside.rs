//! Files that gate did not make: moved out of the way, and shown until a person has taken them away.

use std::io;
use std::path::{Path, PathBuf};

use valise_common::alarm::Alarm;
use valise_common::os::durable::make_dir;

use super::error::GateError;
use super::host::Gate;

/// Characters that are shown of the name of something that gate did not make.
const NAME_CHARS_MAX: usize = 100;

impl Gate {
    /// Moves something that no rule explains out of the way, for a person to look at.
    pub(super) fn put_aside(&mut self, path: &Path) -> Result<(), GateError> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let aside = self.state.root().join("aside");
        make_dir(&aside, 0o700)?;
        let mut target: PathBuf = aside.join(name);
        let mut number = 1;
        while target.exists() {
            let mut numbered = name.to_owned();
            numbered.push(format!(".{number}"));
            target = aside.join(numbered);
            number += 1;
        }
        match std::fs::rename(path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        self.check_aside()
    }

    /// Shows what was put aside, until a person has taken it away.
    ///
    /// # Errors
    /// Any error of the system.
    pub(super) fn check_aside(&mut self) -> Result<(), GateError> {
        let aside = self.state.root().join("aside");
        let mut entries = match std::fs::read_dir(&aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.shown.alarms.clear(Alarm::Aside);
                return Ok(());
            }
            entries => entries?,
        };
        let Some(first) = entries.next().transpose()? else {
            self.shown.alarms.clear(Alarm::Aside);
            return Ok(());
        };
        let name: String = first
            .file_name()
            .to_string_lossy()
            .chars()
            .flat_map(char::escape_debug)
            .take(NAME_CHARS_MAX)
            .collect();
        let mut text = format!(
            "gate did not make {}/{name}, and has put it aside",
            aside.display()
        );
        let others = entries.count();
        if others > 0 {
            text.push_str(&format!("; {others} more are there"));
        }
        self.shown.alarm(Alarm::Aside, text);
        Ok(())
    }
}
