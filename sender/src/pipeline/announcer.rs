//! What the beacons say, and when they leave.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use valise_common::ids::Serial;
use valise_common::limits;
use valise_common::units::Mono;
use valise_common::wire::{Beacon, BeaconEntry, EntryState};

use super::{GivenUp, SpoolBeacon};

/// A beacon leaves at least so often, on all but the slowest links.
const INTERVAL_US: u64 = 1_000_000;
/// Where passes begin and end all the time, a beacon is at most one datagram in so many.
const PASS_DATAGRAMS: u64 = 16;

/// Composes and schedules beacons.
#[derive(Debug)]
pub(super) struct Announcer {
    entries_max: usize,
    interval_us: u64,
    known: BTreeMap<Serial, BeaconEntry>,
    // They stand before what is known of their containers, which gate is about to delete.
    given_up: BTreeMap<Serial, BeaconEntry>,
    // Containers that have not had their passes.
    unsettled: BTreeSet<Serial>,
    spool: SpoolBeacon,
    settled: u64,
    // The time in the last beacon, and when it left.
    time: Option<(u64, Mono)>,
    rotation: Option<Serial>,
    due_at: Mono,
    pass_flag: Flag,
    sent_since: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Clear,
    Raised,
}

/// Whether the beacon of a pass may wait for more such passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Other symbols go on: one beacon tells of several passes.
    More,
    /// Nothing else is there to send.
    Last,
}

impl Announcer {
    /// Nothing known yet; the first beacon is due at once.
    ///
    /// # Shape
    /// `datagrams_us`: time on the link of so many datagrams, where it is known.
    pub(super) fn new(
        symbol_bytes: u16,
        datagrams_us: impl Fn(u32) -> Option<u64>,
        now: Mono,
    ) -> Self {
        Self {
            entries_max: Beacon::entries_max(symbol_bytes),
            interval_us: INTERVAL_US
                .max(datagrams_us(limits::BEACON_INTERVAL_DATAGRAMS).unwrap_or(0)),
            known: BTreeMap::new(),
            given_up: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            spool: SpoolBeacon::default(),
            settled: 0,
            time: None,
            rotation: None,
            due_at: now,
            pass_flag: Flag::Clear,
            sent_since: PASS_DATAGRAMS,
        }
    }

    /// Takes up the time in the beacons before the start.
    pub(super) fn restore_time(&mut self, now: Mono, time_us: u64) {
        self.time = Some((time_us, now));
    }

    /// Returns the time in the last beacon, µs since 1970; 0 before the first.
    pub(super) fn time_us(&self) -> u64 {
        self.time.map_or(0, |(time_us, _)| time_us)
    }

    /// Takes what gate knows. A serial that gate has given up is told as such, whatever the outbox still holds of it.
    pub(super) fn handle_spool(&mut self, spool: SpoolBeacon) {
        if spool.given_up != self.spool.given_up {
            let entry = |given_up: &GivenUp| BeaconEntry {
                serial: given_up.serial,
                container: given_up.container,
                container_bytes: given_up.container_bytes,
                state: EntryState::NotSent,
            };
            self.given_up = spool
                .given_up
                .iter()
                .map(|one| (one.serial, entry(one)))
                .collect();
        }
        self.spool = spool;
    }

    /// Takes the state of a container in the outbox.
    pub(super) fn handle_entry(&mut self, entry: BeaconEntry, settling: Settling) {
        match settling {
            Settling::Open => self.unsettled.insert(entry.serial),
            Settling::Settled => self.unsettled.remove(&entry.serial),
        };
        self.known.insert(entry.serial, entry);
    }

    /// Forgets a container that has left the outbox.
    pub(super) fn handle_gone(&mut self, serial: Serial) {
        self.unsettled.remove(&serial);
        self.known.remove(&serial);
    }

    /// The link has fallen silent: the next pass's beacon need not wait.
    pub(super) fn handle_silence(&mut self) {
        self.sent_since = PASS_DATAGRAMS;
    }

    /// A pass begins or has ended: a beacon says so.
    pub(super) fn handle_pass(&mut self) {
        self.pass_flag = Flag::Raised;
    }

    /// What was sent last has not left: serials that were settled by it are open again.
    pub(super) fn handle_link_lost(&mut self) {
        self.settled = 0;
        self.pass_flag = Flag::Raised;
    }

    /// Counts datagrams that leave.
    pub(super) fn handle_sent(&mut self, count: u32) {
        self.sent_since = self.sent_since.saturating_add(u64::from(count));
    }

    /// Returns whether a beacon leaves next.
    pub(super) fn is_due(&self, now: Mono, patience: Patience) -> bool {
        let flagged = self.pass_flag == Flag::Raised
            && (patience == Patience::Last || self.sent_since >= PASS_DATAGRAMS);
        flagged || now >= self.due_at
    }

    /// When the next beacon leaves on a silent link.
    pub(super) fn due_at(&self) -> Mono {
        self.due_at
    }

