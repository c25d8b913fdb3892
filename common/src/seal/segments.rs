//! The segments of a container: their keys, their nonces, and one cipher for both directions.

use crate::limits;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::header::{COMMITMENT_AT, SEGMENT_BYTES_U64, field};
use crate::limits::SEGMENT_BYTES;
use crate::secret::Secret32;

/// Stack that the cipher may use for a segment, with a margin: it holds the state of up to eight blocks.
pub(super) const CIPHER_STACK_BYTES: usize = 16 << 10;

/// The content cipher and its place in the package; the same for both directions. Always on the heap: a move leaves no copy
/// of the key on the stack.
pub(super) struct Segments {
    cipher: ChaCha20Poly1305,
    nonce_head: [u8; 7],
    pub(super) index: u32,
    remaining_bytes: u64,
}

impl Segments {
    /// Derives the content keys; returns the commitment besides.
    pub(super) fn new(
        content_key: &[u8],
        psk: &Secret32,
        prefix: &[u8; limits::CONTAINER_PREFIX_BYTES],
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
    pub(super) fn seal_next(&mut self, segment: &mut [u8]) -> Result<Tag, chacha20poly1305::Error> {
        let nonce = self.advance();
        self.cipher
            .encrypt_inout_detached(&nonce, b"", segment.into())
    }

    /// Opens the next segment in place, if its tag verifies. Not inlined, as [`Segments::seal_next`].
    #[inline(never)]
    pub(super) fn open_next(
        &mut self,
        sealed: &mut [u8],
        tag: &Tag,
    ) -> Result<(), chacha20poly1305::Error> {
        let nonce = self.advance();
        // The crate verifies the tag before it touches the bytes.
        self.cipher
            .decrypt_inout_detached(&nonce, b"", sealed.into(), tag)
    }

    pub(super) fn next_bytes(&self) -> usize {
        // At most a segment, so the conversion cannot fail.
        usize::try_from(self.remaining_bytes)
            .unwrap_or(usize::MAX)
            .min(SEGMENT_BYTES)
    }

    /// Returns the nonce of the next segment, which no other segment of this key ever gets.
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
