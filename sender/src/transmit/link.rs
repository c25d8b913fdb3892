//! The link as the loop sees it: the datagrams of a batch leave in order, whatever keeps them from leaving at once, and none is
//! handed over while the way to the receiver is blocked.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use valise_common::alarm::Cause;
use valise_common::config::{Cover, LinkKind, SenderConfig};
use valise_common::limits::LINE_BITS_PER_BYTE;
use valise_common::os::serial::Fault;
use valise_common::units::{Mono, Rate};
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use super::view::{HeldUp, LinkState};
use crate::spool::link_route::{Look, Obstacle, RouteWatch, Way};
use crate::spool::link_serial::{Sent, SerialLink};
use crate::spool::link_udp::{LinkError, UdpLink};

/// Time until the next attempt if the send buffer is full and the kernel reports no room earlier.
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
    medium: Medium,
    /// Bytes of every datagram.
    pub datagram: DatagramBytes,
    buffer: Vec<u8>,
    unsent: Range<usize>,
    /// When what is unsent is tried again.
    retry_at: Mono,
    /// The kernel's buffer is full. The loop waits until there is room again.
    lacks_room: bool,
    /// What kept them from leaving.
    pub held_up: HeldUp,
    looked_at: Option<Mono>,
    obstacle: Option<(Mono, Cause)>,
}

/// The carrier of datagrams.
enum Medium {
    Udp(Udp),
    Serial(Serial),
}

/// A socket, and the way of its datagrams.
struct Udp {
    socket: UdpLink,
    bind: Option<SocketAddr>,
    route: Result<RouteWatch, String>,
    way: Option<Way>,
    lacks_neighbour: bool,
    probed_at: Option<Mono>,
}

/// A serial port.
struct Serial {
    port: SerialLink,
    /// The port was open at the last look, and no write has failed since.
    was_up: bool,
    opened_at: Mono,
    /// Bytes have left since the port was opened.
    has_passed: bool,
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
    /// If the configuration names no usable link. A missing serial port is not an error: [`Link::port_fault`] has it.
    pub fn open(config: &SenderConfig, now: Mono) -> Result<Self, TransmitError> {
        // The configuration's parser has made sure of all of it.
        let missing = |what: &str| TransmitError::Link(io::Error::other(what.to_owned()));
        let datagram = DatagramBytes::new(config.datagram_bytes());
        let datagram = datagram.ok_or_else(|| missing("link.datagram_bytes is out of range"))?;
        let link = &config.link;
        let (medium, batch_count) = match link.kind {
            LinkKind::Udp => {
                if link.cover == Cover::Constant && link.rate == Rate::Unlimited {
                    return Err(TransmitError::CoverNeedsRate);
                }
                let to = link.to.ok_or_else(|| missing("link.to is missing"))?;
                let socket = UdpLink::open(to, link.bind, datagram, link.socket_buffer)
                    .map_err(TransmitError::Link)?;
                let batch_count = socket.batch_count_max();
                let udp = Udp {
                    socket,
                    bind: link.bind,
                    route: RouteWatch::open(to, link.bind).map_err(|error| error.to_string()),
                    way: None,
                    lacks_neighbour: false,
                    probed_at: None,
                };
                (Medium::Udp(udp), batch_count)
            }
            LinkKind::Serial => {
                let device = link.device.clone();
                let device = device.ok_or_else(|| missing("link.device is missing"))?;
                let port = SerialLink::open(device, link.baud, datagram, now);
                let was_up = port.line().port().is_ok();
                let serial = Serial {
                    port,
                    was_up,
                    opened_at: now,
                    has_passed: false,
                };
                (Medium::Serial(serial), 1)
            }
        };
        let batch_bytes = usize::try_from(batch_count).unwrap_or(0) * datagram.to_usize();
        Ok(Self {
            buffer: vec![0; batch_bytes],
            medium,
            datagram,
            unsent: 0..0,
            retry_at: Mono(0),
            lacks_room: false,
            held_up: HeldUp::default(),
            looked_at: None,
            obstacle: None,
        })
    }

    /// Bytes of a datagram on the link: an IP packet with its headers, or a frame.
    pub fn wire_bytes(&self) -> u32 {
        match &self.medium {
            Medium::Udp(udp) => udp.socket.wire_bytes(),
            Medium::Serial(serial) => serial.port.wire_bytes(),
        }
    }

    /// Bits of the link that a datagram takes.
    pub fn wire_bits(&self) -> u64 {
        let bits_per_byte = match &self.medium {
            Medium::Udp(_) => 8,
            Medium::Serial(_) => LINE_BITS_PER_BYTE,
        };
        u64::from(self.wire_bytes()) * u64::from(bits_per_byte)
    }

    /// Datagrams that the link takes at a time.
    pub fn batch_count_max(&self) -> u32 {
        match &self.medium {
            Medium::Udp(udp) => udp.socket.batch_count_max(),
            Medium::Serial(_) => 1,
        }
    }

    /// The rate that datagrams are composed at: that of the configuration, or what the line carries.
    pub fn rate(&self, configured: Rate) -> Rate {
        match &self.medium {
            Medium::Udp(_) => configured,
            Medium::Serial(serial) => Rate::BitsPerSecond(serial.port.frame_bits()),
        }
    }

