//! A fence that the kernel or the service manager refuses, and what to do about it.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// A fence around a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// No core dump, no debugger.
    Dumps,
    /// No swapped key, where the limit on locked memory is lifted.
    Memory,
    /// No capability.
    Capabilities,
    /// No file outside of the role's folders: Landlock.
    Files,
    /// No system call that the role does not use: seccomp.
    Calls,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fence::Dumps => "core dumps are not switched off",
            Fence::Memory => "memory is not locked",
            Fence::Capabilities => "capabilities are not dropped",
            Fence::Files => "files are not restricted (Landlock)",
            Fence::Calls => "system calls are not restricted (seccomp)",
        })
    }
}

/// A fence that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFence {
    /// The fence.
    pub fence: Fence,
    /// The system's answer; absent if a library reports none.
    errno: Option<Errno>,
    cause: String,
}

impl RefusedFence {
    /// Creates a fence that the system refused with an error.
    pub(super) fn new(fence: Fence, error: &io::Error) -> Self {
        Self {
            fence,
            errno: error.raw_os_error().map(Errno::from_raw),
            cause: error.to_string(),
        }
    }

    /// Creates a fence that was refused for a reason other than an error of the system.
    pub(super) fn because(fence: Fence, cause: impl fmt::Display) -> Self {
        Self {
            fence,
            errno: None,
            cause: cause.to_string(),
        }
    }

    fn advice(&self) -> &'static str {
        match (self.fence, self.errno) {
            (Fence::Files, Some(Errno::EOPNOTSUPP)) => {
                "add landlock to the kernel's parameter lsm= and boot again"
            }
            (Fence::Files, Some(Errno::EPERM | Errno::EACCES)) => {
                "a call filter forbids it: allow landlock_create_ruleset, landlock_add_rule and \
                 landlock_restrict_self (SystemCallFilter= in the unit)"
            }
            (Fence::Files, _) => {
                "use a kernel with Landlock (Linux 5.13 or later, CONFIG_SECURITY_LANDLOCK), or let the call filter \
                 that hides it allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self"
            }
            (Fence::Calls, Some(Errno::EPERM | Errno::EACCES)) => {
                "a call filter forbids it: allow seccomp and prctl (SystemCallFilter= in the unit)"
            }
            (Fence::Calls, _) => {
                "use a kernel with CONFIG_SECCOMP_FILTER, or let the call filter that hides it allow seccomp and prctl"
            }
            (Fence::Capabilities, _) => {
                "let the call filter allow capget, capset and prctl (SystemCallFilter= in the unit)"
            }
            (Fence::Dumps, _) => {
                "let the call filter allow prctl and setrlimit (SystemCallFilter= in the unit)"
            }
            (Fence::Memory, _) => {
                "let the call filter allow mlockall, or set a limit (LimitMEMLOCK= in the unit) if memory need not be \
                 locked"
            }
        }
    }
}

impl fmt::Display for RefusedFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.fence, self.cause, self.advice())
    }
}
