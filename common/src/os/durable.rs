//! Durable files: what is written here is whole or absent after a crash at any system call.
//!
//! The order is always: write to `tmp/` on the same file system (`O_EXCL|O_NOFOLLOW`, 0600), check
//! every write, `fsync` the file, rename, `fsync` the directory, and only then answer or act. An
//! error of `fsync` is never retried: the kernel may have dropped the pages and would report
//! success the second time. Whoever gets one ends the process.

mod acl;
mod batch;
mod behind;
mod checked;
mod erase;
mod eraser;
mod list;
mod medium;
mod names;
mod read;
mod rename;
mod reserve;
mod staged;
mod stamp;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;

pub use acl::{Readers, share_folder};
pub use batch::SyncBatch;
pub use behind::WriteBehind;
pub use checked::{add_check, checked};
pub use erase::{NOT_ERASED, erase, finish_erasing, is_erasing, put_away, remove_any};
pub use eraser::Eraser;
pub use list::list;
pub use medium::{copies_on_write, copies_on_write_text};
pub(crate) use names::{Names, for_each_name};
pub(crate) use read::read_handed_key;
pub use read::{read_bounded, read_secret_file};
pub use rename::{exchange, rename_new};
pub use reserve::{RESERVE_BYTES, hold_reserve, is_full, refill_reserve, with_reserve};
pub use staged::{FinishedFile, StagedFile};
pub(crate) use stamp::{Stamp, changed_error};

/// Whether a replacement must survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It must: the file and its directory are synced.
    Yes,
    /// It is a view, rebuilt at start-up: renamed over, not synced.
    No,
}

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (0600): keys, and whatever is in plaintext.
    Owner,
    /// The directory's group too (0640): spools between the two roles of a host, and views.
    Group,
    /// The directory's group may write it too (0660): a link key that the other role takes and then overwrites.
    GroupWrite,
    /// Its owner, and one other user by an access control list: answers to requests.
    OwnerAnd(u32),
    /// Everybody who reaches the directory (0644): views, statements for signing.
    Everyone,
}

/// Writes a new file durably: staged in `tmp`, synced, renamed, its directory synced.
///
/// # Errors
/// If the name is taken, or any step fails; nothing is left behind then.
pub fn write_new(tmp: &Path, dest: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut staged = StagedFile::create(tmp)?;
    staged.set_access(access)?;
    staged.write_all(bytes)?;
    staged.finish()?.publish_or_erase(dest)
}

/// Writes a file in place of an older one of its name.
///
/// # Errors
/// If any step fails; the older file stands then.
pub fn replace(
    tmp: &Path,
    dest: &Path,
    bytes: &[u8],
    access: Access,
    sync: Sync,
) -> io::Result<()> {
    let mut staged = StagedFile::create(tmp)?;
    staged.set_access(access)?;
    staged.write_all(bytes)?;
    staged.take_place(dest, sync)?;
    match sync {
        Sync::Yes => sync_parent(dest),
        Sync::No => Ok(()),
    }
}

/// Writes a file that everybody may read in place of an older one, by way of a fixed name beside it: for a folder that is not
/// the host's own, where nothing but this name may be left behind. Nothing is synced.
///
/// # Errors
/// The system's; a symbolic link in the place of the staged file is refused.
pub(crate) fn replace_beside(staged: &Path, dest: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(staged)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    fs::rename(staged, dest)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// A failed sync; the process must end.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    open_dir(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| told("sync", directory, error))
}

/// Makes the name of a file or folder durable.
///
/// # Errors
/// A failed sync; the process must end.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent_of(path)?)
}

/// Makes a directory of exactly the given mode, or accepts one that stands there; a symbolic link
/// is refused.
///
/// # Errors
/// If it cannot be made, or something else has its name.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    let made = with_reserve(is_full, || {
        DirBuilder::new().mode(mode & 0o700).create(path)
    });
    match made {
        // The umask may have taken rights away, and mkdir ignores the set-group-id bit.
        Ok(()) => open_dir(path)
            .and_then(|opened| opened.set_permissions(Permissions::from_mode(mode)))
            .map_err(|error| told("set the mode of", path, error)),
        // Looked at without reading it: it may be closed to this role, and the other one's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new()
            .read(true)
            .custom_flags(
                (OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits(),
            )
            .open(path)
            .map(drop)
            .map_err(|error| told("use", path, error)),
        Err(error) => Err(told("make", path, error)),
    }
}

/// Erases what a crash left in `tmp`, except names that `keep` holds on to and what was put away already.
///
/// # Errors
/// If something cannot be deleted, or `tmp` itself is a link: what lies behind it is not ours to delete.
pub fn clear_tmp(tmp: &Path, mut keep: impl FnMut(&OsStr) -> bool) -> io::Result<()> {
    open_dir(tmp).map_err(|error| told("open", tmp, error))?;
    for entry in fs::read_dir(tmp).map_err(|error| told("read", tmp, error))? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_erasing(&name) && !keep(&name) {
            erase(&entry.path())?;
        }
    }
    Ok(())
}

