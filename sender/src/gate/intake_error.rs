//! Why a request is refused before anybody judges it.

use std::io;

use thiserror::Error;
use valise_common::host::requests::{Found, RequestRefused};
use valise_common::host::trust_store::TrustStoreError;
use valise_common::os::durable::is_full;
use valise_common::units::ByteSize;

/// A request that is refused before anybody judges it.
#[derive(Debug)]
pub struct Refused {
    /// The request.
    pub found: Found,
    /// What was asked, as far as it could be read.
    pub kind: &'static str,
    /// Why.
    pub reason: IntakeError,
}

/// Why a request is refused before anybody judges it.
#[derive(Debug, Error)]
pub enum IntakeError {
    /// The folder breaks a rule.
    #[error(transparent)]
    Folder(#[from] RequestRefused),
    /// `request.toml` cannot be read.
    #[error("request.toml: {0}")]
    Toml(String),
    /// The request has other files than it should.
    #[error("{0}")]
    Files(&'static str),
    /// Something in it is not what it should be.
    #[error("{what}: {reason}")]
    Content {
        /// A word for the audit log.
        code: &'static str,
        /// Which part of the request.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The disk cannot take it.
    #[error(
        "the disk is nearly full ({} free, {} needed)",
        ByteSize(*free_bytes).rough(),
        ByteSize(*needed_bytes).rough()
    )]
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// What would be needed.
        needed_bytes: u64,
    },
    /// Nobody whom this host knows asks.
    #[error("user {uid} is no person of this host; [persons] in the configuration maps users")]
    UnknownUser {
        /// Who asks.
        uid: u32,
    },
    /// A trust list or an administrator's signature cannot be used.
    #[error("{reason}")]
    Signed {
        /// A word for the audit log.
        code: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl IntakeError {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            IntakeError::Folder(RequestRefused::System(_)) => "system",
            IntakeError::Folder(RequestRefused::NoRoom) => "disk-full",
            IntakeError::Folder(_) => "folder",
            IntakeError::Toml(_) => "request-toml",
            IntakeError::Files(_) => "files",
            IntakeError::Content { code, .. } | IntakeError::Signed { code, .. } => code,
            IntakeError::DiskFull { .. } => "disk-full",
            IntakeError::UnknownUser { .. } => "unknown-user",
            IntakeError::System(_) => "system",
        }
    }

    /// Whether the system failed, so that nothing is wrong with the request.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            IntakeError::DiskFull { .. }
                | IntakeError::System(_)
                | IntakeError::Folder(RequestRefused::NoRoom | RequestRefused::System(_))
        )
    }

    /// Whether the request could be taken if the disk had room.
    pub fn lacks_room(&self) -> bool {
        match self {
            IntakeError::DiskFull { .. } | IntakeError::Folder(RequestRefused::NoRoom) => true,
            IntakeError::System(error) => is_full(error),
            _ => false,
        }
    }
}

impl From<TrustStoreError> for IntakeError {
    fn from(error: TrustStoreError) -> IntakeError {
        let (code, reason) = (error.code(), error.to_string());
        match error {
            TrustStoreError::Io(source) if code == "system" => IntakeError::System(source),
            _ => IntakeError::Signed { code, reason },
        }
    }
}

pub(super) fn content(
    code: &'static str,
    what: &'static str,
    reason: &dyn std::fmt::Display,
) -> IntakeError {
    IntakeError::Content {
        code,
        what,
        reason: reason.to_string(),
    }
}
