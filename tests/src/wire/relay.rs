//! The wire between two UDP ports: reads as fast as the kernel delivers, asks the model, sends on.
//!
//! Whole batches pass the kernel at once in both directions (UDP_GRO in, UDP_SEGMENT out), but the model decides about
//! each datagram separately. A packet filter would see a batch as one packet and lose all of it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::{Wire, WireStatistics};

/// The receive buffer that is requested; the kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 64 << 20;
/// The most that one receive call can return, a batch included.
const BATCH_BYTES: usize = 65_536;
/// Stay below the largest UDP payload (65,507) with one batch.
const SEND_BATCH_BYTES_MAX: usize = 65_000;
/// The kernel's limit of segments in one UDP_SEGMENT call.
const SEGMENTS_MAX: usize = 64;
/// Datagrams of one batch are assumed to have entered the line over at most this time.
const SPREAD_MAX: Duration = Duration::from_millis(5);
/// The interval at which the statistics file is rewritten while datagrams flow.
pub(super) const STATISTICS_INTERVAL: Duration = Duration::from_millis(200);
/// After this number of receive calls the signals and the statistics are handled.
const RECEIVES_MAX: usize = 64;

/// A relay that has its ports but has not begun.
#[derive(Debug)]
pub struct Relay {
    input: UdpSocket,
    output: UdpSocket,
    to: SockaddrStorage,
    signals: SignalFd,
    statistics_file: Option<PathBuf>,
}

/// The datagrams of one length that leave in one call.
struct Batch {
    bytes: Vec<u8>,
    segment_bytes: usize,
    segment_count: usize,
    segmentation: bool,
}

