//! No core dump, no debugger, no swap.

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::fence::{Fence, RefusedFence};
use super::{Memory, SandboxError};

/// Protects the memory of a command that touches keys: no core dump, and locked memory where that is granted.
///
/// # Errors
/// [`SandboxError::Refused`] if core dumps cannot be switched off.
pub fn protect_memory() -> Result<(), SandboxError> {
    forbid_dumps().map_err(|refused| SandboxError::Refused(vec![refused]))?;
    // A command ends soon; a daemon's refusal is reported.
    let _ = lock();
    Ok(())
}

pub(super) fn forbid_dumps() -> Result<(), RefusedFence> {
    let refused = |errno: Errno| RefusedFence::new(Fence::Dumps, &errno.into());
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(refused)?;
    // Also without a limit on core files a dump may go through a pipe; a process that is not
    // dumpable makes none, and no other process of this user may trace it.
    prctl::set_dumpable(false).map_err(refused)
}

/// Locks memory, unless there is a limit: with one, a lock on future memory turns the first allocation beyond it into
/// the end of the process.
///
/// A limit is the host's own choice, and the default of every PC, so it is reported and refuses nothing. Without a limit
/// (`LimitMEMLOCK=infinity` in the unit) somebody relies on the lock: a refusal counts as that of any other fence.
pub(super) fn lock() -> Result<Memory, RefusedFence> {
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    if !unlimited {
        return Ok(Memory::Limited);
    }
    match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        Ok(()) => Ok(Memory::Locked),
        Err(errno) => Err(RefusedFence::new(Fence::Memory, &errno.into())),
    }
}
