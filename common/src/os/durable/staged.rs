//! A file on its way: written under `tmp/`, finished, published.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::acl::set_owner_and_reader;
use super::erase::{erase, overwrite_data};
use super::reserve::DRAWING_BYTES_MAX;
use super::{
    Access, Sync, SyncBatch, free_bytes, is_full, parent_of, rename_new, sync_dir, told,
    with_reserve,
};
use crate::os::entropy;
use crate::os::group::give_as_created_at;

/// A file being written under `tmp/`, invisible until it is published, and erased if it is dropped
/// before it is finished.
#[derive(Debug)]
pub struct StagedFile {
    pub(super) file: File,
    // Empty once the file is finished and no longer ours to delete.
    path: PathBuf,
    written_bytes: u64,
}

/// A file under `tmp/` whose bytes have been handed over for good; only its name is still to be
/// made. In a set-group-ID folder the file takes the folder's group with the name: the folder is a spool, which another
/// role reads.
///
/// Dropping it leaves the file: start-up decides what becomes of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a finished file stays invisible until it is published"]
pub struct FinishedFile {
    path: PathBuf,
}

impl StagedFile {
    /// Creates a file of a random name in `tmp`.
    ///
    /// # Errors
    /// Any error of creating it.
    pub fn create(tmp: &Path) -> io::Result<Self> {
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        Self::create_named(
            tmp,
            OsStr::new(&format!("{:016x}", u64::from_be_bytes(random))),
        )
    }

    /// Creates a file of a given name in `tmp`, so that start-up can find it again.
    ///
    /// # Errors
    /// Any error of creating it; a file or link of that name is one.
    pub fn create_named(tmp: &Path, name: &OsStr) -> io::Result<Self> {
        let path = tmp.join(name);
        let file = with_reserve(is_full, || create_new(&path))
            .map_err(|error| told("create", &path, error))?;
        Ok(Self {
            file,
            path,
            written_bytes: 0,
        })
    }

    /// Returns the bytes written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Where the file stands now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open file, for what [`Write`] does not offer (reading back, access rights).
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Sets who may read the file; a new one is its owner's alone.
    ///
    /// # Errors
    /// If the file system refuses; [`io::ErrorKind::Unsupported`] if it has no access control lists and one is needed.
    pub fn set_access(&self, access: Access) -> io::Result<()> {
        let mode = |mode| self.file.set_permissions(Permissions::from_mode(mode));
        let set = match access {
            Access::Owner => mode(0o600),
            Access::OwnerAnd(reader_uid) => set_owner_and_reader(&self.file, reader_uid),
            Access::Group => mode(0o640),
            Access::GroupWrite => mode(0o660),
            Access::Everyone => mode(0o644),
        };
        set.map_err(|error| told("set the access to", &self.path, error))
    }

    /// Reserves room on the disk, so that a full one shows before anything is accepted.
    ///
    /// # Errors
    /// If there is not so much room. A file system that cannot reserve is no error.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(());
        }
        // Asked first: a file system grants a request that it cannot fulfil as far as it can before
        // it fails, and for that moment everybody else finds the disk full.
        if bytes > free_bytes(&self.path)? {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(told("reserve", &self.path, full));
        }
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(told("reserve", &self.path, errno.into())),
        }
    }

    /// Syncs the bytes to the disk.
    ///
    /// # Errors
    /// A failed sync; the process must end.
    pub fn finish(mut self) -> io::Result<FinishedFile> {
        self.file
            .sync_all()
            .map_err(|error| told("sync", &self.path, error))?;
        Ok(FinishedFile {
            path: std::mem::take(&mut self.path),
        })
    }

    /// Leaves the sync to a batch, whose commit must have succeeded before the file is published; or before an audit line is
    /// that alone makes the file count.
    ///
    /// # Errors
    /// If the batch cannot take the file over.
    pub fn finish_in(mut self, batch: &mut SyncBatch) -> io::Result<FinishedFile> {
        batch.add_file(self.file.try_clone()?)?;
        Ok(FinishedFile {
            path: std::mem::take(&mut self.path),
        })
    }

    /// Leaves the file where it is, unsynced, to whoever erases its folder.
    pub fn leave(mut self) {
        self.path = PathBuf::new();
    }

    /// Gives the file the name of an older one, which it replaces; the directory is not synced.
    ///
    /// # Errors
    /// A failed sync or rename; the file is erased then.
    pub fn take_place(mut self, dest: &Path, sync: Sync) -> io::Result<()> {
        if sync == Sync::Yes {
            let synced = self.file.sync_all();
            synced.map_err(|error| told("sync", &self.path, error))?;
        }
        give_as_created_at(dest, &self.path)?;
        with_reserve(is_full, || fs::rename(&self.path, dest))
            .map_err(|error| told("rename to", dest, error))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        // What is small must be written even now; content waits for room.
        let is_small = self.written_bytes.saturating_add(length) <= DRAWING_BYTES_MAX;
        let count = with_reserve(
            |error| is_small && is_full(error),
            || self.file.write(bytes),
        )
        .map_err(|error| told("write", &self.path, error))?;
        self.written_bytes += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // It may hold plaintext or a key. Start-up erases what is in tmp/ too, so a failure here loses nothing.
            let _ = overwrite_data(&self.file).and_then(|()| self.file.sync_data());
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl FinishedFile {
    /// Takes up a finished file that start-up found in `tmp`.
    pub fn found(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the file stands now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, durably. A file that has this name already is an error, never
    /// overwritten.
    ///
    /// # Errors
    /// If the name is taken, or the rename or the sync of the directory fails.
    pub fn publish(self, dest: &Path) -> io::Result<()> {
        give_as_created_at(dest, &self.path)?;
        rename_new(&self.path, dest)?;
        sync_dir(parent_of(dest)?)
    }

    /// Like [`FinishedFile::publish`]; if that fails the file is erased.
    ///
    /// # Errors
    /// As [`FinishedFile::publish`].
    pub fn publish_or_erase(self, dest: &Path) -> io::Result<()> {
        let path = self.path.clone();
        self.publish(dest).inspect_err(|_| {
            // Start-up erases what is in tmp/; elsewhere nobody would look for it.
            let _ = erase(&path);
        })
    }

    /// Like [`FinishedFile::publish`], with the directory left to a batch.
    ///
    /// # Errors
    /// If the name is taken or the rename fails.
    pub fn publish_in(self, dest: &Path, batch: &mut SyncBatch) -> io::Result<()> {
        give_as_created_at(dest, &self.path)?;
        rename_new(&self.path, dest)?;
        batch.add_dir(parent_of(dest)?);
        Ok(())
    }

    /// Gives the file its name in place of an older file of that name; the directory is left to a
    /// batch.
    ///
    /// # Errors
    /// If the rename fails.
    pub fn replace_in(self, dest: &Path, batch: &mut SyncBatch) -> io::Result<()> {
        give_as_created_at(dest, &self.path)?;
        with_reserve(is_full, || fs::rename(&self.path, dest))
            .map_err(|error| told("rename", dest, error))?;
        batch.add_dir(parent_of(dest)?);
        Ok(())
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}
