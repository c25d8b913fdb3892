//! The files that hold a log's lines: `ROLE.log`, and after it `ROLE/SEQ.log`, each named by the number of its first line in
//! twenty digits. Lines are appended to the last; the others never change again.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::files::log_options;
use crate::os::durable::{is_full, sync_dir, with_reserve};

/// Digits of a number in a name, so that names sort as numbers do.
const DIGITS: usize = 20;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of its first line.
    pub first_seq: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Returns the files of a log whose first is `log`, in the order of their lines.
///
/// # Errors
/// The system's. That the first is missing is for whoever opens it to tell.
pub fn parts(log: &Path) -> io::Result<Vec<Part>> {
    let mut parts = vec![Part {
        first_seq: 0,
        path: log.to_owned(),
    }];
    let entries = match fs::read_dir(folder(log)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(parts);
        }
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str());
        let number = number.and_then(|name| name.strip_suffix(".log"));
        let is_number =
            |name: &&str| name.len() == DIGITS && name.bytes().all(|one| one.is_ascii_digit());
        let number = number.filter(is_number);
        if let Some(first_seq) = number.and_then(|number| number.parse().ok()) {
            parts.push(Part { first_seq, path });
        }
    }
    parts.sort_by_key(|part| part.first_seq);
    Ok(parts)
}

/// Returns the folder of the files after the first.
fn folder(log: &Path) -> PathBuf {
    log.with_extension("")
}

/// Creates the folder if it is missing, and refuses anything else that has its name. The role creates files there later, behind
/// its fences.
pub(super) fn make_folder(log: &Path) -> io::Result<()> {
    let folder = folder(log);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => {
            made?;
            sync_dir(folder.parent().unwrap_or(&folder))?;
        }
    }
    if fs::symlink_metadata(&folder)?.is_dir() {
        return Ok(());
    }
    let text = format!("{} is no folder: move it away", folder.display());
    Err(io::Error::new(io::ErrorKind::NotADirectory, text))
}

/// Makes the file for the lines from number `first_seq` on, and makes its name durable.
pub(super) fn begin(log: &Path, first_seq: u64) -> io::Result<(Part, File)> {
    let folder = folder(log);
    let path = folder.join(format!("{first_seq:0DIGITS$}.log"));
    let file = with_reserve(is_full, || log_options().create_new(true).open(&path))?;
    file.sync_all()?;
    sync_dir(&folder)?;
    Ok((Part { first_seq, path }, file))
}

/// Several files, read as one.
#[derive(Debug)]
pub struct InTurn {
    file: File,
    next: VecDeque<PathBuf>,
}

impl InTurn {
    /// Begins with a file; each of the others is opened as the one before ends.
    pub fn new(file: File, next: impl IntoIterator<Item = PathBuf>) -> Self {
        let next = next.into_iter().collect();
        Self { file, next }
    }
}

impl Read for InTurn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.file.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.next.pop_front() {
                None => return Ok(0),
                Some(path) => self.file = File::open(path)?,
            }
        }
    }
}
