//! Listing folders.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use super::told;

/// Lists a folder. Every error names it.
///
/// # Errors
/// If the folder cannot be opened. Each entry has its own.
pub fn list(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let entries = fs::read_dir(folder).map_err(|error| told("list", folder, error))?;
    let folder = folder.to_owned();
    Ok(entries.map(move |entry| entry.map_err(|error| told("list", &folder, error))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_listed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"").unwrap();
        assert_eq!(list(folder.path()).unwrap().count(), 1);
        let Err(error) = list(&folder.path().join("absent")) else {
            panic!("it is absent")
        };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/absent"), "{error}");
    }
}
