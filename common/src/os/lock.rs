//! One daemon a role and host, and how others tell that it runs.

use crate::limits;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use super::clock::Stamp;
use super::durable::read_bounded;

/// A lock that its holder keeps for the whole life of the process; the kernel frees it when the
/// process ends.
///
/// It is an open-file-description lock on the whole file, not `flock`: whoever asks whether a
/// daemon runs can do so without taking the lock for an instant, and so cannot make a daemon fail
/// that starts at that very moment.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Takes the lock, or tells that another process holds it.
    ///
    /// # Errors
    /// Any error of opening or locking the file; a symbolic link is refused.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)?)) {
            Ok(_) => {
                // Readable for all, whatever the umask: commands of other users ask whether the
                // daemon runs. A file that somebody else made has the rights that he gave it.
                let _ = file.set_permissions(Permissions::from_mode(0o644));
                // Only `status` reads it; a full disk must not keep a daemon from starting.
                let _ = write_stamp(&file);
                Ok(Some(Self { _file: file }))
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// When the lock was last taken; `None` if the file does not tell.
    pub fn taken(path: &Path) -> Option<Stamp> {
        let bytes = read_bounded(path, limits::LOCK_FILE_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Returns whether some process holds the lock, without taking it.
    ///
    /// # Errors
    /// Any error of opening or asking; an absent file is a free lock.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut lock = whole_file(libc::F_WRLCK)?;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// Waits until a lock that was given up is free: a child that another test is starting has a copy until its `exec`.
    #[cfg(test)]
    pub(crate) fn await_free(path: &Path) {
        let begun = std::time::Instant::now();
        while Self::is_held(path).is_ok_and(|is_held| is_held) {
            assert!(begun.elapsed().as_secs() < 60, "it is not given up");
            std::thread::yield_now();
        }
    }
}

/// Writes over the stamp of before, so that it needs no room.
fn write_stamp(file: &File) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Stamp::now())?;
    text.push(b'\n');
    file.write_all_at(&text, 0)?;
    file.set_len(u64::try_from(text.len()).map_err(io::Error::other)?)
}

fn whole_file(lock_type: i32) -> io::Result<libc::flock> {
    let short = |value: i32| i16::try_from(value).map_err(io::Error::other);
    Ok(libc::flock {
        l_type: short(lock_type)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn only_one_holder_at_a_time_and_asking_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.lock");
        assert!(!HostLock::is_held(&path).unwrap());
        let first = HostLock::try_take(&path).unwrap().unwrap();
        assert!(HostLock::is_held(&path).unwrap());
        let taken = HostLock::taken(&path).unwrap();
        assert!(taken.age().is_some());
        assert!(HostLock::try_take(&path).unwrap().is_none());
        assert_eq!(HostLock::taken(&path), Some(taken));
        drop(first);
        HostLock::await_free(&path);
        assert!(HostLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_planted_symbolic_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.lock");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(HostLock::try_take(&path).is_err());
        assert!(HostLock::is_held(&path).is_err());
        assert!(!folder.path().join("elsewhere").exists());
    }
}
