//! Many files, one sync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use super::{open_dir, told};

/// Up to this many entries are synced one by one, which waits for nothing else that is being
/// written to the disk: a FLASH cable is never behind the pages of a large ROUTINE one.
const SINGLE_SYNCS_MAX: usize = 32;

/// Files and directories that become durable together, so that many small ones share the cost of a
/// sync.
///
/// Make one at the start of a process and use it again and again. Beyond 32 entries the file system
/// of the state folder is synced as a whole; the kernel then reports every write-back error since
/// this batch was *made*, once, which is why the batch must be older than the files in it.
///
/// # Bounds
/// 32 open files and as many directories, whatever is added; what is on another file system than
/// the state folder is synced at once.
#[derive(Debug)]
pub struct SyncBatch {
    anchor: File,
    // For errors: what is synced belongs to this folder.
    state: PathBuf,
    device: u64,
    files: Vec<File>,
    // By inode and opened when added: a directory that is renamed before the commit is still itself.
    directories: BTreeMap<u64, File>,
    // More was added than is held open: only a sync of the file system can answer for it.
    crowded: bool,
    // The first directory that could not be added.
    failed: Option<io::Error>,
}

impl SyncBatch {
    /// Makes an empty batch for the file system of the state folder.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn new(state: &Path) -> io::Result<Self> {
        let anchor = open_dir(state).map_err(|error| told("open", state, error))?;
        let device = anchor.metadata()?.dev();
        Ok(Self {
            anchor,
            state: state.to_owned(),
            device,
            files: Vec::new(),
            directories: BTreeMap::new(),
            crowded: false,
            failed: None,
        })
    }

    /// Adds a written file.
    ///
    /// # Errors
    /// If the file is on another file system and its sync fails; the process must end.
    pub fn add_file(&mut self, file: File) -> io::Result<()> {
        if file.metadata()?.dev() != self.device {
            return file.sync_all();
        }
        if self.files.len() < SINGLE_SYNCS_MAX {
            self.files.push(file);
        } else {
            self.crowded = true;
        }
        Ok(())
    }

    /// Adds a directory in which names changed; adding it twice costs nothing. One that cannot be
    /// opened fails the next commit.
    pub fn add_dir(&mut self, directory: impl AsRef<Path>) {
        let directory = directory.as_ref();
        if let Err(error) = self.try_add_dir(directory) {
            self.failed.get_or_insert(told("sync", directory, error));
        }
    }

    fn try_add_dir(&mut self, directory: &Path) -> io::Result<()> {
        let opened = open_dir(directory)?;
        let metadata = opened.metadata()?;
        if metadata.dev() != self.device {
            return opened.sync_all();
        }
        if self.directories.len() < SINGLE_SYNCS_MAX {
            self.directories.insert(metadata.ino(), opened);
        } else {
            self.crowded |= !self.directories.contains_key(&metadata.ino());
        }
        Ok(())
    }

    /// Returns whether there is nothing to sync.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directories.is_empty() && self.failed.is_none()
    }

    /// Makes everything in the batch durable, and empties it.
    ///
    /// # Errors
    /// A failed sync; the process must end.
    pub fn commit(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.files);
        let directories = std::mem::take(&mut self.directories);
        let crowded = std::mem::take(&mut self.crowded);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if crowded || files.len() + directories.len() > SINGLE_SYNCS_MAX {
            let synced = syncfs(&self.anchor).map_err(io::Error::from);
            return synced.map_err(|error| told("sync the disk of", &self.state, error));
        }
        // Files first: a name must not be durable before what it names.
        files
            .iter()
            .chain(directories.values())
            .try_for_each(File::sync_all)
            .map_err(|error| told("sync files below", &self.state, error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_crowded_batch_holds_few_files_open_and_commits() {
        let folder = tempfile::tempdir().unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        assert!(batch.is_empty());
        for round in 0..2 {
            for number in 0..100 {
                let path = folder.path().join(format!("{round}-{number}"));
                batch.add_file(File::create(path).unwrap()).unwrap();
                batch.add_dir(folder.path());
            }
            assert_eq!(
                (batch.files.len(), batch.directories.len()),
                (SINGLE_SYNCS_MAX, 1)
            );
            batch.commit().unwrap();
            assert!(batch.is_empty() && !batch.crowded);
        }
    }

    #[test]
    fn a_directory_that_is_renamed_before_the_commit_is_synced_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        for _ in 0..2 {
            // The second one has the first one's name, and is another directory.
            std::fs::create_dir(&from).unwrap();
            batch.add_dir(&from);
            let _ = std::fs::remove_dir(&to);
            std::fs::rename(&from, &to).unwrap();
        }
        assert_eq!(batch.directories.len(), 2);
        batch.commit().unwrap();
    }

    #[test]
    fn a_small_batch_syncs_each_and_tells_of_a_directory_that_vanished() {
        let folder = tempfile::tempdir().unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        batch
            .add_file(File::create(folder.path().join("a")).unwrap())
            .unwrap();
        batch.add_dir(folder.path());
        batch.commit().unwrap();
        batch.add_dir(folder.path().join("gone"));
        assert_eq!(batch.commit().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
