//! What carries datagrams: a UDP socket with its route, or a serial port.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use valise_common::alarm::Cause;
use valise_common::config::{Cover, LinkKind, SenderConfig};
use valise_common::limits::LINE_BITS_PER_BYTE;
use valise_common::os::serial::Fault;
use valise_common::units::{Mono, Rate};
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use crate::spool::link_route::{Look, Obstacle, RouteWatch, Way};
use crate::spool::link_serial::{Sent, SerialLink};
use crate::spool::link_udp::{LinkError, UdpLink};

/// Interval of the datagrams of noise that have the kernel ask for the link address of the next hop.
const PROBE_US: u64 = 1_000_000;
/// Time that a serial port must have worked before its alarm ends, so that repeated failures keep it.
const STABLE_US: u64 = 1_000_000;

/// The carrier of datagrams.
pub(super) enum Medium {
    /// A socket.
    Udp(Udp),
    /// A serial port.
    Serial(Serial),
}

/// A socket, and the way of its datagrams.
pub(super) struct Udp {
    socket: UdpLink,
    bind: Option<SocketAddr>,
    route: Result<RouteWatch, String>,
    way: Option<Way>,
    lacks_neighbour: bool,
    probed_at: Option<Mono>,
}

/// A serial port.
pub(super) struct Serial {
    port: SerialLink,
    /// The port was open at the last look, and no write has failed since.
    was_up: bool,
    opened_at: Mono,
    /// Bytes have left since the port was opened.
    has_passed: bool,
}

/// What a look at the way means for what has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is too early for another look.
    Nothing,
    /// The link is up, and has been since the last look.
    Up,
    /// The link is down, or was since the last look: what has been sent lately may be lost.
    Lost,
    /// The link is still down.
    Down,
}

/// What became of a batch that was handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    /// All of it has left.
    Whole,
    /// A line has taken a part of the datagram, and takes more at this time.
    Partly(Mono),
    /// The kernel takes no more.
    Stopped(LinkError),
}

impl Medium {
    /// Opens the link that the configuration describes.
    ///
    /// # Errors
    /// If the configuration names no usable link. A missing serial port is not an error: [`Medium::port_fault`] has it.
    pub(super) fn open(
        config: &SenderConfig,
        datagram: DatagramBytes,
        now: Mono,
    ) -> Result<Self, TransmitError> {
        let link = &config.link;
        match link.kind {
            LinkKind::Udp => {
                if link.cover == Cover::Constant && link.rate == Rate::Unlimited {
                    return Err(TransmitError::CoverNeedsRate);
                }
                let to = link.to.ok_or_else(|| TransmitError::missing("link.to"))?;
                let socket = UdpLink::open(to, link.bind, datagram, link.socket_buffer)
                    .map_err(TransmitError::Link)?;
                Ok(Medium::Udp(Udp {
                    socket,
                    bind: link.bind,
                    route: RouteWatch::open(to, link.bind).map_err(|error| error.to_string()),
                    way: None,
                    lacks_neighbour: false,
                    probed_at: None,
                }))
            }
            LinkKind::Serial => {
                let device = link.device.clone();
                let device = device.ok_or_else(|| TransmitError::missing("link.device"))?;
                let port = SerialLink::open(device, link.baud, datagram, now);
                let was_up = port.line().port().is_ok();
                Ok(Medium::Serial(Serial {
                    port,
                    was_up,
                    opened_at: now,
                    has_passed: false,
                }))
            }
        }
    }

    /// Bytes of a datagram on the link: an IP packet with its headers, or a frame.
    pub(super) fn wire_bytes(&self) -> u32 {
        match self {
            Medium::Udp(udp) => udp.socket.wire_bytes(),
            Medium::Serial(serial) => serial.port.wire_bytes(),
        }
    }

    /// Bits of the link that a datagram takes.
    pub(super) fn wire_bits(&self) -> u64 {
        let bits_per_byte = match self {
            Medium::Udp(_) => 8,
            Medium::Serial(_) => LINE_BITS_PER_BYTE,
        };
        u64::from(self.wire_bytes()) * u64::from(bits_per_byte)
    }

    /// Datagrams that the link takes at a time.
    pub(super) fn batch_count_max(&self) -> u32 {
        match self {
            Medium::Udp(udp) => udp.socket.batch_count_max(),
            Medium::Serial(_) => 1,
        }
    }

    /// Returns the rate that datagrams are composed at: that of the configuration, or what the line carries.
    pub(super) fn rate(&self, configured: Rate) -> Rate {
        match self {
            Medium::Udp(_) => configured,
            Medium::Serial(serial) => Rate::BitsPerSecond(serial.port.frame_bits()),
        }
    }