    /// Returns the socket, for the fences. A serial port needs no entry: the role opens it again later.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.medium {
            Medium::Udp(udp) => Some(udp.socket.as_fd()),
            Medium::Serial(_) => None,
        }
    }

    /// Returns the descriptor that becomes writable when the kernel has room again, if the link waits for it.
    pub fn awaits_room(&self) -> Option<BorrowedFd<'_>> {
        if !self.lacks_room {
            return None;
        }
        match &self.medium {
            Medium::Udp(udp) => udp.socket.writable(),
            Medium::Serial(serial) => serial.port.writable(),
        }
    }

    /// Has the next [`Link::send`] try at once: the kernel has room.
    pub fn retry_now(&mut self) {
        self.retry_at = Mono(0);
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
        let was_blocked = self.is_blocked();
        let (seen, obstacle) = match &mut self.medium {
            Medium::Udp(udp) => udp.look(was_blocked),
            Medium::Serial(serial) => serial.look(now),
        };
        match obstacle {
            Some(cause) => self.handle_down(now, cause),
            None if was_blocked || self.socket().is_none() => self.handle_passed(now),
            None => {}
        }
        seen
    }

    /// Opens and checks a serial port before there is a link key, so that its alarm is raised during commissioning.
    pub fn look_before_key(&mut self, now: Mono) {
        if matches!(self.medium, Medium::Serial(_)) {
            self.look(now);
            if !self.is_blocked() {
                self.handle_up();
            }
        }
    }

    /// Whether the last look found the way blocked: what is handed over now is lost.
    pub fn is_blocked(&self) -> bool {
        match &self.medium {
            Medium::Udp(udp) => udp.route.is_ok() && udp.way.is_none() && self.obstacle.is_some(),
            Medium::Serial(serial) => serial.port.line().port().is_err(),
        }
    }

    /// Whether a datagram of noise is due. It is lost, but has the kernel ask for the next hop's link address: where somebody
    /// answers, the link comes up.
    pub fn is_probe_due(&mut self, now: Mono) -> bool {
        let Medium::Udp(udp) = &mut self.medium else {
            return false;
        };
        let is_early = |probed_at: Mono| now.since_us(probed_at) < PROBE_US;
        let is_due = udp.lacks_neighbour && !udp.probed_at.is_some_and(is_early);
        if is_due {
            udp.probed_at = Some(now);
        }
        is_due
    }

    /// Hands the only datagram of the last batch to the kernel, whatever becomes of it.
    pub fn send_probe(&mut self) {
        if let Medium::Udp(udp) = &mut self.medium {
            let _ = udp.socket.send(&self.buffer[self.unsent.clone()]);
        }
        self.forget_unsent();
    }

    /// Gives up what is left of the last batch: its passes begin again.
    pub fn forget_unsent(&mut self) {
        self.unsent = 0..0;
        self.lacks_room = false;
        self.retry_at = Mono(0);
        if let Medium::Serial(serial) = &mut self.medium {
            serial.port.forget();
        }
    }

    /// Returns whether datagrams leave, as far as is known.
    pub fn state(&self) -> LinkState {
        match self.obstacle {
            Some(_) => LinkState::Down,
            None => LinkState::Up,
        }
    }

    /// Returns the fault of a serial port, if it has one.
    pub fn port_fault(&self) -> Option<Fault> {
        match &self.medium {
            Medium::Udp(_) => None,
            Medium::Serial(serial) => serial.port.line().port().err(),
        }
    }

    /// Returns the alarm `link-down`, if the link has been down long enough.
    pub fn alarm(&self, now: Mono) -> Option<Cause> {
        let (since, cause) = self.obstacle.as_ref()?;
        (now.since_us(*since) >= ALARM_AFTER_US).then(|| cause.clone())
    }

    /// Returns the text of the alarm `link-unwatched`, if the way cannot be seen.
    pub fn unwatched_alarm(&self) -> Option<String> {
        let Medium::Udp(udp) = &self.medium else {
            return None;
        };
        let error = udp.route.as_ref().err()?;
        Some(format!("the state of the link cannot be read ({error})"))
    }

    /// Ends the alarm after datagrams have left. A serial port must have worked for a second, so that repeated failures
    /// keep their alarm.
    fn handle_passed(&mut self, now: Mono) {
        let is_up = match &self.medium {
            Medium::Udp(_) => true,
            Medium::Serial(serial) => {
                serial.has_passed && now.since_us(serial.opened_at) >= ALARM_AFTER_US
            }
        };
        if is_up {
            self.handle_up();
        }
    }

    fn handle_up(&mut self) {
        if self.obstacle.take().is_some() {
            tracing::info!("the link is up again");
        }
    }

    fn handle_down(&mut self, now: Mono, cause: Cause) {
        self.held_up.down += 1;
        match &mut self.obstacle {
            Some((_, standing)) => *standing = cause,
            None => {
                tracing::warn!("{}", cause.text);
                self.obstacle = Some((now, cause));
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
        let datagrams = &self.buffer[self.unsent.clone()];
        let datagram_bytes = self.datagram.to_usize();
        let result = match &mut self.medium {
            Medium::Udp(udp) => {
                let (count, result) = udp.socket.send(datagrams);
                self.unsent.start += count * datagram_bytes;
                result
            }
            Medium::Serial(serial) => match serial.port.send(datagrams, now) {
                Sent::Whole => {
                    self.unsent.start += datagram_bytes;
                    Ok(())
                }
                Sent::Partly(next_at) => {
                    self.lacks_room = false;
                    self.retry_at = next_at;
                    serial.has_passed = true;
                    self.handle_passed(now);
                    return Some(next_at);
                }
                Sent::Stopped(error) => Err(error),
            },
        };
        self.lacks_room = result == Err(LinkError::Full);
        let wait_us = match result {
            Ok(()) => {
                self.handle_passed(now);
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
                let cause = self.refusal(errno);
                self.handle_down(now, cause);
                DOWN_US
            }
        };
        self.retry_at = now.plus_us(wait_us);
        Some(self.retry_at)
    }

    /// The cause of a failure to send.
    fn refusal(&mut self, errno: Errno) -> Cause {
        match &mut self.medium {
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
