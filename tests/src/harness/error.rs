//! What can go wrong around the programs under test.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Shorthand of the harness.
pub type Result<T> = std::result::Result<T, HarnessError>;

/// Why the harness gave up.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What it answered.
        source: io::Error,
    },
    /// A command answered otherwise than expected.
    #[error("`{command}` ended with status {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, or "signal".
        status: String,
        /// What it said.
        output: String,
    },
    /// A program is missing.
    #[error("{program} is not in {folder}; build it first (make build)")]
    NoProgram {
        /// The program.
        program: String,
        /// Where it was looked for.
        folder: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s{detail}", .waited.as_secs())]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        waited: Duration,
        /// What the logs said, if that is known.
        detail: String,
    },
    /// A program ended that should run.
    #[error("{name} ended by itself ({status}); its last words:\n{log}")]
    Ended {
        /// Which one.
        name: String,
        /// How.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something that arrived is not what was sent.
    #[error("{0}")]
    Wrong(String),
    /// What was asked cannot be done: wrong usage.
    #[error("{0}")]
    Usage(String),
}

impl HarnessError {
    /// Wraps an error of the operating system with what was attempted on `path`.
    pub fn io(what: &str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what: format!("{what} {}", path.display()),
            source,
        }
    }
}

/// Attaches what was attempted, and on which path, to a result of the operating system.
pub(crate) trait Context<T> {
    fn context(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|source| HarnessError::io(what, path, source))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|errno| HarnessError::io(what, path, errno.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_was_attempted_and_where() {
        let result: io::Result<()> = Err(io::ErrorKind::NotFound.into());
        let error = result
            .context("open", Path::new("/nowhere"))
            .expect_err("an error");
        assert!(error.to_string().starts_with("open /nowhere: "), "{error}");
    }
}
