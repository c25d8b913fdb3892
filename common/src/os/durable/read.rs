//! Reading small files, with a bound and without being led astray.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::{Stamp, changed_error, told};

/// Reads a regular file of at most `bytes_max` bytes. A symbolic link is not followed, and a pipe
/// does not block.
///
/// # Errors
/// If it cannot be read, is something else than a regular file, is larger, or is written to meanwhile.
pub fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    // A growing vector would leave copies of its beginning on the heap.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.min(bytes_max).saturating_add(64));
    read_up_to(file, path, bytes_max, &mut bytes)?;
    Ok(bytes)
}

/// Reads a file that holds a key: as [`read_bounded`], and only if nobody but its owner has any
/// right to it, and the owner is this user or root, or this user is root. The bytes erase
/// themselves.
///
/// # Errors
/// As [`read_bounded`], and [`io::ErrorKind::PermissionDenied`] if others have a right to it.
pub fn read_secret_file(path: &Path, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open_regular(path)?;
    let owner = file.metadata()?.uid();
    let (us, root) = (geteuid(), 0);
    let is_ours = us.is_root() || owner == us.as_raw() || owner == root;
    let forbidden = if is_ours { 0o077 } else { 0o777 };
    read_private(path, file, (forbidden, "0600"), bytes_max)
}

/// Reads a key that another role of this host hands over: its owner is that role's user, and this role is of its group.
///
/// # Errors
/// As [`read_secret_file`], where others than these two have a right to it.
pub(crate) fn read_handed_key(path: &Path, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read_private(path, open_regular(path)?, (0o017, "0660"), bytes_max)
}

fn read_private(
    path: &Path,
    file: File,
    (forbidden, mode): (u32, &str),
    bytes_max: usize,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = file.metadata()?;
    if metadata.mode() & forbidden != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} holds a key, but others may reach it; set its mode to {mode}",
                path.display()
            ),
        ));
    }
    // The capacity is final: a growing vector would leave copies of its beginning on the heap. One
    // byte more than the file shows whether it grew meanwhile.
    let length = usize::try_from(metadata.len())
        .unwrap_or(usize::MAX)
        .min(bytes_max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(64)));
    read_up_to(
        file,
        path,
        bytes_max.min(length.saturating_add(1)),
        &mut bytes,
    )?;
    Ok(bytes)
}

fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)
        .map_err(|error| told("open", path, error))?;
    if !file.metadata()?.is_file() {
        let text = format!("{} is not a regular file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file)
}

fn read_up_to(file: File, path: &Path, bytes_max: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let limit = u64::try_from(bytes_max).map_err(io::Error::other)?;
    let stamp = Stamp::of(&file)?;
    let read = (&file).take(limit.saturating_add(1)).read_to_end(bytes);
    let count = read.map_err(|error| told("read", path, error))?;
    if bytes.len() > bytes_max {
        let text = format!("{} is larger than {bytes_max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let count = u64::try_from(count).map_err(io::Error::other)?;
    // What was read may be neither the old file nor the new one.
    if !stamp.has_content(&file, count)? {
        return Err(changed_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn the_bound_is_inclusive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, [1; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap(), [1; 100]);
        assert_eq!(
            read_bounded(&path, 99).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert_eq!(
            read_bounded(&path, 0).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn links_pipes_and_directories_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        symlink(folder.path().join("a"), folder.path().join("link")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("pipe"), Mode::S_IRWXU).unwrap();
        for name in ["link", "pipe", ".", "absent"] {
            assert!(
                read_bounded(&folder.path().join(name), 10).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.key");
        fs::write(&path, [9; 40]).unwrap();
        for (mode, read) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o610, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret_file(&path, 40).is_ok(), read, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret_file(&path, 40).unwrap().as_slice(), [9; 40]);
        assert!(read_secret_file(&path, 39).is_err());
    }
}
