//! Erasing: what held plaintext or a key is overwritten on the disk before its blocks are free again.
//!
//! The first step is one rename, to a name that no role judges. A kill at any system call after it leaves something that
//! the next start recognizes by that name and erases. Nothing is ever deleted piece by piece under its own name.
//!
//! ```text
//! rename to .erase-RANDOM → sync of the directory → overwrite → sync of the files → unlink
//! ```
//!
//! A file system that copies on write, and a disk that moves its blocks, keep older copies out of reach from here:
//! docs/threat-model.md.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use rustix::fs::SeekFrom;

use super::{SyncBatch, for_each_name, open_dir, parent_of, rename_new, sync_dir, told};
use crate::os::entropy;

/// How the name of something begins that is being erased. No role reads it as anything else.
pub(crate) const ERASING_PREFIX: &str = ".erase-";

/// The text of the alarm `not-erased`.
pub const NOT_ERASED: &str = "a file was deleted without being overwritten, or could not even be deleted, because this role's \
     user may not write it or it has a second name";

/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes that go to the disk at a time: no sync of another file waits for all of a large one.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// Folders inside each other. A requester may nest them, and each level holds a file open.
const DEPTH_MAX: usize = 16;

/// Things that share a sync.
const AT_ONCE_MAX: usize = 1_000;

/// Things that cannot be deleted and are logged one by one.
const STAYING_LOGGED_MAX: usize = 10;

/// Returns whether this is the name of something that is being erased.
pub fn is_erasing(name: &OsStr) -> bool {
    name.as_bytes().starts_with(ERASING_PREFIX.as_bytes())
}

/// Renames a file or folder out of its judged name, into a folder on the same file system. It is gone from where it was in
/// one step, and is erased by [`finish_erasing`] or an [`Eraser`](super::Eraser) of that folder. Returns its new path, or
/// `None` if it was gone already.
///
/// # Errors
/// If it stays under its name. Nothing is synced.
pub fn put_away(path: &Path, into: &Path) -> io::Result<Option<PathBuf>> {
    let random = entropy::bytes::<8>().map_err(io::Error::other)?;
    let name = format!("{ERASING_PREFIX}{:016x}", u64::from_be_bytes(random));
    let away = into.join(name);
    match rename_new(path, &away) {
        Ok(()) => Ok(Some(away)),
        Err(error)
            if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Erases a file or a whole folder here and now; what is gone already is no error. Symbolic links are deleted, not followed.
/// Returns how many files could only be deleted: other names lead to them, or this user may not write them.
///
/// # Errors
/// If something stays, or the disk fails. What is left then has a name that [`finish_erasing`] knows.
pub fn erase(path: &Path) -> io::Result<u64> {
    let parent = parent_of(path)?;
    match put_away(path, parent)? {
        Some(away) => {
            // Without this a power failure could bring the name back over what is overwritten.
            sync_dir(parent)?;
            destroy(&away)
        }
        None => Ok(0),
    }
}

/// Erases what was put away in a folder and what a kill left of it. Returns how many files could only be deleted and how many
/// things could not even be deleted: a requester can close a folder to this user at any time.
///
/// # Errors
/// If the folder cannot be read, or the disk fails.
pub fn finish_erasing(folder: &Path) -> io::Result<u64> {
    finish_erasing_but(folder, &mut BTreeSet::new())
}

/// As [`finish_erasing`], but for names that were found to stay; new ones are added.
pub(super) fn finish_erasing_but(
    folder: &Path,
    staying: &mut BTreeSet<OsString>,
) -> io::Result<u64> {
    let directory = open_dir(folder).map_err(|error| told("open", folder, error))?;
    let mut names: Vec<OsString> = Vec::new();
    for_each_name(&directory, |name| {
        let name = OsStr::from_bytes(name.to_bytes());
        if is_erasing(name) && !staying.contains(name) && names.len() < AT_ONCE_MAX {
            names.push(name.to_owned());
        }
        io::Result::Ok(())
    })?;
    if names.is_empty() {
        return Ok(0);
    }
    let synced = directory.sync_all();
    synced.map_err(|error| told("sync", folder, error))?;
    let mut batch = SyncBatch::new(folder)?;
    let mut left = 0;
    for name in &names {
        let overwritten = overwrite_entry(&directory, name, &mut batch, 0);
        left += overwritten.map_err(|error| told("overwrite", &folder.join(name), error))?;
    }
    batch.commit()?;
    let is_whole = names.len() < AT_ONCE_MAX;
    for name in names {
        if let Err(error) = unlink_all(&folder.join(&name)) {
            left += 1;
            if staying.len() < STAYING_LOGGED_MAX {
                tracing::warn!("{error}; delete it as its owner or as root");
            }
            staying.insert(name);
        }
    }
    if !is_whole {
        left += finish_erasing_but(folder, staying)?;
    }
    Ok(left)
}

/// Overwrites and deletes what has a name that no role judges.
fn destroy(path: &Path) -> io::Result<u64> {
    let parent = parent_of(path)?;
    let mut batch = SyncBatch::new(parent)?;
    let name = path.file_name().unwrap_or_default();
    let overwritten = overwrite_entry(&open_dir(parent)?, name, &mut batch, 0)
        .and_then(|count| batch.commit().map(|()| count))
        .map_err(|error| told("overwrite", path, error));
    // Deleted in any case: a file that cannot be overwritten is not better kept.
    unlink_all(path)?;
    overwritten
}

/// Overwrites one entry of a folder, and what is in it.
fn overwrite_entry(
    parent: &File,
    name: &OsStr,
    batch: &mut SyncBatch,
    depth: usize,
) -> io::Result<u64> {
    let opened = open_at(parent, name, OFlag::O_WRONLY).or_else(|errno| match errno {
        Errno::EACCES => open_own_at(parent, name),
        errno => Err(errno),
    });
    match opened {
        Ok(file) => {
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(0);
            }
            // Another name may lead to something that is to stay, in another's folder too.
            if metadata.nlink() != 1 {
                return Ok(1);
            }
            match overwrite_data(&file) {
                Ok(()) => batch.add_file(file).map(|()| 0),
                // It copies on write. Its blocks are free only when the file is gone.
                Err(error) if error.kind() == ErrorKind::StorageFull => Ok(1),
                Err(error) => Err(error),
            }
        }
        Err(Errno::EISDIR) if depth < DEPTH_MAX => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let Ok(folder) = open_at(parent, name, flags) else {
                return Ok(1);
            };
            let mut left = 0;
            for_each_name(&folder, |name| {
                let name = OsStr::from_bytes(name.to_bytes());
                left += overwrite_entry(&folder, name, batch, depth + 1)?;
                io::Result::Ok(())
            })?;
            Ok(left)
        }
        // A link, a pipe without a reader, a socket: nothing is stored in them.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENOENT) => Ok(0),
        // Another's file, or one that another program holds.
        Err(_) => Ok(1),
    }
}

