//! The sealed container.

use super::slot::{SlotPublic, SlotSecret};
use crate::ids::{BundleId, ChannelId, Serial};
use crate::limits::CONTAINER_PREFIX_BYTES;
use crate::secret::Secret;

/// Bytes in front of the segments: header, encapsulation, sealed content key, commitment.
pub const PREFIX_BYTES: usize = CONTAINER_PREFIX_BYTES;

/// Bytes of the header in clear.
pub const HEADER_BYTES: usize = 64;

/// The header of a container, in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The channel.
    pub channel: ChannelId,
    /// The cable's serial.
    pub serial: Serial,
    /// The bundle of the slot.
    pub bundle: BundleId,
    /// P, the length of the padded package.
    pub padded_bytes: u64,
}

/// Why a container cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// P is beyond its bounds.
    #[error("package of {padded_bytes} bytes; 1 to 2^40 are allowed")]
    Length {
        /// P.
        padded_bytes: u64,
    },
    /// The slot's key is none.
    #[error("the slot's public key is not an X-Wing key; the bundle is damaged")]
    Slot,
    /// The caller handed over another number of bytes than the segment takes.
    #[error("segment of {bytes} bytes where {needed_bytes} belong")]
    Segment {
        /// Its length.
        bytes: usize,
        /// The length that belongs there; 0 behind the last segment.
        needed_bytes: usize,
    },
}

/// Why a container does not open. Nothing of it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a container of this version and suite.
    #[error("not a container of this version and suite")]
    Kind,
    /// A field that must be zero is not.
    #[error("a reserved field of the container is not zero")]
    Reserved,
    /// The segment size is not 65,536.
    #[error("container with segments of {bytes} bytes; 65536 is the only size")]
    SegmentSize {
        /// The size that it tells.
        bytes: u32,
    },
    /// The serial is 0 or beyond 2^63 − 1.
    #[error("container with serial {serial}; serials run from 1 to 2^63 - 1")]
    Serial {
        /// The serial that it tells.
        serial: u64,
    },
    /// P is beyond its bounds, or does not fit the file.
    #[error("container tells a package of {padded_bytes} bytes, which does not fit it")]
    Length {
        /// P.
        padded_bytes: u64,
    },
    /// The content key does not open, or its commitment differs: it was sealed for another slot, or altered. Which of the
    /// two it is stays untold.
    #[error("container was not sealed for this slot, or was altered")]
    Key,
    /// A segment does not verify.
    #[error("segment {index} of the container was altered")]
    Segment {
        /// Counted from 0.
        index: u32,
    },
    /// A segment has another length than belongs there.
    #[error("segment {index} of the container is {bytes} bytes long where {needed_bytes} belong")]
    SegmentLength {
        /// Counted from 0.
        index: u32,
        /// Its length.
        bytes: usize,
        /// The length that belongs there; 0 behind the last segment.
        needed_bytes: usize,
    },
}

impl Header {
    /// Writes the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        todo!()
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`OpenError`] for anything that a sealer would not have written.
    pub fn decode(_bytes: &[u8; HEADER_BYTES]) -> Result<Self, OpenError> {
        todo!()
    }
}

/// The length of a container with a padded package of P bytes: 1264 + P + 16·⌈P/65536⌉.
pub fn container_bytes(_padded_bytes: u64) -> u64 {
    todo!()
}

/// P of a container of so many bytes; `None` if no P gives that length.
pub fn padded_of_container(_bytes: u64) -> Option<u64> {
    todo!()
}

/// The randomness of one sealing: content key 32, encapsulation 64. Consumed by it, so that it serves once.
pub type SealRandomness = Secret<96>;

/// Seals one package, segment by segment.
pub struct Sealer {}

impl Sealer {
    /// Encapsulates a fresh content key to the slot; returns the container's first bytes.
    ///
    /// # Errors
    /// [`SealError::Length`] and [`SealError::Slot`].
    pub fn new(
        _header: &Header,
        _slot: &SlotPublic,
        _randomness: SealRandomness,
    ) -> Result<(Box<[u8; PREFIX_BYTES]>, Self), SealError> {
        todo!()
    }

    /// How many bytes of package the next segment takes; 0 behind the last.
    pub fn next_bytes(&self) -> usize {
        todo!()
    }

    /// Seals the next segment in place; its tag is appended.
    ///
    /// # Errors
    /// [`SealError::Segment`] if it has another length than [`Sealer::next_bytes`].
    pub fn seal_segment(&mut self, _segment: &mut Vec<u8>) -> Result<(), SealError> {
        todo!()
    }

    /// Tells whether the last segment has been sealed.
    pub fn finished(&self) -> bool {
        todo!()
    }
}

/// Opens one container, segment by segment.
pub struct Opener {}

impl Opener {
    /// Opens the content key and compares the commitment.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(_prefix: &[u8; PREFIX_BYTES], _slot: &SlotSecret) -> Result<Self, OpenError> {
        todo!()
    }

    /// The header, as authenticated by the content key.
    pub fn header(&self) -> &Header {
        todo!()
    }

    /// How many bytes of container the next segment takes, tag included; 0 behind the last.
    pub fn next_bytes(&self) -> usize {
        todo!()
    }

    /// Opens the next segment in place; its tag is cut off. On an error the vector is empty and the opener stays unusable.
    ///
    /// # Errors
    /// [`OpenError::Segment`] and [`OpenError::SegmentLength`].
    pub fn open_segment(&mut self, _segment: &mut Vec<u8>) -> Result<(), OpenError> {
        todo!()
    }

    /// Tells whether the last segment has verified: only then may anything of the package be used.
    pub fn finished(&self) -> bool {
        todo!()
    }
}
