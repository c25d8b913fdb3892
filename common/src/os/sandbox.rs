//! What a role may do, given up before it touches any input.
//!
//! Three fences, each for what the others cannot see: no core dump and no swapped key (`memory`),
//! no file outside the role's folders (`paths`, by Landlock), no system call that the role has no
//! use for (`calls`, by seccomp): no role can run a program, gate and release cannot make a network
//! socket at all, transmit and receive only datagram sockets. Landlock does not restrict UDP, and no fence of software
//! makes a link one-way.

mod calls;
mod fence;
mod memory;
mod paths;

use std::fmt;
use std::path::PathBuf;

pub use fence::{Fence, RefusedFence};
pub use memory::protect_memory;

use super::layout::{ReceiverState, Role, SenderState};
use crate::config::Fences;

/// The alarm of a role that works without a fence.
pub const ALARM: &str = "fence";

/// What a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    role: Role,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Profile {
    /// What gate needs: all of its host's state but the link keys' folder is its own, so it gets
    /// the state folder.
    pub fn gate(state: &SenderState) -> Self {
        Self::new(Role::Gate, vec![], vec![state.root().to_path_buf()])
    }

    /// What transmit needs: sealed containers to read; link keys to take over; progress, view and
    /// log to write.
    pub fn transmit(state: &SenderState) -> Self {
        let read = vec![state.host(), state.outbox()];
        let write = vec![
            state.link_keys(),
            state.handover_folder(),
            state.progress(),
            state.view(),
            state.audit(),
            state.tmp(Role::Transmit),
        ];
        Self::new(Role::Transmit, read, write)
    }

    /// What receive needs: link keys to take over; the inbox, partial containers, view and log to
    /// write.
    pub fn receive(state: &ReceiverState) -> Self {
        let read = vec![state.host()];
        let write = vec![
            state.link_keys(),
            state.handover_folder(),
            state.inbox(),
            state.damaged(),
            state.assembly(),
            state.view(),
            state.audit(),
            state.tmp(Role::Receive),
        ];
        Self::new(Role::Receive, read, write)
    }

    /// What release needs: all of its host's state.
    pub fn release(state: &ReceiverState) -> Self {
        Self::new(Role::Release, vec![], vec![state.root().to_path_buf()])
    }

    /// Adds a file or folder to read, for example the configuration file.
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Adds a file or folder to read and write, for example a serial device.
    pub fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    fn new(role: Role, read: Vec<PathBuf>, write: Vec<PathBuf>) -> Self {
        Self { role, read, write }
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
}

impl Confinement {
    /// Returns whether a fence is up.
    pub fn holds(&self, fence: Fence) -> bool {
        self.refused.iter().all(|refused| refused.fence != fence)
    }

    /// Returns the text of the standing alarm [`ALARM`], if a fence was refused.
    pub fn alarm(&self, role: Role) -> Option<String> {
        (!self.refused.is_empty()).then(|| {
            format!(
                "{role} works without a fence: {}; then start {role} again",
                list(&self.refused)
            )
        })
    }

    /// Writes the fences of a role to the log.
    pub fn log(&self, role: Role) {
        tracing::info!(fences = %self, "{role} is fenced in");
        if self.memory == Memory::Limited {
            tracing::warn!(
                "memory is not locked: keys may reach the swap device; lift the limit (LimitMEMLOCK=infinity, ulimit -l)"
            );
        }
        if let Some(text) = self.alarm(role) {
            tracing::warn!(alarm = ALARM, "{text}");
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |granted| if granted { "yes" } else { "no" };
        write!(
            f,
            "memory locked: {}, files restricted: {}, system calls restricted: {}",
            word(self.memory == Memory::Locked),
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
    let mut refused = Vec::new();
    let mut note = |fence: Result<(), RefusedFence>| refused.extend(fence.err());
    note(memory::forbid_dumps());
    let memory = memory::lock().unwrap_or_else(|error| {
        note(Err(error));
        Memory::Refused
    });
    note(paths::restrict(profile));
    note(calls::restrict(profile.role));
    match fences {
        Fences::Required if !refused.is_empty() => Err(SandboxError::Refused(refused)),
        Fences::Required | Fences::BestEffort => Ok(Confinement { memory, refused }),
    }
}

#[cfg(test)]
mod tests;
