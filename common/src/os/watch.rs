//! Notices of changed directories, so that nobody polls a disk.

use crate::limits;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Which changes of a directory to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Names that a rename made visible: requests, containers, answers.
    Arrivals,
    /// Arrivals, and names that went away.
    ArrivalsAndRemovals,
}

/// A watched directory, as [`DirWatch::add`] numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirIndex(usize);

/// What changed since the last drain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changed names and their directories, in the order of the changes.
    pub names: Vec<(DirIndex, OsString)>,
    /// True if names are missing: every directory must be read again.
    pub overflowed: bool,
}

impl Changes {
    /// Returns whether anything changed.
    pub fn any(&self) -> bool {
        self.overflowed || !self.names.is_empty()
    }
}

/// A descriptor that becomes readable when a watched directory changes.
#[derive(Debug)]
pub struct DirWatch {
    inotify: Inotify,
    directories: Vec<WatchDescriptor>,
}

impl DirWatch {
    /// Makes a watch of no directory yet.
    ///
    /// # Errors
    /// If the kernel has no inotify instance left for this user.
    pub fn new() -> io::Result<Self> {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let inotify = Inotify::init(flags).map_err(watch_error)?;
        Ok(Self {
            inotify,
            directories: Vec::new(),
        })
    }

    /// Watches one more directory. What is in it already must be read after this call, or an
    /// arrival could be missed.
    ///
    /// # Errors
    /// If it is not a directory, or is a symbolic link, or the kernel has no watch left.
    pub fn add(&mut self, directory: &Path, notice: Notice) -> io::Result<DirIndex> {
        let mut mask =
            AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        if notice == Notice::ArrivalsAndRemovals {
            mask |= AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE;
        }
        let descriptor = self
            .inotify
            .add_watch(directory, mask)
            .map_err(watch_error)?;
        self.directories.push(descriptor);
        Ok(DirIndex(self.directories.len() - 1))
    }

    /// Takes what changed, without waiting.
    ///
    /// # Errors
    /// If the descriptor cannot be read.
    ///
    /// # Bounds
    /// At most 4,096 names; the rest is told by `overflowed`.
    pub fn drain(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(changes),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                let overflow = AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED;
                if event.mask.intersects(overflow) || changes.names.len() >= limits::WATCH_NAMES_MAX
                {
                    changes.overflowed = true;
                    continue;
                }
                let directory = self.directories.iter().position(|known| *known == event.wd);
                if let (Some(index), Some(name)) = (directory, event.name) {
                    changes.names.push((DirIndex(index), name));
                }
            }
        }
    }
}

/// Says which of the kernel's limits is used up: its own words for two of them are those for open files.
fn watch_error(errno: Errno) -> io::Error {
    let limit = match errno {
        Errno::EMFILE => "fs.inotify.max_user_instances",
        Errno::ENOSPC => "fs.inotify.max_user_watches",
        _ => return errno.into(),
    };
    let text = format!(
        "folders cannot be watched: this user has used up inotify, or may open no more files; raise {limit} with sysctl, or \
         LimitNOFILE"
    );
    io::Error::new(io::Error::from(errno).kind(), text)
}

impl AsFd for DirWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;

    use super::*;

    #[test]
    fn a_rename_into_a_directory_is_noticed_and_a_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (inbox, outbox) = (folder.path().join("inbox"), folder.path().join("outbox"));
        fs::create_dir(&inbox).unwrap();
        fs::create_dir(&outbox).unwrap();
        let mut watch = DirWatch::new().unwrap();
        let first = watch.add(&inbox, Notice::Arrivals).unwrap();
        let second = watch.add(&outbox, Notice::ArrivalsAndRemovals).unwrap();
        fs::write(inbox.join(".new"), b"x").unwrap();
        assert!(!watch.drain().unwrap().any());
        fs::rename(inbox.join(".new"), inbox.join("new")).unwrap();
        fs::rename(inbox.join("new"), outbox.join("new")).unwrap();
        fs::remove_file(outbox.join("new")).unwrap();
        let changes = watch.drain().unwrap();
        let name = OsString::from("new");
        let expected = vec![
            (first, name.clone()),
            (second, name.clone()),
            (second, name),
        ];
        assert_eq!(
            changes,
            Changes {
                names: expected,
                overflowed: false
            }
        );
        assert!(!watch.drain().unwrap().any());
    }

    #[test]
    fn more_names_than_the_bound_are_told_as_an_overflow() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut watch = DirWatch::new().unwrap();
        watch.add(folder.path(), Notice::Arrivals).unwrap();
        fs::write(&from, b"").unwrap();
        for _ in 0..=limits::WATCH_NAMES_MAX / 2 {
            fs::rename(&from, &to).unwrap();
            fs::rename(&to, &from).unwrap();
        }
        let changes = watch.drain().unwrap();
        assert!(changes.overflowed);
        assert_eq!(changes.names.len(), limits::WATCH_NAMES_MAX);
    }

    #[test]
    fn a_limit_that_is_used_up_is_named() {
        let text = |errno| watch_error(errno).to_string();
        assert!(text(Errno::EMFILE).contains("fs.inotify.max_user_instances"));
        assert!(text(Errno::ENOSPC).contains("fs.inotify.max_user_watches"));
        assert!(!text(Errno::ENOENT).contains("inotify"));
    }

    #[test]
    fn a_symbolic_link_is_not_watched() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(
            DirWatch::new()
                .unwrap()
                .add(&link, Notice::Arrivals)
                .is_err()
        );
    }
}
