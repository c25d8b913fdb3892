//! The serial end of a link: frames, handed to the kernel no faster than the line carries them.
//!
//! ```text
//!            now            + AHEAD
//! ── on the line ──┤ in the kernel ├── still here ──
//! ```
//!
//! The clock measures what is on the line: a tty does not report it. A frame begins when the frame before it has nearly left, so
//! that a more urgent cable waits for one frame at most.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use valise_common::limits::LINE_BITS_PER_BYTE;
use valise_common::os::serial::{Direction, Fault, Line};
use valise_common::units::Mono;
use valise_common::wire::{DatagramBytes, frame_bytes_max, frame_encode};

use super::link_udp::LinkError;

/// Time on the line that waits in the kernel at most.
const AHEAD_US: u64 = 80_000;
/// Time on the line that is left when more bytes follow.
const REFILL_US: u64 = 40_000;
/// Time on the line that is left of a frame when the next one begins.
const OVERLAP_US: u64 = 10_000;
/// Least time without a byte taken by the kernel after which the device counts as blocked. No flow control could cause that.
const STUCK_US: u64 = 5_000_000;
/// The same in bytes of the line: twice the kernel's buffer.
const STUCK_BYTES: u64 = 8 << 10;
/// One part in so many of the line stays unused, so that the kernel's queue does not grow if the line's clock is slow.
const SLOW_BY: u64 = 100;

/// A serial port that frames leave by, one at a time.
#[derive(Debug)]
pub(crate) struct SerialLink {
    line: Line,
    datagram: DatagramBytes,
    frame: Vec<u8>,
    sent_bytes: usize,
    /// Start of the time in which the kernel took no byte.
    stuck_since: Option<Mono>,
    /// Nanoseconds of the clock when the line will have carried what the kernel has.
    carried_at_ns: u64,
}

/// Progress of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The frame has left, except for some milliseconds.
    Whole,
    /// The next bytes of the frame leave at this time.
    Partly(Mono),
    /// The frame cannot leave.
    Stopped(LinkError),
}

impl SerialLink {
    /// Opens the port if it is there.
    pub(crate) fn open(device: PathBuf, baud: u32, datagram: DatagramBytes, now: Mono) -> Self {
        Self {
            line: Line::open(device, baud, Direction::Send, now),
            datagram,
            frame: Vec::with_capacity(frame_bytes_max(datagram)),
            sent_bytes: 0,
            stuck_since: None,
            carried_at_ns: 0,
        }
    }

    /// Bytes of a frame on the line, at most.
    pub(crate) fn wire_bytes(&self) -> u32 {
        u32::try_from(frame_bytes_max(self.datagram)).unwrap_or(u32::MAX)
    }

    /// Returns the bits of frames that leave in a second. A byte is ten bits on the line and eight in a frame.
    pub(crate) fn frame_bits(&self) -> u64 {
        let bits = u64::from(self.line.baud()) * 8 / u64::from(LINE_BITS_PER_BYTE);
        bits - bits / SLOW_BY
    }

