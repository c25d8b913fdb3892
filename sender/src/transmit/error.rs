//! The reasons why transmit ends.

use std::io;

use thiserror::Error;
use valise_common::history::log::AuditLogError;
use valise_common::host::commissioned::HostError;
use valise_common::os::entropy::EntropyError;
use valise_common::os::sandbox::SandboxError;

use super::record::RecordError;
use crate::spool::link_key::LinkKeyError;
use crate::spool::outbox::OutboxError;

/// Why transmit ended.
#[derive(Debug, Error)]
pub enum TransmitError {
    /// The lock is held.
    #[error("transmit is running already on this state folder")]
    Running,
    /// `init` has not been run.
    #[error(transparent)]
    NotCommissioned(#[from] HostError),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// Cover at an unlimited rate would fill the machine and the link.
    #[error("link.cover = true needs a link.rate in bit/s, not \"unlimited\"")]
    CoverNeedsRate,
    /// The link cannot be opened.
    #[error("link: {0}")]
    Link(io::Error),
    /// The sandbox of a process of root allows only the device that was there at the start.
    #[error(
        "link.device was plugged in, and the fences of root keep transmit from it: it is to be started again"
    )]
    OtherDevice,
    /// The outbox cannot be read.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The link key cannot be used.
    #[error(transparent)]
    Key(#[from] LinkKeyError),
    /// No random session id.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Progress or an event cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The sandbox cannot be entered.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A file, a directory or a system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl TransmitError {
    /// A key of the configuration is missing or wrong, although its parser has made sure of it.
    pub(super) fn missing(key: &str) -> Self {
        Self::Link(io::Error::other(format!(
            "{key} is missing or out of range"
        )))
    }

    /// Returns whether the configuration or the commissioning is at fault: another start would not help.
    pub fn is_configuration(&self) -> bool {
        use TransmitError::{CoverNeedsRate, NotCommissioned};
        matches!(self, NotCommissioned(_) | CoverNeedsRate)
    }
}

/// Adds the operation that failed.
pub(super) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, TransmitError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, TransmitError> {
        self.map_err(|error| TransmitError::Io {
            what,
            source: error.into(),
        })
    }
}
