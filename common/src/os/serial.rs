//! The tty of a serial link: opened one way, used alone, and set so that every byte passes as it is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, SpecialCodeIndex, Termios, ioctl_tiocexcl,
    ioctl_tiocnxcl, tcgetattr, tcsetattr,
};

use crate::alarm::Cause;
use crate::units::Mono;

/// How long a port that cannot be used waits for the next try.
pub const RETRY_US: u64 = 200_000;

/// How often the modes of an open port are looked at.
const CHECK_US: u64 = 1_000_000;

/// A line whose speed differs by more than one part in so many loses bytes.
const SPEED_TOLERANCE: u32 = 40;

/// The one way in which a port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes leave. The port is open for writing alone.
    Send,
    /// Bytes arrive. The port is open for reading alone.
    Receive,
}

/// Why a port cannot be used. It is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such device.
    Missing,
    /// It was there, and is gone.
    Unplugged,
    /// Another program uses it.
    Held,
    /// The user of the role has no right to it.
    Forbidden,
    /// It is no serial port.
    NoTty,
    /// It does not take the speed.
    Speed,
    /// It does not pass every byte as it is: its driver refuses that, or another program changed it.
    Modes,
    /// It takes no more bytes.
    Stuck,
    /// The system's answer.
    System(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTDIR => Self::Missing,
            Errno::EIO => Self::Unplugged,
            Errno::EBUSY | Errno::EWOULDBLOCK => Self::Held,
            Errno::EACCES | Errno::EPERM => Self::Forbidden,
            Errno::ENOTTY => Self::NoTty,
            other => Self::System(other),
        }
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno::from_raw(errno.raw_os_error()).into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is not there: look at the adapter and its cable",
            Self::Unplugged => "does not work any more: look at the adapter and its cable",
            Self::Held => "is in use by another program",
            Self::Forbidden => "may not be opened by the user of this role",
            Self::NoTty => "is no serial port",
            Self::Speed => "does not take the speed of link.baud",
            Self::Modes => {
                "does not pass every byte as it is: another program has changed its modes, or its driver refuses them"
            }
            Self::Stuck => "takes no more bytes: look at the adapter",
            Self::System(errno) => errno.desc(),
        })
    }
}

impl Fault {
    /// Returns the cause of the alarm that a role raises while its device cannot be used.
    fn cause(self, device: &Path, direction: Direction) -> Cause {
        let device = device.display();
        let (effect, host) = match direction {
            Direction::Send => ("nothing can leave, and cables wait", "sender"),
            Direction::Receive => ("nothing can arrive", "receiver"),
        };
        let repair = match self {
            Self::Forbidden => {
                format!("ls -lL {device}, then put the user of the role into the device's group")
            }
            _ => format!("sudo valise-{host} ports"),
        };
        Cause::repaired_by(format!("{effect}: {device} (link.device) {self}"), repair)
    }
}

/// Returns what `check-config` says of a device that is not there.
pub fn is_absent(device: &Path) -> String {
    let device = device.display();
    format!(
        "{device} (link.device) {}; the link begins when it is there",
        Fault::Missing
    )
}

/// An open port. The kernel gives it free when it is dropped.
#[derive(Debug)]
pub struct Port {
    // A lock besides the exclusive use: that one stops neither root nor a program that was there before.
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
    /// [`Fault`]: all of them can pass.
    pub fn open(device: &Path, baud: u32, direction: Direction) -> Result<Self, Fault> {
        let access = match direction {
            Direction::Send => OFlag::O_WRONLY,
            Direction::Receive => OFlag::O_RDONLY,
        };
        // O_NONBLOCK: no wait for a modem's carrier, neither here nor later.
        let flags = access | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(open(device, flags, Mode::empty())?);
        let mut wanted = tcgetattr(&file).map_err(|errno| match errno {
            // A node with no hardware behind it.
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

    /// Looks whether the line is still set as it was: another program that has it open may set it.
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

/// A port that is opened again whenever it can be.
#[derive(Debug)]
pub struct Line {
    device: PathBuf,
    baud: u32,
    direction: Direction,
    state: Result<Port, Fault>,
    tried_at: Mono,
    checked_at: Mono,
}

impl Line {
    /// Opens the port of a line. That it cannot be opened is a state.
    pub fn open(device: PathBuf, baud: u32, direction: Direction, now: Mono) -> Self {
        let state = Port::open(&device, baud, direction);
        let line = Self {
            device,
            baud,
            direction,
            state,
            tried_at: now,
            checked_at: now,
        };
        line.log();
        line
    }

    /// Bits a second: those of the open port, or those that are asked for.
    pub fn baud(&self) -> u32 {
        self.state.as_ref().map_or(self.baud, Port::baud)
    }

    /// The open port.
    ///
    /// # Errors
    /// Why there is none.
    pub fn port(&self) -> Result<&Port, Fault> {
        self.state.as_ref().map_err(|fault| *fault)
    }

    /// Looks whether the port is there and as it was set, and opens it again if it is time. Returns whether it is open.
    pub fn look(&mut self, now: Mono) -> bool {
        if let Ok(port) = &self.state {
            let mut found = Ok(());
            if port.is_gone() {
                found = Err(Fault::Unplugged);
            } else if now.since_us(self.checked_at) >= CHECK_US {
                self.checked_at = now;
                found = port.check();
            }
            if let Err(fault) = found {
                self.handle_failure(fault, now);
            }
        }
        let Err(before) = self.state else {
            return true;
        };
        if now.since_us(self.tried_at) < RETRY_US {
            return false;
        }
        self.tried_at = now;
        self.state = match Port::open(&self.device, self.baud, self.direction) {
            // What is missing because it was pulled out is called so.
            Err(Fault::Missing) if before == Fault::Unplugged => Err(before),
            tried => tried,
        };
        if self.state.as_ref().err() != Some(&before) {
            self.log();
        }
        self.state.is_ok()
    }

    /// The cause of the alarm `link-down`, while there is no open port.
    pub fn cause(&self) -> Option<Cause> {
        let fault = self.port().err()?;
        Some(fault.cause(&self.device, self.direction))
    }

    /// Gives up a port that failed.
    pub fn handle_failure(&mut self, fault: Fault, now: Mono) {
        self.state = Err(fault);
        self.tried_at = now;
        self.log();
    }

    fn log(&self) {
        let device = self.device.display();
        match &self.state {
            Ok(_) => tracing::info!(%device, baud = self.baud, "the serial port is open"),
            Err(fault) => tracing::warn!("{device} (link.device) {fault}; it is tried again"),
        }
    }
}

#[cfg(test)]
mod tests;
