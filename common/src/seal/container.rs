//! The sealed container: 64 bytes in clear, a one-time key, and segments.
//!
//! ```text
//!    0    64  header: magic, suite, segment size, channel, serial, bundle, P
//!   64  1120  enc, the HPKE encapsulation to the slot
//! 1184    48  ct, the sealed content key
//! 1232    32  commitment to the content keys
//! 1264        segments of up to 65,536 bytes and a tag of 16
//! ```

use std::convert::Infallible;

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use hpke::aead::ChaCha20Poly1305 as HpkeChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::slot::{SlotPublic, SlotSecret, decapsulation_key, encapsulation_key};
use crate::ids::{BundleId, ChannelId, Serial};
use crate::limits::{CONTAINER_PREFIX_BYTES, PACKAGE_BYTES_MAX, SEGMENT_BYTES, TAG_BYTES};
use crate::secret::{Secret, Secret32, wipe_stack, wipe_stack_bytes};

/// The first eight bytes of a container.
const MAGIC: [u8; 8] = *b"VALISE\x00\x01";

/// HPKE Base, X-Wing, HKDF-SHA256, ChaCha20-Poly1305.
const SUITE: u8 = 1;

// The limits once more as the integers of the format; usize has no lossless conversion in a
// constant.
const SEGMENT_FIELD: u32 = 65_536;
const SEGMENT_BYTES_U64: u64 = 65_536;
const TAG_BYTES_U64: u64 = 16;
const PREFIX_BYTES_U64: u64 = 1_264;

const _: () = {
    assert!(SEGMENT_BYTES == 65_536 && TAG_BYTES == 16 && CONTAINER_PREFIX_BYTES == 1_264);
    // The segment's index is 32 bits of the nonce.
    assert!(PACKAGE_BYTES_MAX / SEGMENT_BYTES_U64 <= 1 << 24);
};

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
        /// The length that belongs there; 0 behind the last segment.
        needed_bytes: usize,
    },
}

/// Where the pieces of the prefix begin.
const ENC_AT: usize = HEADER_BYTES;
const SEALED_KEY_AT: usize = ENC_AT + 1_120;
const COMMITMENT_AT: usize = SEALED_KEY_AT + 32 + TAG_BYTES;

const _: () = assert!(COMMITMENT_AT + 32 == PREFIX_BYTES);

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

/// The length of a container with a padded package of P bytes: 1264 + P + 16·⌈P/65536⌉.
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

/// Stack that the cipher may use for a segment, with a margin: it holds the state of up to eight blocks.
const CIPHER_STACK_BYTES: usize = 16 << 10;

/// The randomness of one sealing: content key 32, encapsulation 64. Consumed by it, so that it
/// serves once.
pub type SealRandomness = Secret<96>;

/// Seals one package, segment by segment.
pub struct Sealer {
    segments: Box<Segments>,
}

impl Sealer {
    /// Encapsulates a fresh content key to the slot; returns the container's first bytes.
    ///
    /// # Errors
    /// [`SealError::Length`] and [`SealError::Slot`].
    pub fn new(
        header: &Header,
        slot: &SlotPublic,
        randomness: SealRandomness,
    ) -> Result<(Box<[u8; PREFIX_BYTES]>, Self), SealError> {
        let sealer = Self::encapsulate(header, slot, &randomness);
        wipe_stack();
        sealer
    }

    #[inline(never)]
    fn encapsulate(
        header: &Header,
        slot: &SlotPublic,
        randomness: &SealRandomness,
    ) -> Result<(Box<[u8; PREFIX_BYTES]>, Self), SealError> {
        let padded_bytes = header.padded_bytes;
        if !(1..=PACKAGE_BYTES_MAX).contains(&padded_bytes) {
            return Err(SealError::Length { padded_bytes });
        }
        let public = encapsulation_key(&slot.public).map_err(|_| SealError::Slot)?;
        let clear = header.encode();
        let (content_key, rest) = randomness.expose().split_at(32);
        let (enc, sealed_key) =
            hpke::single_shot_seal_with_rng::<HpkeChaCha20Poly1305, HkdfSha256, XWing>(
                &OpModeS::Base,
                &public,
                &clear,
                content_key,
                b"",
                &mut Given { bytes: rest },
            )
            .map_err(|_| SealError::Slot)?;
        let mut prefix = Box::new([0; PREFIX_BYTES]);
        prefix[..ENC_AT].copy_from_slice(&clear);
        enc.write_exact(&mut prefix[ENC_AT..SEALED_KEY_AT]);
        prefix[SEALED_KEY_AT..COMMITMENT_AT].copy_from_slice(&sealed_key);
        let (segments, commitment) = Segments::new(content_key, &slot.psk, &prefix, padded_bytes);
        prefix[COMMITMENT_AT..].copy_from_slice(&commitment);
        Ok((prefix, Self { segments }))
    }

