//! Regular files in folders where somebody else may write too: opened without being led astray, and told from what he planted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Opens a regular file to read; returns its length too. A link is not followed, and a pipe does not block.
///
/// # Errors
/// The system's own, with its number; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}

/// Returns whether an error comes of what stands at a path, which whoever may write there can bring about. A disk that fails is
/// another matter: nobody knows then what it holds, and the process ends.
pub(crate) fn is_in_the_way(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    if matches!(errno, Some(Errno::ENXIO | Errno::ENODEV)) {
        return true;
    }
    // An error that was told of anew has lost its number, and only its kind is left; that of a link has no stable name.
    error.kind() == io::Error::from(Errno::ELOOP).kind()
        || matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidData
                | io::ErrorKind::FileTooLarge
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_somebody_planted_is_told_from_a_disk_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), b"x").unwrap();
        symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        for name in ["link", "pipe", "socket", ".", "file/below"] {
            let error = open_regular(&path(name)).unwrap_err();
            assert!(is_in_the_way(&error), "{name}: {error}");
        }
        assert_eq!(open_regular(&path("file")).unwrap().1, 1);
        for errno in [
            Errno::EIO,
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::EMFILE,
            Errno::ENOENT,
        ] {
            let error = io::Error::from(errno);
            assert!(!is_in_the_way(&error), "{error}");
            let told = io::Error::new(error.kind(), "told of anew");
            assert!(!is_in_the_way(&told), "{error}");
        }
    }
}
