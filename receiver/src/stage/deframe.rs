//! datagram → symbol: the tag is verified, the numbers are checked, and only then does anything know of it.
//!
//! A datagram that fails moves one counter and leaves no state behind: a session's key is kept only once a tag has verified
//! under it, so forged session ids cost a derivation and a MAC each, and no memory.

use valise_common::fec::BlockShape;
use valise_common::ids::{BundleId, LinkKeyId, SessionId};
use valise_common::wire::{
    DatagramBytes, DropReason, InnerHeader, LinkKey, PAYLOAD_OFFSET, SessionKey, SetId,
    SymbolHeader, open, peek,
};

/// Link keys that are in force at a time; the newest ones count.
pub const LINK_KEYS_MAX: usize = 8;

/// Sessions of one link key whose derived keys are kept; the one that was quiet the longest yields.
const SESSIONS_MAX: usize = 8;

/// A link key, as its bundle brought it.
pub struct HeldKey {
    /// The bundle.
    pub bundle: BundleId,
    /// What datagrams call the key.
    pub key_id: LinkKeyId,
    /// The key.
    pub key: LinkKey,
}

/// What an authentic datagram carries. The payload stands in the datagram itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing.
    Cover,
    /// One symbol.
    Symbol(Symbol),
    /// The sender's knowledge of its serials, as far as the link key of this bundle is to be believed.
    Beacon(BundleId),
}

/// Where a symbol belongs. Every number in it has been checked against the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// The set.
    pub set: SetId,
    /// The source block.
    pub block: BlockShape,
    /// The index in the block, below k + m.
    pub index: u16,
}

/// Turns datagrams into symbols and beacons.
///
/// # Bounds
/// [`LINK_KEYS_MAX`] keys and eight sessions each; nothing is allocated for a datagram of a session that is known.
pub struct Deframer {
    size: DatagramBytes,
    issued_last: u64,
    // Newest bundle first.
    keys: Vec<KeyState>,
    // Symbols of one set come in runs: the set that was checked last is not checked again.
    last: Option<(SymbolHeader, SetId)>,
    newly_verified: Vec<BundleId>,
    // Counts verified datagrams, to tell which session was quiet the longest.
    tick: u64,
}

struct KeyState {
    held: HeldKey,
    verified: bool,
    sessions: Vec<(SessionKey, u64)>,
}

impl Deframer {
    /// A deframer of a link with datagrams of one size. It accepts nothing until it has keys.
    pub fn new(size: DatagramBytes) -> Self {
        Self {
            size,
            issued_last: 0,
            keys: Vec::new(),
            last: None,
            newly_verified: Vec::new(),
            tick: 0,
        }
    }

    /// Replaces the keys in force. `issued_last` is the highest serial that has a slot.
    ///
    /// Keys that stay keep their sessions. Of more than [`LINK_KEYS_MAX`] keys, the newest are taken; of two keys with one
    /// id, the newer.
    pub fn handle_keys(&mut self, mut keys: Vec<HeldKey>, issued_last: u64) {
        keys.sort_by_key(|key| std::cmp::Reverse(key.bundle));
        keys.truncate(LINK_KEYS_MAX);
        let mut before = std::mem::take(&mut self.keys);
        for held in keys {
            if self
                .keys
                .iter()
                .any(|state| state.held.key_id == held.key_id)
            {
                continue;
            }
            let same = before.iter().position(|state| {
                state.held.bundle == held.bundle && state.held.key.expose() == held.key.expose()
            });
            self.keys.push(match same {
                Some(place) => before.swap_remove(place),
                None => KeyState {
                    held,
                    verified: false,
                    sessions: Vec::new(),
                },
            });
        }
        self.issued_last = issued_last;
        self.last = None;
    }

