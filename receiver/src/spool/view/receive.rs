//! `view/receive.json`: what `status` and `list` show of the link.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use valise_common::alarm::AlarmView;
use valise_common::host::metrics::Metrics;
use valise_common::ids::{ContainerId, Serial};
use valise_common::os::clock::Stamp;
use valise_common::serial_set::SerialSet;
use valise_common::units::UtcTime;
use valise_common::wire::{Counters, DropReason};

/// What `receive` shows, once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiveView {
    /// When this was written.
    pub time: UtcTime,
    /// The same on a clock that nobody sets.
    #[serde(default)]
    pub written: Option<Stamp>,
    /// When the process started.
    pub started: UtcTime,
    /// When the last authentic datagram came; absent if none has come since the start.
    pub last_datagram: Option<UtcTime>,
    /// Symbols that were new and are kept.
    pub symbols: u64,
    /// Beacons that were believed.
    pub beacons: u64,
    /// Cover datagrams.
    pub covers: u64,
    /// Datagrams that were dropped, by reason; reasons that never occurred are left out.
    pub counters: Counters,
    /// Datagrams that the kernel dropped because nobody read them in time.
    pub kernel_drops: u64,
    /// Receive buffer that the configuration asks for, in bytes.
    pub socket_buffer_asked: u64,
    /// Receive buffer that the kernel granted, in bytes; 0 while the socket waits.
    pub socket_buffer_granted: u64,
    /// Counters of the serial line, if the link is serial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineView>,
    /// Containers put into the inbox.
    pub completed: u64,
    /// Sets that were discarded because some of their symbols are forged.
    pub poisoned: u64,
    /// Sets that were discarded because another needed the room.
    pub yielded: u64,
    /// Sets that are being collected.
    pub assembling_count: usize,
    /// The first thousand of them, by serial.
    pub assembling: Vec<AssemblingView>,
    /// Bytes of incomplete blocks in memory.
    pub memory_bytes: usize,
    /// Bytes of incomplete containers on disk.
    pub disk_bytes: u64,
    /// What needs an operator.
    pub alarms: Vec<AlarmView>,
}

/// Counters of a serial line since the start of `receive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineView {
    /// Bits a second of the line.
    pub baud: u32,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Frames that were whole.
    pub frames: u64,
    /// Bytes that belong to no whole frame.
    pub discarded_bytes: u64,
    /// The most of them between two whole frames.
    pub burst_bytes_max: u64,
    /// Bits a second over the last second.
    pub rate_bits: u64,
}

/// A container that is being collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssemblingView {
    /// Its serial, as the link claims it.
    pub serial: Serial,
    /// Its id.
    pub container: ContainerId,
    /// Its length.
    pub container_bytes: u64,
    /// Symbols that are there.
    pub have_symbols: u64,
    /// Symbols that are needed.
    pub need_symbols: u64,
}

