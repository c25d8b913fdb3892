//! Signed checkpoints: what an auditor keeps to notice a cut tail.
//!
//! # Source
//! C2SP signed-note.

use thiserror::Error;

use super::ChainState;
use crate::secret::Secret32;

/// Up to which line a log was, and what its head was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log: channel and role.
    pub origin: String,
    /// The last line's number.
    pub seq: u64,
    /// BLAKE3 of that line.
    pub head: [u8; 32],
}

/// Why a note is no checkpoint of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The text is not a signed note with the three lines of a checkpoint.
    #[error("not a checkpoint note")]
    Form,
    /// The signature is missing or does not verify.
    #[error("the checkpoint's signature does not verify")]
    Signature,
    /// The verifier key is not in the C2SP form.
    #[error("not a note verifier key")]
    Key,
}

/// Signs checkpoints.
pub struct CheckpointKey {
    seed: Secret32,
    name: String,
}

impl CheckpointKey {
    /// A key from its seed, under the origin's name.
    pub fn new(name: &str, seed: Secret32) -> Self {
        Self {
            seed,
            name: name.to_owned(),
        }
    }

    /// The public half in the C2SP form `name+hash+key`, for the auditor.
    pub fn verifier_text(&self) -> String {
        let _ = (&self.seed, &self.name);
        todo!()
    }

    /// Signs where a chain stands; `None` before its first line.
    pub fn sign(&self, state: &ChainState) -> Option<String> {
        let _ = state;
        todo!()
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointVerifier {
    name: String,
}

impl CheckpointVerifier {
    /// Reads the C2SP form `name+hash+key`.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let _ = text;
        todo!()
    }

    /// Verifies one note.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let _ = (note, &self.name);
        todo!()
    }
}
