//! Calls that neither a role nor a library of one ever makes: a break-in does. They end the process with SIGSYS.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompFilter, SeccompRule, TargetArch,
};

use super::calls::{compare, is};

const FORBIDDEN: &[c_long] = &[
    // Another program, another process.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_tkill,
    // Code that is made at run time.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_personality,
    libc::SYS_pkey_mprotect,
    libc::SYS_remap_file_pages,
    libc::SYS_shmat,
    libc::SYS_userfaultfd,
    // Connections.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_listen,
    libc::SYS_socketpair,
    // Namespaces and mounts.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Users and capabilities.
    libc::SYS_capset,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    // The kernel and the machine.
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// The same by names that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ONLY_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_vfork,
];

#[cfg(not(target_arch = "x86_64"))]
const ONLY_HERE: &[c_long] = &[];

/// Namespaces that clone(2) makes.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Requests that type into a terminal: at the operator's, they run commands.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

pub(super) fn program(architecture: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = FORBIDDEN
        .iter()
        .chain(ONLY_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let mut forbid = |call, condition| {
        SeccompRule::new(vec![condition]).map(|rule| rules.entry(call).or_default().push(rule))
    };
    for flag in NAMESPACES {
        let flag = u64::from(flag.cast_unsigned());
        forbid(
            libc::SYS_clone,
            compare(0, SeccompCmpOp::MaskedEq(flag), flag)?,
        )?;
    }
    for request in TYPING {
        forbid(libc::SYS_ioctl, is(1, request)?)?;
    }
    let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillProcess);
    SeccompFilter::new(rules, allow, kill, architecture)?.try_into()
}
