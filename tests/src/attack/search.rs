//! What can be found on a disk.

use std::path::{Path, PathBuf};

/// The files below a folder that hold some bytes, in content or in name. Links are not followed.
pub fn files_that_hold(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type();
        let named = holds(entry.file_name().as_encoded_bytes());
        match kind {
            Ok(kind) if kind.is_dir() => found.extend(files_that_hold(&path, needle)),
            Ok(kind) if kind.is_file() => {
                if !named && std::fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
                    found.push(path.clone());
                }
            }
            _ => {}
        }
        if named {
            found.push(path);
        }
    }
    found
}
