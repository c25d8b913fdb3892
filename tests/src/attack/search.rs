//! Searches for bytes, on a disk and in memory.

use std::path::{Path, PathBuf};

/// Returns whether the haystack contains the needle. It looks for the first byte first, because the haystack may be the
/// memory of a process.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else {
        return true;
    };
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Returns the files below a folder that hold some bytes, in content or in name. Links are not followed.
pub fn files_that_hold(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| contains(bytes, needle);
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
