//! The serial line between both hosts: one wire, from the sender's port to the receiver's. Bytes that the receiver
//! sends are counted and go nowhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pty::{ptsname, unlockpt};
use rustix::termios::{OptionalActions, ioctl_tiocnxcl, tcgetattr, tcsetattr};

use super::Result;
use crate::harness::HarnessError;

/// The interval at which a port is freed from exclusive use. A UART does that when its last user closes it. A
/// pseudo-terminal does not, because it is kept open here.
const FREED_EVERY_MS: u16 = 100;

/// The far end of a host's serial port.
#[derive(Debug)]
pub struct FarEnd {
    /// The host's output is read here, and its input is written here.
    carrier: File,
    /// A pseudo-terminal's own end, which is kept open.
    slave: Option<File>,
}

impl FarEnd {
    /// Makes a pseudo-terminal in a folder of the kind `/dev/pts`, which may belong to another system. Returns its name
    /// there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn pseudo_terminal(folder: &Path) -> Result<(Self, String)> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
            options.read(true).write(true).custom_flags(flags.bits());
            options
                .open(path)
                .map_err(|error| HarnessError::io("open", path, error))
        };
        let multiplexer = folder.join("ptmx");
        let refused = |error: rustix::io::Errno| {
            HarnessError::io("make a terminal of", &multiplexer, error.into())
        };
        let carrier = open(&multiplexer)?;
        unlockpt(&carrier).map_err(refused)?;
        let path = ptsname(&carrier, Vec::new()).map_err(refused)?;
        let name = path.to_string_lossy().replace("/dev/pts/", "");
        let slave = open(&folder.join(&name))?;
        // From the start: otherwise the other side's bytes would come back as an echo.
        let mut modes = tcgetattr(&slave).map_err(refused)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes).map_err(refused)?;
        let slave = Some(slave);
        Ok((Self { carrier, slave }, name))
    }

    /// Connects to the port of an emulated machine.
    ///
    /// # Errors
    /// If nobody listens on the socket.
    pub fn emulated(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
            .map_err(|error| HarnessError::io("connect to", socket, error))?;
        Ok(Self {
            carrier: File::from(OwnedFd::from(stream)),
            slave: None,
        })
    }

    fn make_free(&self) -> io::Result<()> {
        match &self.slave {
            Some(slave) => Ok(ioctl_tiocnxcl(slave)?),
            None => Ok(()),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        none_now((&self.carrier).read(buffer))
    }

    /// Writes bytes. A wire waits for nobody: bytes that the host does not take are lost.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        none_now((&self.carrier).write(bytes))
    }
}

fn none_now(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

/// The line, while both ports are plugged in.
#[derive(Debug)]
pub struct SerialLine {
    returned: Arc<AtomicU64>,
    /// The thread waits for the end of the other socket; dropping this value ends the line.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl SerialLine {
    /// Connects two ports.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(sender: FarEnd, receiver: FarEnd) -> Result<Self> {
        let (end, ended) = UnixStream::pair()
            .map_err(|error| HarnessError::io("make", Path::new("a pair of sockets"), error))?;
        let returned = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&returned);
        let thread = std::thread::spawn(move || carry(&sender, &receiver, &ended, &counted));
        Ok(Self {
            returned,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Returns the number of bytes that the receiver has sent.
    ///
    /// # Errors
    /// If the line has ended by itself.
    pub fn returned_bytes(&self) -> Result<u64> {
        match self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            false => Ok(self.returned.load(Ordering::Relaxed)),
            true => Err(HarnessError::Wrong("the serial line has ended".to_owned())),
        }
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(
    sender: &FarEnd,
    receiver: &FarEnd,
    ended: &UnixStream,
    returned: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut events = [
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(sender.carrier.as_fd(), PollFlags::POLLIN),
            PollFd::new(receiver.carrier.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut events, PollTimeout::from(FREED_EVERY_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = events[0].revents().is_some_and(|seen| !seen.is_empty());
        if has_ended {
            return Ok(());
        }
        sender.make_free()?;
        receiver.make_free()?;
        let count = sender.read(&mut buffer)?;
        receiver.write(&buffer[..count])?;
        let count = receiver.read(&mut buffer)?;
        returned.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::harness::await_condition;

    fn port() -> (FarEnd, File) {
        let folder = Path::new("/dev/pts");
        let (end, name) = FarEnd::pseudo_terminal(folder).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(OFlag::O_NOCTTY.bits());
        (end, options.open(folder.join(name)).unwrap())
    }

    #[test]
    fn bytes_pass_one_way_alone_and_what_comes_back_is_counted() {
        let ((far_sender, mut sender), (far_receiver, mut receiver)) = (port(), port());
        let line = SerialLine::connect(far_sender, far_receiver).unwrap();
        let every: Vec<u8> = (0..=255).collect();
        sender.write_all(&every).unwrap();
        let mut seen = vec![0; every.len()];
        receiver.read_exact(&mut seen).unwrap();
        assert_eq!(seen, every);
        assert_eq!(line.returned_bytes().unwrap(), 0);
        receiver.write_all(b"back").unwrap();
        await_condition("four bytes", Duration::from_secs(10), &[], || {
            Ok((line.returned_bytes()? == 4).then_some(()))
        })
        .unwrap();
        drop(line);
        // A terminal whose other end is gone is at its end, or fails.
        assert_eq!(receiver.read(&mut [0]).unwrap_or(0), 0);
    }
}
