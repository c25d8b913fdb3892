//! The tables of the two configuration files, each with its defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::units::{ByteSize, Percent, Rate, Span};

/// What carries datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// UDP, usually through a data diode.
    Udp,
    /// A serial line with one wire.
    Serial,
}

impl LinkKind {
    /// Returns the kind, as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Serial => "serial",
        }
    }
}

/// Whether a link is filled with noise while there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "bool")]
pub enum Cover {
    /// Constant rate: an observer cannot tell when a cable goes.
    Constant,
    /// Silence between cables and beacons.
    None,
}

impl From<bool> for Cover {
    fn from(cover: bool) -> Self {
        if cover { Cover::Constant } else { Cover::None }
    }
}

/// `[link]` of a sender.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderLink {
    /// UDP or serial.
    pub kind: LinkKind,
    /// Where datagrams go (UDP).
    pub to: Option<SocketAddr>,
    /// The source address of datagrams (UDP); by default the system's choice.
    pub bind: Option<SocketAddr>,
    /// The device (serial).
    pub device: Option<PathBuf>,
    /// Bits a second on the line (serial).
    #[serde(default = "baud")]
    pub baud: u32,
    /// Bytes of every datagram.
    pub datagram_bytes: Option<u16>,
    /// Rate of the link, IP packets with their headers.
    #[serde(default = "rate")]
    pub rate: Rate,
    /// Constant rate with noise, or silence.
    #[serde(default = "no_cover")]
    pub cover: Cover,
    /// Send buffer to ask of the kernel.
    #[serde(default = "send_buffer")]
    pub socket_buffer: ByteSize,
}

/// `[link]` of a receiver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverLink {
    /// UDP or serial.
    pub kind: LinkKind,
    /// Where datagrams arrive (UDP).
    pub listen: Option<SocketAddr>,
    /// The device (serial).
    pub device: Option<PathBuf>,
    /// Bits a second on the line (serial).
    #[serde(default = "baud")]
    pub baud: u32,
    /// Bytes of every datagram.
    pub datagram_bytes: Option<u16>,
    /// The sender's rate: checked and not used, so that both hosts may share a table.
    pub rate: Option<Rate>,
    /// The sender's cover: not used.
    pub cover: Option<Cover>,
    /// Receive buffer to ask of the kernel.
    #[serde(default = "receive_buffer")]
    pub socket_buffer: ByteSize,
}

fn baud() -> u32 {
    115_200
}

fn rate() -> Rate {
    Rate::BitsPerSecond(100_000_000)
}

fn no_cover() -> Cover {
    Cover::None
}

fn send_buffer() -> ByteSize {
    ByteSize(4 << 20)
}

fn receive_buffer() -> ByteSize {
    ByteSize(256 << 20)
}

/// `[fec]`: how a link's losses are survived.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fec {
    /// Repair symbols sent in each pass, for each source symbol.
    pub repair: Percent,
    /// How often the source symbols are sent.
    pub passes: u8,
    /// The burst that interleaving must survive, in time on the link.
    pub interleave: Span,
}

impl Default for Fec {
    fn default() -> Self {
        Self {
            repair: Percent::from_ppm(250_000),
            passes: 2,
            interleave: Span(Duration::from_millis(20)),
        }
    }
}

/// `[limits]` of a sender: what gate takes in at all.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// Bytes of one submission's parts together.
    pub submission_bytes_max: ByteSize,
    /// Submissions that may wait for approval at a time.
    pub pending_max: u32,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            submission_bytes_max: ByteSize(4 << 30),
            pending_max: 10_000,
        }
    }
}

/// `[retain]`: how long sealed containers stay for a resend.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retain {
    /// Time since the last pass.
    pub time: Span,
    /// Bytes of retained containers together; the oldest go first.
    pub bytes: ByteSize,
}

impl Default for Retain {
    fn default() -> Self {
        Self {
            time: Span(Duration::from_secs(14 * 86_400)),
            bytes: ByteSize(64 << 30),
        }
    }
}

/// `[alarm]`: whom to tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alarm {
    /// A program and its arguments, run for each new alarm with the alarm's line behind them.
    pub command: Vec<String>,
    /// Share of a bundle's slots below which the sender warns.
    pub slots_low: Percent,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            slots_low: Percent::from_ppm(200_000),
        }
    }
}

/// `[metrics]`: figures for a monitor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The folder of the Prometheus text files; empty for none.
    pub folder: PathBuf,
}

/// `[memory]` of a receiver.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Bytes of blocks that are being collected; more go to disk.
    pub assembly: ByteSize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            assembly: ByteSize(48 << 20),
        }
    }
}

/// `[spool]` of a receiver.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Bytes of partial and complete containers on disk together.
    pub bytes_max: ByteSize,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            bytes_max: ByteSize(64 << 30),
        }
    }
}

/// `[release]` of a receiver.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// An alarm when a released cable has not been fetched for so long.
    pub pickup_alarm: Span,
    /// An alarm when the link has been silent for so long.
    pub silence_alarm: Span,
    /// Whether a credential of the unit covers new slots on the disk.
    pub slots_credential: bool,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            pickup_alarm: Span(Duration::from_secs(86_400)),
            silence_alarm: Span(Duration::from_secs(60)),
            slots_credential: false,
        }
    }
}

/// Whether a role may work without a fence that the kernel or the service manager refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "bool")]
pub enum Fences {
    /// A refused fence ends the role at its start.
    Required,
    /// The role starts without, and a standing alarm reports it.
    BestEffort,
}

impl From<bool> for Fences {
    fn from(required: bool) -> Self {
        if required {
            Fences::Required
        } else {
            Fences::BestEffort
        }
    }
}

impl Fences {
    /// Returns the sentence of `check-config`.
    pub fn meaning(self) -> &'static str {
        match self {
            Fences::Required => "a role does not start without one of its fences",
            Fences::BestEffort => {
                "a role starts without a fence that is refused, under the alarm fence"
            }
        }
    }
}

/// `[sandbox]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Whether every fence must be up.
    pub required: Fences,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            required: Fences::Required,
        }
    }
}

/// `[audit]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditFiles {
    /// An audit log goes on in another file when one has so many bytes.
    pub file_bytes: ByteSize,
}

impl Default for AuditFiles {
    fn default() -> Self {
        Self {
            file_bytes: ByteSize(64 << 20),
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// error, warn, info, debug or trace.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}