    /// Opens a datagram in place.
    ///
    /// # Errors
    /// Why it was dropped; of a datagram whose tag does not verify, nothing is kept.
    pub fn handle_datagram(&mut self, datagram: &mut [u8]) -> Result<Frame, DropReason> {
        let clear = peek(datagram, self.size)?;
        let of_id = |state: &&mut KeyState| state.held.key_id == clear.key_id;
        let state = self
            .keys
            .iter_mut()
            .find(of_id)
            .ok_or(DropReason::KeyUnknown)?;
        let inner = state.open(clear.session, datagram, self.tick)?;
        self.tick += 1;
        if !state.verified {
            state.verified = true;
            self.newly_verified.push(state.held.bundle);
        }
        let bundle = state.held.bundle;
        match inner {
            InnerHeader::Cover => Ok(Frame::Cover),
            InnerHeader::Beacon => Ok(Frame::Beacon(bundle)),
            InnerHeader::Symbol(header) => {
                let symbol = self.check(&header)?;
                check_padding(&symbol, payload(datagram))?;
                Ok(Frame::Symbol(symbol))
            }
        }
    }

    /// A bundle whose link key verified a datagram for the first time since it came into force; to be asked until `None`.
    pub fn poll_newly_verified(&mut self) -> Option<BundleId> {
        self.newly_verified.pop()
    }

    fn check(&mut self, header: &SymbolHeader) -> Result<Symbol, DropReason> {
        if header.serial.get() > self.issued_last {
            return Err(DropReason::SerialForeign);
        }
        // What names the set, apart from what differs from symbol to symbol.
        let claim = SymbolHeader {
            pass: 0,
            block: 0,
            index: 0,
            ..*header
        };
        let set = match self.last {
            Some((known, set)) if known == claim => set,
            _ => {
                let (set, _) = claim.check(self.size.symbol_bytes())?;
                self.last = Some((claim, set));
                set
            }
        };
        let block = set
            .geometry
            .block(header.block)
            .ok_or(DropReason::BlockNumber)?;
        if u32::from(header.index) >= block.symbol_count() {
            return Err(DropReason::SymbolIndex);
        }
        Ok(Symbol {
            set,
            block,
            index: header.index,
        })
    }
}

impl KeyState {
    fn open(
        &mut self,
        session: SessionId,
        datagram: &mut [u8],
        tick: u64,
    ) -> Result<InnerHeader, DropReason> {
        if let Some((key, used)) = self
            .sessions
            .iter_mut()
            .find(|(key, _)| key.session() == session)
        {
            let (_, inner) = open(key, datagram)?;
            *used = tick;
            return Ok(inner);
        }
        let key = SessionKey::derive(&self.held.key, session);
        // An inner header that breaks a rule comes from a holder of the key, and still makes no session.
        let (_, inner) = open(&key, datagram)?;
        if self.sessions.len() >= SESSIONS_MAX {
            let quietest = self
                .sessions
                .iter()
                .enumerate()
                .min_by_key(|(_, (_, used))| *used);
            if let Some((place, _)) = quietest {
                self.sessions.swap_remove(place);
            }
        }
        self.sessions.push((key, tick));
        Ok(inner)
    }
}

/// The payload of an opened datagram.
pub fn payload(datagram: &[u8]) -> &[u8] {
    let end = datagram
        .len()
        .saturating_sub(valise_common::limits::TAG_BYTES);
    datagram.get(PAYLOAD_OFFSET..end).unwrap_or_default()
}

