//! The key of a container's stream, derived from a slot by docs/formats.md, without the code that seals and opens.

use hkdf::Hkdf;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::{Deserializable as _, OpModeR};
use sha2::{Digest as _, Sha256};
use valise_common::seal::SlotSecret;

/// Returns the key that opens every segment of a container; with it no slot is needed. `None` if the slot belongs to
/// another container.
pub fn stream_key(container: &[u8], slot: &SlotSecret) -> Option<[u8; 32]> {
    let (clear, rest) = container.split_at_checked(64)?;
    let (enc, rest) = rest.split_at_checked(1_120)?;
    let sealed_key = rest.get(..48)?;
    let seed = <XWing as Kem>::PrivateKey::from_bytes(slot.seed.expose()).ok()?;
    let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).ok()?;
    let content_key = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &seed,
        &enc,
        clear,
        sealed_key,
        b"",
    );
    let transcript = Sha256::digest(container.get(..64 + 1_120 + 48)?);
    let mut keys = [0; 71];
    let info = [b"valise v1 content keys".as_slice(), &transcript];
    Hkdf::<Sha256>::new(Some(slot.psk.expose()), &content_key.ok()?)
        .expand_multi_info(&info, &mut keys)
        .ok()?;
    keys.first_chunk().copied()
}
