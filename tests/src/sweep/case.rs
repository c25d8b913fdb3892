//! A case: one fault at one occurrence of one system call.

use std::fmt;

use clap::ValueEnum;

use crate::harness::Role;

/// The fault in a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// The role is killed as it enters the call.
    #[value(name = "SIGKILL")]
    Kill,
    /// The device fails.
    #[value(name = "EIO")]
    Io,
    /// The disk is full.
    #[value(name = "ENOSPC")]
    NoSpace,
    /// Too many files are open.
    #[value(name = "EMFILE")]
    NoDescriptor,
}

impl Fault {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Io, Self::NoSpace, Self::NoDescriptor];

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Io => "EIO",
            Self::NoSpace => "ENOSPC",
            Self::NoDescriptor => "EMFILE",
        }
    }

    /// The texts of the system and of SQLite for the error.
    pub(super) fn messages(self) -> &'static [&'static str] {
        match self {
            Self::Kill => &[],
            Self::Io => &["Input/output error", "disk I/O error"],
            Self::NoSpace => &[
                "No space left on device",
                "database or disk is full",
                "disk I/O error",
            ],
            Self::NoDescriptor => &[
                "Too many open files",
                "unable to open database file",
                "may open no more files",
            ],
        }
    }
}

/// The time from which the role is exposed to the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Phase {
    /// From its start: calls are counted from the start of its process.
    Start,
    /// When it runs: calls are counted, in each of its threads, from that moment.
    Running,
}

impl Phase {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Start, Self::Running];

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Running => "running",
        }
    }
}

/// One fault at one occurrence of one system call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The role with the fault.
    pub role: Role,
    /// The fault.
    pub fault: Fault,
    /// The time from which calls are counted.
    pub phase: Phase,
    /// The system call.
    pub call: String,
    /// Its number in a thread, from 1.
    pub at: u32,
}

impl fmt::Display for Case {
    /// Writes the command that repeats it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "valise-sweep --role {} --phase {} --fault {} --call {} --at {}",
            self.role.word(),
            self.phase.word(),
            self.fault.word(),
            self.call,
            self.at
        )
    }
}

const KILL: &[Fault] = &[Fault::Kill];
const READS: &[Fault] = &[Fault::Kill, Fault::Io];
const WRITES: &[Fault] = &[Fault::Kill, Fault::Io, Fault::NoSpace];
const OPENS: &[Fault] = &Fault::ALL;
const DESCRIPTORS: &[Fault] = &[Fault::Kill, Fault::NoDescriptor];

/// The system calls on a role's files, directories and sockets, and the faults that each can meet.
const CALLS: [(&str, &[Fault]); 44] = [
    ("open", OPENS),
    ("openat", OPENS),
    ("openat2", OPENS),
    ("read", READS),
    ("pread64", READS),
    ("readv", READS),
    ("getdents64", READS),
    ("write", WRITES),
    ("pwrite64", WRITES),
    ("writev", WRITES),
    ("pwritev", WRITES),
    ("copy_file_range", WRITES),
    ("sendfile", WRITES),
    ("fsync", WRITES),
    ("fdatasync", WRITES),
    ("syncfs", WRITES),
    ("sync_file_range", WRITES),
    ("fallocate", WRITES),
    ("ftruncate", WRITES),
    ("rename", WRITES),
    ("renameat", WRITES),
    ("renameat2", WRITES),
    ("link", WRITES),
    ("linkat", WRITES),
    ("mkdir", WRITES),
    ("mkdirat", WRITES),
    ("fsetxattr", WRITES),
    ("setxattr", WRITES),
    ("unlink", READS),
    ("unlinkat", READS),
    ("rmdir", READS),
    ("fchmod", READS),
    ("fchown", READS),
    ("fchmodat", READS),
    ("fchownat", READS),
    ("utimensat", READS),
    ("sendmsg", READS),
    ("sendmmsg", READS),
    ("sendto", READS),
    ("recvmmsg", READS),
    ("recvmsg", KILL),
    ("socket", DESCRIPTORS),
    ("inotify_init1", DESCRIPTORS),
    ("dup", DESCRIPTORS),
];

/// Returns the faults that a call can meet; none if the sweep does not know it.
pub(super) fn faults_of(call: &str) -> &'static [Fault] {
    let found = CALLS.iter().find(|(name, _)| *name == call);
    found.map_or(&[], |(_, faults)| faults)
}

/// Returns the calls in strace's form: a call that this machine does not have is not an error.
pub(super) fn traced() -> String {
    let names: Vec<String> = CALLS.iter().map(|(name, _)| format!("?{name}")).collect();
    format!("trace={}", names.join(","))
}
