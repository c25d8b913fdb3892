//! The reasons why a container cannot be sealed or opened.

/// The reason why a container cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// P is beyond its bounds.
    #[error("package of {padded_bytes} bytes; 1 to 2^40 are allowed")]
    Length {
        /// P.
        padded_bytes: u64,
    },
    /// The slot's key is not a key.
    #[error("the slot's public key is not an X-Wing key; the bundle is damaged")]
    Slot,
    /// The caller handed over another number of bytes than the segment takes.
    #[error("segment of {bytes} bytes where {needed_bytes} belong")]
    Segment {
        /// Its length.
        bytes: usize,
        /// The length that belongs there; 0 after the last segment.
        needed_bytes: usize,
    },
}

/// The reason why a container does not open. Nothing of it may be used.
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
    /// The content key does not open, or its commitment differs: it was sealed for another slot, or
    /// altered. Which of the two it is stays untold.
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
        /// The length that belongs there; 0 after the last segment.
        needed_bytes: usize,
    },
}
