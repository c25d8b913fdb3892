//! The link as the loop sees it: the datagrams of a batch leave in order, whatever keeps them from leaving at once, and none is
//! handed over while the way to the receiver is blocked.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use valise_common::alarm::Cause;
use valise_common::config::SenderConfig;
use valise_common::units::Mono;
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use super::medium::{Handed, Medium, Seen};
use super::view::{HeldUp, LinkState};
use crate::spool::link_udp::LinkError;

/// Time until the next attempt if the send buffer is full and the kernel reports no room earlier.
const FULL_US: u64 = 2_000;
/// Time until the next attempt if the device's queue is full.
const CONGESTED_US: u64 = 500;
/// Time until the next attempt if the kernel refuses to send.
const DOWN_US: u64 = 200_000;
/// Interval of the looks at the way: a loss between two looks shows in the interface's count.
const LOOK_US: u64 = 20_000;
/// Interval of the looks while the way is blocked.
pub(super) const BLOCKED_LOOK_US: u64 = 50_000;
/// A link that is down for less is no alarm: a host that answers ARP does so by then.
const ALARM_AFTER_US: u64 = 1_000_000;

/// The link, and the datagrams of the last batch that have not left yet.
pub(super) struct Link {
    medium: Medium,
    /// Bytes of every datagram.
    pub datagram: DatagramBytes,
    buffer: Vec<u8>,
    unsent: Range<usize>,
    /// When what is unsent is tried again.
    retry_at: Mono,
    /// The kernel's buffer is full. The loop waits until there is room again.
    lacks_room: bool,
    /// What kept datagrams from leaving.
    pub held_up: HeldUp,
    looked_at: Option<Mono>,
    obstacle: Option<(Mono, Cause)>,
}

impl Link {
    /// Opens the link that the configuration describes.
    ///
    /// # Errors
    /// As [`Medium::open`].
    pub(super) fn open(config: &SenderConfig, now: Mono) -> Result<Self, TransmitError> {
        let datagram = DatagramBytes::new(config.datagram_bytes());
        let datagram = datagram.ok_or_else(|| TransmitError::missing("link.datagram_bytes"))?;
        let medium = Medium::open(config, datagram, now)?;
        let batch_count = usize::try_from(medium.batch_count_max()).unwrap_or(0);
        Ok(Self {
            buffer: vec![0; batch_count * datagram.to_usize()],
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

    /// What carries the datagrams.
    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Returns the descriptor that becomes writable when the kernel has room again, if the link waits for it.
    pub(super) fn awaits_room(&self) -> Option<BorrowedFd<'_>> {
        if !self.lacks_room {
            return None;
        }
        self.medium.writable()
    }

    /// Has the next [`Link::send`] try at once: the kernel has room.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = Mono(0);
    }

    /// Looks at the way to the receiver, if it is time.
    pub(super) fn look(&mut self, now: Mono) -> Seen {
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
    pub(super) fn next_look_at(&self) -> Mono {
        self.looked_at
            .map_or(Mono(0), |looked_at| looked_at.plus_us(LOOK_US))
    }

    /// Looks at the way to the receiver. A way that cannot be seen counts as up: there is an alarm for it.
    pub(super) fn look_now(&mut self, now: Mono) -> Seen {
        self.looked_at = Some(now);
        let was_blocked = self.is_blocked();
        let (seen, obstacle) = self.medium.look(now, was_blocked);
        match obstacle {
            Some(cause) => self.handle_down(now, cause),
            None if was_blocked || self.is_line() => self.handle_passed(now),
            None => {}
        }
        seen
    }

    /// Opens and checks a serial port before there is a link key, so that its alarm is raised during commissioning.
    pub(super) fn look_before_key(&mut self, now: Mono) {
        if self.is_line() {
            self.look(now);
            if !self.is_blocked() {
                self.handle_up();
            }
        }
    }

    fn is_line(&self) -> bool {
        matches!(self.medium, Medium::Serial(_))
    }

    /// Returns whether the last look found the way blocked: what is handed over now is lost.
    pub(super) fn is_blocked(&self) -> bool {
        // A socket that has not been looked at is not blocked.
        self.medium.is_blocked() && (self.is_line() || self.obstacle.is_some())
    }

    /// Returns whether a datagram of noise may bring the link up.
    pub(super) fn is_probe_due(&mut self, now: Mono) -> bool {
        self.medium.is_probe_due(now)
    }

    /// Hands the only datagram of the last batch to the kernel, whatever becomes of it.
    pub(super) fn send_probe(&mut self) {
        self.medium.send_probe(&self.buffer[self.unsent.clone()]);
        self.forget_unsent();
    }

    /// Gives up what is left of the last batch: its passes begin again.
    pub(super) fn forget_unsent(&mut self) {
        self.unsent = 0..0;
        self.lacks_room = false;
        self.retry_at = Mono(0);
        self.medium.forget_unsent();
    }

    /// Returns whether datagrams leave, as far as is known.
    pub(super) fn state(&self) -> LinkState {
        match self.obstacle {
            Some(_) => LinkState::Down,
            None => LinkState::Up,
        }
    }

    /// Returns the alarm `link-down`, if the link has been down long enough.
    pub(super) fn alarm(&self, now: Mono) -> Option<Cause> {
        let (since, cause) = self.obstacle.as_ref()?;
        (now.since_us(*since) >= ALARM_AFTER_US).then(|| cause.clone())
    }

    /// Returns the text of the alarm `link-unwatched`, if the way cannot be seen.
    pub(super) fn unwatched_alarm(&self) -> Option<String> {
        let fault = self.medium.route_fault()?;
        Some(format!("the state of the link cannot be read ({fault})"))
    }

    /// Ends the alarm after datagrams have left.
    fn handle_passed(&mut self, now: Mono) {
        if self.medium.is_stable(now) {
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
            Some((_, known)) => *known = cause,
            None => {
                tracing::warn!("{}", cause.text);
                self.obstacle = Some((now, cause));
            }
        }
    }

    /// Returns whether the whole of the last batch has left.
    pub(super) fn is_clear(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Returns room for a batch, which counts as unsent from now on.
    pub(super) fn room(&mut self, count: u32) -> &mut [u8] {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.unsent = 0..count * self.datagram.to_usize();
        self.retry_at = Mono(0);
        &mut self.buffer[self.unsent.clone()]
    }

    /// Sends what is left of the batch, and returns when to try again if not all of it left.
    pub(super) fn send(&mut self, now: Mono) -> Option<Mono> {
        if now < self.retry_at {
            return Some(self.retry_at);
        }
        let (count, handed) = self.medium.send(&self.buffer[self.unsent.clone()], now);
        self.unsent.start += count * self.datagram.to_usize();
        self.lacks_room = handed == Handed::Stopped(LinkError::Full);
        self.retry_at = match handed {
            Handed::Whole => {
                self.handle_passed(now);
                return None;
            }
            Handed::Partly(next_at) => {
                self.handle_passed(now);
                next_at
            }
            Handed::Stopped(LinkError::Full) => {
                self.held_up.full += 1;
                now.plus_us(FULL_US)
            }
            Handed::Stopped(LinkError::Congested) => {
                self.held_up.congested += 1;
                now.plus_us(CONGESTED_US)
            }
            Handed::Stopped(LinkError::Down(errno)) => {
                let cause = self.medium.handle_refusal(errno);
                self.handle_down(now, cause);
                now.plus_us(DOWN_US)
            }
        };
        Some(self.retry_at)
    }
}