fn open_at(parent: &File, name: &OsStr, flags: OFlag) -> Result<File, Errno> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map(File::from)
}

/// Opens a file that its mode closes even to its owner, if this user is the owner.
fn open_own_at(parent: &File, name: &OsStr) -> Result<File, Errno> {
    let file = open_at(parent, name, OFlag::O_RDONLY)?;
    let is_own = file.metadata().is_ok_and(|metadata| {
        metadata.uid() == geteuid().as_raw() && metadata.is_file() && metadata.nlink() == 1
    });
    if !is_own || file.set_permissions(Permissions::from_mode(0o600)).is_err() {
        return Err(Errno::EACCES);
    }
    open_at(parent, name, OFlag::O_WRONLY)
}

/// Overwrites what a file stores with zeros. Its holes stay holes: they hold nothing, and to fill them could fill the disk.
/// The caller syncs the file.
///
/// # Errors
/// If a write fails.
pub(super) fn overwrite_data(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let zeros = vec![0; usize::try_from(length).map_or(CHUNK_BYTES, |it| it.min(CHUNK_BYTES))];
    let chunk_bytes = u64::try_from(zeros.len()).map_err(io::Error::other)?;
    let (mut offset, mut unsynced_bytes) = (0, 0);
    while offset < length {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(begin) => begin,
            // No data after this.
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(_) => offset,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin)).unwrap_or(length);
        let end = end.clamp(begin, length);
        let mut at = begin;
        while at < end {
            let count = (end - at).min(chunk_bytes);
            let bytes = &zeros[..usize::try_from(count).map_err(io::Error::other)?];
            file.write_all_at(bytes, at)?;
            at += count;
            unsynced_bytes += count;
            if unsynced_bytes >= SYNC_EVERY_BYTES {
                unsynced_bytes = 0;
                file.sync_data()?;
            }
        }
        offset = end.max(offset + 1);
    }
    Ok(())
}

/// Deletes a file or folder that has a name that no role judges.
fn unlink_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => unlink_folder(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(told("delete", path, error)),
        _ => Ok(()),
    }
}

/// Deletes a folder. Its own files go first, by names that nothing remembers; the standard library takes what is left.
fn unlink_folder(path: &Path) -> io::Result<()> {
    let folder = open_dir(path)?;
    for_each_name(&folder, |name: &CStr| {
        // What cannot be deleted so is reported below.
        let _ = unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir);
        io::Result::Ok(())
    })?;
    fs::remove_dir_all(path)
}

