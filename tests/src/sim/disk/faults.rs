//! Faults that a test asks for, by the count of operations.

use fuser::Errno;

use super::store::Result;

/// What happens to a disk. Everything but [`Operation::Read`] changes or syncs something, and is counted.
///
/// Not counted are looking up, forgetting, closing, listing, reading attributes and links, and what the kernel writes by
/// itself from shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file is created and opened, or a pipe or another node made.
    Create,
    /// A file is opened that was there.
    Open,
    /// A directory is made.
    MakeDir,
    /// A symbolic link is made.
    Symlink,
    /// A file gets another name.
    Link,
    /// A file loses a name.
    Unlink,
    /// A directory is removed.
    RemoveDir,
    /// A name changes.
    Rename,
    /// Bytes are written, at most 1 MiB at a time.
    Write,
    /// Room is set aside or given back.
    Allocate,
    /// The length, the mode, the owner or a time is set.
    SetAttributes,
    /// An extended attribute or an access control list is set.
    SetExtended,
    /// A file, a directory or everything is synced.
    Sync,
    /// Bytes are read that the kernel does not hold: all of a file that was opened after the fault was set.
    Read,
}

/// The operations that a failure counts and hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Every counted one.
    Any,
    /// Those of one kind.
    Only(Operation),
}

/// An error of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The medium failed.
    Io,
    /// There is no room.
    NoRoom,
}

/// Faults to come, and what has been counted.
#[derive(Debug, Default)]
pub(super) struct Faults {
    done: Vec<Operation>,
    kill_at: Option<usize>,
    fail: Option<(Failing, u64, Failure)>,
}

impl Faults {
    pub fn done(&self) -> &[Operation] {
        &self.done
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn kill_at(&mut self, number: usize) {
        self.kill_at = Some(number);
    }

    pub fn thaw(&mut self) {
        self.kill_at = None;
    }

    pub fn fail_at(&mut self, failing: Failing, number: u64, failure: Failure) {
        self.fail = Some((failing, number, failure));
    }

    /// Returns whether reads are to fail, so that files must not be read from the kernel's memory.
    pub fn fails_reads(&self) -> bool {
        matches!(self.fail, Some((Failing::Only(Operation::Read), ..)))
    }

    /// Returns whether the process is dead.
    pub fn is_killed(&self) -> bool {
        self.kill_at.is_some_and(|at| self.done.len() >= at)
    }

    /// Passes what is not counted.
    pub fn pass(&self) -> Result<()> {
        if self.is_killed() {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    /// Counts an operation, and fails it if that is due.
    pub fn count(&mut self, operation: Operation) -> Result<()> {
        self.pass()?;
        if operation != Operation::Read {
            self.done.push(operation);
        }
        // The operation at which the process dies changes nothing.
        self.pass()?;
        let Some((failing, left, failure)) = &mut self.fail else {
            return Ok(());
        };
        let counts = match failing {
            Failing::Any => operation != Operation::Read,
            Failing::Only(kind) => *kind == operation,
        };
        if counts {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let is_read = operation == Operation::Read;
                let errno = match failure {
                    Failure::Io => Errno::EIO,
                    Failure::NoRoom => Errno::ENOSPC,
                };
                // The kernel tries to read again, and a bad sector stays bad.
                if !is_read {
                    self.fail = None;
                }
                return Err(errno);
            }
        }
        Ok(())
    }
}