/// Returns the bytes that this user may still write on the file system of `path`.
///
/// # Errors
/// If the file system does not tell.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let told_by = statvfs(path)?;
    Ok(told_by
        .blocks_available()
        .saturating_mul(told_by.fragment_size()))
}

/// Opens a directory itself, not through a symbolic link.
pub(crate) fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

fn parent_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a file needs a directory",
        )),
    }
}

/// Adds what was tried and where to an error of the system, and keeps its kind.
fn told(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {what} {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (tmp, out) = (folder.path().join("tmp"), folder.path().join("out"));
        make_dir(&tmp, 0o700).unwrap();
        make_dir(&out, 0o2750).unwrap();
        (folder, tmp, out)
    }

    fn entries(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn a_new_file_appears_whole_with_the_rights_asked_for() {
        let (_folder, tmp, out) = folder();
        write_new(&tmp, &out.join("a"), b"secret", Access::Owner).unwrap();
        write_new(&tmp, &out.join("b"), b"shared", Access::Group).unwrap();
        assert_eq!(fs::read(out.join("a")).unwrap(), b"secret");
        assert_eq!(fs::metadata(out.join("a")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(out.join("b")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o7777, 0o2750);
        assert_eq!(entries(&tmp), 0);
    }

    #[test]
    fn a_taken_name_is_never_overwritten() {
        let (_folder, tmp, out) = folder();
        let dest = out.join("a");
        write_new(&tmp, &dest, b"first", Access::Owner).unwrap();
        let error = write_new(&tmp, &dest, b"second", Access::Owner).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&dest).unwrap(), b"first");
        assert_eq!(entries(&tmp), 0);
        // Not even a dangling link is written through.
        symlink(out.join("elsewhere"), out.join("link")).unwrap();
        assert!(write_new(&tmp, &out.join("link"), b"third", Access::Owner).is_err());
        assert!(!out.join("elsewhere").exists());
    }

    #[test]
    fn a_replacement_takes_the_place_of_a_link_not_of_its_target() {
        let (_folder, tmp, out) = folder();
        fs::write(out.join("target"), b"target").unwrap();
        symlink(out.join("target"), out.join("view.json")).unwrap();
        for sync in [Sync::No, Sync::Yes] {
            replace(&tmp, &out.join("view.json"), b"{}", Access::Group, sync).unwrap();
        }
        assert_eq!(fs::read(out.join("target")).unwrap(), b"target");
        assert!(
            fs::symlink_metadata(out.join("view.json"))
                .unwrap()
                .is_file()
        );
        assert_eq!(fs::read(out.join("view.json")).unwrap(), b"{}");
        assert_eq!(entries(&tmp), 0);
    }

    #[test]
    fn a_dropped_file_is_gone_and_a_finished_one_stays() {
        let (_folder, tmp, out) = folder();
        let mut staged = StagedFile::create(&tmp).unwrap();
        staged.write_all(b"half").unwrap();
        assert_eq!((staged.written_bytes(), entries(&tmp)), (4, 1));
        drop(staged);
        assert_eq!(entries(&tmp), 0);
        let mut staged = StagedFile::create_named(&tmp, OsStr::new("seal-7")).unwrap();
        staged.reserve(10_000).unwrap();
        staged.write_all(b"whole").unwrap();
        drop(staged.finish().unwrap());
        assert!(StagedFile::create_named(&tmp, OsStr::new("seal-7")).is_err());
        FinishedFile::found(tmp.join("seal-7"))
            .publish(&out.join("7"))
            .unwrap();
        assert_eq!(fs::read(out.join("7")).unwrap(), b"whole");
    }

    #[test]
    fn clearing_deletes_links_and_folders_but_follows_nothing() {
        let (_folder, tmp, out) = folder();
        fs::write(out.join("kept"), b"kept").unwrap();
        symlink(&out, tmp.join("link")).unwrap();
        fs::create_dir_all(tmp.join("request/deep")).unwrap();
        fs::write(tmp.join("seal-7"), b"x").unwrap();
        clear_tmp(&tmp, |name| name == "seal-7").unwrap();
        assert_eq!(entries(&tmp), 1);
        assert!(out.join("kept").exists());
        remove_any(&tmp.join("absent")).unwrap();
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let (folder, _tmp, out) = folder();
        let link = folder.path().join("link");
        symlink(&out, &link).unwrap();
        assert!(make_dir(&link, 0o700).is_err());
        assert!(sync_dir(&link).is_err());
    }

    #[test]
    fn there_is_room_somewhere() {
        let (folder, tmp, _out) = folder();
        let free = free_bytes(folder.path()).unwrap();
        assert!(free > 0);
        let staged = StagedFile::create(&tmp).unwrap();
        assert!(staged.reserve(free.saturating_mul(4)).is_err());
    }
}
