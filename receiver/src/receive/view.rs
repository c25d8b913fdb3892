//! `view/receive.json`: what `status` and `list` show of the link.

use serde::{Deserialize, Serialize};
use valise_common::alarm::AlarmView;
use valise_common::host::metrics::Metrics;
use valise_common::ids::{ContainerId, Serial};
use valise_common::limits::LINE_BITS_PER_BYTE;
use valise_common::os::clock::Stamp;
use valise_common::units::{Mono, UtcTime};

use super::intake::LinkState;
use super::listener::Listening;
use super::shared::{AssemblyView, ReadView};
use crate::pipeline::Tally;
use crate::spool::view::LineView;
use valise_common::wire::{Counters, DropReason, LineFigures};

/// What `receive` shows, once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveView {
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

/// The rate of a line, from one look to the next.
#[derive(Debug, Clone, Copy)]
pub struct LineMeter {
    baud: u32,
    looked_at: Mono,
    bytes: u64,
}

impl LineMeter {
    /// Nothing has arrived yet.
    pub fn new(baud: u32, now: Mono) -> Self {
        Self {
            baud,
            looked_at: now,
            bytes: 0,
        }
    }

    /// Returns the counters, with the rate since the last look.
    pub fn look(&mut self, figures: &LineFigures, now: Mono) -> LineView {
        let span_us = now.since_us(self.looked_at).max(1);
        let bits = (figures.bytes - self.bytes).saturating_mul(LINE_BITS_PER_BYTE.into());
        (self.looked_at, self.bytes) = (now, figures.bytes);
        LineView {
            baud: self.baud,
            bytes: figures.bytes,
            frames: figures.frames,
            discarded_bytes: figures.discarded_bytes,
            burst_bytes_max: figures.burst_bytes_max,
            rate_bits: bits.saturating_mul(1_000_000) / span_us,
        }
    }
}

/// A container that is being collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssemblingView {
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

/// What does not change while the process runs.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// When it started.
    pub started: UtcTime,
    /// Receive buffer that is asked for.
    pub socket_buffer_asked: u64,
}

impl ReceiveView {
    /// Writes what a monitor reads.
    pub fn write_metrics(&self, metrics: &mut Metrics, datagram_bytes: u16) {
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

    /// Puts the threads' views together.
    pub fn new(
        time: UtcTime,
        constants: Constants,
        read: &ReadView,
        assembly: &AssemblyView,
        (link, line): (&LinkState, Option<LineView>),
        alarms: Vec<AlarmView>,
    ) -> Self {
        let mut tally: Tally = read.tally;
        tally.add(&assembly.tally);
        let last_datagram = match read.last_datagram_us {
            0 => None,
            us => Some(UtcTime::from_s(us / 1_000_000)),
        };
        let assembling = assembly.assembling.iter().map(|one| AssemblingView {
            serial: one.set.serial,
            container: one.set.container,
            container_bytes: one.set.geometry.container_bytes(),
            have_symbols: one.have_symbols,
            need_symbols: one.need_symbols,
        });
        Self {
            time,
            written: Some(Stamp::now()),
            started: constants.started,
            last_datagram,
            symbols: tally.symbols,
            beacons: tally.beacons,
            covers: tally.covers,
            counters: tally.dropped,
            kernel_drops: read.kernel_drops,
            socket_buffer_asked: constants.socket_buffer_asked,
            socket_buffer_granted: match link {
                LinkState::Udp(Listening::Bound(granted)) => granted.granted.0,
                _ => 0,
            },
            line,
            completed: assembly.sets.completed,
            poisoned: assembly.sets.poisoned,
            yielded: assembly.sets.yielded,
            assembling_count: assembly.set_count,
            assembling: assembling.collect(),
            memory_bytes: assembly.memory_bytes,
            disk_bytes: assembly.disk_bytes,
            alarms,
        }
    }
}
