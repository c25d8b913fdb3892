//! Authentic datagrams with any content, byte by byte. They are written from the formats page, so that the checks of
//! the programs cannot keep an attack from being made.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use valise_common::ids::LinkKeyId;

/// Bytes of the clear header, which is authenticated and not encrypted.
const CLEAR_BYTES: usize = 16;
/// Bytes of the inner header.
const INNER_BYTES: usize = 40;
/// Bytes of the tag.
const TAG_BYTES: usize = 16;

/// A thief of a link key, who sends in a session of their own.
pub struct Forger {
    link_key: [u8; 32],
    key_id: u8,
    session: [u8; 8],
    counter: u64,
}

impl Forger {
    /// Begins a session.
    pub fn new(link_key: &[u8; 32], key_id: LinkKeyId, session: [u8; 8]) -> Self {
        Self {
            link_key: *link_key,
            key_id: key_id.0,
            session,
            counter: 0,
        }
    }

    /// Continues with this counter.
    pub fn count_from(&mut self, counter: u64) {
        self.counter = counter;
    }

    /// Returns an authentic datagram with this inner header and this beginning of the payload, zero-padded to
    /// `datagram_bytes`.
    pub fn datagram(
        &mut self,
        inner: &[u8; INNER_BYTES],
        payload: &[u8],
        datagram_bytes: usize,
    ) -> Vec<u8> {
        let mut datagram = vec![2, self.key_id];
        datagram.extend_from_slice(&self.counter.to_be_bytes()[2..]);
        datagram.extend_from_slice(&self.session);
        let epoch = u32::try_from(self.counter >> 26).unwrap_or(u32::MAX);
        let mut hasher = blake3::Hasher::new_derive_key("valise v2 link session");
        hasher.update(&self.link_key);
        hasher.update(&self.session);
        hasher.update(&epoch.to_be_bytes());
        let cipher = Aes256Gcm::new(&(*hasher.finalize().as_bytes()).into());
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        let mut text = inner.to_vec();
        let payload_bytes = datagram_bytes.saturating_sub(CLEAR_BYTES + INNER_BYTES + TAG_BYTES);
        text.extend_from_slice(&payload[..payload.len().min(payload_bytes)]);
        text.resize(INNER_BYTES + payload_bytes, 0);
        // Encrypting in memory cannot fail. If it did, the datagram would lack its tag and the test its counter.
        let _ = cipher.encrypt_in_place(&Nonce::from(nonce), &datagram, &mut text);
        datagram.extend_from_slice(&text);
        datagram
    }
}

/// Returns the inner header of a symbol, from its fields in their order: codec, serial, container id, container length,
/// block, index, k_max, m.
#[expect(clippy::too_many_arguments, reason = "they are the header's fields")]
pub fn symbol_fields(
    codec: u8,
    serial: u64,
    container: [u8; 12],
    container_bytes: u64,
    block: u32,
    index: u16,
    k_max: u16,
    m: u16,
) -> [u8; INNER_BYTES] {
    let mut inner = [0; INNER_BYTES];
    inner[0] = 1;
    inner[1] = codec;
    inner[4..12].copy_from_slice(&serial.to_be_bytes());
    inner[12..24].copy_from_slice(&container);
    inner[24..30].copy_from_slice(&container_bytes.to_be_bytes()[2..]);
    inner[30..34].copy_from_slice(&block.to_be_bytes());
    inner[34..36].copy_from_slice(&index.to_be_bytes());
    inner[36..38].copy_from_slice(&k_max.to_be_bytes());
    inner[38..40].copy_from_slice(&m.to_be_bytes());
    inner
}
