//! The beacon: what the sender knows of its serials, so that the receiver can tell what is missing, the last one included.
//!
//! ```text
//! 0 highest issued (8)  8 settled (8)  16 lowest retained (8)  24 sender time, µs (8)  32 trust version (4)  36 n (1)
//! 37 n × { serial (8)  container id (12)  container length (6)  state (1) }  zero to S
//! ```

use super::DropReason;
use super::inner::{field, read_u48, u48};
use crate::ids::{ContainerId, Serial};
use crate::limits;

/// Where a serial stands at the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryState {
    /// Waits for its first pass.
    Queued,
    /// A pass is on the link.
    OnLink,
    /// Every pass has been sent.
    PassesDone,
    /// Will not be sent: expired or void.
    NotSent,
}

/// One serial of a beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeaconEntry {
    /// The serial.
    pub serial: Serial,
    /// Its container.
    pub container: ContainerId,
    /// The container's length.
    pub container_bytes: u64,
    /// Its place.
    pub state: EntryState,
}

/// What the sender announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// The highest serial issued; 0 before the first.
    pub highest: u64,
    /// Every serial up to this one has had its passes or was given up.
    pub settled: u64,
    /// The lowest serial whose container the sender still keeps. If it keeps none: the serial after the highest. 0 where it does
    /// not know.
    pub lowest_retained: u64,
    /// The sender's clock, µs since 1970; advisory.
    pub sender_time_us: u64,
    /// The version of the trust list that the sender holds; 0 for none.
    pub trust_version: u32,
    /// The newest serials first, then the others in rotation; 32 at most.
    pub entries: Vec<BeaconEntry>,
}

/// Bytes before the entries.
const HEAD_BYTES: usize = 37;

/// Bytes of an entry.
const ENTRY_BYTES: usize = 27;

impl EntryState {
    const fn number(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::OnLink => 1,
            Self::PassesDone => 2,
            Self::NotSent => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Queued),
            1 => Some(Self::OnLink),
            2 => Some(Self::PassesDone),
            3 => Some(Self::NotSent),
            _ => None,
        }
    }
}

impl BeaconEntry {
    fn encode(&self, bytes: &mut [u8; ENTRY_BYTES]) {
        bytes[..8].copy_from_slice(&self.serial.get().to_be_bytes());
        bytes[8..20].copy_from_slice(self.container.as_bytes());
        bytes[20..26].copy_from_slice(&u48(self.container_bytes));
        bytes[26] = self.state.number();
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        Some(Self {
            serial: Serial::new(u64::from_be_bytes(field(bytes, 0)))?,
            container: ContainerId::from_bytes(field(bytes, 8)),
            container_bytes: read_u48(field(bytes, 20)),
            state: EntryState::from_number(bytes[26])?,
        })
    }
}

impl Beacon {
    /// Returns how many entries a payload of S bytes holds, 32 at most.
    pub fn entries_max(symbol_bytes: u16) -> usize {
        let room = usize::from(symbol_bytes).saturating_sub(HEAD_BYTES);
        (room / ENTRY_BYTES).min(limits::BEACON_ENTRIES_MAX)
    }

