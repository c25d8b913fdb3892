//! What the daemons show to `list` and `status`: one JSON file a role, rewritten as a whole.

use std::io;
use std::path::Path;
use valise_common::limits;

use serde::{Deserialize, Serialize};
use valise_common::alarm::AlarmView;
use valise_common::host::metrics::Metrics;
use valise_common::ids::{BundleId, ChannelId, LinkKeyId, Serial};
use valise_common::os::clock::Stamp;
use valise_common::os::durable::{self, Access, Sync};
use valise_common::units::UtcTime;

use crate::model::states::Announced;
use valise_common::serial_set::SerialSet;

mod receive;

pub(crate) use receive::{AssemblingView, LineView, ReceiveView};

/// Serials as ranges of first and last.
pub type Ranges = Vec<(Serial, Serial)>;

/// Returns a set as ranges.
pub fn ranges_of(set: &SerialSet) -> Ranges {
    set.ranges().collect()
}

/// Ranges as a set.
pub fn set_of(ranges: &Ranges) -> SerialSet {
    let mut set = SerialSet::new();
    ranges
        .iter()
        .for_each(|(first, last)| set.insert_range(*first, *last));
    set
}

/// What `release` shows. Of claimed serials the register tells, of the others this does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// When it was written.
    pub time: UtcTime,
    /// The same on a clock that nobody sets.
    #[serde(default)]
    pub written: Option<Stamp>,
    /// "Now" as cables are judged by.
    pub now: UtcTime,
    /// The channel.
    pub channel: ChannelId,
    /// The version of the trust list in force.
    pub trust_version: Option<u32>,
    /// Whether software keys may approve.
    pub software_keys: bool,
    /// The newest beacon.
    pub beacon: Option<BeaconView>,
    /// Serials whose container waits.
    pub complete: Ranges,
    /// Serials whose container is being opened.
    pub opened: Ranges,
    /// Serials that were once found missing.
    pub gaps: Ranges,
    /// Serials that were given up by the sender.
    pub not_sent: Ranges,
    /// How many serials are in which state.
    pub counts: Counts,
    /// The bundles and their slots.
    pub bundles: Vec<BundleView>,
    /// What an operator must look at.
    pub alarms: Vec<AlarmView>,
    /// What went wrong since the start, in numbers.
    pub counters: Counters,
}

/// The newest beacon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconView {
    /// The bundle whose link key verified it.
    pub bundle: BundleId,
    /// The highest serial issued.
    pub highest: u64,
    /// Every serial up to it has had its passes or was given up.
    pub settled: u64,
    /// The lowest serial that the sender still keeps.
    pub lowest_retained: u64,
    /// The sender's clock, advisory.
    pub sender_time: UtcTime,
    /// The sender's trust list.
    pub trust_version: u32,
    /// Serials on their way.
    pub under_way: Ranges,
    /// Serials that had all their passes.
    pub passes_done: Ranges,
    /// Serials that were given up.
    pub not_sent: Ranges,
}

impl BeaconView {
    /// The beacon as the states need it.
    pub(crate) fn announced(&self) -> Announced {
        Announced {
            highest: self.highest,
            settled: self.settled,
            under_way: set_of(&self.under_way),
            passes_done: set_of(&self.passes_done),
            not_sent: set_of(&self.not_sent),
        }
    }
}

/// How many serials are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The highest serial that anything tells of.
    pub highest: u64,
    /// Claimed by a container: released, quarantined or discarded.
    pub claimed: u64,
    /// Held.
    pub quarantined: u64,
    /// Missing.
    pub missing: u64,
    /// Waiting or being opened.
    pub complete: u64,
}

/// A bundle and its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleView {
    /// Its number.
    pub bundle: BundleId,
    /// Its first serial.
    pub first: Serial,
    /// Number of slots.
    pub count: u32,
    /// The link key that it brought.
    pub link_key: LinkKeyId,
    /// Its unused slots were destroyed.
    pub void: bool,
    /// Slots of serials that were not announced yet.
    pub left: u64,
}

/// What went wrong since the start, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Cables released.
    pub released: u64,
    /// Cables put into quarantine.
    pub quarantined: u64,
    /// Containers that did not open.
    pub unopened: u64,
    /// Second containers for a claimed serial.
    pub second_containers: u64,
}

impl ReleaseView {
    /// Cables by state, as far as they are counted.
    pub fn cables(&self) -> [(&'static str, u64); 4] {
        let counts = &self.counts;
        [
            ("complete", counts.complete),
            ("decided", counts.claimed.saturating_sub(counts.quarantined)),
            ("missing", counts.missing),
            ("quarantined", counts.quarantined),
        ]
    }

    /// Slots that are left, and those of the bundles that have some left.
    pub fn slots(&self) -> (u64, u64) {
        let live = self.bundles.iter().filter(|bundle| bundle.left > 0);
        let left = live.clone().map(|bundle| bundle.left).sum();
        (left, live.map(|bundle| u64::from(bundle.count)).sum())
    }

    /// Writes what a monitor reads.
    pub fn write_metrics(&self, metrics: &mut Metrics) {
        let label = |name: &'static str, value: &str| vec![(name, value.to_owned())];
        metrics.write(&self.alarms, |sheet| {
            sheet.gauges(
                "cables",
                "Cables by state",
                self.cables()
                    .map(|(state, count)| (label("state", state), count)),
            );
            let (left, total) = self.slots();
            sheet.gauge(
                "serial_highest",
                "Highest serial announced",
                self.counts.highest,
            );
            sheet.gauge("slots_left", "Slots left in all bundles", left);
            sheet.gauge("slots", "Slots of the bundles that have some left", total);
            sheet.gauge(
                "trust_list_version",
                "Version of the trust list in force, 0 for none",
                self.trust_version.unwrap_or(0).into(),
            );
            let outcomes = [
                ("released", self.counters.released),
                ("quarantined", self.counters.quarantined),
                ("unopened", self.counters.unopened),
                ("second", self.counters.second_containers),
            ];
            sheet.counters(
                "containers_judged",
                "Containers by their outcome",
                outcomes.map(|(outcome, count)| (label("outcome", outcome), count)),
            );
        });
    }

    /// Writes the view. It is no state: nothing waits for the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, tmp: &Path, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        durable::replace(tmp, path, &text, Access::Everyone, Sync::No)
    }

    /// Reads the view; `None` before the daemon ran first.
    ///
    /// # Errors
    /// The system's, and a view of another program version.
    #[cfg(test)]
    pub fn read(path: &Path) -> io::Result<Option<ReleaseView>> {
        read_view(path)
    }
}

fn read_view<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match durable::read_bounded(path, limits::VIEW_BYTES_MAX) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn ranges_round_trip() {
        let mut set = SerialSet::new();
        for serial in [1, 2, 3, 9] {
            set.insert(Serial::new(serial).unwrap());
        }
        assert_eq!(set_of(&ranges_of(&set)), set);
    }
}
