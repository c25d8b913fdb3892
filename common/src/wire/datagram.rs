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
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::fec::Codec;
    use crate::ids::{ContainerId, Serial};
    use crate::testing::{bytes, vector, vectors};
    use crate::wire::{Beacon, BeaconEntry, EntryState, SymbolHeader};

    const SESSION: SessionId = SessionId::from_bytes([8; 8]);

    fn key() -> EpochKey {
        key_of(Epoch::FIRST)
    }

    fn key_of(epoch: Epoch) -> EpochKey {
        EpochKey::derive(&LinkKey::new([7; 32]), SESSION, epoch)
    }

    fn clear(counter: u64) -> ClearHeader {
        ClearHeader {
            key_id: LinkKeyId(1),
            counter,
            session: SESSION,
        }
    }

    fn sealed(inner: &InnerHeader) -> Vec<u8> {
        let mut buffer = vec![0; 1_472];
        seal(&key(), &clear(9), inner, &mut buffer);
        buffer
    }

    fn number(vector: &Value, name: &str) -> u64 {
        vector[name].as_u64().expect(name)
    }

    fn beacon_of(vector: &Value) -> Beacon {
        let entries = vector["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| BeaconEntry {
                serial: Serial::new(number(entry, "serial")).unwrap(),
                container: entry["container_id"].as_str().unwrap().parse().unwrap(),
                container_bytes: number(entry, "length"),
                state: match number(entry, "state") {
                    0 => EntryState::Queued,
                    1 => EntryState::OnLink,
                    2 => EntryState::PassesDone,
                    _ => EntryState::NotSent,
                },
            });
        Beacon {
            highest: number(vector, "highest"),
            settled: number(vector, "settled"),
            lowest_retained: number(vector, "lowest"),
            sender_time_us: number(vector, "sender_time_us"),
            trust_version: number(vector, "trust_version") as u32,
            entries: entries.collect(),
        }
    }

    #[test]
    fn datagrams_are_those_of_the_vectors() {
        for name in vectors("datagram-")
            .iter()
            .filter(|name| !name.contains("-bad-"))
        {
            let vector = vector(name);
            let datagram = bytes(&vector["datagram"]);
            let size = DatagramBytes::new(datagram.len() as u16).unwrap();
            let link_key = LinkKey::from_slice(&bytes(&vector["link_key"])).unwrap();
            let expected = ClearHeader {
                key_id: LinkKeyId(number(&vector, "key_id") as u8),
                counter: number(&vector, "counter"),
                session: vector["session"].as_str().unwrap().parse().unwrap(),
            };
            let clear = peek(&datagram, size).unwrap();
            assert_eq!(clear, expected, "{name}");
            let key = EpochKey::derive(&link_key, clear.session, clear.epoch());
            let mut opened = datagram.clone();
            let (again, inner) = open(&key, &mut opened).unwrap();
            assert_eq!(again, clear);
            let symbol_bytes = usize::from(size.symbol_bytes());
            let payload = &opened[PAYLOAD_OFFSET..][..symbol_bytes];
            let mut resealed = vec![0xee; datagram.len()];
            let into = &mut resealed[PAYLOAD_OFFSET..][..symbol_bytes];
            match inner {
                InnerHeader::Cover => into.fill(0),
                InnerHeader::Beacon => {
                    let beacon = beacon_of(&vector);
                    assert_eq!(Beacon::decode(payload).as_ref(), Ok(&beacon));
                    beacon.encode(into);
                }
                InnerHeader::Symbol(symbol) => {
                    assert_eq!(inner.encode()[..], bytes(&vector["inner_header"]));
                    assert_eq!(payload, bytes(&vector["payload"]));
                    symbol.check(size.symbol_bytes()).unwrap();
                    into.copy_from_slice(payload);
                }
            }
            seal(&key, &clear, &inner, &mut resealed);
            assert_eq!(resealed, datagram, "{name}");
        }
    }

    #[test]
    fn what_the_vectors_call_bad_is_dropped_for_its_reason_and_not_read() {
        for name in vectors("datagram-") {
            let Some((_, fault)) = name.split_once("-bad-") else {
                continue;
            };
            let expected = match fault {
                "aad" | "clear-header" | "inner-header" | "payload" | "tag" => DropReason::Tag,
                "geometry" => DropReason::Geometry,
                "beacon-lowest" | "beacon-settled" => DropReason::BeaconFields,
                _ => panic!("{name}: an unknown fault"),
            };
            let vector = vector(&name);
            let datagram = bytes(&vector["datagram"]);
            let size = DatagramBytes::new(datagram.len() as u16).unwrap();
            let link_key = LinkKey::from_slice(&bytes(&vector["link_key"])).unwrap();
            let clear = peek(&datagram, size).unwrap();
            let key = EpochKey::derive(&link_key, clear.session, clear.epoch());
            let mut kept = datagram.clone();
            let opened = open(&key, &mut kept);
            let text = &kept[limits::CLEAR_BYTES..kept.len() - limits::TAG_BYTES];
            let reason = match opened {
                Err(reason) => {
                    assert_eq!(
                        kept[..limits::CLEAR_BYTES],
                        datagram[..limits::CLEAR_BYTES],
                        "{name}"
                    );
                    let is_erased = text.iter().all(|byte| *byte == 0);
                    assert!(is_erased, "{name}: nothing to read");
                    reason
                }
                Ok((_, InnerHeader::Symbol(symbol))) => {
                    symbol.check(size.symbol_bytes()).unwrap_err()
                }
                Ok((_, InnerHeader::Beacon)) => {
                    Beacon::decode(&text[limits::INNER_BYTES..]).unwrap_err()
                }
                Ok((_, InnerHeader::Cover)) => panic!("{name}: cover"),
            };
            assert_eq!(reason, expected, "{name}");
        }
    }

    #[test]
    fn another_size_or_version_is_dropped_before_any_key() {
        let size = DatagramBytes::new(1_472).unwrap();
        let mut datagram = sealed(&InnerHeader::Beacon);
        for length in [0, 1, 15, 16, 71, 1_471] {
            assert_eq!(peek(&datagram[..length], size), Err(DropReason::Length));
        }
        for version in [0, 1, 3] {
            datagram[0] = version;
            assert_eq!(peek(&datagram, size), Err(DropReason::Version));
            assert_eq!(open(&key(), &mut datagram), Err(DropReason::Version));
        }
    }

    #[test]
    fn another_session_epoch_or_key_does_not_open() {
        let datagram = sealed(&InnerHeader::Beacon);
        let link_key = LinkKey::new([7; 32]);
        let session = EpochKey::derive(&link_key, SessionId::from_bytes([9; 8]), Epoch::FIRST);
        assert_eq!(open(&session, &mut datagram.clone()), Err(DropReason::Tag));
        let epoch = key_of(Epoch(1));
        assert_eq!(open(&epoch, &mut datagram.clone()), Err(DropReason::Tag));
        let other = EpochKey::derive(&LinkKey::new([8; 32]), SESSION, Epoch::FIRST);
        assert_eq!(open(&other, &mut datagram.clone()), Err(DropReason::Tag));
        assert_eq!(
            open(&key(), &mut datagram.clone()),
            Ok((clear(9), InnerHeader::Beacon))
        );
    }

    #[test]
    fn an_epoch_is_the_upper_part_of_the_counter_and_has_a_key_of_its_own() {
        for (counter, epoch) in [
            (0, 0),
            ((1 << 26) - 1, 0),
            (1 << 26, 1),
            ((7 << 26) + 5, 7),
            (limits::COUNTER_MAX, (1 << 22) - 1),
        ] {
            assert_eq!(Epoch::of(counter), Epoch(epoch), "{counter}");
            let mut datagram = vec![0; 136];
            let header = clear(counter);
            seal(
                &key_of(Epoch(epoch)),
                &header,
                &InnerHeader::Cover,
                &mut datagram,
            );
            let other = key_of(Epoch(epoch ^ 1));
            assert!(!other.is_for(&header));
            // The counter is the same, so the nonce is: the keys differ.
            let other_cipher = other.cipher.open(header.nonce(), &mut datagram.clone());
            assert_eq!(other_cipher, Err(aead::Forged));
            assert_eq!(
                open(&key_of(Epoch(epoch)), &mut datagram),
                Ok((header, InnerHeader::Cover))
            );
        }
    }

    #[test]
    #[should_panic(expected = "another session or epoch")]
    fn no_key_seals_for_another_epoch() {
        let mut datagram = vec![0; 136];
        seal(&key(), &clear(1 << 26), &InnerHeader::Cover, &mut datagram);
    }

    #[test]
    fn cover_that_carries_something_is_dropped() {
        let mut buffer = vec![0; 1_472];
        buffer[1_455] = 1;
        seal(&key(), &clear(9), &InnerHeader::Cover, &mut buffer);
        assert_eq!(open(&key(), &mut buffer), Err(DropReason::NotZero));
    }

    #[test]
    fn only_even_sizes_within_bounds_are_sizes() {
        for bytes in [0, 72, 134, 137, 1_473, 9_154, u16::MAX] {
            assert_eq!(DatagramBytes::new(bytes), None, "{bytes}");
        }
        for bytes in [136, 584, 1_472, 8_972, 9_152] {
            assert_eq!(
                DatagramBytes::new(bytes).unwrap().symbol_bytes(),
                bytes - 72
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_no_flipped_bit_does(
            half in 68_usize..800, counter in 0_u64..1 << 48, fill: u8, at: prop::sample::Index,
            bit in 0_u8..8,
        ) {
            let inner = InnerHeader::Symbol(SymbolHeader {
                codec: Codec::Rs16,
                pass: 1,
                serial: Serial::FIRST,
                container: ContainerId::from_bytes([3; 12]),
                container_bytes: 1_281,
                block: 0,
                index: 1,
                k_max: 3,
                m: 4,
            });
            let mut datagram = vec![fill; half * 2];
            let key = key_of(Epoch::of(counter));
            seal(&key, &clear(counter), &inner, &mut datagram);
            let mut opened = datagram.clone();
            prop_assert_eq!(open(&key, &mut opened), Ok((clear(counter), inner)));
            prop_assert!(opened[PAYLOAD_OFFSET..half * 2 - 16].iter().all(|byte| *byte == fill));
            let at = at.index(datagram.len());
            datagram[at] ^= 1 << bit;
            prop_assert!(open(&key, &mut datagram).is_err());
        }

        #[test]
        fn any_bytes_are_dropped(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(first) = bytes.first_mut() {
                *first %= 3;
            }
            // The key's own session and epoch, so that the tag is what decides.
            if let Some(header) = bytes.get_mut(2..16) {
                header[..3].fill(0);
                header[6..].fill(8);
            }
            prop_assert!(open(&key(), &mut bytes).is_err());
        }
    }
}
