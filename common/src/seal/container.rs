//! Sealing and opening of a container. [`super::header`] draws its layout.

use crate::limits;
use std::convert::Infallible;

use chacha20poly1305::Tag;
use hpke::aead::ChaCha20Poly1305 as HpkeChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::header::{COMMITMENT_AT, ENC_AT, HEADER_BYTES, Header, SEALED_KEY_AT, field};
use super::segments::{CIPHER_STACK_BYTES, Segments};
use super::slot::{SlotPublic, SlotSecret, decapsulation_key, encapsulation_key};
use super::{OpenError, SealError};
use crate::limits::{PACKAGE_BYTES_MAX, TAG_BYTES};
use crate::secret::{Secret, wipe_stack, wipe_stack_bytes};

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
    ) -> Result<(Box<[u8; limits::CONTAINER_PREFIX_BYTES]>, Self), SealError> {
        let sealer = Self::encapsulate(header, slot, &randomness);
        wipe_stack();
        sealer
    }

    #[inline(never)]
    fn encapsulate(
        header: &Header,
        slot: &SlotPublic,
        randomness: &SealRandomness,
    ) -> Result<(Box<[u8; limits::CONTAINER_PREFIX_BYTES]>, Self), SealError> {
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
        let mut prefix = Box::new([0; limits::CONTAINER_PREFIX_BYTES]);
        prefix[..ENC_AT].copy_from_slice(&clear);
        enc.write_exact(&mut prefix[ENC_AT..SEALED_KEY_AT]);
        prefix[SEALED_KEY_AT..COMMITMENT_AT].copy_from_slice(&sealed_key);
        let (segments, commitment) = Segments::new(content_key, &slot.psk, &prefix, padded_bytes);
        prefix[COMMITMENT_AT..].copy_from_slice(&commitment);
        Ok((prefix, Self { segments }))
    }

    /// Returns how many bytes of package the next segment takes; 0 after the last.
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

    /// Returns whether the last segment has been sealed.
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
    pub fn new(
        prefix: &[u8; limits::CONTAINER_PREFIX_BYTES],
        slot: &SlotSecret,
    ) -> Result<Self, OpenError> {
        let opener = Self::decapsulate(prefix, slot);
        wipe_stack();
        opener
    }

    #[inline(never)]
    fn decapsulate(
        prefix: &[u8; limits::CONTAINER_PREFIX_BYTES],
        slot: &SlotSecret,
    ) -> Result<Self, OpenError> {
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

    /// Returns the header, as authenticated by the content key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns how many bytes of container the next segment takes, tag included; 0 after the last, and
    /// after one that failed.
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

    /// Returns whether the last segment has verified: only then may anything of the package be used.
    pub fn finished(&self) -> bool {
        !self.broken && self.segments.next_bytes() == 0
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

#[cfg(test)]
mod tests;
