//! The datagram: a clear header, and everything behind it encrypted.
//!
//! ```text
//! 0 version = 1   1 link key id   2 counter (6)   8 session (8)   | 16 inner header (40)   56 payload (S)   56 + S tag (16)
//!                                            clear, authenticated | encrypted
//! ```

use crate::ids::{LinkKeyId, SessionId};
use crate::secret::Secret32;

use super::{DropReason, InnerHeader};

/// The key that both hosts of a channel share for the link. It hides and authenticates; it opens no container.
pub type LinkKey = Secret32;

/// Bytes of the clear header.
pub const CLEAR_BYTES: usize = 16;

/// Where the payload begins.
pub const PAYLOAD_OFFSET: usize = 56;

/// The one size of a link's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatagramBytes(u16);

impl DatagramBytes {
    /// Takes a size that the format allows: even, and between the bounds of [`crate::limits`].
    pub const fn new(bytes: u16) -> Option<Self> {
        let _ = bytes;
        todo!()
    }

    /// The size.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The size, for buffers.
    pub fn to_usize(self) -> usize {
        usize::from(self.0)
    }

    /// Bytes of the payload: the symbol size S.
    pub const fn symbol_bytes(self) -> u16 {
        self.0 - crate::limits::DATAGRAM_OVERHEAD_BYTES
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

/// The key of one session, its schedule built once.
pub struct SessionKey {
    session: SessionId,
}

impl SessionKey {
    /// Derives a session's key. Costs about a microsecond: receivers cache the result.
    pub fn derive(link_key: &LinkKey, session: SessionId) -> Self {
        let _ = (link_key, session);
        todo!()
    }

    /// The session that this key is for.
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// Seals a datagram in place.
///
/// # Shape
/// `buffer` is the whole datagram; its payload stands at [`PAYLOAD_OFFSET`] already, all else is overwritten.
///
/// # Bounds
/// Allocates nothing. A buffer of a length that is no [`DatagramBytes`], a counter of 2^48 and more, or another session's
/// key is our own bug and panics.
pub fn seal(key: &SessionKey, clear: &ClearHeader, inner: &InnerHeader, buffer: &mut [u8]) {
    let _ = (key, clear, inner, buffer);
    todo!()
}

/// Reads the clear header before any key is at hand. Nothing in it is authentic yet.
///
/// # Errors
/// [`DropReason::Length`] or [`DropReason::Version`].
pub fn peek(datagram: &[u8], size: DatagramBytes) -> Result<ClearHeader, DropReason> {
    let _ = (datagram, size);
    todo!()
}

/// Verifies and opens a datagram in place: its payload then stands at [`PAYLOAD_OFFSET`], S bytes long.
///
/// The tag is verified before anything is decrypted, so a forged datagram costs the MAC alone and leaves `datagram` as it was.
///
/// # Errors
/// [`DropReason::Tag`], and what the inner header breaks.
pub fn open(
    key: &SessionKey,
    datagram: &mut [u8],
) -> Result<(ClearHeader, InnerHeader), DropReason> {
    let _ = (key, datagram);
    todo!()
}
