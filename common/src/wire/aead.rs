//! AES-256-GCM (NIST SP 800-38D) for datagrams, of `ring`: constant in time on every processor, and fast where AES is an
//! instruction. Segments of containers are ChaCha20-Poly1305: a cable on the link is encrypted with two unrelated ciphers.
//!
//! An expanded key is kept for as long as its epoch is in use, so that a datagram pays for nothing but itself.

use crate::limits;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::secret::{Secret32, wipe_stack_bytes};

/// Stack that holds copies of a key while it is expanded: a few of less than 1 KiB.
const EXPANDING_BYTES: usize = 4 << 10;

/// The tag did not verify.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// An expanded key.
pub(super) struct Cipher {
    // On the heap: `ring` erases no key, but the allocator of both programs erases what is freed.
    key: Box<LessSafeKey>,
}

impl Cipher {
    /// Expands a key, and erases it.
    pub(super) fn new(key: Secret32) -> Self {
        let cipher = Self { key: expand(&key) };
        wipe_stack_bytes::<EXPANDING_BYTES>();
        cipher
    }

    /// Encrypts the bytes between the clear header and the tag's place, in place, and writes the tag over both.
    ///
    /// # Shape
    /// `datagram`: clear bytes, text, room for the tag.
    pub(super) fn seal(&self, nonce: [u8; 12], datagram: &mut [u8]) {
        let (clear, rest) = datagram.split_at_mut(limits::CLEAR_BYTES);
        let (text, tag) = rest.split_at_mut(rest.len() - limits::TAG_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let made = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*clear), text);
        // Only a text of 64 GiB would be refused.
        let Ok(made) = made else {
            panic!("a datagram is too long for its cipher");
        };
        tag.copy_from_slice(made.as_ref());
    }

    /// Verifies the tag and decrypts in place.
    ///
    /// # Errors
    /// [`Forged`]; the text is then zero.
    pub(super) fn open(&self, nonce: [u8; 12], datagram: &mut [u8]) -> Result<(), Forged> {
        let (clear, sealed) = datagram.split_at_mut(limits::CLEAR_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(&*clear), sealed);
        opened.map(drop).map_err(|_| Forged)
    }
}

#[inline(never)]
fn expand(key: &Secret32) -> Box<LessSafeKey> {
    let Ok(key) = UnboundKey::new(&AES_256_GCM, key.expose()) else {
        panic!("the key has the cipher's length");
    };
    Box::new(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
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
            let ours = Cipher::new(Secret32::new(key));
            let theirs = Aes256Gcm::new(&key.into());
            let mut sealed = message.clone();
            sealed.extend([0; limits::TAG_BYTES]);
            ours.seal(nonce, &mut sealed);
            let mut expected = message.clone();
            let (clear, text) = expected.split_at_mut(limits::CLEAR_BYTES);
            let tag = theirs.encrypt_inout_detached(&nonce.into(), clear, text.into()).unwrap();
            expected.extend_from_slice(&tag);
            prop_assert_eq!(&sealed, &expected);

            let mut opened = sealed.clone();
            prop_assert_eq!(ours.open(nonce, &mut opened), Ok(()));
            prop_assert_eq!(&opened[..message.len()], &message);

            let mut forged = sealed.clone();
            let at = flip.index(forged.len());
            forged[at] ^= 1;
            prop_assert_eq!(ours.open(nonce, &mut forged), Err(Forged));
            let text = &forged[limits::CLEAR_BYTES..message.len()];
            prop_assert!(text.iter().all(|byte| *byte == 0), "nothing to read");
        }
    }
}
