//! Which beacon is held, and when it is written for `release` to read.
//!
//! A beacon is believed as far as the link key that verified it. One of a newer bundle's key takes the place of any of an
//! older key, whatever it says; so does nothing, when the key of the held one is no longer in force. A thief of an old
//! link key can therefore not outbid the sender for longer than the key is in force.

use valise_common::ids::BundleId;
use valise_common::units::Mono;
use valise_common::wire::{Beacon, DropReason};

/// A beacon that says something new is written this long after the last one, at the earliest.
const CHANGE_US_MIN: u64 = 100_000;

/// One that says nothing new but the time is written this often.
const REFRESH_US: u64 = 1_000_000;

/// A beacon's payload, and the bundle whose link key verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedBeacon {
    /// The bundle that brought the link key.
    pub bundle: BundleId,
    /// The payload as it came.
    pub payload: Vec<u8>,
}

/// What `release` shall read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Writing {
    /// This beacon.
    Beacon(SignedBeacon),
    /// None: the key of the one that was written is not in force any more.
    Nothing,
}

/// The newest verified beacon.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    // The bundles whose link keys are in force.
    in_force: Vec<BundleId>,
    issued_last: u64,
    held: Option<(BundleId, Beacon)>,
    // What `release` can read; the time apart, it may be older than what is held.
    written: Option<(BundleId, Beacon, Mono)>,
    pending: Option<(Writing, Mono)>,
}

impl Beacons {
    /// Takes up the beacon that was written before the start.
    pub(super) fn restore(&mut self, now: Mono, written: &SignedBeacon) {
        if let Ok(beacon) = Beacon::decode(&written.payload) {
            self.held = Some((written.bundle, beacon.clone()));
            self.written = Some((written.bundle, beacon, now));
        }
    }

    /// Sets the bundles whose link keys are in force, and the highest serial that has a slot. A held beacon that could not
    /// come any more is dropped, and with it what `release` reads.
    pub(super) fn handle_keys(&mut self, now: Mono, in_force: &[BundleId], issued_last: u64) {
        self.in_force = in_force.to_vec();
        self.issued_last = issued_last;
        let stands = |(bundle, beacon): &(BundleId, Beacon)| {
            in_force.contains(bundle) && beacon.highest <= issued_last
        };
        if self.held.as_ref().is_some_and(|held| !stands(held)) {
            self.held = None;
            self.written = None;
            self.pending = Some((Writing::Nothing, now));
        }
    }

    /// Takes an authentic payload that the link key of `bundle` verified.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn handle(
        &mut self,
        now: Mono,
        bundle: BundleId,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        // The key may have ended while the datagram was on its way from the reader.
        if !self.in_force.contains(&bundle) {
            return Err(DropReason::KeyUnknown);
        }
        let beacon = Beacon::decode(payload)?;
        let foreign = beacon.highest > self.issued_last
            || beacon
                .entries
                .iter()
                .any(|entry| entry.serial.get() > self.issued_last);
        if foreign {
            return Err(DropReason::BeaconForeign);
        }
        let stale = self.held.as_ref().is_some_and(|(held_bundle, held)| {
            bundle < *held_bundle || bundle == *held_bundle && !beacon.supersedes(held)
        });
        if stale {
            return Err(DropReason::BeaconStale);
        }
        let due = match &self.written {
            None => now,
            Some((by, written, at)) if *by != bundle || says_more(&beacon, written) => {
                at.plus_us(CHANGE_US_MIN)
            }
            Some((_, _, at)) => at.plus_us(REFRESH_US),
        };
        let payload = payload.to_vec();
        self.pending = Some((Writing::Beacon(SignedBeacon { bundle, payload }), due));
        self.held = Some((bundle, beacon));
        Ok(())
    }

    /// What is to be written now, if anything is due.
    pub(super) fn poll(&mut self, now: Mono) -> Option<Writing> {
        if self.next_wakeup()? > now {
            return None;
        }
        let (writing, _) = self.pending.take()?;
        self.written = self
            .held
            .clone()
            .map(|(bundle, beacon)| (bundle, beacon, now));
        Some(writing)
    }

    /// What has not been written yet, due or not.
    pub(super) fn take_pending(&mut self) -> Option<Writing> {
        self.pending.take().map(|(writing, _)| writing)
    }

    /// Returns when the next writing is due.
    pub(super) fn next_wakeup(&self) -> Option<Mono> {
        self.pending.as_ref().map(|(_, due)| *due)
    }
}

/// Returns whether anything but the sender's time differs.
fn says_more(beacon: &Beacon, written: &Beacon) -> bool {
    let timeless = Beacon {
        sender_time_us: written.sender_time_us,
        ..beacon.clone()
    };
    timeless != *written
}
