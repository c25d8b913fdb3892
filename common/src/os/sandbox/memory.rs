//! No core dump, no debugger, no swap.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::SandboxError;

/// Switches core dumps off and locks memory as far as the limit allows; for daemons, and for
/// commands that touch keys. Returns whether memory is locked.
///
/// Memory is locked only where there is no limit (`LimitMEMLOCK=infinity` in the unit): with one, a
/// lock on future memory turns the first allocation beyond it into the end of the process.
///
/// # Errors
/// [`SandboxError::Dumps`] if core dumps cannot be switched off.
pub fn protect_memory() -> Result<bool, SandboxError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(SandboxError::Dumps)?;
    // Also without a limit on core files a dump may go through a pipe; a process that is not
    // dumpable makes none, and no other process of this user may trace it.
    prctl::set_dumpable(false).map_err(SandboxError::Dumps)?;
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    Ok(unlimited && mlockall(all).is_ok())
}
