//! The link as the loop sees it: the datagrams of a batch leave in order, whatever keeps them from leaving at once.

use std::io;
use std::ops::Range;
use std::path::Path;

use valise_common::config::{Cover, LinkKind, SenderConfig};
use valise_common::units::{Mono, Rate};
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use super::view::{HeldUp, LinkState};
use crate::io::link_serial::SerialLink;
use crate::io::link_udp::{LinkError, UdpLink};

/// How long to wait for room in the send buffer, if the socket does not tell earlier.
const FULL_US: u64 = 2_000;
/// How long to wait for room in the device's queue.
const CONGESTED_US: u64 = 500;
/// How long to wait for a link that is down.
const DOWN_US: u64 = 200_000;

/// The link, and the datagrams of the last batch that have not left yet.
pub struct Link {
    /// The socket.
    pub udp: UdpLink,
    /// Bytes of every datagram.
    pub datagram: DatagramBytes,
    buffer: Vec<u8>,
    unsent: Range<usize>,
    /// When what is unsent is tried again.
    pub retry_at: Mono,
    /// The send buffer is full: the socket tells when there is room again.
    pub lacks_room: bool,
    /// Whether datagrams leave.
    pub state: LinkState,
    /// What kept them from leaving.
    pub held_up: HeldUp,
}

impl Link {
    /// Opens the link that the configuration describes.
    ///
    /// # Errors
    /// If it is none that this version can send on.
    pub fn open(config: &SenderConfig) -> Result<Self, TransmitError> {
        if config.link.cover == Cover::Constant && config.link.rate == Rate::Unlimited {
            return Err(TransmitError::CoverNeedsRate);
        }
        if config.link.kind == LinkKind::Serial {
            let device = config.link.device.as_deref().unwrap_or(Path::new("-"));
            match SerialLink::open(device, config.link.baud)? {}
        }
        // The configuration's parser has made sure of both.
        let missing = |what: &str| TransmitError::Link(io::Error::other(what.to_owned()));
        let to = config
            .link
            .to
            .ok_or_else(|| missing("link.to is missing"))?;
        let datagram = DatagramBytes::new(config.datagram_bytes());
        let datagram = datagram.ok_or_else(|| missing("link.datagram_bytes is out of range"))?;
        let udp = UdpLink::open(to, config.link.bind, datagram, config.link.socket_buffer)
            .map_err(TransmitError::Link)?;
        let batch_count = usize::try_from(udp.batch_count_max()).unwrap_or(0);
        Ok(Self {
            buffer: vec![0; batch_count * datagram.to_usize()],
            udp,
            datagram,
            unsent: 0..0,
            retry_at: Mono(0),
            lacks_room: false,
            state: LinkState::Up,
            held_up: HeldUp::default(),
        })
    }

    /// Whether the whole of the last batch has left.
    pub fn is_clear(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Room for a batch, which counts as unsent from now on.
    pub fn room(&mut self, count: u32) -> &mut [u8] {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.unsent = 0..count * self.datagram.to_usize();
        self.retry_at = Mono(0);
        &mut self.buffer[self.unsent.clone()]
    }

    /// Sends what is left of the batch; tells when to try again if not all of it left.
    pub fn send(&mut self, now: Mono) -> Option<Mono> {
        if now < self.retry_at {
            return Some(self.retry_at);
        }
        let (count, result) = self.udp.send(&self.buffer[self.unsent.clone()]);
        self.unsent.start += count * self.datagram.to_usize();
        self.lacks_room = result == Err(LinkError::Full);
        let wait_us = match result {
            Ok(()) => {
                if self.state == LinkState::Down {
                    tracing::info!("the link is up again");
                    self.state = LinkState::Up;
                }
                return None;
            }
            Err(LinkError::Full) => {
                self.held_up.full += 1;
                FULL_US
            }
            Err(LinkError::Congested) => {
                self.held_up.congested += 1;
                CONGESTED_US
            }
            Err(error @ LinkError::Down(_)) => {
                self.held_up.down += 1;
                if self.state != LinkState::Down {
                    tracing::warn!(%error, "datagrams wait");
                    self.state = LinkState::Down;
                }
                DOWN_US
            }
        };
        self.retry_at = now.plus_us(wait_us);
        Some(self.retry_at)
    }
}
