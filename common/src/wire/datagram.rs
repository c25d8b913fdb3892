//! The datagram: a clear header, and everything behind it encrypted.
//!
//! ```text
//! 0 version = 2   1 link key id   2 counter (6)   8 session (8)   | 16 inner header (40)   56 payload (S)   56 + S tag (16)
//!                                            clear, authenticated | encrypted
//! ```
//!
//! The key changes with each epoch of the session, which is the counter's upper part: one key seals 2^26 datagrams at most.

use zeroize::Zeroize as _;

use super::aead::{self, Cipher};
use super::inner::{field, read_u48, u48};
use super::{DropReason, InnerHeader};
use crate::ids::{LinkKeyId, SessionId};
use crate::limits;
use crate::secret::Secret32;

/// The key that both hosts of a channel share for the link. It hides and authenticates; it opens no container.
pub type LinkKey = Secret32;

/// Where the payload begins.
pub const PAYLOAD_OFFSET: usize = limits::CLEAR_BYTES + limits::INNER_BYTES;

/// The one size of a link's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatagramBytes(u16);

impl DatagramBytes {
    /// Takes a size that the format allows: even, and between the bounds of [`crate::limits`].
    pub const fn new(bytes: u16) -> Option<Self> {
        let is_within = limits::DATAGRAM_BYTES_MIN <= bytes && bytes <= limits::DATAGRAM_BYTES_MAX;
        // The overhead is even, so the symbol is even with the datagram.
        if is_within && bytes.is_multiple_of(2) {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Returns the size.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns the size, for buffers.
    pub fn to_usize(self) -> usize {
        usize::from(self.0)
    }

    /// Bytes of the payload: the symbol size S.
    pub const fn symbol_bytes(self) -> u16 {
        self.0 - limits::DATAGRAM_OVERHEAD_BYTES
    }
}

/// What an observer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClearHeader {
    /// Which link key.
    pub key_id: LinkKeyId,
    /// One a datagram, from 0, below 2^48. A counter never repeats in a session: it is the nonce.
    pub counter: u64,
    /// The session.
    pub session: SessionId,
}

const VERSION: u8 = 2;

const KEY_CONTEXT: &str = "valise v2 link session";

/// Datagrams of an epoch, as a power of two. The largest have 571 blocks of AES, so a key encrypts fewer than 2^35.2.
const EPOCH_BITS: u32 = 26;

/// A run of 2^26 counters of a session, which have one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch in which a session begins.
    pub const FIRST: Self = Self(0);

    /// Creates the epoch of a counter, which is below 2^48.
    pub fn of(counter: u64) -> Self {
        Self(u32::try_from(counter >> EPOCH_BITS).unwrap_or(u32::MAX))
    }
}

/// The key of one epoch of a session, derived and expanded once.
pub struct EpochKey {
    session: SessionId,
    epoch: Epoch,
    cipher: Cipher,
}

impl EpochKey {
    /// Derives a key and expands it. Both hosts keep the result, so that no datagram of a known epoch pays for that.
    pub fn derive(link_key: &LinkKey, session: SessionId, epoch: Epoch) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
        hasher
            .update(link_key.expose())
            .update(session.as_bytes())
            .update(&epoch.0.to_be_bytes());
        let mut key = hasher.finalize_xof();
        let cipher = Cipher::new(Secret32::fill(|bytes| key.fill(bytes)));
        hasher.zeroize();
        key.zeroize();
        Self {
            session,
            epoch,
            cipher,
        }
    }

    /// Returns the session that this key is for.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns whether this key seals the datagram with this header, as far as session and counter tell.
    pub fn is_for(&self, clear: &ClearHeader) -> bool {
        self.session == clear.session && self.epoch == clear.epoch()
    }
}

impl ClearHeader {
    /// Returns the epoch of the counter.
    pub fn epoch(&self) -> Epoch {
        Epoch::of(self.counter)
    }

    fn encode(&self) -> [u8; limits::CLEAR_BYTES] {
        let mut bytes = [0; limits::CLEAR_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.key_id.0;
        bytes[2..8].copy_from_slice(&u48(self.counter));
        bytes[8..].copy_from_slice(self.session.as_bytes());
        bytes
    }

    /// Reads what stands at the fixed offsets; the version has been checked.
    fn decode(bytes: &[u8; limits::CLEAR_BYTES]) -> Self {
        Self {
            key_id: LinkKeyId(bytes[1]),
            counter: read_u48(field(bytes, 2)),
            session: SessionId::from_bytes(field(bytes, 8)),
        }
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }
}

/// Seals a datagram in place.
///
/// # Shape
/// `buffer` is the whole datagram; its payload stands at [`PAYLOAD_OFFSET`] already, all else is overwritten.
///
/// # Bounds
/// Allocates nothing. A buffer shorter than any datagram, a counter of 2^48 and more, or the key of another session or epoch is
/// our own bug and panics.
pub fn seal(key: &EpochKey, clear: &ClearHeader, inner: &InnerHeader, buffer: &mut [u8]) {
    assert!(key.is_for(clear), "the key of another session or epoch");
    assert!(
        buffer.len() > PAYLOAD_OFFSET + limits::TAG_BYTES,
        "a buffer too short for a datagram"
    );
    buffer[..limits::CLEAR_BYTES].copy_from_slice(&clear.encode());
    buffer[limits::CLEAR_BYTES..PAYLOAD_OFFSET].copy_from_slice(&inner.encode());
    key.cipher.seal(clear.nonce(), buffer);
}

/// Reads the clear header before any key is at hand. Nothing in it is authentic yet.
///
/// # Errors
/// [`DropReason::Length`] or [`DropReason::Version`].
pub fn peek(datagram: &[u8], size: DatagramBytes) -> Result<ClearHeader, DropReason> {
    if datagram.len() != size.to_usize() {
        return Err(DropReason::Length);
    }
    let header = datagram.first_chunk().ok_or(DropReason::Length)?;
    if header[0] != VERSION {
        return Err(DropReason::Version);
    }
    Ok(ClearHeader::decode(header))
}

/// Verifies and opens a datagram in place: its payload then stands at [`PAYLOAD_OFFSET`], S bytes long.
///
/// Of a datagram whose tag does not verify, nothing is left to read: its text is spoiled. What decrypts and is then refused is
/// the fault of someone who has the link key.
///
/// # Errors
/// [`DropReason::Length`] or [`DropReason::Version`] if [`peek`] was not asked, [`DropReason::Tag`], and what the inner header
/// or the payload of a cover datagram breaks.
pub fn open(key: &EpochKey, datagram: &mut [u8]) -> Result<(ClearHeader, InnerHeader), DropReason> {
    let header = datagram.first_chunk().ok_or(DropReason::Length)?;
    if datagram.len() <= PAYLOAD_OFFSET + limits::TAG_BYTES {
        return Err(DropReason::Length);
    }
    if header[0] != VERSION {
        return Err(DropReason::Version);
    }
    let clear = ClearHeader::decode(header);
    if !key.is_for(&clear) {
        return Err(DropReason::Tag);
    }
    key.cipher
        .open(clear.nonce(), datagram)
        .map_err(|aead::Forged| DropReason::Tag)?;
    let inner = InnerHeader::decode(&field(datagram, limits::CLEAR_BYTES))?;
    let payload = &datagram[PAYLOAD_OFFSET..datagram.len() - limits::TAG_BYTES];
    if inner == InnerHeader::Cover && payload.iter().any(|byte| *byte != 0) {
        return Err(DropReason::NotZero);
    }
    Ok((clear, inner))
}

#[cfg(test)]
mod tests;
