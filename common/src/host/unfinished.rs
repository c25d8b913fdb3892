//! What a command must not leave behind when SIGINT, SIGTERM or SIGHUP ends it: plaintext and keys that are half written.
//!
//! No handler interrupts anything. The signals are blocked, and a thread that waits for them erases what is listed here and
//! then lets the signal end the process. SIGKILL cannot be waited for: what it leaves in `requests/` the daemon erases.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::signal::{SigSet, Signal, raise};

use crate::os::durable::erase;

/// How often erasing is tried: the command may have been adding a file at that moment.
const TRIES: usize = 5;

static LISTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file or folder that is erased if one of the signals ends the process while this value lives.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    erase_when_dropped: bool,
}

impl Unfinished {
    /// Lists a path before it is made. It is erased when the value is dropped, too, unless it is [`Unfinished::done`].
    ///
    /// # Errors
    /// If the process can have no more threads.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let mut unfinished = Self::on_signal(path)?;
        unfinished.erase_when_dropped = true;
        Ok(unfinished)
    }

    /// Lists a path that only a signal has erased.
    ///
    /// # Errors
    /// As [`Unfinished::begin`].
    pub fn on_signal(path: &Path) -> io::Result<Self> {
        watch()?;
        let path = std::path::absolute(path)?;
        hold().insert(path.clone());
        Ok(Self {
            path,
            erase_when_dropped: false,
        })
    }

    /// Takes the path off the list: it is whole, or somebody else's now.
    pub fn done(mut self) {
        self.erase_when_dropped = false;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.erase_when_dropped {
            let _ = erase(&self.path);
        }
        hold().remove(&self.path);
    }
}

/// Keeps a signal from ending the process while the value lives. Whoever writes plaintext holds it for each write: what is
/// written after a file was overwritten would stay on the disk.
pub fn hold() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread, once.
fn watch() -> io::Result<()> {
    static STARTED: OnceLock<Result<(), io::ErrorKind>> = OnceLock::new();
    let started = STARTED.get_or_init(|| start().map_err(|error| error.kind()));
    started.map_err(io::Error::from)
}

fn start() -> io::Result<()> {
    let ignored = ignored_signals()?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // Whoever started the process with nohup wants it to go on.
        if !ignored.contains(&signal) {
            signals.add(signal);
        }
    }
    if signals == SigSet::empty() {
        return Ok(());
    }
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            loop {
                if let Ok(signal) = signals.wait() {
                    end(signal);
                }
            }
        })?;
    Ok(())
}

/// Erases what is listed, and ends the process as the signal would have.
fn end(signal: Signal) {
    // Held to the end: nothing more is written.
    let listed = hold();
    for path in &*listed {
        let is_erased = (0..TRIES).any(|_| erase(path).is_ok());
        if !is_erased {
            eprintln!(
                "interrupted, and {} cannot be erased: delete it",
                path.display()
            );
        }
    }
    let mut unblocked = SigSet::empty();
    unblocked.add(signal);
    let _ = unblocked.thread_unblock();
    let _ = raise(signal);
    // Not reached unless the signal does nothing.
    std::process::exit(3);
}

/// Returns the signals that this process was started to ignore.
fn ignored_signals() -> io::Result<Vec<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    // Bit 0 is signal 1 (proc_pid_status(5)).
    let numbered = [
        (1, Signal::SIGHUP),
        (2, Signal::SIGINT),
        (15, Signal::SIGTERM),
    ];
    let is_ignored = |(number, _): &(u32, Signal)| mask & (1 << (number - 1)) != 0;
    let ignored = numbered.into_iter().filter(is_ignored);
    Ok(ignored.map(|(_, signal)| signal).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_done_is_erased_and_what_is_done_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"text").unwrap();
        let unfinished = Unfinished::begin(&path).unwrap();
        assert!(hold().contains(&path));
        unfinished.done();
        assert!(path.exists() && !hold().contains(&path));
        drop(Unfinished::on_signal(&path).unwrap());
        assert!(path.exists() && !hold().contains(&path));
        drop(Unfinished::begin(&path).unwrap());
        assert!(!path.exists() && !hold().contains(&path));
    }
}
