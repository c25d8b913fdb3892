//! datagram → symbol: the tag is verified, the numbers are checked, and only then does anything know of it.
//!
//! A datagram that fails moves one counter and leaves no state behind: the key of a session's epoch is kept only once a tag has
//! verified under it, so a forged session id or counter costs a derivation and a MAC, and no memory. Whoever stole the link key
//! can fill the places of kept keys with his own, and then costs the true sender a derivation now and then.

use valise_common::fec::BlockShape;
use valise_common::ids::{BundleId, LinkKeyId};
use valise_common::limits;
use valise_common::wire::{
    ClearHeader, DatagramBytes, DropReason, EpochKey, InnerHeader, LinkKey, PAYLOAD_OFFSET, SetId,
    SymbolHeader, open, peek,
};

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
/// [`limits::LINK_KEYS_MAX`] link keys and eight derived keys each, of less than 1 KiB. For a datagram whose epoch is known, nothing is
/// derived and nothing allocated.
pub struct Deframer {
    size: DatagramBytes,
    issued_last: u64,
    // Newest bundle first.
    keys: Vec<KeyState>,
    // Symbols of one set come in runs: the set that was checked last is not checked again.
    last: Option<(SymbolHeader, SetId)>,
    newly_verified: Vec<BundleId>,
    // Counts verified datagrams, to tell which derived key was quiet the longest.
    tick: u64,
}

struct KeyState {
    held: HeldKey,
    verified: bool,
    derived: Vec<(EpochKey, u64)>,
}

impl Deframer {
    /// Creates a deframer of a link with datagrams of one size. It accepts nothing until it has keys.
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
    /// Keys that stay keep what was derived from them. Of more than [`limits::LINK_KEYS_MAX`] keys, the newest are taken; of two keys with one
    /// id, the newer.
    pub fn handle_keys(&mut self, mut keys: Vec<HeldKey>, issued_last: u64) {
        keys.sort_by_key(|key| std::cmp::Reverse(key.bundle));
        keys.truncate(limits::LINK_KEYS_MAX);
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
                    derived: Vec::new(),
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
        let inner = state.open(&clear, datagram, self.tick)?;
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

    /// Returns a bundle whose link key verified a datagram for the first time since it came into force; to be asked until `None`.
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
        clear: &ClearHeader,
        datagram: &mut [u8],
        tick: u64,
    ) -> Result<InnerHeader, DropReason> {
        let mut derived = self.derived.iter_mut();
        if let Some((key, used)) = derived.find(|(key, _)| key.is_for(clear)) {
            let (_, inner) = open(key, datagram)?;
            *used = tick;
            return Ok(inner);
        }
        let key = EpochKey::derive(&self.held.key, clear.session, clear.epoch());
        // An inner header that breaks a rule comes from a holder of the link key, and still keeps no key.
        let (_, inner) = open(&key, datagram)?;
        if self.derived.len() >= limits::EPOCH_KEYS_MAX {
            let derived = self.derived.iter().enumerate();
            let quietest = derived.min_by_key(|(_, (_, used))| *used);
            if let Some((place, _)) = quietest {
                self.derived.swap_remove(place);
            }
        }
        self.derived.push((key, tick));
        Ok(inner)
    }
}

/// Returns the payload of an opened datagram.
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
    use valise_common::ids::SessionId;
    use valise_common::wire::seal;

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
        cover_of(key, session, 0)
    }

    fn cover_of(key: &HeldKey, session: u64, counter: u64) -> Vec<u8> {
        let clear = ClearHeader {
            key_id: key.key_id,
            counter,
            session: SessionId::from_bytes(session.to_be_bytes()),
        };
        let mut datagram = vec![0; 136];
        let epoch_key = EpochKey::derive(&key.key, clear.session, clear.epoch());
        seal(&epoch_key, &clear, &InnerHeader::Cover, &mut datagram);
        datagram
    }

    fn derived_count(deframer: &Deframer) -> usize {
        deframer.keys.iter().map(|state| state.derived.len()).sum()
    }

    /// Tells whether the key of a datagram is kept.
    fn is_kept(deframer: &Deframer, datagram: &[u8]) -> bool {
        let clear = peek(datagram, deframer.size).unwrap();
        let mut derived = deframer.keys[0].derived.iter();
        derived.any(|(key, _)| key.is_for(&clear))
    }

    #[test]
    fn forged_sessions_and_epochs_cost_no_state_and_true_ones_a_bounded_one() {
        let mut deframer = deframer(vec![held(1, 1, 7)]);
        for number in 0..1_000 {
            for (session, counter) in [(number, 0), (1, number << 26)] {
                let mut forged = cover_of(&held(1, 1, 8), session, counter);
                assert_eq!(deframer.handle_datagram(&mut forged), Err(DropReason::Tag));
            }
        }
        assert_eq!(derived_count(&deframer), 0);
        assert_eq!(deframer.poll_newly_verified(), None);
        for number in 0..1_000 {
            for (session, counter) in [(number, 0), (1, number << 26)] {
                let mut good = cover_of(&held(1, 1, 7), session, counter);
                assert_eq!(deframer.handle_datagram(&mut good), Ok(Frame::Cover));
                assert!(derived_count(&deframer) <= limits::EPOCH_KEYS_MAX);
            }
        }
        assert_eq!(derived_count(&deframer), limits::EPOCH_KEYS_MAX);
    }

    #[test]
    fn epochs_and_sessions_that_interleave_keep_their_keys() {
        let key = held(1, 1, 7);
        let mut deframer = deframer(vec![held(1, 1, 7)]);
        let border = 5 << 26;
        let interleaved: Vec<Vec<u8>> = [(1, border - 1), (1, border), (2, 0), (2, 1 << 26)]
            .into_iter()
            .map(|(session, counter)| cover_of(&key, session, counter))
            .collect();
        for round in 0..3 {
            for datagram in &interleaved {
                assert_eq!(is_kept(&deframer, datagram), round > 0);
                let opened = deframer.handle_datagram(&mut datagram.clone());
                assert_eq!(opened, Ok(Frame::Cover));
            }
        }
        assert_eq!(derived_count(&deframer), interleaved.len());
    }

    #[test]
    fn the_key_that_was_quiet_the_longest_yields() {
        let key = held(1, 1, 7);
        let mut deframer = deframer(vec![held(1, 1, 7)]);
        for session in [1, 2, 3, 4, 5, 6, 7, 8, 1, 9] {
            deframer.handle_datagram(&mut cover(&key, session)).unwrap();
        }
        assert!(is_kept(&deframer, &cover(&key, 1)));
        assert!(is_kept(&deframer, &cover(&key, 9)));
        assert!(!is_kept(&deframer, &cover(&key, 2)));
    }

    #[test]
    fn a_new_key_is_told_once_and_keys_that_stay_keep_what_was_derived() {
        let mut deframer = deframer(vec![held(1, 1, 7), held(2, 2, 8)]);
        for _ in 0..2 {
            deframer
                .handle_datagram(&mut cover(&held(1, 1, 7), 1))
                .unwrap();
        }
        assert_eq!(deframer.poll_newly_verified(), Some(BundleId(1)));
        assert_eq!(deframer.poll_newly_verified(), None);
        deframer.handle_keys(vec![held(1, 1, 7), held(3, 3, 9)], 100);
        assert_eq!(derived_count(&deframer), 1);
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
