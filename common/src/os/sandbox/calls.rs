//! System calls: those that a role makes, with the arguments that can be checked. Every other one fails with ENOSYS, and one
//! that neither a role nor a library ever makes ends the process with SIGSYS.
//!
//! ENOSYS, because the C library then takes the older way that it has for older kernels. Killing the process for every call
//! that is not listed would turn an update of a library into a dead channel. What only a break-in would call kills, and the
//! next start reports it.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::{Fence, RefusedFence, forbidden};
use crate::role::Role;

/// What every role does. Calls with checked arguments are in `checked_of`.
const EVERY_ROLE: &[c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, and the end of the process.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    // With a thread's id, and it changes nothing.
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Files.
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_syncfs,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Time and waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
];

/// What gate and release do besides: requests and published folders, and SQLite.
const KEEPS_A_REGISTER: &[c_long] = &[
    libc::SYS_copy_file_range,
    libc::SYS_eventfd2,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_getcwd,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// The same by names that only this architecture still has: whoever may make the first may make the others.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(c_long, &[c_long])] = &[
    (libc::SYS_clock_gettime, &[libc::SYS_time]),
    (libc::SYS_eventfd2, &[libc::SYS_eventfd]),
    (libc::SYS_faccessat, &[libc::SYS_access]),
    (libc::SYS_fchmodat, &[libc::SYS_chmod]),
    (libc::SYS_fchownat, &[libc::SYS_chown, libc::SYS_lchown]),
    (libc::SYS_inotify_init1, &[libc::SYS_inotify_init]),
    (libc::SYS_mkdirat, &[libc::SYS_mkdir]),
    (libc::SYS_newfstatat, &[libc::SYS_stat, libc::SYS_lstat]),
    (libc::SYS_openat, &[libc::SYS_open]),
    (libc::SYS_pipe2, &[libc::SYS_pipe]),
    (libc::SYS_ppoll, &[libc::SYS_poll]),
    (libc::SYS_readlinkat, &[libc::SYS_readlink]),
    (libc::SYS_renameat, &[libc::SYS_rename]),
    (libc::SYS_unlinkat, &[libc::SYS_unlink, libc::SYS_rmdir]),
];

#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(c_long, &[c_long])] = &[];

/// The flags with which the C library makes a thread, and nothing else.
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// What a role asks of a descriptor. Not among them: whom a descriptor sends signals to.
const OF_A_DESCRIPTOR: [i32; 10] = [
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// The `ioctl` requests of a serial port: its modes, its speed, its exclusive use.
const OF_A_LINE: [libc::Ioctl; 6] = [
    libc::TCGETS,
    libc::TCGETS2,
    libc::TCSETS,
    libc::TCSETS2,
    libc::TIOCEXCL,
    libc::TIOCNXCL,
];

/// The carrier of the link, as far as the filter depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A socket.
    Socket(RawFd),
    /// A serial port. The role opens it again after the fences are up.
    Port,
    /// The role has none.
    None,
}

/// Restricts this process, all its threads and its future children.
pub(super) fn restrict(role: Role, link: Medium) -> Result<(), RefusedFence> {
    let refused = |error: BackendError| RefusedFence::because(Fence::Calls, error);
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    let forbidden = forbidden::program(architecture).map_err(refused)?;
    let program = program(role, link, architecture).map_err(refused)?;
    // This order: the second forbids a third. Of the answers of two filters the kernel takes the harder one.
    apply(&forbidden)?;
    apply(&program)
}

fn apply(program: &BpfProgram) -> Result<(), RefusedFence> {
    // One filter for all threads: a library may have started one already.
    seccompiler::apply_filter_all_threads(program).map_err(|error| match &error {
        seccompiler::Error::Prctl(cause) | seccompiler::Error::Seccomp(cause) => {
            RefusedFence::new(Fence::Calls, cause)
        }
        _ => RefusedFence::because(Fence::Calls, error),
    })
}

