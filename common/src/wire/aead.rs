//! ChaCha20-Poly1305 (RFC 8439) laid out for datagrams: the same bytes as the `chacha20poly1305` crate, in two thirds of its
//! time, and sealing is what the link waits for.
//!
//! * The cipher makes four blocks at a time, whether they are asked for or not. The crate asks for the authenticator's key,
//!   and for the last blocks of a message, one by one. Here the first four blocks give the key *and* the first 192 bytes, and
//!   the last ones are made together.
//! * The authenticator takes four blocks at a time, if they begin at a multiple of four. Additional data of one block, which
//!   the crate pads and feeds first, shifts all of the message off that place. A datagram's clear header is just one block and
//!   stands right before the ciphertext, so both are fed as one run.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use poly1305::{Block, Poly1305};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

/// Bytes of a block of the cipher.
const BLOCK_BYTES: usize = 64;

/// Bytes that the cipher makes at a time.
const STRIDE_BYTES: usize = 4 * BLOCK_BYTES;

/// Bytes of additional data: one block of the authenticator.
pub(super) const CLEAR_BYTES: usize = 16;

/// Bytes of the tag.
pub(super) const TAG_BYTES: usize = 16;

/// The tag did not verify.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// A key, erased when it is dropped.
pub(super) struct Cipher {
    key: chacha20::Key,
}

/// The keystream of one message.
struct Stream {
    cipher: ChaCha20,
    /// The first four blocks: the authenticator's key, the rest of a block that is not used, and the first 192 bytes.
    head: [u8; STRIDE_BYTES],
}

impl Cipher {
    /// Lets `fill` write the key where it will stay.
    pub(super) fn new(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut cipher = Self {
            key: chacha20::Key::default(),
        };
        fill(&mut cipher.key);
        cipher
    }

    /// Encrypts what stands behind the clear bytes, in place, and returns the tag over both.
    pub(super) fn seal(&self, nonce: [u8; 12], message: &mut [u8]) -> [u8; TAG_BYTES] {
        let mut stream = self.stream(nonce);
        stream.apply(&mut message[CLEAR_BYTES..]);
        stream.tag(message)
    }

    /// Verifies the tag over clear bytes and ciphertext, and only then decrypts in place.
    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        message: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Forged> {
        let mut stream = self.stream(nonce);
        if !bool::from(stream.tag(message).ct_eq(tag)) {
            return Err(Forged);
        }
        stream.apply(&mut message[CLEAR_BYTES..]);
        Ok(())
    }

    fn stream(&self, nonce: [u8; 12]) -> Stream {
        let mut cipher = ChaCha20::new(&self.key, &nonce.into());
        let mut head = [0; STRIDE_BYTES];
        cipher.apply_keystream(&mut head);
        Stream { cipher, head }
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.key.as_mut_slice().zeroize();
    }
}

impl Stream {
    /// Encrypts or decrypts the whole of a message's text.
    fn apply(&mut self, text: &mut [u8]) {
        let (first, rest) = text.split_at_mut(text.len().min(STRIDE_BYTES - BLOCK_BYTES));
        for (byte, key) in first.iter_mut().zip(&self.head[BLOCK_BYTES..]) {
            *byte ^= key;
        }
        let (strides, last) = rest.split_at_mut(rest.len() - rest.len() % STRIDE_BYTES);
        self.cipher.apply_keystream(strides);
        if !last.is_empty() {
            let mut stride = [0; STRIDE_BYTES];
            stride[..last.len()].copy_from_slice(last);
            self.cipher.apply_keystream(&mut stride);
            last.copy_from_slice(&stride[..last.len()]);
        }
    }

    /// The tag: clear bytes, ciphertext, zeros to a whole block, and the lengths of both in one block.
    fn tag(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        let mut key = poly1305::Key::default();
        key.copy_from_slice(&self.head[..32]);
        let mut mac = Poly1305::new(&key);
        key.as_mut_slice().zeroize();
        let (blocks, rest) = Block::slice_as_chunks(message);
        let (fours, few) = blocks.split_at(blocks.len() - blocks.len() % 4);
        mac.update(fours);
        // At most three whole blocks, one that is not, and the lengths.
        let mut tail = [Block::default(); 5];
        tail[..few.len()].copy_from_slice(few);
        let mut count = few.len();
        if !rest.is_empty() {
            tail[count][..rest.len()].copy_from_slice(rest);
            count += 1;
        }
        tail[count][..8].copy_from_slice(&length(CLEAR_BYTES));
        tail[count][8..].copy_from_slice(&length(message.len() - CLEAR_BYTES));
        mac.update(&tail[..=count]);
        mac.finalize().into()
    }
}

fn length(bytes: usize) -> [u8; 8] {
    u64::try_from(bytes).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Tag};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_aead_crate(
            key: [u8; 32], nonce: [u8; 12],
            message in prop_oneof![
                prop::collection::vec(any::<u8>(), 16..700),
                (any::<u8>(), 16_usize..9_200).prop_map(|(fill, length)| vec![fill; length]),
            ],
            flip: prop::sample::Index,
        ) {
            let ours = Cipher::new(|bytes| bytes.copy_from_slice(&key));
            let theirs = ChaCha20Poly1305::new(&key.into());
            let mut sealed = message.clone();
            let tag = ours.seal(nonce, &mut sealed);
            let mut expected = message.clone();
            let (clear, text) = expected.split_at_mut(CLEAR_BYTES);
            let expected_tag =
                theirs.encrypt_inout_detached(&nonce.into(), clear, text.into()).unwrap();
            prop_assert_eq!(&sealed, &expected);
            prop_assert_eq!(Tag::from(tag), expected_tag);

            let mut opened = sealed.clone();
            prop_assert_eq!(ours.open(nonce, &mut opened, &tag), Ok(()));
            prop_assert_eq!(&opened, &message);

            let mut forged = sealed.clone();
            let at = flip.index(forged.len());
            forged[at] ^= 1;
            let before = forged.clone();
            prop_assert_eq!(ours.open(nonce, &mut forged, &tag), Err(Forged));
            prop_assert_eq!(forged, before);
            let mut bad_tag = tag;
            bad_tag[at % 16] ^= 0x80;
            prop_assert_eq!(ours.open(nonce, &mut sealed, &bad_tag), Err(Forged));
        }
    }
}
