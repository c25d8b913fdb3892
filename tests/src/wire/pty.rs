//! A pseudo-terminal in the place of a serial port.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};

/// A pseudo-terminal under a name of its own. A role opens the slave by that name, and this program holds the other end.
///
/// The slave is raw from the start, so that no byte is echoed or changed before a role has opened it. It is kept open,
/// so that a role may close it and open it again. Dropping the value unplugs it: the name disappears, and every program
/// that has the slave open gets an error.
#[derive(Debug)]
pub struct Pty {
    master: PtyMaster,
    slave: File,
    device: PathBuf,
    link: PathBuf,
}

impl Pty {
    /// Makes a pseudo-terminal, and the symbolic link `link` to its slave, replacing an older link.
    ///
    /// # Errors
    /// If the system provides no pseudo-terminal, or the link cannot be made.
    pub fn open(link: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let device = PathBuf::from(ptsname_r(&master)?);
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(&device)?;
        let mut modes = tcgetattr(&slave)?;
        cfmakeraw(&mut modes);
        tcsetattr(&slave, SetArg::TCSANOW, &modes)?;
        let temporary = link.with_extension("new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(&device, &temporary)?;
        fs::rename(&temporary, link)?;
        Ok(Self {
            master,
            slave,
            device,
            link: link.to_owned(),
        })
    }

    /// The slave's own name, such as `/dev/pts/3`.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Allows that the slave is opened again.
    ///
    /// A serial port loses its exclusive flag when its last user closes it. A slave that is kept open here does not.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn end_exclusive_use(&self) -> io::Result<()> {
        Ok(rustix::termios::ioctl_tiocnxcl(&self.slave)?)
    }

    /// Reads bytes that were written to the slave: returns their number, 0 if there are none now.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        now_or_nothing(read(&self.master, buffer))
    }

    /// Writes bytes for the reader of the slave: returns the number of accepted bytes, 0 if there is no room now.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        now_or_nothing(write(&self.master, bytes))
    }

    /// Writes all bytes for the reader of the slave, as fast as they are read.
    ///
    /// # Errors
    /// When the terminal fails, or `limit` has passed.
    pub fn write_all(&self, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
        let start = Instant::now();
        while !bytes.is_empty() {
            let written = self.write(bytes)?;
            bytes = &bytes[written..];
            let left = limit.saturating_sub(start.elapsed());
            if written == 0 && !self.await_event(PollFlags::POLLOUT, left)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Returns how many bytes wait for whoever reads the slave. The kernel has moved all that were given by then, if they fit
    /// one of its buffers.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn unread_bytes(&self) -> io::Result<u64> {
        let mut ready = [PollFd::new(self.slave.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO)?;
        Ok(rustix::io::ioctl_fionread(&self.slave)?)
    }

    /// Takes away what nobody has read.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn drop_unread(&self) -> io::Result<()> {
        Ok(rustix::termios::tcflush(
            &self.slave,
            rustix::termios::QueueSelector::IFlush,
        )?)
    }

    /// Waits for bytes that were written to the slave; returns whether there are some.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn await_bytes(&self, limit: Duration) -> io::Result<bool> {
        self.await_event(PollFlags::POLLIN, limit)
    }

    fn await_event(&self, event: PollFlags, limit: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.master.as_fd(), event)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Another value that was made under this name since then keeps it.
        if fs::read_link(&self.link).is_ok_and(|device| device == self.device) {
            let _ = fs::remove_file(&self.link);
        }
    }
}

fn now_or_nothing(result: nix::Result<usize>) -> io::Result<usize> {
    match result {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn every_byte() -> Vec<u8> {
        (0..=u8::MAX).cycle().take(300_000).collect()
    }

    fn open_slave(link: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(link)
    }

    #[test]
    fn every_byte_passes_unchanged_both_ways_and_nothing_is_echoed() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("port");
        let pty = Pty::open(&link).expect("a pty");
        let mut slave = open_slave(&link).expect("the slave");
        let bytes = every_byte();
        let reader = std::thread::spawn({
            let mut found = vec![0; bytes.len()];
            move || slave.read_exact(&mut found).map(|()| (found, slave))
        });
        pty.write_all(&bytes, LIMIT).expect("taken");
        let (found, mut slave) = reader.join().expect("no panic").expect("read");
        assert_eq!(found, bytes);
        assert_eq!(pty.read(&mut [0; 16]).expect("no echo"), 0);

        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || io::Write::write_all(&mut slave, &bytes)
        });
        let mut found = Vec::new();
        let mut buffer = [0; 4096];
        while found.len() < bytes.len() {
            assert!(pty.await_bytes(LIMIT).expect("no error"));
            let length = pty.read(&mut buffer).expect("no error");
            found.extend_from_slice(&buffer[..length]);
        }
        writer.join().expect("no panic").expect("written");
        assert_eq!(found, bytes);
    }

    #[test]
    fn a_full_terminal_takes_no_more_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("port");
        let pty = Pty::open(&link).expect("a pty");
        let mut taken = 0;
        let bytes = every_byte();
        let full = pty.write_all(&bytes, Duration::from_millis(20));
        assert_eq!(
            full.expect_err("nobody reads").kind(),
            io::ErrorKind::TimedOut
        );
        let mut slave = open_slave(&link).expect("the slave");
        let mut found = vec![0; 65_536];
        let mut all = Vec::new();
        while all.len() < 4_096 {
            let length = slave.read(&mut found).expect("there are bytes");
            all.extend_from_slice(&found[..length]);
            taken += length;
        }
        assert_eq!(all, bytes[..taken]);
    }

    #[test]
    fn a_dropped_terminal_takes_its_name_along_and_fails_for_its_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("port");
        let pty = Pty::open(&link).expect("a pty");
        let mut slave = open_slave(&link).expect("the slave");
        drop(pty);
        assert!(fs::symlink_metadata(&link).is_err());
        // A slave without its master is at its end.
        assert_eq!(slave.read(&mut [0; 16]).expect("the end"), 0);
        assert!(io::Write::write(&mut slave, b"x").is_err());
    }
}
