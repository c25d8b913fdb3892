//! The header of a container, where its pieces begin, and how long it is.
//!
//! ```text
//!    0    64  header: magic, suite, segment size, channel, serial, bundle, P
//!   64  1120  enc, the HPKE encapsulation to the slot
//! 1184    48  ct, the sealed content key
//! 1232    32  commitment to the content keys
//! 1264        segments of up to 65,536 bytes and a tag of 16
//! ```

use super::OpenError;
use crate::ids::{BundleId, ChannelId, Serial};
use crate::limits;
use crate::limits::{CONTAINER_PREFIX_BYTES, PACKAGE_BYTES_MAX, SEGMENT_BYTES, TAG_BYTES};

/// The first eight bytes of a container.
const MAGIC: [u8; 8] = *b"VALISE\x00\x01";

/// HPKE Base, X-Wing, HKDF-SHA256, ChaCha20-Poly1305.
const SUITE: u8 = 1;

// The limits once more as the integers of the format; usize has no lossless conversion in a
// constant.
const SEGMENT_FIELD: u32 = 65_536;
pub(super) const SEGMENT_BYTES_U64: u64 = 65_536;
const TAG_BYTES_U64: u64 = 16;
const PREFIX_BYTES_U64: u64 = 1_264;

const _: () = {
    assert!(SEGMENT_BYTES == 65_536 && TAG_BYTES == 16 && CONTAINER_PREFIX_BYTES == 1_264);
    // The segment's index is 32 bits of the nonce.
    assert!(PACKAGE_BYTES_MAX / SEGMENT_BYTES_U64 <= 1 << 24);
};

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

/// Offset of the encapsulation.
pub(super) const ENC_AT: usize = HEADER_BYTES;
/// Offset of the sealed content key.
pub(super) const SEALED_KEY_AT: usize = ENC_AT + 1_120;
/// Offset of the commitment.
pub(super) const COMMITMENT_AT: usize = SEALED_KEY_AT + 32 + TAG_BYTES;

const _: () = assert!(COMMITMENT_AT + 32 == limits::CONTAINER_PREFIX_BYTES);

impl Header {
    /// Writes the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = SUITE;
        bytes[12..16].copy_from_slice(&SEGMENT_FIELD.to_be_bytes());
        bytes[16..32].copy_from_slice(self.channel.as_bytes());
        bytes[32..40].copy_from_slice(&self.serial.get().to_be_bytes());
        bytes[40..44].copy_from_slice(&self.bundle.0.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.padded_bytes.to_be_bytes());
        bytes
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`OpenError`] for anything that a sealer would not have written.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, OpenError> {
        if bytes[..8] != MAGIC || bytes[8] != SUITE {
            return Err(OpenError::Kind);
        }
        let reserved = [&bytes[9..12], &bytes[44..48], &bytes[56..64]];
        if reserved
            .iter()
            .any(|field| field.iter().any(|byte| *byte != 0))
        {
            return Err(OpenError::Reserved);
        }
        let segment_bytes = u32::from_be_bytes(field(bytes, 12));
        if segment_bytes != SEGMENT_FIELD {
            return Err(OpenError::SegmentSize {
                bytes: segment_bytes,
            });
        }
        let serial = u64::from_be_bytes(field(bytes, 32));
        let padded_bytes = u64::from_be_bytes(field(bytes, 48));
        if !(1..=PACKAGE_BYTES_MAX).contains(&padded_bytes) {
            return Err(OpenError::Length { padded_bytes });
        }
        Ok(Self {
            channel: ChannelId::from_bytes(field(bytes, 16)),
            serial: Serial::new(serial).ok_or(OpenError::Serial { serial })?,
            bundle: BundleId(u32::from_be_bytes(field(bytes, 40))),
            padded_bytes,
        })
    }
}

/// Returns the length of a container with a padded package of P bytes: 1264 + P + 16·⌈P/65536⌉.
///
/// # Bounds
/// P is at most 2^40; beyond it the result saturates.
pub const fn container_bytes(padded_bytes: u64) -> u64 {
    let tags = padded_bytes
        .div_ceil(SEGMENT_BYTES_U64)
        .saturating_mul(TAG_BYTES_U64);
    padded_bytes
        .saturating_add(tags)
        .saturating_add(PREFIX_BYTES_U64)
}

/// P of a container of so many bytes; `None` if no P within its bounds gives that length.
pub const fn padded_of_container(bytes: u64) -> Option<u64> {
    let Some(segments_bytes) = bytes.checked_sub(PREFIX_BYTES_U64) else {
        return None;
    };
    let segment_count = segments_bytes.div_ceil(SEGMENT_BYTES_U64 + TAG_BYTES_U64);
    let Some(padded_bytes) = segments_bytes.checked_sub(segment_count * TAG_BYTES_U64) else {
        return None;
    };
    if padded_bytes == 0
        || padded_bytes > PACKAGE_BYTES_MAX
        || container_bytes(padded_bytes) != bytes
    {
        return None;
    }
    Some(padded_bytes)
}

/// Returns `N` bytes at an offset that is within by construction.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