impl ReceiveView {
    /// Writes what a monitor reads.
    pub(crate) fn write_metrics(&self, metrics: &mut Metrics, datagram_bytes: u16) {
        let label = |name: &'static str, value: &str| vec![(name, value.to_owned())];
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        metrics.write(&self.alarms, |sheet| {
            let kinds = [
                ("symbol", self.symbols),
                ("beacon", self.beacons),
                ("cover", self.covers),
            ];
            sheet.counters(
                "datagrams_received",
                "Datagrams that verified and were of use",
                kinds.map(|(kind, count)| (label("kind", kind), count)),
            );
            let used: u64 = kinds.into_iter().map(|(_, count)| count).sum();
            let received = used.saturating_add(self.counters.total());
            sheet.counters(
                "link_received_bytes",
                "Bytes of the datagrams that were read",
                [(vec![], received.saturating_mul(datagram_bytes.into()))],
            );
            // All of them, so that each is there before it occurs first.
            let reasons = DropReason::ALL.iter();
            sheet.counters(
                "datagrams_dropped",
                "Datagrams that were dropped, by reason",
                reasons.map(|reason| (label("reason", reason.name()), self.counters.of(*reason))),
            );
            let one = |count: u64| [(vec![], count)];
            sheet.counters(
                "kernel_drops",
                "Datagrams that the kernel dropped, because they were not read in time",
                one(self.kernel_drops),
            );
            sheet.counters(
                "containers_completed",
                "Containers handed to release",
                one(self.completed),
            );
            if let Some(line) = &self.line {
                sheet.counters(
                    "line_bytes",
                    "Bytes that arrived on the serial line",
                    one(line.bytes),
                );
                sheet.counters(
                    "line_frames",
                    "Frames of the serial line that were whole",
                    one(line.frames),
                );
                sheet.counters(
                    "line_discarded_bytes",
                    "Bytes of the serial line that belong to no whole frame",
                    one(line.discarded_bytes),
                );
                sheet.gauge(
                    "line_burst_bytes_max",
                    "The most discarded bytes between two whole frames",
                    line.burst_bytes_max,
                );
            }
            let discarded = [("forged", self.poisoned), ("yielded", self.yielded)];
            sheet.counters(
                "sets_discarded",
                "Incomplete containers that were discarded",
                discarded.map(|(cause, count)| (label("cause", cause), count)),
            );
            sheet.gauge(
                "containers_assembling",
                "Containers that are being collected",
                bytes(self.assembling_count),
            );
            sheet.gauge(
                "assembly_memory_bytes",
                "Incomplete blocks in memory",
                bytes(self.memory_bytes),
            );
            sheet.gauge(
                "assembly_disk_bytes",
                "Incomplete containers on the disk",
                self.disk_bytes,
            );
            if let Some(last) = self.last_datagram {
                sheet.gauge(
                    "last_datagram_timestamp_seconds",
                    "Time of the last datagram that verified",
                    last.as_s(),
                );
            }
        });
    }

    /// Reads the view; `None` before the daemon ran first.
    ///
    /// # Errors
    /// The system's, and a view of another program version.
    pub(crate) fn read(path: &Path) -> io::Result<Option<ReceiveView>> {
        super::read_view(path)
    }

    /// The serials of which some symbols are here.
    pub(crate) fn assembling_set(&self) -> SerialSet {
        let mut set = SerialSet::new();
        self.assembling
            .iter()
            .for_each(|one| set.insert(one.serial));
        set
    }

    /// Frames of a serial line that were not whole.
    pub(crate) fn broken_frames(&self) -> u64 {
        let of = |reason| self.counters.of(reason);
        of(DropReason::FrameCobs) + of(DropReason::FrameLength) + of(DropReason::FrameCrc)
    }

    /// Since when no datagram has verified.
    pub(crate) fn silent_since(&self) -> UtcTime {
        self.last_datagram.unwrap_or(self.started)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_dropped_and_since_when_nothing_came_are_read_from_the_view() {
        let text = r#"{"time":"2026-11-22T21:53:18Z","started":"2026-11-22T21:00:00Z","last_datagram":"2027-01-15T08:00:00Z",
            "symbols":7,"beacons":1,"covers":0,"counters":{"bad":3,"frame-crc":2},"kernel_drops":0,"socket_buffer_asked":1,
            "socket_buffer_granted":1,"completed":1,"poisoned":0,"yielded":0,"assembling_count":1,"assembling":[{"serial":4,
            "container":"000102030405060708090a0b","container_bytes":9,"have_symbols":1,"need_symbols":2}],"memory_bytes":0,
            "disk_bytes":0,"alarms":[]}"#;
        let mut view: ReceiveView = serde_json::from_str(text).unwrap();
        assert_eq!(view.assembling_set().to_string(), "4");
        assert_eq!(view.silent_since(), UtcTime::from_s(1_800_000_000));
        assert_eq!(view.broken_frames(), 2);
        view.last_datagram = None;
        assert_eq!(view.silent_since(), view.started);
    }
}
