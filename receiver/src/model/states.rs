//! Where each serial stands: every serial from the channel's first to the highest announced is in exactly one state.
//!
//! What a container claimed is known from the register; of the others only the beacon, the inbox and `receive` tell.

use std::fmt;
use std::str::FromStr;

use valise_common::ids::Serial;
use valise_common::wire::{Beacon, EntryState};

use crate::model::rows::{BundleRow, BundleState, CableRow, Claim};
use valise_common::serial_set::SerialSet;

/// Where a serial stands, in the words of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A beacon named it; nothing of it is here.
    Announced,
    /// Some of its symbols are here.
    Assembling,
    /// Its container is whole and waits.
    Complete,
    /// Its container is being opened.
    Opened,
    /// Its publishing is committed.
    Verified,
    /// Every mailbox has its folder.
    Released,
    /// It may not be released; an operator decides.
    Quarantined,
    /// The sender has done what it does by itself, and the container is not whole.
    Missing,
    /// An operator destroyed it.
    Discarded,
    /// The sender gave it up.
    NotSent,
    /// Its slot was destroyed unused.
    Void,
}

impl State {
    /// Every state, in the order of a cable's way.
    pub const ALL: [State; 11] = [
        State::Announced,
        State::Assembling,
        State::Complete,
        State::Opened,
        State::Verified,
        State::Released,
        State::Quarantined,
        State::Missing,
        State::Discarded,
        State::NotSent,
        State::Void,
    ];

    /// Returns the bare word.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Announced => "announced",
            State::Assembling => "assembling",
            State::Complete => "complete",
            State::Opened => "opened",
            State::Verified => "verified",
            State::Released => "released",
            State::Quarantined => "quarantined",
            State::Missing => "missing",
            State::Discarded => "discarded",
            State::NotSent => "not-sent",
            State::Void => "void",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no state's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a state is one of announced, assembling, complete, opened, verified, released, quarantined, missing, discarded, not-sent and void"
)]
pub struct StateError;

impl FromStr for State {
    type Err = StateError;

    fn from_str(text: &str) -> Result<State, StateError> {
        State::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(StateError)
    }
}

impl From<Claim> for State {
    fn from(claim: Claim) -> State {
        match claim {
            Claim::Publishing => State::Verified,
            Claim::Released => State::Released,
            Claim::Quarantined => State::Quarantined,
            Claim::Discarded => State::Discarded,
        }
    }
}

/// What a beacon says, as far as the states need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// The highest serial issued; 0 before the first.
    pub highest: u64,
    /// Every serial up to it has had its passes or was given up.
    pub settled: u64,
    /// Serials on their way.
    pub under_way: SerialSet,
    /// Serials that have had all their passes.
    pub passes_done: SerialSet,
    /// Serials that were given up.
    pub not_sent: SerialSet,
}

impl From<&Beacon> for Announced {
    fn from(beacon: &Beacon) -> Announced {
        let mut announced = Announced {
            highest: beacon.highest,
            settled: beacon.settled,
            ..Announced::default()
        };
        for entry in &beacon.entries {
            let set = match entry.state {
                EntryState::Queued | EntryState::OnLink => &mut announced.under_way,
                EntryState::PassesDone => &mut announced.passes_done,
                EntryState::NotSent => &mut announced.not_sent,
            };
            set.insert(entry.serial);
        }
        announced
    }
}

/// State of the channel: the sets from which the state of each serial follows.
#[derive(Debug, Clone, Default)]
pub struct ChannelState {
    /// The channel's first serial, once there is a bundle.
    pub first: Option<Serial>,
    /// Serials that a container has claimed.
    pub claimed: SerialSet,
    /// Unused serials of void bundles.
    pub void: SerialSet,
    /// Serials whose container waits in the inbox.
    pub complete: SerialSet,
    /// Serials whose container is being opened.
    pub opened: SerialSet,
    /// Serials of which some symbols are here.
    pub assembling: SerialSet,
    /// Serials that were once found missing.
    pub gaps: SerialSet,
    /// Serials that the sender once gave up.
    pub not_sent: SerialSet,
    /// The newest beacon.
    pub announced: Announced,
}

impl ChannelState {
    /// Returns the highest serial that anything tells of.
    pub fn highest(&self) -> Option<Serial> {
        let sets = [
            &self.claimed,
            &self.complete,
            &self.opened,
            &self.assembling,
        ];
        let here = sets.into_iter().filter_map(SerialSet::last).max();
        here.max(Serial::new(self.announced.highest))
    }

