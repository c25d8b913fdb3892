//! The parts of a cable while it is being opened: written out of sight, and gone unless they are staged.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use valise_common::os::durable::{self, StagedFile, WriteBehind};
use valise_common::os::entropy;

use crate::steps::open::Piece;

/// Longer parts are written by a thread of their own, while the next segments are opened.
const LARGE_PART_BYTES: u64 = 4 << 20;

/// A cable's parts in a folder that nobody else sees. Dropped, it is put away to be erased.
#[derive(Debug)]
pub struct BodyFolder {
    tmp: PathBuf,
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
    lengths: Vec<u64>,
    /// Files of the parts begun so far, but for one that is being written behind.
    pub(super) files: Vec<StagedFile>,
    behind: Option<WriteBehind>,
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
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let text = format!("cannot make {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        let files = Vec::with_capacity(names.len());
        let mut folder = BodyFolder {
            tmp: tmp.to_owned(),
            path,
            names,
            lengths,
            files,
            behind: None,
            kept: Kept::No,
        };
        folder.begin_parts(0)?;
        Ok(folder)
    }

    /// Opens the files of all parts up to `part_index`.
    fn begin_parts(&mut self, part_index: usize) -> io::Result<()> {
        loop {
            let index = self.files.len() + usize::from(self.behind.is_some());
            if index > part_index {
                return Ok(());
            }
            self.finish_behind()?;
            let (Some(name), Some(length)) = (self.names.get(index), self.lengths.get(index))
            else {
                return Ok(());
            };
            let file = StagedFile::create_named(&self.path, OsStr::new(name))?;
            // A small file is cheaper without; for a large one a full disk shows at once.
            if *length > LARGE_PART_BYTES {
                file.reserve(*length)?;
                self.behind = Some(WriteBehind::start(file)?);
            } else {
                self.files.push(file);
            }
        }
    }

    fn finish_behind(&mut self) -> io::Result<()> {
        if let Some(behind) = self.behind.take() {
            self.files.push(behind.finish()?);
        }
        Ok(())
    }

    /// Waits until every byte is in its file. A part of no bytes gets no piece, and a file all the same.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn finish(&mut self) -> io::Result<()> {
        self.begin_parts(self.names.len().saturating_sub(1))?;
        self.finish_behind()
    }

    /// Writes the next bytes of a part.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn write(&mut self, piece: Piece<'_>) -> io::Result<()> {
        self.begin_parts(piece.part_index)?;
        match (self.files.get_mut(piece.part_index), &mut self.behind) {
            (Some(file), _) => file.write_all(piece.bytes),
            (None, Some(behind)) => behind.write_all(piece.bytes),
            (None, None) => Err(io::Error::other(
                "a piece of a part that the manifest does not name",
            )),
        }
    }
}

impl Drop for BodyFolder {
    fn drop(&mut self) {
        let behind = self.behind.take();
        if self.kept == Kept::No {
            // Start-up erases what is in tmp/ too, so that a failure here loses nothing. A large body is not overwritten
            // here: the loop may be dropping it.
            let _ = durable::put_away(&self.path, &self.tmp);
            let last = behind.and_then(|behind| behind.finish().ok());
            self.files.drain(..).chain(last).for_each(StagedFile::leave);
        }
    }
}
