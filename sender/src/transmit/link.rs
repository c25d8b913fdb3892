//! The link as the loop sees it: the datagrams of a batch leave in order, whatever keeps them from leaving at once, and none is
//! handed over while the way to the receiver is blocked.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use nix::errno::Errno;
use valise_common::alarm::Cause;
use valise_common::config::{Cover, LinkKind, SenderConfig};
use valise_common::units::{Mono, Rate};
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use super::view::{HeldUp, LinkState};
use crate::io::link_route::{Look, Obstacle, RouteWatch, Way};
use crate::io::link_serial::SerialLink;
use crate::io::link_udp::{LinkError, UdpLink};

/// How long to wait for room in the send buffer, if the socket does not tell earlier.
const FULL_US: u64 = 2_000;
/// How long to wait for room in the device's queue.
const CONGESTED_US: u64 = 500;
/// How long to wait for a kernel that refuses to send.
const DOWN_US: u64 = 200_000;
/// How often the way is looked at, at most: a loss between two looks shows in the interface's count.
const LOOK_US: u64 = 20_000;
/// How often the way is looked at while it is blocked.
pub const BLOCKED_LOOK_US: u64 = 50_000;
/// How often a datagram of noise has the kernel ask for the link address of the next hop.
const PROBE_US: u64 = 1_000_000;
/// A link that is down for less is no alarm: a host that answers ARP does so by then.
const ALARM_AFTER_US: u64 = 1_000_000;

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
    bind: Option<SocketAddr>,
    route: Result<RouteWatch, String>,
    way: Option<Way>,
    looked_at: Option<Mono>,
    probed_at: Option<Mono>,
    obstacle: Option<(Mono, Obstacle)>,
}

/// What a look at the way means for what has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is too early for another look.
    Nothing,
    /// The link is up, and has been since the last look.
    Up,
    /// The link is down, or was since the last look: what has been sent lately may be lost.
    Lost,
    /// The link is still down.
    Down,
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
        let route = RouteWatch::open(to, config.link.bind).map_err(|error| error.to_string());
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
            bind: config.link.bind,
            route,
            way: None,
            looked_at: None,
            probed_at: None,
            obstacle: None,
        })
    }

    /// Looks at the way to the receiver, if it is time.
    pub fn look(&mut self, now: Mono) -> Seen {
        let interval_us = if self.is_blocked() {
            BLOCKED_LOOK_US
        } else {
            LOOK_US
        };
        let is_early = |looked_at: Mono| now.since_us(looked_at) < interval_us;
        if self.looked_at.is_some_and(is_early) {
            return Seen::Nothing;
        }
        self.look_now(now)
    }

    /// Returns when the way may be looked at again.
    pub fn next_look_at(&self) -> Mono {
        self.looked_at
            .map_or(Mono(0), |looked_at| looked_at.plus_us(LOOK_US))
    }

    /// Looks at the way to the receiver. A way that cannot be seen counts as up: there is an alarm for it.
    pub fn look_now(&mut self, now: Mono) -> Seen {
        self.looked_at = Some(now);
        let Ok(route) = &mut self.route else {
            return Seen::Up;
        };
        match route.look() {
            Ok(Look::Good(way)) => {
                if self.is_blocked() {
                    self.handle_up();
                }
                let before = self.way.replace(way);
                match before {
                    Some(before) if before != way => Seen::Lost,
                    _ => Seen::Up,
                }
            }
            Ok(Look::Down(obstacle)) => {
                let was_blocked = self.is_blocked();
                self.way = None;
                self.handle_down(now, obstacle);
                if was_blocked { Seen::Down } else { Seen::Lost }
            }
            Err(errno) => {
                tracing::error!(%errno, "the way to the receiver cannot be seen any more");
                self.route = Err(errno.to_string());
                Seen::Up
            }
        }
    }

    /// Whether the last look found the way blocked: what is handed over now is lost.
    pub fn is_blocked(&self) -> bool {
        self.route.is_ok() && self.way.is_none() && self.obstacle.is_some()
    }

    /// Whether a datagram of noise is due. It is lost, but has the kernel ask for the next hop's link address: where somebody
    /// answers, the link comes up.
    pub fn is_probe_due(&mut self, now: Mono) -> bool {
        let is_early = |probed_at: Mono| now.since_us(probed_at) < PROBE_US;
        let is_wanted = matches!(self.obstacle, Some((_, Obstacle::NoNeighbour { .. })));
        let is_due = is_wanted && !self.probed_at.is_some_and(is_early);
        if is_due {
            self.probed_at = Some(now);
        }
        is_due
    }

    /// Hands the only datagram of the last batch to the kernel, whatever becomes of it.
    pub fn send_probe(&mut self) {
        let _ = self.udp.send(&self.buffer[self.unsent.clone()]);
        self.forget_unsent();
    }

    /// Gives up what is left of the last batch: its passes begin again.
    pub fn forget_unsent(&mut self) {
        self.unsent = 0..0;
        self.lacks_room = false;
        self.retry_at = Mono(0);
    }

    /// Returns the alarm `link-down`, if the link has been down long enough.
    pub fn alarm(&self, now: Mono) -> Option<Cause> {
        let (since, obstacle) = self.obstacle.as_ref()?;
        (now.since_us(*since) >= ALARM_AFTER_US).then(|| Cause {
            text: format!("nothing can leave, and cables wait: {obstacle}"),
            repair: obstacle.repair(),
        })
    }

    /// Returns the text of the alarm `link-unwatched`, if the way cannot be seen.
    pub fn unwatched_alarm(&self) -> Option<String> {
        let error = self.route.as_ref().err()?;
        Some(format!("the state of the link cannot be read ({error})"))
    }

    fn handle_up(&mut self) {
        if self.obstacle.take().is_some() {
            tracing::info!("the link is up again");
        }
        if self.state == LinkState::Down {
            self.state = LinkState::Up;
        }
    }

    fn handle_down(&mut self, now: Mono, obstacle: Obstacle) {
        self.held_up.down += 1;
        self.state = LinkState::Down;
        match &mut self.obstacle {
            Some((_, standing)) => *standing = obstacle,
            None => {
                tracing::warn!("cables wait: {obstacle}");
                self.obstacle = Some((now, obstacle));
            }
        }
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
                self.handle_up();
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
            Err(LinkError::Down(errno)) => {
                let obstacle = match (errno, self.bind) {
                    (Errno::EADDRNOTAVAIL, Some(bind)) => Obstacle::NoSource(bind),
                    _ => Obstacle::Refused(errno),
                };
                self.handle_down(now, obstacle);
                DOWN_US
            }
        };
        self.retry_at = now.plus_us(wait_us);
        Some(self.retry_at)
    }
}