    /// Returns the serials that are missing: not complete, and every pass was sent.
    pub fn missing(&self) -> SerialSet {
        let mut missing = self.gaps.without(&self.announced.under_way);
        // A gap behind the highest serial is one that a beacon told of which is not believed any more.
        let beyond = self.highest().map_or(Some(Serial::FIRST), Serial::next);
        if let (Some(beyond), Some(last)) = (beyond, missing.last()) {
            missing.remove_range(beyond, last);
        }
        if let (Some(first), Some(settled)) = (self.first, Serial::new(self.announced.settled)) {
            missing.insert_range(first, settled);
        }
        for (first, last) in self.announced.passes_done.ranges() {
            missing.insert_range(first, last);
        }
        let here = [&self.claimed, &self.complete, &self.opened];
        let given_up = self.given_up();
        let never = [&self.void, &given_up];
        here.into_iter()
            .chain(never)
            .fold(missing, |rest, gone| rest.without(gone))
    }

    /// What the sender will not send. The newest beacon's own word on a serial counts more than what was once told.
    fn given_up(&self) -> SerialSet {
        let announced = &self.announced;
        let told = self.not_sent.without(&announced.under_way);
        let mut given_up = told.without(&announced.passes_done);
        for (first, last) in announced.not_sent.ranges() {
            given_up.insert_range(first, last);
        }
        given_up
    }

    /// Returns the state of a serial that no container has claimed.
    fn unclaimed(&self, serial: Serial, missing: &SerialSet, given_up: &SerialSet) -> State {
        if self.opened.contains(serial) {
            State::Opened
        } else if self.complete.contains(serial) {
            State::Complete
        } else if self.void.contains(serial) {
            State::Void
        } else if given_up.contains(serial) {
            State::NotSent
        } else if missing.contains(serial) {
            State::Missing
        } else if self.assembling.contains(serial) {
            State::Assembling
        } else {
            State::Announced
        }
    }

    /// Returns every serial from the channel's first to the highest announced, with what the register holds of it. `cables`
    /// are the register's, in the order of their serials.
    pub fn rows<'a>(&'a self, cables: &'a [CableRow]) -> impl Iterator<Item = StateRow<'a>> + 'a {
        let (missing, given_up) = (self.missing(), self.given_up());
        let range = match (self.first, self.highest()) {
            (Some(first), Some(last)) => first.get()..=last.get(),
            // An upside-down range: there is no serial.
            _ => RangeEmpty::EMPTY,
        };
        let mut cables = cables.iter().peekable();
        range.filter_map(Serial::new).map(move |serial| {
            while cables.next_if(|cable| cable.serial < serial).is_some() {}
            match cables.next_if(|cable| cable.serial == serial) {
                Some(cable) => StateRow {
                    serial,
                    state: cable.claim.into(),
                    cable: Some(cable),
                },
                None => StateRow {
                    serial,
                    state: self.unclaimed(serial, &missing, &given_up),
                    cable: None,
                },
            }
        })
    }
}

/// A range without members.
struct RangeEmpty;

impl RangeEmpty {
    #[allow(clippy::reversed_empty_ranges)]
    const EMPTY: std::ops::RangeInclusive<u64> = 1..=0;
}

/// One serial and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateRow<'a> {
    /// The serial.
    pub serial: Serial,
    /// Its place.
    pub state: State,
    /// The register's row, when a container has claimed the serial.
    pub cable: Option<&'a CableRow>,
}

