//! What a role may do, given up before it touches any input.

use std::path::PathBuf;

use super::layout::Role;

/// What a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The role.
    pub role: Role,
    /// Folders and files to read.
    pub read: Vec<PathBuf>,
    /// Folders to read and write.
    pub write: Vec<PathBuf>,
    /// Programs to run: the alarm command, if one is configured.
    pub run: Vec<PathBuf>,
}

/// What the kernel granted; logged at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Memory is locked and will not reach a swap device.
    pub memory_locked: bool,
    /// Paths are restricted.
    pub paths: bool,
    /// System calls are restricted.
    pub calls: bool,
}

/// A protection that every kernel has was refused.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Core dumps could not be switched off.
    #[error("core dumps cannot be switched off: {0}")]
    Dumps(nix::Error),
}

/// Switches core dumps off and locks memory as far as the limit allows; for daemons and for commands that touch keys.
///
/// # Errors
/// If core dumps cannot be switched off. Memory that cannot be locked is told by the returned `false`.
pub fn protect_memory() -> Result<bool, SandboxError> {
    todo!()
}

/// Gives up everything that the profile does not name. To be called once, before any thread starts.
///
/// # Errors
/// If a protection that every kernel has is refused; what the kernel lacks is told in [`Confinement`].
pub fn enter(_profile: &Profile) -> Result<Confinement, SandboxError> {
    todo!()
}
