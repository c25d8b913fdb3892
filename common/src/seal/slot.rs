//! One-time keys of a serial.

use hpke::kem::{Kem, XWing};
use hpke::{Deserializable as _, Serializable as _};

pub use crate::bundle::{SlotKey, SlotPublic};
use crate::limits::SLOT_PUBLIC_BYTES;
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
    /// Its ML-KEM half has a coefficient that is not reduced.
    #[error("a slot's public key is not an X-Wing key; the bundle is damaged, have it made again")]
    Encoding,
    /// Its X25519 half is of small order: every sender would agree on the same secret with it.
    #[error("a slot's public key is of small order; the bundle is hostile, keep it as evidence")]
    SmallOrder,
}

impl SlotSecret {
    /// Takes fresh randomness, from `os::entropy`, into use as a slot.
    pub fn new(seed: Secret32, psk: Secret32) -> Self {
        Self { seed, psk }
    }

    /// Returns the sender's half, with a copy of the PSK.
    pub fn public(&self) -> SlotPublic {
        SlotPublic {
            psk: Secret32::new(*self.psk.expose()),
            public: public_of(&self.seed),
        }
    }
}

/// Returns the public key of a seed.
pub fn public_of(seed: &Secret32) -> Box<SlotKey> {
    let mut public = Box::new([0; SLOT_PUBLIC_BYTES]);
    XWing::sk_to_pk(&decapsulation_key(seed)).write_exact(&mut *public);
    public
}

/// Checks that a public key is one that a seed could have, as far as it shows.
///
/// # Errors
/// [`SlotError`].
pub fn check_public(public: &SlotKey) -> Result<(), SlotError> {
    encapsulation_key(public)?;
    let (_, x25519) = public.split_at(SLOT_PUBLIC_BYTES - 32);
    // RFC 7748 has the receiver of a point mask its highest bit.
    let mut point: [u8; 32] = x25519.try_into().map_err(|_| SlotError::Encoding)?;
    point[31] &= 0x7f;
    if SMALL_ORDER.contains(&point) {
        Err(SlotError::SmallOrder)
    } else {
        Ok(())
    }
}

/// The points of small order on Curve25519 and its twist, in all their encodings below 2^255.
///
/// # Source
/// The list that libsodium refuses in `crypto_scalarmult`.
const SMALL_ORDER: [[u8; 32]; 7] = {
    let mut list = [[0; 32]; 7];
    list[1][0] = 1;
    list[2] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    list[3] = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ];
    // p - 1, p and p + 1 for p = 2^255 - 19.
    let mut index = 4;
    while index < 7 {
        list[index] = [0xff; 32];
        list[index][0] = [0xec, 0xed, 0xee][index - 4];
        list[index][31] = 0x7f;
        index += 1;
    }
    list
};

pub(super) fn decapsulation_key(seed: &Secret32) -> <XWing as Kem>::PrivateKey {
    match <XWing as Kem>::PrivateKey::from_bytes(seed.expose()) {
        Ok(key) => key,
        Err(_) => unreachable!("any 32 bytes are an X-Wing decapsulation key"),
    }
}

pub(super) fn encapsulation_key(public: &SlotKey) -> Result<<XWing as Kem>::PublicKey, SlotError> {
    <XWing as Kem>::PublicKey::from_bytes(public).map_err(|_| SlotError::Encoding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_seed_is_the_decapsulation_key_itself() {
        let vector = crate::seal::tests::vector("container-0-ok");
        let seed = Secret32::from_hex(vector["seed"].as_str().unwrap()).unwrap();
        let public = public_of(&seed);
        assert_eq!(hex::encode(*public), vector["public"].as_str().unwrap());
        assert_eq!(check_public(&public), Ok(()));
    }

    #[test]
    fn the_seeds_of_a_bundle_have_its_public_keys() {
        let seeds = crate::seal::tests::vector("bundle")["seeds"].clone();
        let (file, _) = crate::bundle::tests::vector();
        let bundle = crate::bundle::Bundle::decode(&file).unwrap();
        for (slot, seed) in bundle.slots.iter().zip(seeds.as_array().unwrap()) {
            let seed = Secret32::from_hex(seed.as_str().unwrap()).unwrap();
            assert_eq!(slot.public, public_of(&seed));
            assert_eq!(check_public(&slot.public), Ok(()));
        }
    }

    #[test]
    fn a_coefficient_beyond_the_modulus_is_no_key() {
        let mut public = public_of(&Secret32::new([7; 32]));
        public[..3].fill(0xff);
        assert_eq!(check_public(&public), Err(SlotError::Encoding));
    }

    #[test]
    fn a_point_of_small_order_is_refused_in_every_encoding() {
        let mut public = public_of(&Secret32::new([7; 32]));
        for point in SMALL_ORDER {
            public[SLOT_PUBLIC_BYTES - 32..].copy_from_slice(&point);
            assert_eq!(check_public(&public), Err(SlotError::SmallOrder));
            public[SLOT_PUBLIC_BYTES - 1] |= 0x80;
            assert_eq!(check_public(&public), Err(SlotError::SmallOrder));
        }
    }

    #[test]
    fn the_halves_of_a_slot_share_the_psk() {
        let slot = SlotSecret::new(Secret32::new([1; 32]), Secret32::new([2; 32]));
        assert_eq!(slot.public().psk.expose(), &[2; 32]);
        assert_eq!(slot.public().public, public_of(&slot.seed));
    }
}
