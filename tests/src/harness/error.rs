//! Failures around the programs under test.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Shorthand of the harness.
pub type Result<T> = std::result::Result<T, HarnessError>;

/// The reason why the harness gave up.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A command had an unexpected result.
    #[error("`{command}` ended with status {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, or "signal".
        status: String,
        /// Its output.
        output: String,
    },
    /// A program is missing.
    #[error("{program} is not in {folder}; build it first (make build)")]
    NoProgram {
        /// The program.
        program: String,
        /// The folder that was searched.
        folder: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s{detail}", .waited.as_secs())]
    Timeout {
        /// The awaited event.
        what: String,
        /// The time that was waited.
        waited: Duration,
        /// The ends of the logs, if they are known.
        detail: String,
    },
    /// A program ended that should run.
    #[error("{name} ended by itself ({status}); its last words:\n{log}")]
    Ended {
        /// The program.
        name: String,
        /// Its status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// An arrived cable differs from the submission.
    #[error("{0}")]
    Wrong(String),
    /// The options are wrong.
    #[error("{0}")]
    Usage(String),
}

impl HarnessError {
    /// Adds the operation on `path` to an error of the operating system.
    pub fn io(what: &str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what: format!("{what} {}", path.display()),
            source,
        }
    }
}

/// Adds the operation, and its path, to a result of the operating system.
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