    /// How many bytes of package the next segment takes; 0 behind the last.
    pub fn next_bytes(&self) -> usize {
        self.segments.next_bytes()
    }

    /// Seals the next segment in place; its tag is appended.
    ///
    /// # Errors
    /// [`SealError::Segment`] if it has another length than [`Sealer::next_bytes`].
    pub fn seal_segment(&mut self, segment: &mut Vec<u8>) -> Result<(), SealError> {
        let needed_bytes = self.segments.next_bytes();
        if needed_bytes == 0 || segment.len() != needed_bytes {
            return Err(SealError::Segment {
                bytes: segment.len(),
                needed_bytes,
            });
        }
        let tag = self.segments.seal_next(segment);
        wipe_stack_bytes::<CIPHER_STACK_BYTES>();
        let tag = tag.map_err(|_| SealError::Segment {
            bytes: segment.len(),
            needed_bytes,
        })?;
        segment.extend_from_slice(&tag);
        Ok(())
    }

    /// Tells whether the last segment has been sealed.
    pub fn finished(&self) -> bool {
        self.segments.next_bytes() == 0
    }
}

/// Opens one container, segment by segment.
pub struct Opener {
    header: Header,
    segments: Box<Segments>,
    broken: bool,
}

impl Opener {
    /// Opens the content key and compares the commitment.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(prefix: &[u8; PREFIX_BYTES], slot: &SlotSecret) -> Result<Self, OpenError> {
        let opener = Self::decapsulate(prefix, slot);
        wipe_stack();
        opener
    }

    #[inline(never)]
    fn decapsulate(prefix: &[u8; PREFIX_BYTES], slot: &SlotSecret) -> Result<Self, OpenError> {
        let header = Header::decode(&field(prefix, 0))?;
        let enc = <XWing as Kem>::EncappedKey::from_bytes(&prefix[ENC_AT..SEALED_KEY_AT])
            .map_err(|_| OpenError::Key)?;
        let content_key = hpke::single_shot_open::<HpkeChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &decapsulation_key(&slot.seed),
            &enc,
            &prefix[..HEADER_BYTES],
            &prefix[SEALED_KEY_AT..COMMITMENT_AT],
            b"",
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError::Key)?;
        let (segments, commitment) =
            Segments::new(&content_key, &slot.psk, prefix, header.padded_bytes);
        // ChaCha20-Poly1305 commits to no key: without this comparison one container could be made
        // to open to different packages under different slots.
        if !bool::from(commitment.ct_eq(&prefix[COMMITMENT_AT..])) {
            return Err(OpenError::Key);
        }
        Ok(Self {
            header,
            segments,
            broken: false,
        })
    }

    /// The header, as authenticated by the content key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many bytes of container the next segment takes, tag included; 0 behind the last, and
    /// behind one that failed.
    pub fn next_bytes(&self) -> usize {
        match self.segments.next_bytes() {
            _ if self.broken => 0,
            0 => 0,
            bytes => bytes + TAG_BYTES,
        }
    }

    /// Opens the next segment in place; its tag is cut off. On an error the vector is empty and the
    /// opener of no further use.
    ///
    /// # Errors
    /// [`OpenError::Segment`] and [`OpenError::SegmentLength`].
    pub fn open_segment(&mut self, segment: &mut Vec<u8>) -> Result<(), OpenError> {
        let opened = self.open_in_place(segment);
        if opened.is_err() {
            segment.clear();
            self.broken = true;
        }
        opened
    }

    fn open_in_place(&mut self, segment: &mut Vec<u8>) -> Result<(), OpenError> {
        let (needed_bytes, bytes) = (self.next_bytes(), segment.len());
        let index = self.segments.index;
        if needed_bytes == 0 || bytes != needed_bytes {
            return Err(OpenError::SegmentLength {
                index,
                bytes,
                needed_bytes,
            });
        }
        let (sealed, tag) = segment.split_at_mut(bytes - TAG_BYTES);
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Segment { index })?;
        let opened = self.segments.open_next(sealed, &tag);
        wipe_stack_bytes::<CIPHER_STACK_BYTES>();
        opened.map_err(|_| OpenError::Segment { index })?;
        segment.truncate(bytes - TAG_BYTES);
        Ok(())
    }

    /// Tells whether the last segment has verified: only then may anything of the package be used.
    pub fn finished(&self) -> bool {
        !self.broken && self.segments.next_bytes() == 0
    }
}

