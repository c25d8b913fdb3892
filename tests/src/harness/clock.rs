//! A clock that a test moves while programs run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Context, HarnessError, Result};
use super::programs::source_root;

/// The wall clock of one host's daemons: the true time, plus a number of seconds that the test sets.
#[derive(Debug, Clone)]
pub struct TestClock {
    library: PathBuf,
    ahead: PathBuf,
}

impl TestClock {
    /// Compiles the library with which daemons are started. It shows the true time until it is moved.
    ///
    /// # Errors
    /// If there is no C compiler, or the library cannot be written.
    pub fn make(folder: &Path) -> Result<Self> {
        let clock = Self {
            library: folder.join("clock.so"),
            ahead: folder.join("clock"),
        };
        compile_library("tests/src/harness/clock.c", &clock.library)?;
        fs::write(&clock.ahead, [0; 8]).context("write", &clock.ahead)?;
        Ok(clock)
    }

    /// The environment with which a program must be started.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [
            ("LD_PRELOAD", &self.library),
            ("VALISE_TEST_CLOCK", &self.ahead),
        ]
    }

    /// Moves the clock, at once and in every program that uses it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_ahead(&self, ahead_s: i64) -> Result<()> {
        // Written through the page that the programs have mapped.
        let file = File::options().write(true).open(&self.ahead);
        file.and_then(|file| file.write_all_at(&ahead_s.to_ne_bytes(), 0))
            .context("write", &self.ahead)
    }
}

/// Compiles a library with which programs are started.
///
/// # Errors
/// If there is no C compiler, or the library cannot be written.
pub(crate) fn compile_library(source: &str, library: &Path) -> Result<()> {
    let source = source_root()?.join(source);
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(library)
        .arg(&source)
        .status()
        .context("compile", &source)?;
    if !status.success() {
        let text = format!("cc could not compile {}: {status}", source.display());
        return Err(HarnessError::Wrong(text));
    }
    Ok(())
}
