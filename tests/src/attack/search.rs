//! What can be found on a disk.

use std::path::{Path, PathBuf};

/// The files below a folder that hold some bytes, in content or in name. Links are not followed.
pub fn files_that_hold(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type();
        let is = |wanted: fn(&std::fs::FileType) -> bool| kind.as_ref().is_ok_and(wanted);
        let named = holds(entry.file_name().as_encoded_bytes());
        let holding =
            is(std::fs::FileType::is_file) && std::fs::read(&path).is_ok_and(|bytes| holds(&bytes));
        if is(std::fs::FileType::is_dir) {
            found.extend(files_that_hold(&path, needle));
        }
        if named || holding {
            found.push(path);
        }
    }
    found
}
