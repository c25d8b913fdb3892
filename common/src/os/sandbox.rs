//! What a role may do, given up before it touches any input.
//!
//! Three fences, each for what the others cannot see: no core dump and no swapped key (`memory`),
//! no file outside the role's folders (`paths`, by Landlock), no system call that the role has no
//! use for (`calls`, by seccomp): no role can run a program, gate and release cannot make a network
//! socket at all, transmit and receive only datagram sockets. Landlock does not restrict UDP, and no fence of software
//! makes a link one-way.

mod calls;
mod memory;
mod paths;

use std::fmt;
use std::path::PathBuf;

pub use memory::protect_memory;

use super::layout::{ReceiverState, Role, SenderState};

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

/// What the kernel granted; to be logged at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Memory is locked and will not reach a swap device.
    pub memory_locked: bool,
    /// Files are restricted to the profile's.
    pub paths: bool,
    /// System calls are restricted to the role's.
    pub calls: bool,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |granted| if granted { "yes" } else { "no" };
        write!(
            f,
            "memory locked: {}, files restricted: {}, system calls restricted: {}",
            word(self.memory_locked),
            word(self.paths),
            word(self.calls)
        )
    }
}

/// A fence could not be put up although the kernel has it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Core dumps could not be switched off.
    #[error("core dumps cannot be switched off: {0}")]
    Dumps(nix::Error),
    /// Landlock refused.
    #[error("files cannot be restricted: {0}")]
    Paths(landlock::RulesetError),
    /// Seccomp refused.
    #[error("system calls cannot be restricted: {0}")]
    Calls(String),
}

/// Gives up everything that the profile does not name. To be called once, after the lock is taken
/// and the socket bound, and before any thread starts.
///
/// # Errors
/// If a fence cannot be put up although the kernel has it; what the kernel lacks is told in
/// [`Confinement`].
pub fn enter(profile: &Profile) -> Result<Confinement, SandboxError> {
    let memory_locked = protect_memory()?;
    let paths = paths::restrict(profile)?;
    let calls = calls::restrict(profile.role)?;
    Ok(Confinement {
        memory_locked,
        paths,
        calls,
    })
}

#[cfg(test)]
mod tests;