    /// Writes the payload, zero-padded to its whole length; entries beyond [`Beacon::entries_max`] are left out.
    ///
    /// # Bounds
    /// A payload shorter than any datagram's, and numbers that the format cannot hold, are our own bug and panic.
    pub fn encode(&self, payload: &mut [u8]) {
        let symbol_bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let entries = &self.entries[..self.entries.len().min(Self::entries_max(symbol_bytes))];
        payload.fill(0);
        payload[..8].copy_from_slice(&self.highest.to_be_bytes());
        payload[8..16].copy_from_slice(&self.settled.to_be_bytes());
        payload[16..24].copy_from_slice(&self.lowest_retained.to_be_bytes());
        payload[24..32].copy_from_slice(&self.sender_time_us.to_be_bytes());
        payload[32..36].copy_from_slice(&self.trust_version.to_be_bytes());
        payload[36] = u8::try_from(entries.len()).unwrap_or(0);
        let (places, _) = payload[HEAD_BYTES..].as_chunks_mut();
        for (entry, place) in entries.iter().zip(places) {
            entry.encode(place);
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DropReason::BeaconFields`] or [`DropReason::NotZero`].
    pub fn decode(payload: &[u8]) -> Result<Self, DropReason> {
        let symbol_bytes = u16::try_from(payload.len()).map_err(|_| DropReason::BeaconFields)?;
        let (head, rest) = payload
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(DropReason::BeaconFields)?;
        let count = usize::from(head[36]);
        if count > Self::entries_max(symbol_bytes) {
            return Err(DropReason::BeaconFields);
        }
        let (entries, padding) = rest.split_at(count * ENTRY_BYTES);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(DropReason::NotZero);
        }
        let (entries, _) = entries.as_chunks();
        let entries: Option<Vec<_>> = entries.iter().map(BeaconEntry::decode).collect();
        let beacon = Self {
            highest: u64::from_be_bytes(field(head, 0)),
            settled: u64::from_be_bytes(field(head, 8)),
            lowest_retained: u64::from_be_bytes(field(head, 16)),
            sender_time_us: u64::from_be_bytes(field(head, 24)),
            trust_version: u32::from_be_bytes(field(head, 32)),
            entries: entries.ok_or(DropReason::BeaconFields)?,
        };
        if beacon.is_consistent() {
            Ok(beacon)
        } else {
            Err(DropReason::BeaconFields)
        }
    }

    /// Returns whether this beacon may take the place of the one held: it is not older by (highest, settled, time), compared in this
    /// order. A sender whose clock was set back still counts on: a higher serial decides before the time does.
    pub fn supersedes(&self, held: &Beacon) -> bool {
        let age = |beacon: &Beacon| (beacon.highest, beacon.settled, beacon.sender_time_us);
        age(self) >= age(held)
    }

    /// Nothing is settled, retained or listed that was not issued. A sender that retains nothing may send the next serial.
    fn is_consistent(&self) -> bool {
        self.highest <= limits::SERIAL_MAX
            && self.settled <= self.highest
            && self.lowest_retained <= self.highest + 1
            && self
                .entries
                .iter()
                .all(|entry| entry.serial.get() <= self.highest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    fn entry(serial: u64, state: EntryState) -> BeaconEntry {
        BeaconEntry {
            serial: Serial::new(serial).unwrap(),
            container: ContainerId::from_bytes([serial as u8; 12]),
            container_bytes: (1 << 48) - 1,
            state,
        }
    }

    fn beacon() -> Beacon {
        Beacon {
            highest: 13,
            settled: 11,
            lowest_retained: 10,
            sender_time_us: 1_763_812_800_000_000,
            trust_version: 7,
            entries: vec![
                entry(13, EntryState::Queued),
                entry(12, EntryState::NotSent),
            ],
        }
    }

    fn encoded(beacon: &Beacon, length: usize) -> Vec<u8> {
        let mut payload = vec![0xee; length];
        beacon.encode(&mut payload);
        payload
    }

    #[test]
    fn a_beacon_keeps_what_fits_its_payload() {
        assert_eq!(Beacon::entries_max(64), 1);
        assert_eq!(Beacon::entries_max(512), 17);
        assert_eq!(Beacon::entries_max(1_400), 32);
        assert_eq!(Beacon::entries_max(36), 0);
        let mut held = Beacon::decode(&encoded(&beacon(), 64)).unwrap();
        assert_eq!(held.entries, [entry(13, EntryState::Queued)]);
        held.entries = beacon().entries;
        assert_eq!(held, beacon());
        let many = (1..100)
            .map(|serial| entry(serial, EntryState::OnLink))
            .collect();
        let many = Beacon {
            highest: 100,
            entries: many,
            ..beacon()
        };
        assert_eq!(
            Beacon::decode(&encoded(&many, 9_000)).unwrap().entries,
            many.entries[..32]
        );
    }

    #[test]
    fn each_fault_of_a_beacon_drops_it() {
        let good = encoded(&beacon(), 512);
        let with = |offset: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[offset] = byte;
            Beacon::decode(&bytes).err()
        };
        let fields = Some(DropReason::BeaconFields);
        assert_eq!(with(0, 0x80), fields, "highest of 2^63 and more");
        assert_eq!(with(15, 14), fields, "settled beyond the highest");
        assert_eq!(with(23, 14), None, "nothing is retained");
        assert_eq!(with(23, 15), fields, "retained beyond the next");
        assert_eq!(with(36, 33), fields, "more entries than 32");
        assert_eq!(with(36, 18), fields, "more entries than fit");
        assert_eq!(with(37 + 26, 4), fields, "unknown state");
        assert_eq!(with(37 + 7, 14), fields, "an entry that was not issued");
        assert_eq!(with(37 + 7, 0), fields, "serial 0");
        assert_eq!(
            with(36, 1),
            Some(DropReason::NotZero),
            "a second entry behind the first"
        );
        assert_eq!(with(511, 1), Some(DropReason::NotZero), "padding");
        assert_eq!(Beacon::decode(&good[..36]), Err(DropReason::BeaconFields));
    }

    #[test]
    fn a_beacon_is_older_by_highest_then_settled_then_time() {
        let held = beacon();
        assert!(held.supersedes(&held));
        assert!(
            !Beacon {
                highest: 12,
                settled: 12,
                ..beacon()
            }
            .supersedes(&held)
        );
        assert!(
            !Beacon {
                settled: 10,
                sender_time_us: u64::MAX,
                ..beacon()
            }
            .supersedes(&held)
        );
        assert!(
            !Beacon {
                sender_time_us: 1,
                ..beacon()
            }
            .supersedes(&held)
        );
        assert!(
            Beacon {
                settled: 12,
                sender_time_us: 1,
                ..beacon()
            }
            .supersedes(&held)
        );
        assert!(
            Beacon {
                highest: 14,
                sender_time_us: 1,
                ..beacon()
            }
            .supersedes(&held)
        );
    }

    proptest! {
        #[test]
        fn any_payload_is_a_beacon_that_encodes_the_same_or_none(
            head: [u8; 6], count in 0_u8..40, states in prop::collection::vec(0_u8..5, 40),
            flip in 0_usize..512, bit in 0_u8..8,
        ) {
            let mut payload = vec![0; 512];
            payload[7] = head[0];
            payload[15] = head[1];
            payload[23] = head[2];
            payload[24..27].copy_from_slice(&head[3..]);
            payload[36] = count;
            for (place, state) in states.iter().enumerate().take(usize::from(count).min(17)) {
                payload[37 + place * 27 + 7] = state + 1;
                payload[37 + place * 27 + 26] = *state;
            }
            payload[flip] ^= 1 << bit >> 1;
            if let Ok(beacon) = Beacon::decode(&payload) {
                prop_assert_eq!(encoded(&beacon, 512), payload);
            }
        }
    }
}
