//! The names in a directory, read into memory that is erased.
//!
//! The system's `readdir` keeps them in memory of its own, and frees that as it is: the name of a part would outlive its
//! cable there.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Seek as _};

use rustix::fs::{Dir, FileType, RawDir};

/// How much of a directory one call of the system returns. A name has at most 255 bytes.
const LISTING_BYTES: usize = 16 << 10;

/// The names in a directory that are not content, a few at a time.
pub(crate) struct Names(Dir);

impl Names {
    /// Begins with the first name of an open directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn of(directory: File) -> io::Result<Self> {
        Ok(Self(Dir::new(directory)?))
    }

    /// Returns the next name, and whether it may be a folder's.
    pub(crate) fn next(&mut self) -> Option<io::Result<(CString, bool)>> {
        let entry = self.0.next()?;
        let named = |entry: rustix::fs::DirEntry| {
            let may_be_folder =
                matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            (entry.file_name().to_owned(), may_be_folder)
        };
        Some(entry.map(named).map_err(io::Error::from))
    }
}

/// Shows every name in an open directory, itself and its parent left out, until `each` fails.
///
/// # Errors
/// If the directory cannot be read, and what `each` returns.
pub(crate) fn for_each_name<E: From<io::Error>>(
    mut directory: &File,
    mut each: impl FnMut(&CStr) -> Result<(), E>,
) -> Result<(), E> {
    directory.rewind()?;
    let mut listing = Vec::with_capacity(LISTING_BYTES);
    let mut entries = RawDir::new(directory, listing.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::super::open_dir;
    use super::*;

    #[test]
    fn every_name_is_shown_once_and_again() {
        let folder = tempfile::tempdir().unwrap();
        // More than one listing holds.
        let names: BTreeSet<String> = (0..300)
            .map(|number| format!("{number:0200}"))
            .chain(["file".to_owned()])
            .collect();
        for name in &names {
            File::create(folder.path().join(name)).unwrap();
        }
        let directory = open_dir(folder.path()).unwrap();
        for _ in 0..2 {
            let mut shown = Vec::new();
            for_each_name(&directory, |name| {
                shown.push(name.to_str().unwrap().to_owned());
                io::Result::Ok(())
            })
            .unwrap();
            assert_eq!(shown.len(), names.len());
            assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), names);
        }
    }

    #[test]
    fn the_first_failure_ends_the_listing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            File::create(folder.path().join(name)).unwrap();
        }
        let mut count = 0;
        let shown = for_each_name(&open_dir(folder.path()).unwrap(), |_| {
            count += 1;
            Err(io::Error::other("enough"))
        });
        assert_eq!(
            (shown.unwrap_err().to_string(), count),
            ("enough".into(), 1)
        );
    }
}
