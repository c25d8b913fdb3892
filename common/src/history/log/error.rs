//! Why an audit log could not be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::os::entropy;
use crate::role::Role;

/// Why a log could not be used.
#[derive(Debug, Error)]
pub enum AuditLogError {
    /// An index knows more lines than the log has.
    #[error(
        "the audit log ends at line {log} but the register knows {register}: the log was cut or replaced; \
         restore it, or delete register.db to go on with what is left"
    )]
    Cut {
        /// Lines of the log.
        log: u64,
        /// Lines that the register knows.
        register: u64,
    },
    /// The system failed. After a failed sync what the disk holds is unknown, so the caller ends the process.
    #[error("could not {doing} the audit log: {source}")]
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
    /// A line is of a known kind, but not what the role writes.
    #[error("line {line} of the audit log is not what {role} writes; run audit verify")]
    Foreign {
        /// Its number.
        line: u64,
        /// The role.
        role: Role,
    },
    /// The key file, or the key that signs checkpoints, is damaged.
    #[error(
        "{path} is damaged, and the audit log cannot go on without this key: keep audit/ for the auditor, and commission the host \
         again in a new state folder"
    )]
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The two halves of the key that signs checkpoints are not of one key.
    #[error(
        "{verifier} is not the public half of {signer}: one of them is damaged. Put into the first what init printed for the \
         auditor; if they still differ, keep audit/ for the auditor, and commission the host again in a new state folder"
    )]
    Signer {
        /// The secret half.
        signer: PathBuf,
        /// The public half.
        verifier: PathBuf,
    },
    /// The kernel gave no random bytes for a new log's keys.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
    /// An earlier write failed; what the disk holds is unknown until the process has started anew.
    #[error("an earlier write to the audit log failed: the process must end")]
    Failed,
}

impl AuditLogError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
