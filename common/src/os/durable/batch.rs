//! Many files, one sync.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use super::{open_dir, sync_dir, told};

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
/// 32 open files, whatever is added; files on another file system than the state folder are synced
/// at once.
#[derive(Debug)]
pub struct SyncBatch {
    anchor: File,
    device: u64,
    files: Vec<File>,
    directories: BTreeSet<PathBuf>,
    // More files were added than are held open: only a sync of the file system can answer for them.
    crowded: bool,
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
            device,
            files: Vec::new(),
            directories: BTreeSet::new(),
            crowded: false,
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

    /// Adds a directory in which names changed; adding it twice costs nothing.
    pub fn add_dir(&mut self, directory: impl Into<PathBuf>) {
        self.directories.insert(directory.into());
    }

    /// Tells whether there is nothing to sync.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directories.is_empty()
    }

    /// Makes everything in the batch durable, and empties it.
    ///
    /// # Errors
    /// A failed sync; the process must end.
    pub fn commit(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.files);
        let directories = std::mem::take(&mut self.directories);
        let crowded = std::mem::take(&mut self.crowded);
        if crowded || files.len() + directories.len() > SINGLE_SYNCS_MAX {
            syncfs(&self.anchor)?;
            for directory in directories {
                let opened =
                    open_dir(&directory).map_err(|error| told("open", &directory, error))?;
                if opened.metadata()?.dev() != self.device {
                    opened
                        .sync_all()
                        .map_err(|error| told("sync", &directory, error))?;
                }
            }
            return Ok(());
        }
        for file in files {
            file.sync_all()?;
        }
        directories
            .iter()
            .try_for_each(|directory| sync_dir(directory))
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