/// Returns the unused serials of void bundles.
pub fn void_serials(bundles: &[BundleRow], claimed: &SerialSet) -> SerialSet {
    let mut void = SerialSet::new();
    for bundle in bundles
        .iter()
        .filter(|bundle| bundle.state == BundleState::Void)
    {
        void.insert_range(bundle.first, bundle.last);
    }
    void.without(claimed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;
    use valise_common::ids::{BundleId, ContainerHash, LinkKeyId};

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    fn set(members: &[u64]) -> SerialSet {
        let mut set = SerialSet::new();
        members
            .iter()
            .for_each(|member| set.insert(serial(*member)));
        set
    }

    fn row(of: u64, claim: Claim) -> CableRow {
        let time = "2026-11-22T21:53:18Z".parse().unwrap();
        CableRow {
            serial: serial(of),
            claim,
            container: ContainerHash::from_bytes([0; 32]),
            message_id: None,
            code: None,
            reason: None,
            mailboxes: None,
            act_by: None,
            claimed_at: time,
            updated_at: time,
        }
    }

    fn channel() -> ChannelState {
        ChannelState {
            first: Some(serial(1)),
            claimed: set(&[1, 2, 5, 6]),
            void: set(&[14]),
            complete: set(&[7]),
            opened: set(&[8]),
            assembling: set(&[9, 10]),
            gaps: set(&[3, 13]),
            not_sent: set(&[4]),
            announced: Announced {
                highest: 15,
                settled: 4,
                under_way: set(&[13]),
                passes_done: set(&[10]),
                not_sent: set(&[12]),
            },
        }
    }

    #[test]
    fn every_serial_is_in_exactly_one_state() {
        let cables = [
            row(1, Claim::Released),
            row(2, Claim::Publishing),
            row(5, Claim::Quarantined),
            row(6, Claim::Discarded),
        ];
        let channel = channel();
        let words: Vec<String> = channel
            .rows(&cables)
            .map(|row| format!("{} {}", row.serial, row.state))
            .collect();
        assert_eq!(
            words,
            [
                "1 released",
                "2 verified",
                "3 missing",
                "4 not-sent",
                "5 quarantined",
                "6 discarded",
                "7 complete",
                "8 opened",
                "9 assembling",
                // Some symbols came, but every pass was sent.
                "10 missing",
                "11 announced",
                "12 not-sent",
                // It was missing once and is being sent again.
                "13 announced",
                "14 void",
                "15 announced",
            ]
        );
        assert_eq!(channel.missing().to_string(), "3,10");
    }

    #[test]
    fn not_sent_hides_neither_what_arrived_nor_what_the_newest_beacon_says() {
        let channel = ChannelState {
            first: Some(serial(1)),
            claimed: set(&[1]),
            complete: set(&[2]),
            not_sent: set(&[1, 2, 3, 4, 5]),
            announced: Announced {
                highest: 5,
                settled: 5,
                under_way: set(&[3]),
                passes_done: set(&[4]),
                ..Announced::default()
            },
            ..ChannelState::default()
        };
        let cables = [row(1, Claim::Released)];
        let words: Vec<&str> = channel
            .rows(&cables)
            .map(|row| row.state.as_str())
            .collect();
        assert_eq!(
            words,
            ["released", "complete", "missing", "missing", "not-sent"]
        );
    }

    #[test]
    fn a_gap_behind_the_highest_serial_is_none() {
        let mut channel = ChannelState {
            first: Some(serial(1)),
            claimed: set(&[1, 3]),
            gaps: set(&[2, 3, 4, 5, 90]),
            ..ChannelState::default()
        };
        assert_eq!(channel.missing().to_string(), "2");
        channel.announced.highest = 4;
        assert_eq!(channel.missing().to_string(), "2,4");
        channel = ChannelState {
            gaps: set(&[2]),
            ..ChannelState::default()
        };
        assert!(channel.missing().is_empty());
    }

    #[test]
    fn nothing_is_known_before_the_first_bundle() {
        assert_eq!(ChannelState::default().rows(&[]).count(), 0);
        let lone = ChannelState {
            first: Some(serial(1)),
            ..ChannelState::default()
        };
        assert_eq!(lone.rows(&[]).count(), 0);
        assert!(lone.missing().is_empty());
    }

    #[test]
    fn the_last_serial_is_missing_without_a_successor() {
        let channel = ChannelState {
            first: Some(serial(3)),
            claimed: set(&[3]),
            announced: Announced {
                highest: 4,
                settled: 4,
                ..Announced::default()
            },
            ..ChannelState::default()
        };
        assert_eq!(channel.missing().to_string(), "4");
    }

    #[test]
    fn a_void_bundle_loses_only_its_unused_serials() {
        let bundle = |first: u64, last: u64, state| BundleRow {
            bundle: BundleId(1),
            first: serial(first),
            last: serial(last),
            count: 0,
            link_key: LinkKeyId(0),
            state,
            retired: false,
        };
        let bundles = [
            bundle(1, 5, BundleState::Void),
            bundle(6, 9, BundleState::Live),
        ];
        assert_eq!(void_serials(&bundles, &set(&[2, 7])).to_string(), "1,3-5");
    }

    #[test]
    fn words_round_trip() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("lost".parse::<State>().is_err());
    }
}