/// Deletes a file or a whole folder that held nothing secret; a folder is renamed out of its name first, so that nothing of it
/// is ever judged. Symbolic links are deleted, not followed. What is gone already is no error.
///
/// # Errors
/// If something stays under this name. Nothing is synced.
pub fn remove_any(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() && !path.file_name().is_some_and(is_erasing) => {
            match put_away(path, parent_of(path)?)? {
                // It has lost its name. An eraser of the folder may be at it too, and the next start deletes what stays.
                Some(away) => {
                    if let Err(error) = unlink_all(&away) {
                        tracing::debug!(
                            "{error}; it has lost its name, and is tried again at the next start"
                        );
                    }
                    Ok(())
                }
                None => Ok(()),
            }
        }
        _ => unlink_all(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::io::{Read as _, Seek as _};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A file whose bytes can be read after its name is gone.
    fn held(path: &Path, bytes: &[u8]) -> File {
        fs::write(path, bytes).unwrap();
        File::open(path).unwrap()
    }

    fn bytes_of(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn entries(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn every_file_of_a_folder_is_overwritten_before_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let request = folder.path().join("request");
        fs::create_dir_all(request.join("deep/deeper")).unwrap();
        let files = [
            held(&request.join("a"), b"body"),
            held(&request.join("deep/b"), &vec![7; 3 * CHUNK_BYTES + 5]),
            held(&request.join("deep/deeper/c"), b""),
        ];
        let lengths = files.each_ref().map(|file| bytes_of(file).len());
        // As what is released is: not even its owner may write it.
        fs::set_permissions(request.join("a"), Permissions::from_mode(0o440)).unwrap();
        symlink(folder.path(), request.join("link")).unwrap();
        nix::unistd::mkfifo(&request.join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(erase(&request).unwrap(), 0);
        for (file, length) in files.iter().zip(lengths) {
            assert_eq!(bytes_of(file), vec![0; length]);
        }
        assert_eq!(entries(folder.path()), 0);
        assert_eq!(erase(&request).unwrap(), 0, "gone already");
    }

    #[test]
    fn a_file_with_another_name_and_what_a_link_leads_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, other) = (folder.path().join("kept"), folder.path().join("other"));
        fs::write(&kept, b"kept").unwrap();
        let request = folder.path().join("request");
        fs::create_dir(&request).unwrap();
        fs::hard_link(&kept, request.join("linked")).unwrap();
        fs::write(&other, b"other").unwrap();
        symlink(&other, request.join("link")).unwrap();
        assert_eq!(erase(&request).unwrap(), 1, "one could only be deleted");
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
        assert_eq!(fs::read(&other).unwrap(), b"other");
        assert_eq!(entries(folder.path()), 2);
    }

    #[test]
    fn holes_are_not_filled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::create_new(&path).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"last", (1 << 40) - 4).unwrap();
        overwrite_data(&file).unwrap();
        file.sync_all().unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 40);
        assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
        let mut bytes = [1; 5];
        for offset in [0, (1 << 40) - 5] {
            File::open(&path)
                .unwrap()
                .read_exact_at(&mut bytes, offset)
                .unwrap();
            assert_eq!(bytes, [0; 5]);
        }
    }

    #[test]
    fn what_a_kill_left_is_erased_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tmp")).unwrap();
        fs::create_dir(path("request")).unwrap();
        let files = [
            held(&path("request/a"), b"body"),
            held(&path("key"), b"key"),
        ];
        fs::write(path("tmp/other"), b"other").unwrap();
        let away = put_away(&path("request"), &path("tmp")).unwrap().unwrap();
        assert!(is_erasing(away.file_name().unwrap()));
        assert!(!path("request").exists() && away.join("a").exists());
        put_away(&path("key"), &path("tmp")).unwrap().unwrap();
        assert_eq!(put_away(&path("key"), &path("tmp")).unwrap(), None);
        assert!(put_away(&path("tmp"), &path("absent")).is_err());
        assert_eq!(finish_erasing(&path("tmp")).unwrap(), 0);
        assert_eq!(files.each_ref().map(bytes_of), [vec![0; 4], vec![0; 3]]);
        assert_eq!(fs::read(path("tmp/other")).unwrap(), b"other");
        assert_eq!(entries(&path("tmp")), 1);
    }

    #[test]
    fn a_folder_is_gone_from_its_name_before_anything_in_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let request = folder.path().join("request");
        fs::create_dir_all(request.join("deep")).unwrap();
        let inside = File::open(&request).unwrap();
        remove_any(&request).unwrap();
        assert_eq!(inside.metadata().unwrap().nlink(), 0);
        remove_any(&request).unwrap();
        assert_eq!(entries(folder.path()), 0);
    }
}