/// The content cipher and where in the package it stands; the same for both directions. It is on the heap, so that a move
/// leaves no copy of the key on the stack.
struct Segments {
    cipher: ChaCha20Poly1305,
    nonce_head: [u8; 7],
    index: u32,
    remaining_bytes: u64,
}

impl Segments {
    /// Derives the content keys; returns the commitment besides.
    fn new(
        content_key: &[u8],
        psk: &Secret32,
        prefix: &[u8; PREFIX_BYTES],
        padded_bytes: u64,
    ) -> (Box<Self>, [u8; 32]) {
        let transcript = Sha256::digest(&prefix[..COMMITMENT_AT]);
        let mut keys = Zeroizing::new([0; 71]);
        let expanded = Hkdf::<Sha256>::new(Some(psk.expose()), content_key)
            .expand_multi_info(&[b"valise v1 content keys", &transcript], &mut *keys);
        assert!(
            expanded.is_ok(),
            "71 bytes are within the bound of HKDF-SHA256"
        );
        let key = Zeroizing::new(field::<32>(&*keys, 0));
        let segments = Box::new(Self {
            cipher: ChaCha20Poly1305::new((&*key).into()),
            nonce_head: field(&*keys, 32),
            index: 0,
            remaining_bytes: padded_bytes,
        });
        (segments, field(&*keys, 39))
    }

    /// Seals the next segment in place. Not inlined, so that what the cipher leaves on the stack, the key among it, is where
    /// the caller can wipe it.
    #[inline(never)]
    fn seal_next(&mut self, segment: &mut [u8]) -> Result<Tag, chacha20poly1305::Error> {
        let nonce = self.advance();
        self.cipher
            .encrypt_inout_detached(&nonce, b"", segment.into())
    }

    /// Opens the next segment in place, if its tag verifies. Not inlined, as [`Segments::seal_next`].
    #[inline(never)]
    fn open_next(&mut self, sealed: &mut [u8], tag: &Tag) -> Result<(), chacha20poly1305::Error> {
        let nonce = self.advance();
        // The crate verifies the tag before it touches the bytes.
        self.cipher
            .decrypt_inout_detached(&nonce, b"", sealed.into(), tag)
    }

    fn next_bytes(&self) -> usize {
        // At most a segment, so the conversion cannot fail.
        usize::try_from(self.remaining_bytes)
            .unwrap_or(usize::MAX)
            .min(SEGMENT_BYTES)
    }

    /// The nonce of the next segment, which no other segment of this key ever gets.
    fn advance(&mut self) -> Nonce {
        let last = self.remaining_bytes <= SEGMENT_BYTES_U64;
        self.remaining_bytes = self.remaining_bytes.saturating_sub(SEGMENT_BYTES_U64);
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.nonce_head);
        nonce[7..11].copy_from_slice(&self.index.to_be_bytes());
        nonce[11] = u8::from(last);
        // At most 2^24 segments (see the assertion above): the index cannot wrap.
        self.index += 1;
        nonce.into()
    }
}

/// Hands the encapsulation its randomness, which the caller drew: sealing itself has no source of
/// entropy.
struct Given<'a> {
    bytes: &'a [u8],
}

impl TryRng for Given<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        assert!(
            into.len() <= self.bytes.len(),
            "an X-Wing encapsulation takes 64 random bytes"
        );
        let (now, rest) = self.bytes.split_at(into.len());
        into.copy_from_slice(now);
        self.bytes = rest;
        Ok(())
    }
}

impl TryCryptoRng for Given<'_> {}

/// A field of `N` bytes at an offset that lies within by construction.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests;