    /// Returns the port, to wait until it takes bytes, if it is open.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.line.port().ok()?.as_fd())
    }

    /// Returns the line, for its state and its alarm.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// Looks whether the device is there, and opens it again if it is time. Returns whether it is open.
    pub(crate) fn look(&mut self, now: Mono) -> bool {
        let is_open = self.line.look(now);
        if !is_open {
            self.forget();
            self.carried_at_ns = 0;
        }
        is_open
    }

    /// Drops the rest of a frame.
    pub(crate) fn forget(&mut self) {
        self.frame.clear();
        self.sent_bytes = 0;
    }

    /// Sends a datagram as far as the line takes it now. To be called again with the same datagram until it is whole.
    pub(crate) fn send(&mut self, datagram: &[u8], now: Mono) -> Sent {
        let port = match self.line.port() {
            Ok(port) => port,
            Err(_) => return Sent::Stopped(LinkError::Down(Errno::ENODEV)),
        };
        if self.frame.is_empty() {
            frame_encode(datagram, &mut self.frame);
        }
        let now_ns = now.0.saturating_mul(1_000);
        let left_ns = self.carried_at_ns.saturating_sub(now_ns);
        let rest = &self.frame[self.sent_bytes..];
        if rest.is_empty() {
            let left_us = left_ns / 1_000;
            if left_us > OVERLAP_US {
                return Sent::Partly(now.plus_us(left_us - OVERLAP_US));
            }
            self.forget();
            return Sent::Whole;
        }
        let byte_ns = self.byte_ns();
        let room = (AHEAD_US * 1_000).saturating_sub(left_ns) / byte_ns;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if room == 0 {
            return Sent::Partly(now.plus_us(left_ns / 1_000 - REFILL_US));
        }
        match port.write(&rest[..rest.len().min(room)]) {
            Ok(count) => {
                self.sent_bytes += count;
                self.stuck_since = None;
                let carried_ns = byte_ns * u64::try_from(count).unwrap_or(u64::MAX);
                self.carried_at_ns = self.carried_at_ns.max(now_ns) + carried_ns;
                let left_us = (self.carried_at_ns - now_ns) / 1_000;
                let keep_us = match self.sent_bytes == self.frame.len() {
                    true => OVERLAP_US,
                    false => REFILL_US,
                };
                Sent::Partly(now.plus_us(left_us.saturating_sub(keep_us)))
            }
            Err(Errno::EAGAIN) => {
                let since = *self.stuck_since.get_or_insert(now);
                let patience_us = STUCK_US.max(STUCK_BYTES * self.byte_ns() / 1_000);
                if now.since_us(since) < patience_us {
                    return Sent::Stopped(LinkError::Full);
                }
                self.handle_failure(Fault::Stuck, now);
                Sent::Stopped(LinkError::Down(Errno::EAGAIN))
            }
            Err(errno) => {
                self.handle_failure(errno.into(), now);
                Sent::Stopped(LinkError::Down(errno))
            }
        }
    }

    fn handle_failure(&mut self, fault: Fault, now: Mono) {
        self.line.handle_failure(fault, now);
        self.forget();
        self.stuck_since = None;
        self.carried_at_ns = 0;
    }

    fn byte_ns(&self) -> u64 {
        8_000_000_000 / self.frame_bits().max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{File, read_link};
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use nix::pty::openpty;
    use valise_common::wire::FrameDecoder;

    use super::*;

    const DATAGRAM: usize = 584;

    fn link(baud: u32) -> (File, SerialLink) {
        let pair = openpty(None, None).unwrap();
        let device = read_link(format!("/proc/self/fd/{}", pair.slave.as_raw_fd())).unwrap();
        let size = DatagramBytes::new(584).unwrap();
        let link = SerialLink::open(device, baud, size, Mono(0));
        (File::from(pair.master), link)
    }

    /// Bytes of frames that a line carries in so long.
    fn carried(baud: u32, span_us: u64) -> u64 {
        u64::from(baud) / 10 * span_us / 1_000_000
    }

    #[test]
    fn the_kernel_never_has_a_tenth_of_a_second_and_the_line_never_falls_idle() {
        for baud in [9_600, 115_200, 1_000_000, 4_000_000] {
            let (mut far, mut link) = link(baud);
            let size = DatagramBytes::new(584).unwrap();
            let mut decoder = FrameDecoder::new(size);
            let (mut now, mut handed, mut arrived) = (Mono(1_000_000), 0_u64, Vec::new());
            let began = now;
            let mut buffer = vec![0; 1 << 16];
            while arrived.len() < 20 {
                let number = u8::try_from(arrived.len()).unwrap();
                let before = link.sent_bytes;
                let sent = link.send(&[number; DATAGRAM], now);
                let frame_ended = sent == Sent::Whole;
                let after = if frame_ended { before } else { link.sent_bytes };
                handed += u64::try_from(after - before).unwrap();
                let on_line = carried(baud, now.since_us(began));
                assert!(handed <= on_line + carried(baud, 100_000), "{baud}");
                if after > before {
                    let count = far.read(&mut buffer).unwrap();
                    decoder.feed(&buffer[..count], |frame| arrived.push(frame.unwrap()[0]));
                }
                match sent {
                    Sent::Whole => {}
                    Sent::Partly(next_at) => now = next_at.max(now),
                    Sent::Stopped(error) => panic!("{error}"),
                }
            }
            assert_eq!(arrived, (0..20).collect::<Vec<u8>>());
            let on_line = carried(baud, now.since_us(began));
            assert!(handed >= on_line * 98 / 100, "{baud}: {handed}");
        }
    }

    #[test]
    fn a_frame_that_cannot_leave_is_told_and_the_next_port_begins_with_a_whole_one() {
        let (far, mut link) = link(9_600);
        assert!(matches!(
            link.send(&[1; DATAGRAM], Mono(1)),
            Sent::Partly(_)
        ));
        drop(far);
        let down = Sent::Stopped(LinkError::Down(Errno::EIO));
        assert_eq!(link.send(&[1; DATAGRAM], Mono(60_000)), down);
        assert!(link.line().cause().is_some());
        assert!(link.frame.is_empty());
    }

    #[test]
    fn a_port_that_takes_no_byte_for_long_is_a_fault() {
        let (_far, mut link) = link(4_000_000);
        let mut now = Mono(1);
        // Nobody reads at the other end.
        let full = Sent::Stopped(LinkError::Full);
        while link.send(&[1; DATAGRAM], now) != full {
            now = now.plus_us(10_000);
        }
        assert_eq!(link.send(&[1; DATAGRAM], now.plus_us(STUCK_US - 1)), full);
        let down = Sent::Stopped(LinkError::Down(Errno::EAGAIN));
        assert_eq!(link.send(&[1; DATAGRAM], now.plus_us(STUCK_US)), down);
        assert!(link.line().cause().unwrap().text.contains("no more bytes"));
    }
}