impl Relay {
    /// Opens the ports: `listen` for input, and a port of the kernel's choice for output to `to`.
    ///
    /// SIGTERM and SIGINT are blocked for the calling thread and end [`run`](Self::run).
    ///
    /// # Errors
    /// If a port is in use or an address is not one of this host.
    pub fn open(
        listen: SocketAddr,
        to: SocketAddr,
        statistics_file: Option<PathBuf>,
    ) -> io::Result<Self> {
        let signals = take_signals(&[])?;
        let input = UdpSocket::bind(listen)?;
        input.set_nonblocking(true)?;
        if setsockopt(&input, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            setsockopt(&input, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
        }
        setsockopt(&input, sockopt::RxqOvfl, &1)?;
        // Without UDP_GRO the kernel delivers single datagrams, which is slower but also correct.
        let _ = setsockopt(&input, sockopt::UdpGroSegment, &true);
        let any: SocketAddr = if to.is_ipv4() {
            SocketAddr::from(([0, 0, 0, 0], 0))
        } else {
            SocketAddr::from(([0u16; 8], 0))
        };
        let output = UdpSocket::bind(any)?;
        Ok(Self {
            input,
            output,
            to: SockaddrStorage::from(to),
            signals,
            statistics_file,
        })
    }

    /// The address on which datagrams are received.
    ///
    /// # Errors
    /// If the socket has none, which does not happen to a bound one.
    pub fn listening(&self) -> io::Result<SocketAddr> {
        self.input.local_addr()
    }

    /// Carries datagrams until a signal ends it, and returns the statistics.
    ///
    /// # Errors
    /// If a socket fails, except for a full buffer or an absent receiver.
    pub fn run(self, mut wire: Wire) -> io::Result<WireStatistics> {
        let start = Instant::now();
        let mut inbound = vec![0; BATCH_BYTES];
        let mut batch = Batch {
            bytes: Vec::with_capacity(BATCH_BYTES),
            segment_bytes: 0,
            segment_count: 0,
            segmentation: true,
        };
        let mut last = Duration::ZERO;
        let mut overrun = 0;
        let mut written_at = Duration::ZERO;
        let mut written = WireStatistics::default();
        loop {
            self.await_input(&wire, start)?;
            for _ in 0..RECEIVES_MAX {
                let Some((length, segment_bytes)) = self.receive(&mut inbound, &mut overrun)?
                else {
                    break;
                };
                let now = start.elapsed();
                let datagrams = inbound[..length].chunks(segment_bytes.max(1));
                let count = u32::try_from(datagrams.len()).unwrap_or(u32::MAX).max(1);
                let spread = now.saturating_sub(last).min(SPREAD_MAX);
                let mut entered = now.saturating_sub(spread);
                for datagram in datagrams {
                    entered += spread / count;
                    wire.handle_datagram(entered, datagram);
                }
                if length == 0 {
                    wire.handle_datagram(now, &[]);
                }
                last = now;
                self.deliver(&mut wire, now, &mut batch)?;
            }
            let now = start.elapsed();
            self.deliver(&mut wire, now, &mut batch)?;
            let signal = self.signals.read_signal()?;
            let statistics = WireStatistics {
                overrun,
                ..wire.statistics()
            };
            let changed = statistics != written;
            if signal.is_some() || changed && now - written_at >= STATISTICS_INTERVAL {
                statistics.write(self.statistics_file.as_deref())?;
                (written, written_at) = (statistics, now);
            }
            if signal.is_some_and(|signal| !is_signal(&signal, Signal::SIGUSR1)) {
                return Ok(statistics);
            }
        }
    }

    /// Waits for a datagram, a signal, or the time of a held datagram.
    fn await_input(&self, wire: &Wire, start: Instant) -> io::Result<()> {
        let timeout = match wire.next_wakeup() {
            None => PollTimeout::from(250u16),
            Some(due) => {
                let wait = due.saturating_sub(start.elapsed());
                // Rounded up; otherwise the loop would spin during the last fraction of a millisecond.
                PollTimeout::try_from(wait + Duration::from_micros(999))
                    .unwrap_or(PollTimeout::from(250u16))
            }
        };
        let mut fds = [
            PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes one receive call: returns the length of the received bytes, and the length of each datagram in them.
    fn receive(&self, buffer: &mut [u8], overrun: &mut u64) -> io::Result<Option<(usize, usize)>> {
        let mut iov = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(i32, u32);
        let message = match recvmsg::<SockaddrStorage>(
            self.input.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut segment_bytes = message.bytes;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::UdpGroSegments(bytes) => {
                    segment_bytes = usize::try_from(bytes).unwrap_or(segment_bytes);
                }
                // The kernel counts since the socket was made.
                ControlMessageOwned::RxqOvfl(total) => *overrun = u64::from(total),
                _ => {}
            }
        }
        Ok(Some((message.bytes, segment_bytes)))
    }

    fn deliver(&self, wire: &mut Wire, now: Duration, batch: &mut Batch) -> io::Result<()> {
        while let Some(datagram) = wire.poll_datagram(now) {
            if !batch.takes(datagram.len()) {
                self.send(batch)?;
            }
            batch.push(&datagram);
            wire.recycle(datagram);
        }
        self.send(batch)
    }

    fn send(&self, batch: &mut Batch) -> io::Result<()> {
        if batch.segment_count > 1 && batch.segmentation {
            let segment_bytes = u16::try_from(batch.segment_bytes).unwrap_or(u16::MAX);
            match self.send_one(
                &batch.bytes,
                &[ControlMessage::UdpGsoSegments(&segment_bytes)],
            ) {
                // A kernel or a device without segmentation offload: from here on datagrams are sent one by one.
                Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => {
                    batch.segmentation = false;
                }
                other => {
                    other?;
                    batch.clear();
                    return Ok(());
                }
            }
        }
        if batch.segment_count > 0 {
            for datagram in batch.bytes.chunks(batch.segment_bytes.max(1)) {
                self.send_one(datagram, &[])?;
            }
            if batch.segment_bytes == 0 {
                self.send_one(&[], &[])?;
            }
        }
        batch.clear();
        Ok(())
    }

    fn send_one(&self, bytes: &[u8], control: &[ControlMessage<'_>]) -> Result<(), Errno> {
        let iov = [IoSlice::new(bytes)];
        loop {
            match sendmsg(
                self.output.as_raw_fd(),
                &iov,
                control,
                MsgFlags::empty(),
                Some(&self.to),
            ) {
                // Nobody listens there yet: on a line without a return path that is not an error.
                Ok(_) | Err(Errno::ECONNREFUSED) => return Ok(()),
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Batch {
    fn takes(&self, datagram_bytes: usize) -> bool {
        self.segment_count == 0
            || datagram_bytes == self.segment_bytes
                && datagram_bytes > 0
                && self.segment_count < SEGMENTS_MAX
                && self.bytes.len() + datagram_bytes <= SEND_BATCH_BYTES_MAX
    }

    fn push(&mut self, datagram: &[u8]) {
        self.segment_bytes = datagram.len();
        self.segment_count += 1;
        self.bytes.extend_from_slice(datagram);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.segment_count = 0;
    }
}

/// Blocks the signals of a relay, and these others, and returns the descriptor on which they are read.
pub(super) fn take_signals(others: &[Signal]) -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        mask.add(signal);
    }
    for signal in others {
        mask.add(*signal);
    }
    mask.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&mask, flags)?)
}

/// Returns whether this is the signal that was read.
pub(super) fn is_signal(read: &siginfo, signal: Signal) -> bool {
    #[allow(clippy::as_conversions)] // An enum without another way to its number.
    let number = signal as i32;
    u32::try_from(number).is_ok_and(|number| read.ssi_signo == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_datagrams_of_one_length_up_to_the_kernels_limits() {
        let mut batch = Batch {
            bytes: Vec::new(),
            segment_bytes: 0,
            segment_count: 0,
            segmentation: true,
        };
        assert!(batch.takes(1472));
        batch.push(&[0; 1472]);
        assert!(!batch.takes(100));
        let mut count = 1;
        while batch.takes(1472) {
            batch.push(&[0; 1472]);
            count += 1;
        }
        assert_eq!(count, 65_000 / 1472);
        batch.clear();
        batch.push(&[]);
        assert!(!batch.takes(0));
    }
}
