//! What shows that a file was written to while it was read.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// A file's length and the times of its last change, before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Takes the stamp of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Returns the length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether so many bytes are all of a file that is still as it was. Every change counts, that of its name too.
    pub(crate) fn is_whole(&self, file: &File, read_bytes: u64) -> io::Result<bool> {
        Ok(read_bytes == self.bytes && Self::of(file)? == *self)
    }

    /// As [`Stamp::is_whole`], but a file that another one replaced meanwhile counts as it is: its content did not change.
    pub(crate) fn has_content(&self, file: &File, read_bytes: u64) -> io::Result<bool> {
        let now = Self::of(file)?;
        Ok(read_bytes == self.bytes && (now.bytes, now.modified) == (self.bytes, self.modified))
    }
}

/// Returns the error of a file that changed while it was read: neither its reader's mistake nor the system's.
pub(crate) fn changed_error() -> io::Error {
    let text = "the file changed while it was read; try again when nothing writes to it";
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn a_cut_a_grown_and_a_rewritten_file_are_told_from_a_replaced_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let stamped = || {
            fs::write(&path, b"text").unwrap();
            let file = fs::OpenOptions::new()
                .write(true)
                .read(true)
                .open(&path)
                .unwrap();
            file.set_modified(long_ago).unwrap();
            (Stamp::of(&file).unwrap(), file)
        };
        let (stamp, file) = stamped();
        assert!(stamp.is_whole(&file, 4).unwrap() && stamp.has_content(&file, 4).unwrap());
        assert!(!stamp.is_whole(&file, 3).unwrap() && !stamp.has_content(&file, 3).unwrap());
        for bytes in [3, 5] {
            let (stamp, file) = stamped();
            file.set_len(bytes).unwrap();
            assert!(!stamp.is_whole(&file, 4).unwrap() && !stamp.has_content(&file, 4).unwrap());
        }
        let (stamp, file) = stamped();
        fs::write(&path, b"TEXT").unwrap();
        assert!(!stamp.is_whole(&file, 4).unwrap() && !stamp.has_content(&file, 4).unwrap());
        let (stamp, file) = stamped();
        fs::rename(&path, folder.path().join("b")).unwrap();
        fs::remove_file(folder.path().join("b")).unwrap();
        assert!(stamp.has_content(&file, 4).unwrap());
    }
}
