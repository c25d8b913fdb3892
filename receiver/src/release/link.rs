//! What the link reports: the newest verified beacon, and which serials it says are missing or given up.

use valise_common::ids::{BundleId, Serial};
use valise_common::serial_set::SerialSet;
use valise_common::units::{Mono, UtcTime};
use valise_common::wire::Beacon;

use crate::model::event::Event;
use crate::model::states::ChannelState;
use crate::release::ledger::Ledger;

/// A serial is a gap for the log when it was missing for so long: its last datagrams may still be on their way through
/// `receive`, which rebuilds and syncs a large container long after they came.
const GAP_GRACE_US: u64 = 5_000_000;

/// The newest beacon that `receive` believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBeacon {
    /// The bundle whose link key verified it.
    pub bundle: BundleId,
    /// What it says.
    pub beacon: Beacon,
}

/// Serials that are missing and not yet known as gaps.
#[derive(Debug, Default)]
pub struct PendingGaps {
    serials: SerialSet,
    /// When the grace of those began.
    pub(super) since: Option<Mono>,
}

impl PendingGaps {
    /// Takes what is missing now; returns what has been missing for the grace and becomes a gap.
    fn handle_missing(&mut self, mono: Mono, missing: SerialSet) -> SerialSet {
        match self.since {
            Some(since) if mono.since_us(since) < GAP_GRACE_US => {
                // Who came meanwhile is no suspect any more; who was not one waits for its own grace.
                let came = self.serials.without(&missing);
                self.serials = self.serials.without(&came);
                SerialSet::new()
            }
            _ => {
                let came = self.serials.without(&missing);
                let confirmed = self.serials.without(&came);
                self.serials = missing.without(&confirmed);
                self.since = Some(mono);
                confirmed
            }
        }
    }
}

/// What is known from the link.
#[derive(Debug, Default)]
pub struct Link {
    pub(super) beacon: Option<VerifiedBeacon>,
    pub(super) pending_gaps: PendingGaps,
    /// Something stands in the way of what `receive` is told of link keys.
    pub(super) handover_is_behind: bool,
}

impl Link {
    /// Writes down what has been missing for the grace, and what the sender gave up.
    pub(super) fn note_ranges(
        &mut self,
        ledger: &mut Ledger,
        now: UtcTime,
        mono: Mono,
        channel_state: &ChannelState,
        missing: &SerialSet,
    ) {
        let unknown = missing.without(ledger.gaps().all());
        let confirmed = self.pending_gaps.handle_missing(mono, unknown);
        // Without a beacon nothing is missing that was not before.
        let Some(bundle) = self.beacon.as_ref().map(|believed| believed.bundle) else {
            return;
        };
        for (first, last) in confirmed.ranges() {
            let gap = Event::Gap {
                first,
                last,
                bundle,
            };
            ledger.append(now, gap);
        }
        let announced = &channel_state.announced;
        let not_sent = announced
            .not_sent
            .without(&ledger.not_sent().reported_by(bundle));
        let here = [
            &channel_state.claimed,
            &channel_state.complete,
            &channel_state.opened,
        ];
        let not_sent = here
            .into_iter()
            .fold(not_sent, |rest, set| rest.without(set));
        for (first, last) in not_sent.ranges() {
            let not_sent = Event::NotSent {
                first,
                last,
                bundle,
            };
            ledger.append(now, not_sent);
        }
    }

    /// Takes back what only older link keys told and the believed beacon's key contradicts: a thief's word must not
    /// outlive the key. Within one key nothing is withdrawn, so that no beacons can fill the log.
    pub(super) fn withdraw_ranges(
        &self,
        ledger: &mut Ledger,
        now: UtcTime,
        channel_state: &ChannelState,
    ) {
        let Some(bundle) = self.beacon.as_ref().map(|believed| believed.bundle) else {
            return;
        };
        let announced = &channel_state.announced;
        let (gaps, not_sent) = (ledger.gaps(), ledger.not_sent());
        let mut refuted = gaps
            .reported_only_by(|by| by != bundle)
            .without(&announced.passes_done)
            .without(ledger.claimed());
        if let Some(settled) = Serial::new(announced.settled) {
            refuted.remove_range(Serial::FIRST, settled);
        }
        let older = not_sent.reported_only_by(|by| by != bundle);
        let silent = older
            .without(&announced.under_way)
            .without(&announced.passes_done);
        let contradicted = older.without(&silent);
        let of_ended = not_sent.reported_only_by(|by| ledger.is_retired(by));
        let mut resurrected = of_ended.without(&announced.not_sent);
        for (first, last) in contradicted.ranges() {
            resurrected.insert_range(first, last);
        }
        for (first, last) in refuted.ranges() {
            ledger.append(now, Event::GapWithdrawn { first, last });
        }
        for (first, last) in resurrected.ranges() {
            ledger.append(now, Event::NotSentWithdrawn { first, last });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

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

    #[test]
    fn a_gap_is_what_stays_missing_for_the_grace() {
        let mut pending_gaps = PendingGaps::default();
        assert!(
            pending_gaps
                .handle_missing(Mono(0), set(&[3, 4]))
                .is_empty()
        );
        // Serial 3 comes, serial 9 is new.
        assert!(
            pending_gaps
                .handle_missing(Mono(1_000_000), set(&[4, 9]))
                .is_empty()
        );
        assert_eq!(
            pending_gaps.handle_missing(Mono(GAP_GRACE_US), set(&[4, 9])),
            set(&[4])
        );
        assert_eq!(
            pending_gaps.handle_missing(Mono(2 * GAP_GRACE_US), set(&[9])),
            set(&[9])
        );
        assert!(
            pending_gaps
                .handle_missing(Mono(3 * GAP_GRACE_US), set(&[]))
                .is_empty()
        );
    }
}
