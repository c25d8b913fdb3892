//! Waits for conditions of files, without sleeping.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::error::{HarnessError, Result};

/// The changes in a folder that wake the waiter.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE);

/// After this time a condition is checked again even if no folder changed. This notices a folder that did not exist
/// before, or a process that died.
const LOOK_AGAIN_MS: u16 = 100;

/// Waits until `ready` returns something; it is called whenever one of `folders` changes.
///
/// # Errors
/// The errors of `ready`, or [`HarnessError::Timeout`] after `limit`.
pub fn await_condition<T>(
    what: &str,
    limit: Duration,
    folders: &[PathBuf],
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let fail = |errno: Errno| HarnessError::Io {
        what: what.to_owned(),
        source: errno.into(),
    };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(fail)?;
    loop {
        // Watching a watched folder again changes nothing. New folders are added before the condition is checked, so
        // that no change is missed.
        for folder in folders {
            let _ = inotify.add_watch(folder, CHANGES);
        }
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            return Err(HarnessError::Timeout {
                what: what.to_owned(),
                waited: limit,
                detail: String::new(),
            });
        }
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LOOK_AGAIN_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
        while let Ok(events) = inotify.read_events() {
            if events.is_empty() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_ends_the_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("appears");
        let writer = std::thread::spawn({
            let file = file.clone();
            move || std::fs::write(file, b"here")
        });
        let seen = await_condition(
            "the file",
            Duration::from_secs(10),
            &[folder.path().to_owned()],
            || Ok(file.exists().then_some(7)),
        );
        assert_eq!(seen.expect("it appears"), 7);
        writer.join().expect("no panic").expect("written");
    }

    #[test]
    fn what_never_happens_is_a_timeout() {
        let result: Result<()> =
            await_condition("nothing", Duration::from_millis(1), &[], || Ok(None));
        assert!(matches!(result, Err(HarnessError::Timeout { .. })));
    }
}
