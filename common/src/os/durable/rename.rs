//! Renames that take the place of nothing, also where the file system cannot promise that.
//!
//! FUSE (bindfs, ntfs-3g), exFAT and NFS know no `RENAME_NOREPLACE`: a courier's stick may be any of them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{is_full, parent_of, put_away, told, with_reserve};

/// Renames within one file system, never over something that has the new name. Where the file system cannot promise that, the
/// name is looked at just before: whoever takes it in between loses it.
///
/// # Errors
/// If the name is taken or the rename fails. Nothing is synced.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    // A name may need another block of its directory.
    with_reserve(is_full, || {
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => Ok(()),
            Err(errno) if is_unknown(errno) => without_noreplace(from, to),
            Err(errno) => Err(errno.into()),
        }
    })
    .map_err(|error| told("rename to", to, error))
}

/// Exchanges two folders; where the file system cannot do that in one step, `new` takes the place of `old`, and what `old` was is
/// put away. A kill in between leaves no `old`.
///
/// # Errors
/// If a rename fails. Nothing is synced.
pub fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        Err(errno) if is_unknown(errno) => {
            put_away(old, parent_of(old)?)?;
            rename_new(new, old)
        }
        Err(errno) => Err(told("exchange", old, errno.into())),
    }
}

/// Returns whether a file system or a kernel does not know the flag. A rename into itself has the same answer, and fails again.
fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP)
}

/// Looks first, and renames then. A link in place of the rename could not be raced, but wakes nobody who watches for arrivals.
fn without_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn without_the_flag_nothing_is_replaced_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("a", "a"), ("taken", "taken")] {
            fs::write(path(name), text).unwrap();
        }
        fs::create_dir_all(path("folder/inner")).unwrap();
        fs::create_dir_all(path("full/inner")).unwrap();
        symlink(path("nowhere"), path("link")).unwrap();
        for (from, to) in [
            ("a", "taken"),
            ("a", "link"),
            ("a", "full"),
            ("folder", "taken"),
            ("folder", "full"),
        ] {
            let refused = without_noreplace(&path(from), &path(to)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{from} {to}");
        }
        assert_eq!(fs::read(path("taken")).unwrap(), b"taken");
        assert!(!path("nowhere").exists());
        without_noreplace(&path("a"), &path("b")).unwrap();
        without_noreplace(&path("folder"), &path("moved")).unwrap();
        assert_eq!(fs::read(path("b")).unwrap(), b"a");
        assert!(path("moved/inner").exists());
        assert!(!path("a").exists() && !path("folder").exists());
        let gone = without_noreplace(&path("a"), &path("c")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
