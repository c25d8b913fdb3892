//! The beacon: what the sender knows of its serials, so that the receiver can tell what is missing, the last one included.
//!
//! ```text
//! 0 highest issued (8)  8 settled (8)  16 lowest retained (8)  24 sender time, µs (8)  32 trust version (4)  36 n (1)
//! 37 n × { serial (8)  container id (12)  container length (6)  state (1) }  zero to S
//! ```

use super::DropReason;
use crate::ids::{ContainerId, Serial};

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
    /// Where it stands.
    pub state: EntryState,
}

/// What the sender announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// The highest serial issued; 0 before the first.
    pub highest: u64,
    /// Every serial up to this one has had its passes or was given up.
    pub settled: u64,
    /// The lowest serial whose container the sender still keeps; 0 when it keeps none.
    pub lowest_retained: u64,
    /// The sender's clock, µs since 1970; advisory.
    pub sender_time_us: u64,
    /// The version of the trust list that the sender holds; 0 for none.
    pub trust_version: u32,
    /// The newest serials first, then the others in rotation; 32 at most.
    pub entries: Vec<BeaconEntry>,
}

impl Beacon {
    /// How many entries a payload of S bytes holds, 32 at most.
    pub fn entries_max(symbol_bytes: u16) -> usize {
        let _ = symbol_bytes;
        todo!()
    }

    /// Writes the payload, zero-padded to its whole length; entries beyond [`Beacon::entries_max`] are left out.
    pub fn encode(&self, payload: &mut [u8]) {
        let _ = payload;
        todo!()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DropReason::BeaconFields`] or [`DropReason::NotZero`].
    pub fn decode(payload: &[u8]) -> Result<Self, DropReason> {
        let _ = payload;
        todo!()
    }

    /// Whether this beacon may take the place of the one held: no field of (highest, settled, time) is older.
    pub fn supersedes(&self, held: &Beacon) -> bool {
        let _ = held;
        todo!()
    }
}
