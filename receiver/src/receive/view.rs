//! The view of `receive`, put together from what its threads know.

use valise_common::alarm::AlarmView;
use valise_common::limits::LINE_BITS_PER_BYTE;
use valise_common::os::clock::Stamp;
use valise_common::units::{Mono, UtcTime};

use super::intake::LinkState;
use super::listener::Listening;
use super::shared::{AssemblyView, ReadView};
use crate::pipeline::Tally;
use crate::spool::view::{AssemblingView, LineView, ReceiveView};
use valise_common::wire::LineFigures;

/// The rate of a line, from one look to the next.
#[derive(Debug, Clone, Copy)]
pub struct LineMeter {
    baud: u32,
    looked_at: Mono,
    bytes: u64,
}

impl LineMeter {
    /// Nothing has arrived yet.
    pub(super) fn new(baud: u32, now: Mono) -> Self {
        Self {
            baud,
            looked_at: now,
            bytes: 0,
        }
    }

    /// Returns the counters, with the rate since the last look.
    pub(super) fn look(&mut self, figures: &LineFigures, now: Mono) -> LineView {
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

/// What does not change while the process runs.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// When it started.
    pub started: UtcTime,
    /// Receive buffer that is asked for.
    pub socket_buffer_asked: u64,
}

/// Puts the threads' views together.
pub(super) fn view_of(
    time: UtcTime,
    constants: Constants,
    read: &ReadView,
    assembly: &AssemblyView,
    (link, line): (&LinkState, Option<LineView>),
    alarms: Vec<AlarmView>,
) -> ReceiveView {
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
    ReceiveView {
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
