//! What two administrators sign for a bundle: it names the bundle without holding a secret.

use super::BundleError;
use crate::ids::{BundleId, ChannelId, Serial};

/// The statement beside a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The channel.
    pub channel: ChannelId,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The serial of its first slot.
    pub first_serial: Serial,
    /// The number of its slots.
    pub count: u32,
    /// The bundle whose unused slots become void.
    pub replaces: Option<BundleId>,
    /// SHA-256 of the bundle's file.
    pub sha256: [u8; 32],
}

/// Why a statement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// A line is not what this version writes there.
    #[error("line {line} of the statement is not what this version writes there")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// The bundle is another one than the statement's.
    #[error("the bundle is not the one that the statement names: another {field}")]
    Mismatch {
        /// What differs.
        field: &'static str,
    },
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Statement {
    /// Makes the statement of a bundle's file.
    ///
    /// # Errors
    /// If the file is no bundle.
    pub fn of(_bundle_bytes: &[u8], _replaces: Option<BundleId>) -> Result<Self, StatementError> {
        todo!()
    }

    /// Writes the text that is signed.
    pub fn encode(&self) -> String {
        todo!()
    }

    /// Reads the text, which must be exactly what [`Statement::encode`] writes.
    ///
    /// # Errors
    /// [`StatementError::Line`] with the first line that differs.
    pub fn decode(_text: &[u8]) -> Result<Self, StatementError> {
        todo!()
    }

    /// Checks that a bundle's file is the one that the statement names.
    ///
    /// # Errors
    /// What differs.
    pub fn matches(&self, _bundle_bytes: &[u8]) -> Result<(), StatementError> {
        todo!()
    }
}