/// The last source symbol of a container is zero behind the container's end.
fn check_padding(symbol: &Symbol, payload: &[u8]) -> Result<(), DropReason> {
    let geometry = &symbol.set.geometry;
    let number = symbol.block.first_symbol + u64::from(symbol.index);
    if symbol.index >= symbol.block.k || number + 1 != geometry.symbol_count() {
        return Ok(());
    }
    let start = number * u64::from(geometry.symbol_bytes());
    let length = usize::try_from(geometry.container_bytes() - start).unwrap_or(usize::MAX);
    match payload.get(length..) {
        Some(padding) if padding.iter().any(|byte| *byte != 0) => Err(DropReason::NotZero),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::wire::{ClearHeader, seal};

    use super::*;

    fn held(bundle: u32, key_id: u8, first: u8) -> HeldKey {
        HeldKey {
            bundle: BundleId(bundle),
            key_id: LinkKeyId(key_id),
            key: LinkKey::new([first; 32]),
        }
    }

    fn deframer(keys: Vec<HeldKey>) -> Deframer {
        let mut deframer = Deframer::new(DatagramBytes::new(136).unwrap());
        deframer.handle_keys(keys, 100);
        deframer
    }

    fn cover(key: &HeldKey, session: u64) -> Vec<u8> {
        let session = SessionId::from_bytes(session.to_be_bytes());
        let clear = ClearHeader {
            key_id: key.key_id,
            counter: 0,
            session,
        };
        let mut datagram = vec![0; 136];
        seal(
            &SessionKey::derive(&key.key, session),
            &clear,
            &InnerHeader::Cover,
            &mut datagram,
        );
        datagram
    }

    fn sessions(deframer: &Deframer) -> usize {
        deframer.keys.iter().map(|state| state.sessions.len()).sum()
    }

    #[test]
    fn forged_sessions_cost_no_state_and_true_ones_a_bounded_one() {
        let mut deframer = deframer(vec![held(1, 1, 7)]);
        for session in 0..1_000 {
            let mut forged = cover(&held(1, 1, 8), session);
            assert_eq!(deframer.handle_datagram(&mut forged), Err(DropReason::Tag));
        }
        assert_eq!(sessions(&deframer), 0);
        assert_eq!(deframer.poll_newly_verified(), None);
        for session in 0..1_000 {
            let mut good = cover(&held(1, 1, 7), session);
            assert_eq!(deframer.handle_datagram(&mut good), Ok(Frame::Cover));
        }
        assert_eq!(sessions(&deframer), SESSIONS_MAX);
    }

    #[test]
    fn the_session_that_was_quiet_the_longest_yields() {
        let key = held(1, 1, 7);
        let mut deframer = deframer(vec![held(1, 1, 7)]);
        for session in [1, 2, 3, 4, 5, 6, 7, 8, 1, 9] {
            deframer.handle_datagram(&mut cover(&key, session)).unwrap();
        }
        let known: Vec<u64> = deframer.keys[0]
            .sessions
            .iter()
            .map(|(key, _)| u64::from_be_bytes(*key.session().as_bytes()))
            .collect();
        assert!(
            known.contains(&1) && known.contains(&9) && !known.contains(&2),
            "{known:?}"
        );
    }

    #[test]
    fn a_new_key_is_told_once_and_keys_that_stay_keep_their_sessions() {
        let mut deframer = deframer(vec![held(1, 1, 7), held(2, 2, 8)]);
        for _ in 0..2 {
            deframer
                .handle_datagram(&mut cover(&held(1, 1, 7), 1))
                .unwrap();
        }
        assert_eq!(deframer.poll_newly_verified(), Some(BundleId(1)));
        assert_eq!(deframer.poll_newly_verified(), None);
        deframer.handle_keys(vec![held(1, 1, 7), held(3, 3, 9)], 100);
        assert_eq!(sessions(&deframer), 1);
        deframer
            .handle_datagram(&mut cover(&held(3, 3, 9), 1))
            .unwrap();
        assert_eq!(deframer.poll_newly_verified(), Some(BundleId(3)));
        let mut retired = cover(&held(2, 2, 8), 1);
        assert_eq!(
            deframer.handle_datagram(&mut retired),
            Err(DropReason::KeyUnknown)
        );
    }

    #[test]
    fn of_two_keys_with_one_id_the_newer_counts() {
        let mut deframer = deframer(vec![held(1, 1, 7), held(257, 1, 8)]);
        assert_eq!(
            deframer.handle_datagram(&mut cover(&held(1, 1, 8), 1)),
            Ok(Frame::Cover)
        );
        let mut older = cover(&held(1, 1, 7), 1);
        assert_eq!(deframer.handle_datagram(&mut older), Err(DropReason::Tag));
    }

    #[test]
    fn without_keys_nothing_is_accepted() {
        let mut deframer = deframer(Vec::new());
        let mut any = cover(&held(1, 1, 7), 1);
        assert_eq!(
            deframer.handle_datagram(&mut any),
            Err(DropReason::KeyUnknown)
        );
    }
}