pub(super) fn program(
    role: Role,
    link: Medium,
    architecture: TargetArch,
) -> Result<BpfProgram, BackendError> {
    let own = match role {
        Role::Gate | Role::Release => KEEPS_A_REGISTER,
        Role::Transmit | Role::Receive => &[],
    };
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = EVERY_ROLE
        .iter()
        .chain(own)
        .map(|call| (*call, Vec::new()))
        .collect();
    for (call, older) in OLDER {
        if rules.contains_key(call) {
            rules.extend(older.iter().map(|call| (*call, Vec::new())));
        }
    }
    let checked = every_roles_checked()?.into_iter();
    for (call, conditions) in checked.chain(checked_of(role, link)?) {
        let rules = rules.entry(call).or_default();
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions)?);
        }
    }
    let refused = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or(38));
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?.try_into()
}

/// A call, and what must hold of its arguments; with several rules, of one of them.
type Rules = Vec<(c_long, Vec<SeccompCondition>)>;

fn every_roles_checked() -> Result<Rules, BackendError> {
    let mut rules = vec![
        // No memory that is code.
        (libc::SYS_mmap, vec![lacks(2, libc::PROT_EXEC)?]),
        (libc::SYS_mprotect, vec![lacks(2, libc::PROT_EXEC)?]),
        // Threads alone: no process, no namespace. The arguments of clone3 are in memory, where no filter sees them; without
        // it the C library takes clone.
        (libc::SYS_clone, vec![is(0, THREAD)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)?]),
        // Its own limits, to read.
        (libc::SYS_prlimit64, vec![is(0, 0)?, is_null(2)?]),
        // abort(3).
        (libc::SYS_tgkill, vec![is(0, std::process::id())?]),
    ];
    for command in OF_A_DESCRIPTOR {
        rules.push((libc::SYS_fcntl, vec![is(1, command)?]));
    }
    Ok(rules)
}

fn checked_of(role: Role, link: Medium) -> Result<Rules, BackendError> {
    let mut rules = Vec::new();
    if link == Medium::Port {
        for request in OF_A_LINE {
            rules.push((libc::SYS_ioctl, vec![is(1, request)?]));
        }
    }
    let mut allow = |call, conditions| rules.push((call, conditions));
    let copy = is(1, libc::F_DUPFD_CLOEXEC)?;
    match role {
        Role::Gate | Role::Release => allow(libc::SYS_fcntl, vec![copy]),
        // Nothing new, and nothing sent: it can neither connect its socket nor name an address.
        Role::Receive => {
            allow(libc::SYS_fcntl, vec![copy]);
            allow(libc::SYS_read, vec![]);
            if let Medium::Socket(link) = link {
                allow(libc::SYS_bind, vec![is(0, link)?]);
                allow(libc::SYS_recvmmsg, vec![is(0, link)?]);
            }
        }
        // Nothing is read from the link: neither by its descriptor nor by a copy.
        Role::Transmit => {
            allow(libc::SYS_signalfd4, vec![]);
            allow(libc::SYS_prctl, vec![is(0, libc::PR_SET_TIMERSLACK)?]);
            let Medium::Socket(link) = link else {
                // A serial port is open for writing alone.
                allow(libc::SYS_fcntl, vec![copy]);
                allow(libc::SYS_read, vec![]);
                return Ok(rules);
            };
            allow(libc::SYS_fcntl, vec![copy, is_not(0, link)?]);
            allow(libc::SYS_read, vec![is_not(0, link)?]);
            for call in [libc::SYS_bind, libc::SYS_connect, libc::SYS_sendmmsg] {
                allow(call, vec![is(0, link)?]);
            }
            let cutting = vec![
                is(0, link)?,
                is(1, libc::SOL_UDP)?,
                is(2, libc::UDP_SEGMENT)?,
            ];
            allow(libc::SYS_setsockopt, cutting);
        }
    }
    Ok(rules)
}

/// The argument is a number of 32 bits.
pub(super) fn is(
    argument: u8,
    number: impl TryInto<u64>,
) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::Eq, number)
}

fn is_not(argument: u8, number: impl TryInto<u64>) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::Ne, number)
}

/// The argument has none of the bits.
fn lacks(argument: u8, bits: i32) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::MaskedEq(number_of(bits)), 0)
}

pub(super) fn compare(
    argument: u8,
    operator: SeccompCmpOp,
    number: impl TryInto<u64>,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        number_of(number),
    )
}

fn is_null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// Returns a number that the kernel's headers or this process's own tables have: never negative.
fn number_of(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}
