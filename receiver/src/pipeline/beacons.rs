//! Which beacon is held, and when it is written for `release` to read.

use valise_common::units::Mono;
use valise_common::wire::{Beacon, DropReason};

/// A beacon that says something new is written this long after the last one, at the earliest.
const CHANGE_US_MIN: u64 = 100_000;

/// One that says nothing new but the time is written this often.
const REFRESH_US: u64 = 1_000_000;

/// The newest verified beacon.
#[derive(Debug, Default)]
pub struct Beacons {
    held: Option<Beacon>,
    // What `release` can read; the time apart, it may be older than what is held.
    written: Option<(Beacon, Mono)>,
    pending: Option<(Vec<u8>, Mono)>,
}

impl Beacons {
    /// Takes up the beacon that was written before the start.
    pub fn restore(&mut self, now: Mono, payload: &[u8]) {
        if let Ok(beacon) = Beacon::decode(payload) {
            self.held = Some(beacon.clone());
            self.written = Some((beacon, now));
        }
    }

    /// Takes an authentic payload. `issued_last` is the highest serial that has a slot.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn handle(
        &mut self,
        now: Mono,
        payload: &[u8],
        issued_last: u64,
    ) -> Result<(), DropReason> {
        let beacon = Beacon::decode(payload)?;
        let foreign = beacon.highest > issued_last
            || beacon
                .entries
                .iter()
                .any(|entry| entry.serial.get() > issued_last);
        if foreign {
            return Err(DropReason::BeaconForeign);
        }
        if self
            .held
            .as_ref()
            .is_some_and(|held| !beacon.supersedes(held))
        {
            return Err(DropReason::BeaconStale);
        }
        let due = match &self.written {
            None => Some(now),
            Some((written, at)) if says_more(&beacon, written) => Some(at.plus_us(CHANGE_US_MIN)),
            Some((_, at)) => Some(at.plus_us(REFRESH_US)),
        };
        if let Some(due) = due {
            self.pending = Some((payload.to_vec(), due));
        }
        self.held = Some(beacon);
        Ok(())
    }

    /// The payload to write now, if one is due.
    pub fn poll(&mut self, now: Mono) -> Option<Vec<u8>> {
        if self.next_wakeup()? > now {
            return None;
        }
        let (payload, _) = self.pending.take()?;
        self.written = self.held.clone().map(|held| (held, now));
        Some(payload)
    }

    /// The payload that has not been written yet, due or not.
    pub fn take_pending(&mut self) -> Option<Vec<u8>> {
        self.pending.take().map(|(payload, _)| payload)
    }

    /// When the next payload is due.
    pub fn next_wakeup(&self) -> Option<Mono> {
        self.pending.as_ref().map(|(_, due)| *due)
    }
}

/// Tells whether anything but the sender's time differs.
fn says_more(beacon: &Beacon, written: &Beacon) -> bool {
    let timeless = Beacon {
        sender_time_us: written.sender_time_us,
        ..beacon.clone()
    };
    timeless != *written
}
