//! Groups of files that cross from one role to another.
//!
//! A file that is *created* in a set-group-ID folder takes the folder's group. A file that is *renamed* into one keeps its
//! own group, and the other role cannot read it. So a rename into such a folder gives the group first.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, chown};

/// The bit of a folder's mode that gives its group to what is created in it.
const SET_GROUP_ID: u32 = 0o2000;

/// Gives a file, or a folder, to the group of the directory that it is going to.
///
/// A process may give only to groups that it is in. Where it is not, which is a matter of installation, the file keeps its
/// group, and whoever should read it cannot: never the other way round.
///
/// # Errors
/// Any other error of the system.
pub fn give_to_group_of(directory: &Path, path: &Path) -> io::Result<()> {
    let group = std::fs::metadata(directory)?.gid();
    if std::fs::symlink_metadata(path)?.gid() == group {
        return Ok(());
    }
    match chown(path, None, Some(Gid::from_raw(group))) {
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives a file that is about to be renamed to `dest` the group that it would have had if it had been created there.
///
/// # Errors
/// As [`give_to_group_of`].
pub(super) fn give_as_created_at(dest: &Path, path: &Path) -> io::Result<()> {
    let Some(folder) = dest.parent() else {
        return Ok(());
    };
    let sets_group = std::fs::metadata(folder)?.mode() & SET_GROUP_ID != 0;
    if sets_group {
        give_to_group_of(folder, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_file_takes_the_group_of_where_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        give_to_group_of(folder.path(), &file).unwrap();
        let group = |path: &Path| std::fs::metadata(path).unwrap().gid();
        assert_eq!(group(&file), group(folder.path()));
        assert!(give_to_group_of(folder.path(), &folder.path().join("none")).is_err());
        if nix::unistd::geteuid().is_root() {
            let other = folder.path().join("other");
            std::fs::create_dir(&other).unwrap();
            chown(&other, None, Some(Gid::from_raw(65_534))).unwrap();
            give_to_group_of(&other, &file).unwrap();
            assert_eq!(group(&file), 65_534);
        }
    }
}