    /// Returns the socket, for the sandbox. A serial port needs no entry: the role opens it again later.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Medium::Udp(udp) => Some(udp.socket.as_fd()),
            Medium::Serial(_) => None,
        }
    }

    /// Returns the descriptor that becomes writable when the kernel has room again, if the link is up.
    pub(super) fn writable(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Medium::Udp(udp) => udp.socket.writable(),
            Medium::Serial(serial) => serial.port.writable(),
        }
    }

    /// Returns the fault of a serial port, if it has one.
    pub(super) fn port_fault(&self) -> Option<Fault> {
        match self {
            Medium::Udp(_) => None,
            Medium::Serial(serial) => serial.port.line().port().err(),
        }
    }

    /// Returns why the route to the receiver cannot be watched.
    pub(super) fn route_fault(&self) -> Option<&str> {
        match self {
            Medium::Udp(udp) => udp.route.as_ref().err().map(String::as_str),
            Medium::Serial(_) => None,
        }
    }

    /// Looks at the way to the receiver, and returns what obstructs it. A way that cannot be seen counts as up.
    pub(super) fn look(&mut self, now: Mono, was_blocked: bool) -> (Seen, Option<Cause>) {
        match self {
            Medium::Udp(udp) => udp.look(was_blocked),
            Medium::Serial(serial) => serial.look(now),
        }
    }

    /// Returns whether the last look found the way blocked.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Medium::Udp(udp) => udp.route.is_ok() && udp.way.is_none(),
            Medium::Serial(serial) => serial.port.line().port().is_err(),
        }
    }

    /// Returns whether the medium has worked long enough to count as up: a socket at once.
    pub(super) fn is_stable(&self, now: Mono) -> bool {
        match self {
            Medium::Udp(_) => true,
            Medium::Serial(serial) => {
                serial.has_passed && now.since_us(serial.opened_at) >= STABLE_US
            }
        }
    }

    /// Returns whether a datagram of noise is due. It is lost, but has the kernel ask for the next hop's link address: where
    /// somebody answers, the link comes up.
    pub(super) fn is_probe_due(&mut self, now: Mono) -> bool {
        let Medium::Udp(udp) = self else {
            return false;
        };
        let is_early = |probed_at: Mono| now.since_us(probed_at) < PROBE_US;
        let is_due = udp.lacks_neighbour && !udp.probed_at.is_some_and(is_early);
        if is_due {
            udp.probed_at = Some(now);
        }
        is_due
    }

    /// Hands a datagram of noise to the kernel, whatever becomes of it.
    pub(super) fn send_probe(&mut self, datagram: &[u8]) {
        if let Medium::Udp(udp) = self {
            let _ = udp.socket.send(datagram);
        }
    }

    /// Forgets a datagram that a line has taken a part of.
    pub(super) fn forget_unsent(&mut self) {
        if let Medium::Serial(serial) = self {
            serial.port.forget();
        }
    }

    /// Hands datagrams to the kernel, and returns how many of them have left.
    pub(super) fn send(&mut self, datagrams: &[u8], now: Mono) -> (usize, Handed) {
        match self {
            Medium::Udp(udp) => match udp.socket.send(datagrams) {
                (count, Ok(())) => (count, Handed::Whole),
                (count, Err(error)) => (count, Handed::Stopped(error)),
            },
            Medium::Serial(serial) => match serial.port.send(datagrams, now) {
                Sent::Whole => (1, Handed::Whole),
                Sent::Partly(next_at) => {
                    serial.has_passed = true;
                    (0, Handed::Partly(next_at))
                }
                Sent::Stopped(error) => (0, Handed::Stopped(error)),
            },
        }
    }

    /// Returns the cause of a failure to send.
    pub(super) fn handle_refusal(&mut self, errno: Errno) -> Cause {
        match self {
            Medium::Udp(udp) => {
                udp.lacks_neighbour = false;
                cause_of(&match (errno, udp.bind) {
                    (Errno::EADDRNOTAVAIL, Some(bind)) => Obstacle::NoSource(bind),
                    _ => Obstacle::Refused(errno),
                })
            }
            Medium::Serial(serial) => {
                serial.was_up = false;
                serial.has_passed = false;
                let cause = serial.port.line().cause();
                cause.unwrap_or_else(|| cause_of(&Obstacle::Refused(errno)))
            }
        }
    }
}

impl Udp {
    fn look(&mut self, was_blocked: bool) -> (Seen, Option<Cause>) {
        let Ok(route) = &mut self.route else {
            return (Seen::Up, None);
        };
        match route.look() {
            Ok(Look::Good(way)) => match self.way.replace(way) {
                Some(before) if before != way => (Seen::Lost, None),
                _ => (Seen::Up, None),
            },
            Ok(Look::Down(obstacle)) => {
                self.way = None;
                self.lacks_neighbour = matches!(obstacle, Obstacle::NoNeighbour { .. });
                let seen = if was_blocked { Seen::Down } else { Seen::Lost };
                (seen, Some(cause_of(&obstacle)))
            }
            Err(errno) => {
                tracing::error!(%errno, "the way to the receiver cannot be seen any more");
                self.route = Err(errno.to_string());
                (Seen::Up, None)
            }
        }
    }
}

impl Serial {
    fn look(&mut self, now: Mono) -> (Seen, Option<Cause>) {
        let is_up = self.port.look(now);
        let was_up = std::mem::replace(&mut self.was_up, is_up);
        if !is_up {
            self.has_passed = false;
        } else if !was_up {
            self.opened_at = now;
        }
        let seen = match (was_up, is_up) {
            (true, true) => Seen::Up,
            // The kernel's queue was lost with the device.
            (true, false) | (false, true) => Seen::Lost,
            (false, false) => Seen::Down,
        };
        (seen, self.port.line().cause())
    }
}

fn cause_of(obstacle: &Obstacle) -> Cause {
    Cause {
        text: format!("nothing can leave, and cables wait: {obstacle}"),
        repair: obstacle.repair(),
    }
}
