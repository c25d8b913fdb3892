//! The wire between two pseudo-terminals: the sender writes to one, the model processes the bytes, and the receiver
//! reads from the other.
//!
//! The relay has no speed of its own. It never loses a byte: while the receiver's terminal is full, it stops reading.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::relay::{STATISTICS_INTERVAL, is_signal, take_signals};
use super::{Pty, SerialWire, WireStatistics};

/// The most that is read at once.
const READ_BYTES: usize = 4_096;
/// The interval at which both ports are freed from exclusive use.
const PORTS_FREED_AFTER: Duration = Duration::from_millis(100);

/// A relay in a folder, whose ports are the symbolic links `sender` and `receiver` there.
#[derive(Debug)]
pub struct SerialRelay {
    folder: PathBuf,
    ports: Option<Ports>,
    signals: SignalFd,
    statistics_file: Option<PathBuf>,
}

/// Both ports, while the line is plugged in.
#[derive(Debug)]
struct Ports {
    sender: Pty,
    receiver: Pty,
    /// Bytes that have left the line and for which the receiver's port had no room.
    pending: Vec<u8>,
    freed_at: Instant,
}

impl SerialRelay {
    /// Makes both ports in `folder`, which must exist.
    ///
    /// SIGTERM and SIGINT are blocked for the calling thread and end [`run`](Self::run). SIGUSR2 is blocked too; it
    /// unplugs the line or plugs it in again.
    ///
    /// # Errors
    /// If a port or its link cannot be made.
    pub fn open(folder: PathBuf, statistics_file: Option<PathBuf>) -> io::Result<Self> {
        let signals = take_signals(&[Signal::SIGUSR2])?;
        let ports = Some(Ports::open(&folder)?);
        Ok(Self {
            folder,
            ports,
            signals,
            statistics_file,
        })
    }

    /// Carries bytes until a signal ends it, and returns the statistics. Writes a line to `output` when the ports are
    /// ready (the names of both devices) and when they are gone (`unplugged`).
    ///
    /// # Errors
    /// If a port fails, except for being full.
    pub fn run(
        mut self,
        mut wire: SerialWire,
        output: &mut impl Write,
    ) -> io::Result<WireStatistics> {
        let mut written = WireStatistics::default();
        let mut written_at = Instant::now();
        self.report(output)?;
        loop {
            self.await_event()?;
            if let Some(ports) = &mut self.ports {
                ports.carry(&mut wire)?;
            }
            let signal = self.signals.read_signal()?;
            let statistics = wire.statistics();
            let due = statistics != written && written_at.elapsed() >= STATISTICS_INTERVAL;
            if signal.is_some() || due {
                statistics.write(self.statistics_file.as_deref())?;
                (written, written_at) = (statistics, Instant::now());
            }
            match signal {
                None => {}
                Some(signal) if is_signal(&signal, Signal::SIGUSR1) => {}
                Some(signal) if is_signal(&signal, Signal::SIGUSR2) => {
                    self.ports = match self.ports.take() {
                        Some(_) => None,
                        None => Some(Ports::open(&self.folder)?),
                    };
                    self.report(output)?;
                }
                Some(_) => return Ok(statistics),
            }
        }
    }

    fn report(&self, output: &mut impl Write) -> io::Result<()> {
        match &self.ports {
            Some(ports) => {
                let (sender, receiver) = (ports.sender.device(), ports.receiver.device());
                writeln!(output, "{} {}", sender.display(), receiver.display())?;
            }
            None => writeln!(output, "unplugged")?,
        }
        output.flush()
    }

    /// Waits for a signal, for bytes, or for room for pending bytes, but not longer than until the ports must be freed.
    fn await_event(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut timeout = PollTimeout::NONE;
        if let Some(ports) = &self.ports {
            fds.push(ports.awaited());
            let left = PORTS_FREED_AFTER.saturating_sub(ports.freed_at.elapsed());
            // Rounded up; otherwise the loop would spin during the last fraction of a millisecond.
            timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(timeout);
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Ports {
    fn open(folder: &std::path::Path) -> io::Result<Self> {
        Ok(Self {
            sender: Pty::open(&folder.join("sender"))?,
            receiver: Pty::open(&folder.join("receiver"))?,
            pending: Vec::new(),
            freed_at: Instant::now(),
        })
    }

    /// The event that the line waits for: bytes, or room for pending bytes.
    fn awaited(&self) -> PollFd<'_> {
        match self.pending.is_empty() {
            true => PollFd::new(self.sender.as_fd(), PollFlags::POLLIN),
            false => PollFd::new(self.receiver.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Carries the bytes of one read, if all earlier bytes have left.
    fn carry(&mut self, wire: &mut SerialWire) -> io::Result<()> {
        if self.pending.is_empty() {
            let mut buffer = [0; READ_BYTES];
            let length = self.sender.read(&mut buffer)?;
            wire.carry(&buffer[..length], &mut self.pending);
        }
        if !self.pending.is_empty() {
            let written = self.receiver.write(&self.pending)?;
            self.pending.drain(..written);
        }
        if self.freed_at.elapsed() >= PORTS_FREED_AFTER {
            self.sender.end_exclusive_use()?;
            self.receiver.end_exclusive_use()?;
            self.freed_at = Instant::now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    use nix::fcntl::OFlag;

    use super::super::LineConditions;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    /// A port that has had no room for this time is full: the kernel moves bytes within microseconds.
    const FULL_AFTER: Duration = Duration::from_millis(300);

    fn await_event(ports: &Ports, limit: Duration) -> bool {
        let limit = PollTimeout::try_from(limit).expect("short");
        poll(&mut [ports.awaited()], limit).expect("polled") > 0
    }

    fn open(folder: &std::path::Path, port: &str) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(folder.join(port))
            .expect("the port can be opened")
    }

    #[test]
    fn a_slow_reader_loses_no_byte_of_a_clean_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ports = Ports::open(folder.path()).expect("ports");
        let mut wire = SerialWire::new(LineConditions::CLEAN, 115_200, 1);
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(500_000).collect();
        let mut sender = open(folder.path(), "sender");
        let mut receiver = open(folder.path(), "receiver");
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || sender.write_all(&bytes)
        });
        // Nobody reads yet: the relay fills the receiver's port and then stops, whatever the sender still has.
        let limit = |ports: &Ports| match ports.pending.is_empty() {
            true => LIMIT,
            false => FULL_AFTER,
        };
        while await_event(&ports, limit(&ports)) {
            ports.carry(&mut wire).expect("carried");
        }
        let before = wire.statistics().received;
        assert!(!ports.pending.is_empty() && before < 500_000, "{before}");
        let reader = std::thread::spawn(move || {
            let mut found = vec![0; 500_000];
            receiver.read_exact(&mut found).map(|()| found)
        });
        while wire.statistics().received < 500_000 || !ports.pending.is_empty() {
            assert!(await_event(&ports, LIMIT), "the line is stuck");
            ports.carry(&mut wire).expect("carried");
        }
        writer.join().expect("no panic").expect("written");
        let found = reader.join().expect("no panic").expect("read");
        assert!(found == bytes, "the bytes differ");
    }
}