    /// Returns the beacon that leaves now.
    pub(super) fn compose(&mut self, now: Mono, utc_us: u64) -> Beacon {
        self.pass_flag = Flag::Clear;
        self.sent_since = 0;
        self.due_at = now.plus_us(self.interval_us);
        let newest = self
            .newest_first(None)
            .next()
            .map_or(0, |entry| entry.serial.get());
        // A beacon never takes a serial back: what gate knows may be lost with its file, and a container with its bytes.
        let highest = self.spool.issued.max(newest).max(self.settled);
        self.settled = self.settled.max(self.settled_below(highest));
        // A receiver drops a beacon with an earlier time. So the time goes on by itself while the clock is behind it.
        let went_on = |(time_us, at): (u64, Mono)| time_us.saturating_add(now.since_us(at));
        let time_us = utc_us.max(self.time.map_or(0, went_on));
        self.time = Some((time_us, now));
        Beacon {
            highest,
            settled: self.settled,
            lowest_retained: self.spool.lowest_retained,
            sender_time_us: time_us,
            trust_version: self.spool.trust_version,
            entries: self.entries(),
        }
    }

    /// Every serial up to this one has had its passes, was given up, or is no longer kept.
    fn settled_below(&self, highest: u64) -> u64 {
        let in_sealing = self.spool.in_sealing.iter().min();
        let unsettled = self
            .unsettled
            .iter()
            .find(|serial| !self.given_up.contains_key(serial));
        let first_open = unsettled.into_iter().chain(in_sealing).min();
        first_open.map_or(highest, |serial| serial.get() - 1)
    }

    /// Half of the places for the newest serials, the other half for the rest in rotation.
    fn entries(&mut self) -> Vec<BeaconEntry> {
        let places = self.entries_max.min(limits::BEACON_ENTRIES_MAX);
        let mut entries: Vec<BeaconEntry> = self.newest_first(None).take(places + 1).collect();
        if entries.len() <= places {
            return entries;
        }
        entries.truncate(places.div_ceil(2));
        let Some(BeaconEntry {
            serial: newest_end, ..
        }) = entries.last().copied()
        else {
            return entries;
        };
        let start = self
            .rotation
            .filter(|serial| *serial < newest_end)
            .unwrap_or(newest_end);
        let below = self.newest_first(Some(start));
        let wrapped = self
            .newest_first(Some(newest_end))
            .take_while(|entry| entry.serial >= start);
        let rest: Vec<BeaconEntry> = below.chain(wrapped).take(places - entries.len()).collect();
        self.rotation = rest.last().map(|entry| entry.serial);
        entries.extend(rest);
        entries
    }

    /// Returns all entries below a serial, or all there are, from the newest on.
    fn newest_first(&self, below: Option<Serial>) -> impl Iterator<Item = BeaconEntry> {
        let range = (
            Bound::Unbounded,
            below.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let mut known = self.known.range(range).rev().peekable();
        let mut given_up = self.given_up.range(range).rev().peekable();
        std::iter::from_fn(move || {
            let ahead = match (known.peek(), given_up.peek()) {
                (Some((known, _)), Some((given_up, _))) => known.cmp(given_up),
                (Some(_), None) => Ordering::Greater,
                _ => Ordering::Less,
            };
            let (_, entry) = match ahead {
                Ordering::Greater => known.next()?,
                Ordering::Equal => {
                    known.next();
                    given_up.next()?
                }
                Ordering::Less => given_up.next()?,
            };
            Some(*entry)
        })
    }
}

/// Whether a serial still awaits its passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// It does.
    Open,
    /// It has had them.
    Settled,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use valise_common::ids::ContainerId;

    fn serial(number: u64) -> Serial {
        Serial::new(number).unwrap()
    }

    fn entry(number: u64, state: EntryState) -> BeaconEntry {
        let container = ContainerId::from_bytes([1; 12]);
        BeaconEntry {
            serial: serial(number),
            container,
            container_bytes: 2_304,
            state,
        }
    }

    fn announcer() -> Announcer {
        Announcer::new(1_400, |_| None, Mono(0))
    }

    fn numbers(beacon: &Beacon) -> Vec<u64> {
        beacon
            .entries
            .iter()
            .map(|entry| entry.serial.get())
            .collect()
    }

    #[test]
    fn settled_stops_below_the_first_serial_that_awaits_its_passes() {
        let mut announcer = announcer();
        let spool = SpoolBeacon {
            issued: 9,
            in_sealing: vec![serial(8)],
            ..SpoolBeacon::default()
        };
        announcer.handle_spool(spool.clone());
        assert_eq!(announcer.compose(Mono(0), 0).settled, 7);
        let mut announcer = self::announcer();
        announcer.handle_spool(spool.clone());
        announcer.handle_entry(entry(3, EntryState::Queued), Settling::Open);
        announcer.handle_entry(entry(2, EntryState::PassesDone), Settling::Settled);
        assert_eq!(announcer.compose(Mono(0), 0).settled, 2);
        announcer.handle_entry(entry(3, EntryState::PassesDone), Settling::Settled);
        announcer.handle_spool(SpoolBeacon {
            in_sealing: vec![],
            ..spool
        });
        let beacon = announcer.compose(Mono(0), 0);
        assert_eq!((beacon.highest, beacon.settled), (9, 9));
    }

