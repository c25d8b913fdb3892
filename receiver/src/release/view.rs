//! What release shows of itself: the view that commands read, the metrics, the line of the service manager.

use valise_common::host::folders::Role;
use valise_common::ids::Serial;
use valise_common::os::{clock, service};
use valise_common::units::UtcTime;

use crate::model::rows::{BundleState, Claim};
use crate::model::states::Announced;
use crate::release::host::Release;
use crate::release::link::VerifiedBeacon;
use crate::spool::view::{BeaconView, BundleView, Counts, ReleaseView, ranges_of};
use valise_common::serial_set::SerialSet;

impl Release {
    /// Rewrites what is shown.
    pub(super) fn show(&mut self) {
        self.shown.dirty = false;
        let view = self.view();
        if let Some(metrics) = &mut self.shown.metrics {
            view.write_metrics(metrics);
        }
        service::status(&format!(
            "released {} · quarantine {} · missing {}",
            self.inbox.counters.released, view.counts.quarantined, view.counts.missing
        ));
        let tmp = self.state.tmp(Role::Release);
        if let Err(error) = view.write(&tmp, &self.state.view_of(Role::Release)) {
            // Nothing depends on it; a full disk has its own alarm.
            tracing::warn!("the view cannot be written: {error}");
        }
    }

    fn view(&self) -> ReleaseView {
        let channel_state = self.channel_state();
        let highest = channel_state.highest().map_or(0, Serial::get);
        let quarantined = self
            .ledger
            .register()
            .cables(Some(Claim::Quarantined))
            .map_or(0, |rows| rows.len());
        let complete = channel_state.complete.serial_count();
        ReleaseView {
            time: clock::utc_now(),
            written: Some(clock::Stamp::now()),
            now: self.now(),
            channel: self.host.channel,
            trust_version: self.trust.as_ref().map(|signed| signed.list.version()),
            software_keys: self
                .trust
                .as_ref()
                .is_some_and(|signed| signed.list.allow_software_keys()),
            beacon: self.link.beacon.as_ref().map(beacon_view),
            complete: ranges_of(&channel_state.complete),
            opened: ranges_of(&channel_state.opened),
            gaps: ranges_of(&channel_state.gaps),
            not_sent: ranges_of(&channel_state.not_sent),
            counts: Counts {
                highest,
                claimed: channel_state.claimed.serial_count(),
                quarantined: u64::try_from(quarantined).unwrap_or(u64::MAX),
                missing: channel_state.missing().serial_count(),
                complete: complete.saturating_add(channel_state.opened.serial_count()),
            },
            bundles: self
                .ledger
                .bundles()
                .iter()
                .map(|row| BundleView {
                    bundle: row.bundle,
                    first: row.first,
                    count: row.count,
                    link_key: row.link_key,
                    void: row.state == BundleState::Void,
                    left: match row.state {
                        BundleState::Live => left_of(row.first, row.last, highest),
                        BundleState::Void => 0,
                    },
                })
                .collect(),
            alarms: self.shown.alarms.views(),
            counters: self.inbox.counters,
        }
    }
}

fn beacon_view(VerifiedBeacon { bundle, beacon }: &VerifiedBeacon) -> BeaconView {
    let announced = Announced::from(beacon);
    BeaconView {
        bundle: *bundle,
        highest: beacon.highest,
        settled: beacon.settled,
        lowest_retained: beacon.lowest_retained,
        sender_time: UtcTime::from_s(beacon.sender_time_us / 1_000_000),
        trust_version: beacon.trust_version,
        under_way: ranges_of(&announced.under_way),
        passes_done: ranges_of(&announced.passes_done),
        not_sent: ranges_of(&announced.not_sent),
    }
}

/// Returns the number of slots of `first..=last` for serials after the highest.
pub(super) fn left_of(first: Serial, last: Serial, highest: u64) -> u64 {
    last.get()
        .saturating_sub(highest.max(first.get().saturating_sub(1)))
}

/// Serials in a line that fits a terminal.
pub fn shortened(set: &SerialSet) -> String {
    let text = set.to_string();
    match text.char_indices().nth(120) {
        Some((cut, _)) => {
            let cut = text[..cut].rfind(',').unwrap_or(cut);
            format!("{}, …", &text[..cut])
        }
        None => text,
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
    fn slots_left_are_those_behind_the_highest_serial() {
        assert_eq!(left_of(serial(1), serial(10), 0), 10);
        assert_eq!(left_of(serial(1), serial(10), 8), 2);
        assert_eq!(left_of(serial(1), serial(10), 12), 0);
        assert_eq!(left_of(serial(11), serial(20), 5), 10);
    }

    #[test]
    fn a_long_list_of_serials_is_cut_at_a_comma() {
        let members: Vec<u64> = (1..200).map(|n| n * 2).collect();
        let text = shortened(&set(&members));
        assert!(text.len() < 130 && text.ends_with(", …"), "{text}");
        assert_eq!(shortened(&set(&[1, 2, 5])), "1-2,5");
    }
}
