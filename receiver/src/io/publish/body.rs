//! The parts of a cable while it is being opened: written out of sight, and gone unless they are staged.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use valise_common::os::durable::{self, StagedFile};
use valise_common::os::entropy;

use crate::stage::open::Piece;

/// So many bytes of a large part go to the disk at a time: a sync of another cable must not wait for a gigabyte.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// A cable's parts in a folder that nobody else sees. Dropped, it is gone.
#[derive(Debug)]
pub struct BodyFolder {
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
    lengths: Vec<u64>,
    /// Files of the parts begun so far.
    pub(super) files: Vec<StagedFile>,
    unsynced_bytes: u64,
    pub(super) kept: Kept,
}

/// Whether a folder outlives its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    No,
    Yes,
}

impl BodyFolder {
    /// Makes the folder in `tmp` for parts of these names and lengths.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn create(tmp: &Path, names: Vec<String>, lengths: Vec<u64>) -> io::Result<BodyFolder> {
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        let path = tmp.join(format!("body-{:016x}", u64::from_be_bytes(random)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let files = Vec::with_capacity(names.len());
        let mut folder = BodyFolder {
            path,
            names,
            lengths,
            files,
            unsynced_bytes: 0,
            kept: Kept::No,
        };
        // A part of no bytes gets no piece, and a file all the same.
        folder.begin_parts(0)?;
        Ok(folder)
    }

    /// Opens the files of all parts up to `part_index`.
    pub(super) fn begin_parts(&mut self, part_index: usize) -> io::Result<()> {
        while self.files.len() <= part_index {
            let index = self.files.len();
            let (Some(name), Some(length)) = (self.names.get(index), self.lengths.get(index))
            else {
                return Ok(());
            };
            let file = StagedFile::create_named(&self.path, OsStr::new(name))?;
            // A small file is cheaper without; for a large one a full disk shows at once.
            if *length > SYNC_EVERY_BYTES {
                file.reserve(*length)?;
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// Writes the next bytes of a part.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn write(&mut self, piece: Piece<'_>) -> io::Result<()> {
        self.begin_parts(piece.part_index)?;
        let file = self
            .files
            .get_mut(piece.part_index)
            .ok_or_else(|| io::Error::other("a piece of a part that the manifest does not name"))?;
        file.write_all(piece.bytes)?;
        let bytes = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(bytes);
        if self.unsynced_bytes >= SYNC_EVERY_BYTES {
            self.unsynced_bytes = 0;
            file.file().sync_data()?;
        }
        Ok(())
    }
}

impl Drop for BodyFolder {
    fn drop(&mut self) {
        self.files.clear();
        if self.kept == Kept::No {
            // Start-up empties tmp/ too, so that a failure here loses nothing.
            let _ = durable::remove_any(&self.path);
        }
    }
}
