//! Gate's own copies of a courier's bundle hold every PSK of it: they are overwritten before they are deleted.

use std::fs::{OpenOptions, read_dir};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::courier::BUNDLE_BYTES_MAX;

/// How the names of the folders begin that hold gate's copies of requests.
pub(super) const COPY_PREFIX: &str = "request-";

/// Overwrites a file with zeros, durably: what is only in the page cache when the file is deleted never reaches the disk.
pub(super) fn overwrite(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let zeros = vec![0; 64 << 10];
    let mut offset = 0;
    while offset < bytes {
        let count = usize::try_from(bytes - offset)
            .unwrap_or(zeros.len())
            .min(zeros.len());
        file.write_all_at(&zeros[..count], offset)?;
        offset += u64::try_from(count).map_err(io::Error::other)?;
    }
    file.sync_data()
}

/// Overwrites what a killed gate left of its copies, as far as it may be a bundle.
pub(super) fn overwrite_left_copies(tmp: &Path) -> io::Result<()> {
    for entry in read_dir(tmp)? {
        let entry = entry?;
        let is_copy = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(COPY_PREFIX));
        if !is_copy || !entry.file_type()?.is_dir() {
            continue;
        }
        for file in read_dir(entry.path())? {
            let file = file?;
            let metadata = file.metadata()?;
            let may_be_bundle =
                usize::try_from(metadata.len()).is_ok_and(|bytes| bytes <= BUNDLE_BYTES_MAX);
            if metadata.is_file() && may_be_bundle {
                overwrite(&file.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;

    use super::*;

    #[test]
    fn what_is_left_of_copies_is_overwritten_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["request-00", "submission-00"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file-000"), vec![7; 100_000]).unwrap();
        }
        fs::write(path("request-file"), b"abc").unwrap();
        overwrite_left_copies(folder.path()).unwrap();
        assert_eq!(
            fs::read(path("request-00/file-000")).unwrap(),
            vec![0; 100_000]
        );
        assert_eq!(
            fs::read(path("submission-00/file-000")).unwrap(),
            vec![7; 100_000]
        );
        assert_eq!(fs::read(path("request-file")).unwrap(), b"abc");
    }

    #[test]
    fn a_file_that_cannot_be_overwritten_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(overwrite(&folder.path().join("none")).is_err());
    }
}
