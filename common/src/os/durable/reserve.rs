//! Room on the disk that a role holds for its log, its view, its answers and its index.
//!
//! Others may fill the disk at any moment: a folder of logs beside the state, another user. A limit below which a role
//! accepts nothing protects against the role alone. So each role keeps a file of allocated blocks, and shrinks it by a slice
//! whenever a small write finds the disk full. When there is room again it grows back.
//!
//! One reserve serves a process: a full disk shows in whichever of its threads writes next.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::free_bytes;

/// Bytes that a role holds.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// Given up at a time: many small files, or one view.
const SLICE_BYTES: u64 = 512 << 10;

/// A file that is larger is content, or grows without a bound: it gets nothing.
pub(super) const DRAWING_BYTES_MAX: u64 = 2 << 20;

/// Free bytes that a start needs, SQLite's files among them.
const START_BYTES: u64 = 1 << 20;

/// Bytes that stay free when the reserve grows back, so that it does not fill the disk itself.
const MARGIN_BYTES: u64 = 2 * RESERVE_BYTES;

static RESERVE: Mutex<Option<Reserve>> = Mutex::new(None);

struct Reserve {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Returns whether an error says that the disk, or this user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Takes up a role's reserve, or begins one. On a full disk it gives up what the start needs.
///
/// # Errors
/// If the file cannot be opened. A disk that is too full for a reserve is not an error.
pub fn hold_reserve(path: &Path) -> io::Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path);
    let file = match opened {
        // Its name needs a block, and nothing is held that could be given up.
        Err(error) if is_full(&error) => return Ok(()),
        opened => opened?,
    };
    let bytes = file.metadata()?.len();
    let mut held = held();
    let path = path.to_owned();
    let reserve = held.insert(Reserve { path, file, bytes });
    while free_bytes(&reserve.path)? < START_BYTES && reserve.shrink() {}
    reserve.grow();
    Ok(())
}

/// Fills the reserve again as soon as there is room. For a role's tick.
pub fn refill_reserve() {
    if let Some(reserve) = held().as_mut() {
        reserve.grow();
    }
}

/// Repeats an attempt that finds the disk full, with more of the reserve each time. Each attempt must start from the beginning.
///
/// # Errors
/// Those of the last attempt.
pub fn with_reserve<T, E>(
    is_full: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match attempt() {
            Err(error) if is_full(&error) && give_slice() => {}
            result => return result,
        }
    }
}

fn give_slice() -> bool {
    held().as_mut().is_some_and(Reserve::shrink)
}

/// Locks. A thread that panicked while it held the reserve left it as it was.
fn held() -> MutexGuard<'static, Option<Reserve>> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reserve {
    fn shrink(&mut self) -> bool {
        if self.bytes == 0 {
            return false;
        }
        let left = self.bytes.saturating_sub(SLICE_BYTES);
        if self.file.set_len(left).is_err() {
            return false;
        }
        tracing::warn!(
            left_bytes = left,
            "the disk is full: a part of the reserve is given up; make room"
        );
        self.bytes = left;
        true
    }

    fn grow(&mut self) {
        let missing = RESERVE_BYTES.saturating_sub(self.bytes);
        if missing == 0 || free_bytes(&self.path).unwrap_or(0) < missing + MARGIN_BYTES {
            return;
        }
        match self.fill() {
            Ok(()) => self.bytes = RESERVE_BYTES,
            Err(error) => {
                tracing::warn!("the reserve on the disk cannot be filled: {error}");
                // What was allocated before the failure is not counted, so it must not be held.
                let _ = self.file.set_len(self.bytes);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let (from, to) = (
            i64::try_from(self.bytes).map_err(io::Error::other)?,
            i64::try_from(RESERVE_BYTES).map_err(io::Error::other)?,
        );
        match fallocate(&self.file, FallocateFlags::empty(), from, to - from) {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.write_zeros(),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_zeros(&mut self) -> io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        self.file.seek(SeekFrom::Start(self.bytes))?;
        let mut left = RESERVE_BYTES - self.bytes;
        let zeros = vec![0; usize::try_from(SLICE_BYTES).map_err(io::Error::other)?];
        while left > 0 {
            let count = left.min(SLICE_BYTES);
            let bytes = usize::try_from(count).map_err(io::Error::other)?;
            self.file.write_all(&zeros[..bytes])?;
            left -= count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;

    use super::*;

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    fn bytes(path: &PathBuf) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    // One test: the reserve is the process's.
    #[test]
    fn a_full_disk_takes_slices_until_none_is_left_and_room_brings_them_back() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.reserve");
        hold_reserve(&path).unwrap();
        assert_eq!(bytes(&path), RESERVE_BYTES);
        let allocated = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(allocated >= RESERVE_BYTES, "{allocated} bytes are held");

        let mut tries = 0;
        let third = with_reserve(is_full, || {
            tries += 1;
            if tries < 3 { Err(full()) } else { Ok(tries) }
        });
        assert_eq!(third.unwrap(), 3);
        assert_eq!(bytes(&path), RESERVE_BYTES - 2 * SLICE_BYTES);

        // Another failure takes nothing.
        let other = with_reserve(is_full, || {
            io::Result::<()>::Err(io::ErrorKind::NotFound.into())
        });
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(bytes(&path), RESERVE_BYTES - 2 * SLICE_BYTES);

        let quota = || io::Result::<()>::Err(io::ErrorKind::QuotaExceeded.into());
        assert!(with_reserve(is_full, quota).is_err());
        assert_eq!(bytes(&path), 0);
        refill_reserve();
        assert_eq!(bytes(&path), RESERVE_BYTES);
        // The next start takes up what it finds, and fills it.
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(SLICE_BYTES)
            .unwrap();
        hold_reserve(&path).unwrap();
        assert_eq!(bytes(&path), RESERVE_BYTES);
    }
}
