//! What a role may do, given up before it touches any input.
//!
//! Each fence is for what the others cannot see: no core dump and no swapped key (`memory`), no right of root
//! (`capabilities`), no file outside the role's folders (`paths`, by Landlock), no system call that the role does not make
//! (`calls`, by seccomp), and the end of a process that makes one that no role ever makes (`forbidden`).
//!
//! Sockets are made before the fences, and none after them. transmit never reads from the link, receive never sends:
//! their system calls do not allow it. No fence of software makes a link one-way.

mod breach;
mod calls;
mod capabilities;
mod fence;
mod forbidden;
mod memory;
mod paths;

use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

pub use breach::NOTE_END;
pub(crate) use breach::{ended_by_breach, note_breach};
use calls::Medium;
pub use fence::{Fence, RefusedFence};
pub use memory::protect_memory;

use nix::unistd::geteuid;

use super::serial::Direction;
use super::service;
use crate::alarm::Alarm;
use crate::config::Fences;
use crate::role::Role;

/// The folder of all devices.
const DEVICES: &str = "/dev";

/// What a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    role: Role,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    link: Medium,
    port: Option<PortAccess>,
    breaches: PathBuf,
}

/// The serial port of a link, which a role opens again whenever it was unplugged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PortAccess {
    /// The device, or the folder of all devices.
    below: PathBuf,
    direction: Direction,
}

impl Profile {
    /// Returns the role.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Adds a file to read: the credential of the unit.
    pub fn reading(mut self, file: Option<PathBuf>) -> Self {
        self.read.extend(file);
        self
    }

    /// Adds a folder to write to: that of the metrics. A path that does not exist gives no right.
    pub fn writing(mut self, folder: impl Into<PathBuf>) -> Self {
        self.write.push(folder.into());
        self
    }

    /// Adds the socket of the link: the only one that transmit sends on and does not read, the only one that receive reads.
    pub(crate) fn with_link(mut self, socket: BorrowedFd<'_>) -> Self {
        self.link = Medium::Socket(socket.as_raw_fd());
        self
    }

    /// Adds the serial port of the link, in one direction.
    ///
    /// An adapter that is plugged in again is another file, so the role may use, in this direction, what its user may below
    /// `/dev`; of devices, its unit leaves it the ports. Root may use every disk: it gets this one file, see
    /// [`Confinement::keeps_root_from_ports`].
    pub(crate) fn with_port(mut self, device: &Path, direction: Direction) -> Self {
        let below = match geteuid().is_root() {
            true => device.to_path_buf(),
            false => PathBuf::from(DEVICES),
        };
        self.link = Medium::Port;
        self.port = Some(PortAccess { below, direction });
        self
    }

    /// What `role` reads and writes, and the file in which its ends by a forbidden call are noted. It has no link.
    pub fn new(role: Role, read: Vec<PathBuf>, write: Vec<PathBuf>, breaches: PathBuf) -> Self {
        Self {
            role,
            read,
            write,
            link: Medium::None,
            port: None,
            breaches,
        }
    }
}

/// Whether memory may reach a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It is locked.
    Locked,
    /// It may: the limit on locked memory keeps this process from locking it.
    Limited,
    /// It may: the kernel refused the lock.
    Refused,
}

/// The fences that are up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Whether memory is locked.
    pub memory: Memory,
    /// The fences that were refused.
    pub refused: Vec<RefusedFence>,
    role: Role,
    fences: Fences,
    /// The text of the alarm about earlier ends by forbidden calls.
    breach: Option<String>,
}

impl Confinement {
    /// Returns whether a fence is up.
    pub fn holds(&self, fence: Fence) -> bool {
        self.refused.iter().all(|refused| refused.fence != fence)
    }

    /// Returns whether this process is root's and may open no serial port but the one that was there: with another one it is to
    /// end, and to be started again.
    pub(crate) fn keeps_root_from_ports(&self) -> bool {
        geteuid().is_root() && self.holds(Fence::Files)
    }

    /// Returns the alarms that stand as long as the role works.
    pub fn alarms(&self) -> Vec<(Alarm, String)> {
        let role = self.role;
        let refused = match self.fences {
            _ if !self.refused.is_empty() => Some(format!(
                "{role} works without a fence: {}",
                list(&self.refused)
            )),
            Fences::BestEffort => Some(format!(
                "{role} has all of its fences, and would start without them"
            )),
            Fences::Required => None,
        };
        let alarms = [
            (Alarm::Fence, refused),
            (Alarm::ForbiddenCall, self.breach.clone()),
        ];
        alarms
            .into_iter()
            .filter_map(|(alarm, text)| Some((alarm, text?)))
            .collect()
    }

    /// Writes the fences of a role to the log.
    pub fn log(&self) {
        let role = self.role;
        tracing::info!(fences = %self, "{role} is fenced in");
        if self.memory == Memory::Limited {
            tracing::warn!(
                "memory is not locked: keys may reach the swap device; lift the limit (LimitMEMLOCK=infinity, ulimit -l)"
            );
        }
        for (alarm, text) in self.alarms() {
            tracing::warn!(%alarm, "{text}");
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |granted| if granted { "yes" } else { "no" };
        write!(
            f,
            "memory locked: {}, capabilities dropped: {}, files restricted: {}, system calls restricted: {}",
            word(self.memory == Memory::Locked),
            word(self.holds(Fence::Capabilities)),
            word(self.holds(Fence::Files)),
            word(self.holds(Fence::Calls))
        )
    }
}

/// Fences that the configuration requires were refused.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel or the service manager refused them.
    #[error(
        "{}; or set required = false in [sandbox] to work without, under an alarm",
        list(.0)
    )]
    Refused(Vec<RefusedFence>),
}

fn list(refused: &[RefusedFence]) -> String {
    let each: Vec<String> = refused.iter().map(RefusedFence::to_string).collect();
    each.join("; ")
}

/// Gives up everything that the profile does not name. To be called once, after the lock is taken
/// and before any thread starts.
///
/// # Errors
/// [`SandboxError`] names every fence that was refused, if fences are required.
pub fn enter(profile: &Profile, fences: Fences) -> Result<Confinement, SandboxError> {
    service::connect();
    let breach = breach::report(profile.role, &profile.breaches);
    let mut refused = Vec::new();
    let mut note = |fence: Result<(), RefusedFence>| refused.extend(fence.err());
    note(memory::forbid_dumps());
    let memory = memory::lock().unwrap_or_else(|error| {
        note(Err(error));
        Memory::Refused
    });
    note(capabilities::drop_all());
    note(paths::restrict(profile));
    note(calls::restrict(profile.role, profile.link));
    match fences {
        Fences::Required if !refused.is_empty() => Err(SandboxError::Refused(refused)),
        Fences::Required | Fences::BestEffort => Ok(Confinement {
            memory,
            refused,
            role: profile.role,
            fences,
            breach,
        }),
    }
}

#[cfg(test)]
mod tests;
