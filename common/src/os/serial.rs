//! The tty of a serial link: opened one way, used alone, and set so that every byte passes as it is.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, SpecialCodeIndex, Termios, ioctl_tiocexcl,
    ioctl_tiocnxcl, tcgetattr, tcsetattr,
};

mod fault;
mod line;

pub use fault::{Fault, is_absent};
pub use line::{Line, RETRY_US};

/// Largest difference of the speed, as one part in so many: a larger one loses bytes.
const SPEED_TOLERANCE: u32 = 40;

/// The direction of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes leave. The port is open for writing alone.
    Send,
    /// Bytes arrive. The port is open for reading alone.
    Receive,
}

/// An open port, which no other program can open.
#[derive(Debug)]
pub struct Port {
    // A lock as well as exclusive use, which stops neither root nor a program that opened the port before.
    file: Flock<File>,
    wanted: Termios,
    baud: u32,
}

impl Port {
    /// Opens the device and sets the line: 8 data bits, no parity, 1 stop bit, no flow control, no modem lines, nothing
    /// interpreted. What the device has received already is kept.
    ///
    /// # Shape
    /// `baud`: bits a second.
    ///
    /// # Errors
    /// [`Fault`]. Each of them may be temporary.
    pub fn open(device: &Path, baud: u32, direction: Direction) -> Result<Self, Fault> {
        let access = match direction {
            Direction::Send => OFlag::O_WRONLY,
            Direction::Receive => OFlag::O_RDONLY,
        };
        // O_NONBLOCK: no wait for a modem's carrier, neither here nor later.
        let flags = access | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(open(device, flags, Mode::empty())?);
        let mut wanted = tcgetattr(&file).map_err(|errno| match errno {
            // The device node has no hardware.
            rustix::io::Errno::IO => Fault::Missing,
            other => other.into(),
        })?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Fault::from(errno))?;
        ioctl_tiocexcl(&*file)?;
        set_raw(&mut wanted, direction);
        wanted.set_speed(baud)?;
        tcsetattr(&*file, OptionalActions::Now, &wanted)?;
        // The call succeeds if the driver took any of it.
        let granted = tcgetattr(&*file)?;
        check(&wanted, &granted, baud)?;
        Ok(Self {
            file,
            wanted,
            baud: baud.min(granted.output_speed()),
        })
    }

    /// Bits a second, as far as the driver tells: never more than was asked for.
    pub fn baud(&self) -> u32 {
        self.baud
    }

    /// Checks that the port is still in raw mode: another program that has it open may change that.
    fn check(&self) -> Result<(), Fault> {
        check(&self.wanted, &tcgetattr(&*self.file)?, self.baud)
    }

    /// Returns whether the device has gone: an adapter that was pulled out, or the other end of a pseudo-terminal.
    fn is_gone(&self) -> bool {
        let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        let seen = poll(&mut ready, PollTimeout::ZERO).is_ok();
        seen && ready[0]
            .revents()
            .is_some_and(|found| found.intersects(gone))
    }

    /// Hands bytes over as far as the kernel takes them now.
    ///
    /// # Errors
    /// `EAGAIN` if it takes none; else the device is gone.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            match (&*self.file).write(bytes) {
                // A tty that has room takes at least a byte.
                Ok(0) => return Err(Errno::EAGAIN),
                Ok(count) => return Ok(count),
                Err(error) => match errno_of(&error) {
                    Errno::EINTR => {}
                    errno => return Err(errno),
                },
            }
        }
    }

    /// Waits for bytes and takes what is there: none if none came in time.
    ///
    /// # Errors
    /// The device is gone.
    pub fn read(&self, buffer: &mut [u8], patience: Duration) -> Result<usize, Errno> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(0),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        match (&*self.file).read(buffer) {
            // The end of a tty is a hang-up.
            Ok(0) => Err(Errno::EIO),
            Ok(count) => Ok(count),
            Err(error) => match errno_of(&error) {
                Errno::EAGAIN | Errno::EINTR => Ok(0),
                errno => Err(errno),
            },
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // A pseudo-terminal would stay closed to all others until its far end goes, too.
        let _ = ioctl_tiocnxcl(&*self.file);
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Nothing is interpreted, in neither direction.
fn set_raw(termios: &mut Termios, direction: Direction) {
    termios.make_raw();
    termios
        .input_modes
        .remove(InputModes::IXOFF | InputModes::IXANY | InputModes::INPCK | InputModes::IUCLC);
    // A break is no byte and no signal.
    termios.input_modes.insert(InputModes::IGNBRK);
    let ControlBits { clear, set } = control_bits(direction);
    termios.control_modes.remove(clear);
    termios.control_modes.insert(set);
    // A read returns as soon as a byte is there.
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
}

struct ControlBits {
    clear: ControlModes,
    set: ControlModes,
}

fn control_bits(direction: Direction) -> ControlBits {
    let no_modem = ControlModes::CRTSCTS | ControlModes::HUPCL;
    let frame = ControlModes::CSIZE | ControlModes::CSTOPB | ControlModes::PARENB;
    let local = ControlModes::CLOCAL | ControlModes::CS8;
    match direction {
        // The receiving half of the hardware is off.
        Direction::Send => ControlBits {
            clear: no_modem | frame | ControlModes::CREAD,
            set: local,
        },
        Direction::Receive => ControlBits {
            clear: no_modem | frame,
            set: local | ControlModes::CREAD,
        },
    }
}

fn check(wanted: &Termios, granted: &Termios, baud: u32) -> Result<(), Fault> {
    let control =
        ControlModes::CRTSCTS | ControlModes::CSIZE | ControlModes::CSTOPB | ControlModes::PARENB;
    let is_raw = wanted.input_modes == granted.input_modes
        && wanted.output_modes == granted.output_modes
        && wanted.local_modes == granted.local_modes
        && wanted.control_modes & control == granted.control_modes & control;
    if !is_raw {
        return Err(Fault::Modes);
    }
    for speed in [granted.output_speed(), granted.input_speed()] {
        if speed.abs_diff(baud) > baud / SPEED_TOLERANCE {
            return Err(Fault::Speed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
