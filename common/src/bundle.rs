//! The bundle that a courier carries from receiver to sender, and the statement that administrators sign for it.

mod statement;

use zeroize::Zeroizing;

pub use statement::{Statement, StatementError};

use crate::ids::{BundleId, ChannelId, LinkKeyId, Serial};
use crate::limits::{SLOT_PUBLIC_BYTES, SLOTS_MAX};
use crate::secret::{Secret, Secret32};

/// The first eight bytes of a bundle.
const MAGIC: [u8; 8] = *b"VALBDL\x00\x01";

/// Bytes in front of the slots.
const HEADER_BYTES: usize = 76;

/// Bytes of a slot in a bundle: PSK and public key.
pub const SLOT_RECORD_BYTES: usize = 32 + SLOT_PUBLIC_BYTES;

/// Bytes of the largest bundle.
pub const BUNDLE_BYTES_MAX: usize = bundle_bytes(SLOTS_MAX);

/// An X-Wing public key.
pub type SlotKey = [u8; SLOT_PUBLIC_BYTES];

/// The sender's half of a slot.
pub struct SlotPublic {
    /// Shared by both sides, and erased by the sender once it has sealed: it keeps a recorded container closed even if the
    /// KEM should fall.
    pub psk: Secret32,
    /// The receiver's one-time public key.
    pub public: Box<SlotKey>,
}

/// All that a sender needs to seal `slots.len()` cables.
///
/// # Shape
/// ```text
///  0  8  magic "VALBDL" 00 01        36  4  count
///  8 16  channel id                  40  1  link key id
/// 24  4  bundle id                   41  3  zero
/// 28  8  first serial                44 32  link key
/// 76  1248 · count  per slot: PSK (32), X-Wing public key (1216)
/// ```
pub struct Bundle {
    /// The channel that the bundle is for.
    pub channel: ChannelId,
    /// Rises with every bundle of a channel.
    pub id: BundleId,
    /// The serial of the first slot.
    pub first: Serial,
    /// Names the link key in every datagram.
    pub link_key_id: LinkKeyId,
    /// The new link key.
    pub link_key: Secret32,
    /// One slot a serial, without holes.
    pub slots: Vec<SlotPublic>,
}

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle of this version.
    #[error(
        "not a bundle of this version: it begins with other bytes; take channel.bundle from the courier's medium"
    )]
    Magic,
    /// The length does not fit the number of slots.
    #[error("bundle is {bytes} bytes long, but {count} slots need {needed_bytes}; copy it again")]
    Length {
        /// Its length.
        bytes: usize,
        /// The number of slots that it tells.
        count: u32,
        /// The length for so many slots.
        needed_bytes: usize,
    },
    /// Shorter than its own header.
    #[error("bundle ends after {bytes} bytes, inside its header; copy it again")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// A field that must be zero is not.
    #[error("bundle has a nonzero reserved field")]
    Reserved,
    /// No slot, or too many.
    #[error("bundle tells {count} slots; 1 to {SLOTS_MAX} are allowed")]
    Count {
        /// The number of slots that it tells.
        count: u32,
    },
    /// Serials that do not exist.
    #[error("bundle begins at serial {first} with {count} slots; serials run from 1 to 2^63 - 1")]
    Serials {
        /// The first serial that it tells.
        first: u64,
        /// The number of slots that it tells.
        count: u32,
    },
}

const fn bundle_bytes(_count: u32) -> usize {
    0
}

impl Bundle {
    /// The number of slots.
    ///
    /// # Bounds
    /// 1 to [`SLOTS_MAX`].
    pub fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The serial behind the last slot's.
    pub fn end(&self) -> Option<Serial> {
        self.first.plus(u64::from(self.count()))
    }

    /// Writes the file; it erases itself.
    ///
    /// # Errors
    /// [`BundleError::Count`] or [`BundleError::Serials`] if the fields are beyond their bounds.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        todo!()
    }

    /// Reads the file. Whether the public keys are keys is for `seal::slot::check_public` to say.
    ///
    /// # Errors
    /// [`BundleError`] for anything that a receiver would not have written.
    pub fn decode(_bytes: &[u8]) -> Result<Self, BundleError> {
        todo!()
    }
}
