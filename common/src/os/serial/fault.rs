//! The faults of a serial port, and the alarm that each one raises.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;

use super::Direction;
use crate::alarm::Cause;

/// The fault of a port that cannot be used. The role tries to open it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device does not exist.
    Missing,
    /// The device was pulled out.
    Unplugged,
    /// Another program uses the device.
    Held,
    /// The user of the role may not open the device.
    Forbidden,
    /// The device is not a serial port.
    NoTty,
    /// The driver does not support the speed.
    Speed,
    /// The port is not in raw mode: its driver refuses it, or another program changed it.
    Modes,
    /// The device takes no more bytes.
    Stuck,
    /// Another error of the system.
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
    pub(super) fn cause(self, device: &Path, direction: Direction) -> Cause {
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

/// Returns the warning of `check-config` about a device that does not exist.
pub fn is_absent(device: &Path) -> String {
    let device = device.display();
    format!(
        "{device} (link.device) {}; the link begins when it is there",
        Fault::Missing
    )
}
