//! `view/transmit.json`: what `status` shows of the link. Rewritten about once a second, never synced.

use std::io;
use valise_common::limits;

use serde::{Deserialize, Serialize};
use valise_common::alarm::AlarmView;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::metrics::Metrics;
use valise_common::ids::{BundleId, LinkKeyId, Serial, SessionId};
use valise_common::os::clock::Stamp;
use valise_common::os::durable::{self, Access, Sync};
use valise_common::units::{Rate, UtcTime};

use crate::pipeline::Totals;

/// What there is to see of transmit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransmitView {
    /// When it was written.
    pub time: UtcTime,
    /// The same on a clock that nobody sets.
    #[serde(default)]
    pub written: Option<Stamp>,
    /// The session on the link; none before the first bundle was imported.
    pub session: Option<SessionView>,
    /// The configured rate; of a serial line, its baud.
    pub rate: Rate,
    /// Bytes of an IP packet, or of a frame, on the link.
    #[serde(default)]
    pub wire_bytes: u32,
    /// Bits a second over the last second: IP packets with their headers, or all of the line's.
    pub rate_achieved_bits: u64,
    /// Datagrams that left since the start.
    pub sent: Totals,
    /// What kept datagrams from leaving at once since the start.
    pub held_up: HeldUp,
    /// What the link does.
    pub link: LinkState,
    /// The time in the last beacon, µs since 1970. The next process goes on from it.
    #[serde(default)]
    pub beacon_time_us: u64,
    /// Containers that wait for a pass: FLASH, IMMEDIATE, PRIORITY, ROUTINE.
    pub waiting: [usize; 4],
    /// Containers whose pass is on the link.
    pub on_link: Vec<OnLinkView>,
    /// What needs a person.
    #[serde(default)]
    pub alarms: Vec<AlarmView>,
}

/// The session on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub session: SessionId,
    /// The link key that it uses.
    pub key_id: LinkKeyId,
    /// The bundle that brought the key.
    pub bundle: BundleId,
}

/// Why datagrams did not leave at once: how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUp {
    /// The send buffer was full.
    pub full: u64,
    /// The device's queue was full.
    pub congested: u64,
    /// There was no way to the receiver.
    pub down: u64,
}

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Datagrams leave.
    Up,
    /// They do not, and are tried again.
    Down,
    /// There is no link key yet.
    NoKey,
}

/// One container on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnLinkView {
    /// Its serial.
    pub serial: Serial,
    /// The pass, from 0.
    pub pass: u8,
    /// Passes wanted in all.
    pub passes: u8,
    /// Symbols of the pass that have left.
    pub position: u64,
    /// Source symbols of the container.
    pub source_symbols: u64,
}

impl TransmitView {
    /// Reads the view of the process before this one, if it left one that can be read.
    pub fn of_last_process(state: &SenderState) -> Option<Self> {
        let text =
            durable::read_bounded(&state.view_of(Role::Transmit), limits::VIEW_BYTES_MAX).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes what a monitor reads.
    pub fn write_metrics(&self, metrics: &mut Metrics) {
        let label = |name: &'static str, value: &str| vec![(name, value.to_owned())];
        let Totals {
            symbols,
            beacons,
            cover,
        } = self.sent;
        let HeldUp {
            full,
            congested,
            down,
        } = self.held_up;
        metrics.write(&self.alarms, |sheet| {
            let kinds = [("symbol", symbols), ("beacon", beacons), ("cover", cover)];
            sheet.counters(
                "datagrams_sent",
                "Datagrams that left",
                kinds.map(|(kind, count)| (label("kind", kind), count)),
            );
            let sent = symbols.saturating_add(beacons).saturating_add(cover);
            let bytes = sent.saturating_mul(self.wire_bytes.into());
            sheet.counters(
                "link_sent_bytes",
                "Bytes that left, with the headers of IP or the marks of frames",
                [(vec![], bytes)],
            );
            let causes = [("full", full), ("congested", congested), ("down", down)];
            sheet.counters(
                "send_delays",
                "Times that datagrams did not leave at once",
                causes.map(|(cause, count)| (label("cause", cause), count)),
            );
            sheet.gauge(
                "link_up",
                "1 while datagrams leave",
                u64::from(self.link == LinkState::Up),
            );
            let waiting = self.waiting.iter().map(|count| u64::try_from(*count));
            let waiting = waiting.map(|count| count.unwrap_or(u64::MAX));
            let precedences = ["flash", "immediate", "priority", "routine"].into_iter();
            sheet.gauges(
                "containers_waiting",
                "Containers that wait for a pass, by precedence",
                precedences
                    .zip(waiting)
                    .map(|(precedence, count)| (label("precedence", precedence), count)),
            );
        });
    }

    /// Writes the view in place of the older one.
    ///
    /// # Errors
    /// If it cannot be written or renamed.
    pub fn write(&self, state: &SenderState) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let dest = state.view_of(Role::Transmit);
        durable::replace(
            &state.tmp(Role::Transmit),
            &dest,
            &text,
            Access::Everyone,
            Sync::No,
        )
    }
}
