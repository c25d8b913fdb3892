//! What goes into the pipeline and what comes out.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use valise_common::config::Cover;
use valise_common::fec::Geometry;
use valise_common::ids::{ContainerHash, ContainerId, Serial};
use valise_common::precedence::Precedence;
use valise_common::units::{Mono, Percent, Rate, Span, UtcTime};
use valise_common::wire::DatagramBytes;

/// One instant, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// For everything that is measured.
    pub mono: Mono,
    /// Microseconds since 1970: for `not-after` and for the beacons' advisory time.
    pub utc_us: u64,
}

/// What the configuration says of the link and its losses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of every datagram.
    pub datagram: DatagramBytes,
    /// Bytes of a datagram on the link, with what the link adds.
    pub wire_bytes: u32,
    /// Datagrams that the link takes in one call.
    pub batch_count_max: u32,
    /// Cover before and after traffic, or none.
    pub warm_up: WarmUp,
    /// Rate of the link.
    pub rate: Rate,
    /// Constant rate with noise, or silence.
    pub cover: Cover,
    /// Repair symbols of a pass.
    pub repair: Percent,
    /// The burst to survive.
    pub interleave: Span,
}

/// Cover at the start and the end of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// About a millisecond of cover on each side: a diode may lose the first and the last datagrams.
    Cover,
    /// No cover: a receiver finds the start of each frame on a serial line by itself.
    None,
}

/// Why a container cannot be sent on this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RefusedContainer {
    /// It was cut for datagrams of another size, and is bound to its geometry for life.
    #[error(
        "serial {serial} was cut into symbols of {symbol_bytes} bytes, the link carries {link_symbol_bytes}: set \
         link.datagram_bytes back until it has been sent"
    )]
    SymbolBytes {
        /// Which.
        serial: Serial,
        /// Its symbols.
        symbol_bytes: u16,
        /// The link's.
        link_symbol_bytes: u16,
    },
}

/// A sealed container as transmit knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Serial.
    pub serial: Serial,
    /// Precedence.
    pub precedence: Precedence,
    /// Until when a pass may begin.
    pub not_after: UtcTime,
    /// Its name on the link.
    pub container: ContainerId,
    /// Its whole hash.
    pub hash: ContainerHash,
    /// How it is cut.
    pub geometry: Geometry,
    /// Passes wanted in all.
    pub passes: u8,
}

/// A serial that was issued but will not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// The serial.
    pub serial: Serial,
    /// Its container.
    pub container: ContainerId,
    /// The container's length.
    pub container_bytes: u64,
}

/// What gate alone knows and every beacon tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolBeacon {
    /// The highest serial issued; 0 before the first.
    pub issued: u64,
    /// The lowest serial whose container is still kept. If there is none: the serial after the highest issued; 0 where nothing is
    /// known of it.
    pub lowest_retained: u64,
    /// Version of the trust list; 0 for none.
    pub trust_version: u32,
    /// Serials that are issued and whose container is not in the outbox yet.
    #[serde(default)]
    pub in_sealing: Vec<Serial>,
    /// Serials that will not be sent, the newest of them.
    #[serde(default)]
    pub given_up: Vec<GivenUp>,
}

/// How far a container has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Whose.
    pub serial: Serial,
    /// Passes that have been sent to their end.
    pub passes_done: u8,
    /// Passes wanted when the container was first seen. With so many done the serial is settled, whatever a resend asks.
    pub first_passes: u8,
    /// The pass on the link or next, from 0.
    pub pass: u8,
    /// Symbols of that pass that have been sent.
    pub position: u64,
    /// Blocks below this one have been sent in that pass.
    pub block: u32,
    /// Symbols sent of that block and of those after it, in order; blocks after these have not begun.
    #[serde(default)]
    pub lanes: Vec<u32>,
}

/// A pass that has been sent to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassEnded {
    /// What must be durable.
    pub progress: Progress,
    /// Whether more passes are wanted.
    pub outlook: Outlook,
}

/// What comes after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Another pass.
    MorePasses,
    /// Nothing: the container has been transmitted.
    Transmitted,
}

/// What left so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Datagrams that carried a symbol.
    pub symbols: u64,
    /// Datagrams that carried a beacon.
    pub beacons: u64,
    /// Datagrams of noise.
    pub cover: u64,
}
