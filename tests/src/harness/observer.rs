//! Records the times at which files appear, for the states of a cable.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::error::{HarnessError, Result};

/// The time within which the observing thread notices that it must stop.
const STOP_LATENCY_MS: u16 = 100;

/// A name that appeared in a folder, complete (by a rename or as a folder).
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The time.
    pub at: Instant,
    /// The folder.
    pub folder: PathBuf,
    /// The name.
    pub name: String,
}

/// Watches folders until it is dropped.
#[derive(Debug)]
pub struct Observer {
    sightings: Arc<Mutex<Vec<Sighting>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Watches `folders`, and every folder that appears in one of `nests` (and those already in it).
    ///
    /// # Errors
    /// When a folder cannot be watched.
    pub fn start(folders: &[PathBuf], nests: &[PathBuf]) -> Result<Self> {
        let fail = |errno: nix::errno::Errno| HarnessError::Io {
            what: "watch the folders".to_owned(),
            source: errno.into(),
        };
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(fail)?;
        let sightings = Arc::new(Mutex::new(Vec::new()));
        let mut watching = Watching {
            inotify,
            folders: BTreeMap::new(),
            nests: nests.to_vec(),
            sightings: Arc::clone(&sightings),
        };
        for folder in folders.iter().chain(nests) {
            watching.watch(folder).map_err(fail)?;
        }
        for nest in nests {
            watching.watch_inside(nest);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watching.run(&stopped));
        Ok(Self {
            sightings,
            stop,
            thread: Some(thread),
        })
    }

    /// The names that have appeared so far.
    pub fn sightings(&self) -> Vec<Sighting> {
        self.sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The time at which the first name that `matches` appeared in `folder`.
    pub fn first(&self, folder: &Path, matches: impl Fn(&str) -> bool) -> Option<Instant> {
        let sightings = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sightings
            .iter()
            .find(|sighting| sighting.folder == folder && matches(&sighting.name))
            .map(|sighting| sighting.at)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watching {
    inotify: Inotify,
    // Looked up by a descriptor of the kernel. The search is linear, because there are few.
    folders: BTreeMap<PathBuf, WatchDescriptor>,
    nests: Vec<PathBuf>,
    sightings: Arc<Mutex<Vec<Sighting>>>,
}

impl Watching {
    fn watch(&mut self, folder: &Path) -> nix::Result<()> {
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        let descriptor = self.inotify.add_watch(folder, flags)?;
        self.folders.insert(folder.to_owned(), descriptor);
        Ok(())
    }

    /// Watches the folders in a nest; names that are in them already count as seen now.
    fn watch_inside(&mut self, nest: &Path) {
        for entry in std::fs::read_dir(nest).into_iter().flatten().flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if hidden || self.folders.contains_key(&path) || self.watch(&path).is_err() {
                continue;
            }
            for inner in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                self.note(&path, &inner.file_name().to_string_lossy());
            }
        }
    }

    fn note(&self, folder: &Path, name: &str) {
        let sighting = Sighting {
            at: Instant::now(),
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        self.sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sighting);
    }

    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(STOP_LATENCY_MS));
            let Ok(events) = self.inotify.read_events() else {
                continue;
            };
            for event in events {
                let folder = self.folders.iter().find(|(_, watch)| **watch == event.wd);
                let (Some((folder, _)), Some(name)) = (folder, event.name) else {
                    continue;
                };
                let folder = folder.clone();
                self.note(&folder, &name.to_string_lossy());
                if self.nests.contains(&folder) {
                    self.watch_inside(&folder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::await_condition;
    use super::*;

    #[test]
    fn what_appears_is_noted_also_in_folders_that_appear_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let nest = folder.path().to_owned();
        let observer =
            Observer::start(&[], std::slice::from_ref(&nest)).expect("the folder is watched");
        let inner = nest.join("paris-desk");
        std::fs::create_dir(&inner).expect("made");
        std::fs::create_dir(inner.join("1-cable")).expect("made");
        let seen = || Ok(observer.first(&inner, |name| name.starts_with("1-")));
        await_condition("a sighting", Duration::from_secs(10), &[], seen).expect("it is seen");
    }
}