    #[test]
    fn settled_never_falls_back() {
        let mut announcer = announcer();
        announcer.handle_spool(SpoolBeacon {
            issued: 5,
            ..SpoolBeacon::default()
        });
        assert_eq!(announcer.compose(Mono(0), 0).settled, 5);
        announcer.handle_entry(entry(2, EntryState::Queued), Settling::Open);
        assert_eq!(announcer.compose(Mono(0), 0).settled, 5);
    }

    #[test]
    fn the_time_never_falls_and_goes_on_while_the_clock_is_behind_it() {
        let mut announcer = announcer();
        let mut told = |s: u64, utc_s: u64| {
            let beacon = announcer.compose(Mono(s * 1_000_000), utc_s * 1_000_000);
            beacon.sender_time_us / 1_000_000
        };
        assert_eq!(told(1, 1_000), 1_000);
        assert_eq!(told(2, 1_001), 1_001);
        // Set back by more than ten minutes.
        assert_eq!(told(3, 300), 1_002);
        assert_eq!(told(5, 302), 1_004);
        // Put right again.
        assert_eq!(told(6, 1_010), 1_010);
        // The next process begins behind the last beacon.
        let time_us = announcer.time_us();
        let mut next = self::announcer();
        next.restore_time(Mono(0), time_us);
        assert_eq!(next.compose(Mono(2), 0).sender_time_us, time_us + 2);
    }

    #[test]
    fn a_serial_that_gate_gave_up_is_settled_and_told_even_while_its_container_is_there() {
        let mut announcer = announcer();
        announcer.handle_entry(entry(1, EntryState::Queued), Settling::Open);
        let container = ContainerId::from_bytes([1; 12]);
        let given_up = vec![GivenUp {
            serial: serial(1),
            container,
            container_bytes: 2_304,
        }];
        announcer.handle_spool(SpoolBeacon {
            issued: 1,
            given_up,
            ..SpoolBeacon::default()
        });
        let expected = [entry(1, EntryState::NotSent)];
        let beacon = announcer.compose(Mono(0), 0);
        assert_eq!(
            (beacon.settled, beacon.entries.as_slice()),
            (1, expected.as_slice())
        );
        announcer.handle_gone(serial(1));
        assert_eq!(announcer.compose(Mono(0), 0).entries, expected);
    }

    #[test]
    fn the_newest_are_always_told_and_the_others_in_rotation() {
        let mut announcer = announcer();
        for number in 1..=70 {
            announcer.handle_entry(entry(number, EntryState::PassesDone), Settling::Settled);
        }
        let mut told = BTreeSet::new();
        for _ in 0..4 {
            let numbers = numbers(&announcer.compose(Mono(0), 0));
            assert_eq!(numbers.len(), 32);
            assert_eq!(numbers[..16], (55..=70).rev().collect::<Vec<u64>>());
            told.extend(numbers);
        }
        assert_eq!(told.len(), 70);
    }

    #[test]
    fn as_many_as_fit_are_told_without_rotation() {
        let mut announcer = announcer();
        for number in 1..=32 {
            announcer.handle_entry(entry(number, EntryState::Queued), Settling::Open);
        }
        for _ in 0..2 {
            let expected: Vec<u64> = (1..=32).rev().collect();
            assert_eq!(numbers(&announcer.compose(Mono(0), 0)), expected);
        }
    }

    #[test]
    fn many_passes_share_a_beacon_and_a_silent_link_needs_none_to_share() {
        let mut announcer = announcer();
        announcer.compose(Mono(0), 0);
        announcer.handle_pass();
        announcer.handle_sent(15);
        assert!(!announcer.is_due(Mono(1), Patience::More));
        assert!(announcer.is_due(Mono(1), Patience::Last));
        announcer.handle_sent(1);
        assert!(announcer.is_due(Mono(1), Patience::More));
        announcer.compose(Mono(1), 0);
        announcer.handle_pass();
        announcer.handle_silence();
        assert!(announcer.is_due(Mono(2), Patience::More));
    }

    #[test]
    fn slow_links_spend_one_datagram_in_fifty() {
        let slow = Announcer::new(512, |count| Some(u64::from(count) * 60_000), Mono(0));
        assert_eq!(slow.interval_us, 3_000_000);
        let fast = Announcer::new(1_400, |count| Some(u64::from(count) * 120), Mono(0));
        assert_eq!(fast.interval_us, 1_000_000);
    }
}
