//! One-time keys of a serial.

pub use crate::bundle::{SlotKey, SlotPublic};
use crate::secret::Secret32;

/// The receiver's half of a slot. Whoever erases it closes the container for ever.
pub struct SlotSecret {
    /// The X-Wing decapsulation key itself, not material to derive one from.
    pub seed: Secret32,
    /// Shared with the sender.
    pub psk: Secret32,
}

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not an X-Wing public key.
    #[error("not an X-Wing public key")]
    Public,
}

impl SlotSecret {
    /// The sender's half.
    pub fn public(&self) -> SlotPublic {
        todo!()
    }
}

/// The public key of a seed.
pub fn public_of(_seed: &Secret32) -> Box<SlotKey> {
    todo!()
}

/// Checks that a public key is one that a seed could have.
///
/// # Errors
/// [`SlotError::Public`].
pub fn check_public(_public: &SlotKey) -> Result<(), SlotError> {
    todo!()
}
