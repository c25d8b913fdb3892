//! A role's audit log on disk: `ROLE.log`, `ROLE.key`, `ROLE.checkpoints` and their keys in one folder.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::audit::{AuditRecord, Fields};
use crate::secret::Secret32;
use crate::units::UtcTime;

/// Why a log could not be used.
#[derive(Debug, Error)]
pub enum AuditLogError {
    /// The system failed. After a failed sync what the disk holds is unknown, so the caller ends the process.
    #[error("the audit log could not be {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The log does not go with its key: it was cut, or changed.
    #[error(
        "the audit log does not match its key file at line {line}: keep both and run audit verify"
    )]
    Mismatch {
        /// The line, from 1.
        line: u64,
    },
    /// The key file is damaged.
    #[error(
        "the audit log's key file is damaged; restore it, or begin a new log and tell the auditor"
    )]
    KeyFile,
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes behind the last whole line, put aside: a commit that never returned. The caller writes a line about them.
    pub torn_bytes: u64,
    /// Whole lines beyond the key file: committed, or about to be, when the process was killed.
    pub lines_forward: u64,
}

/// A role's audit log, open for appending.
pub struct AuditLog {}

impl AuditLog {
    /// Begins a log in `folder` (which exists): `origin` names it in checkpoints, for example `valise/CHANNEL/gate`. The
    /// entropy is passed in. Returns K_0, which the caller shows to the auditor once and forgets.
    ///
    /// # Errors
    /// The system's, and a log that exists already.
    pub fn create(
        folder: &Path,
        role: &str,
        origin: &str,
    ) -> Result<(Self, Secret32), AuditLogError> {
        let _ = (folder, role, origin);
        todo!()
    }

    /// Opens a log, verifies what lies beyond its key file and puts a torn tail aside.
    ///
    /// # Errors
    /// The system's, and a log that does not go with its key file.
    pub fn open(folder: &Path, role: &str) -> Result<(Self, Recovered), AuditLogError> {
        let _ = (folder, role);
        todo!()
    }

    /// Adds a line to the next commit and returns its number. Nothing has happened before [`AuditLog::commit`] returns.
    pub fn append(&mut self, now: UtcTime, event: &str, fields: Fields<'_>) -> u64 {
        let _ = (now, event, fields);
        todo!()
    }

    /// Makes every appended line durable with one write and one sync, then replaces the key. Writes a checkpoint when 1,000
    /// lines or an hour have gone by since the last.
    ///
    /// # Errors
    /// The caller must end the process: what the disk holds is unknown.
    pub fn commit(&mut self) -> Result<(), AuditLogError> {
        todo!()
    }

    /// Commits, and writes a checkpoint now: at start, at stop, and once an hour (see [`AuditLog::checkpoint_due`]).
    ///
    /// # Errors
    /// As [`AuditLog::commit`].
    pub fn checkpoint(&mut self, now: UtcTime) -> Result<(), AuditLogError> {
        let _ = now;
        todo!()
    }

    /// When the next checkpoint is due if no 1,000 lines come first.
    pub fn checkpoint_due(&self) -> UtcTime {
        todo!()
    }

    /// The number of the next line.
    pub fn next_seq(&self) -> u64 {
        todo!()
    }

    /// The last line's time: "now" is never before it.
    pub fn last_time(&self) -> Option<UtcTime> {
        todo!()
    }

    /// The committed lines from number `seq` on, for rolling the register forward. Finds the first by bisection.
    ///
    /// # Errors
    /// The system's; a line that cannot be parsed is an error in the iterator.
    pub fn lines_from(
        &self,
        seq: u64,
    ) -> Result<impl Iterator<Item = Result<AuditRecord, AuditLogError>> + use<>, AuditLogError>
    {
        let _ = seq;
        Ok(std::iter::empty())
    }
}
