//! A disk that takes nothing more: what `status` says of it, and how a role outlasts it.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::durable::{free_bytes, is_full};
use super::service;
use super::signals::{Asked, Signals};
use crate::alarm::Cause;
use crate::units::ByteSize;

/// Below so many free bytes no role can be relied on to say so itself.
const NO_ROOM_BYTES: u64 = 1 << 20;

/// Bytes that must find room before a role is started again.
const PROBE_BYTES: usize = 1 << 20;

/// How often the disk is tried.
const PROBE_EVERY_MS: u16 = 1_000;

/// Returns the text of the alarm `disk`, the same from whoever raises it: what is free, and what follows.
pub fn disk_text(state: &Path, effect: &str) -> String {
    format!(
        "{} free on the disk of {}: {effect}",
        ByteSize(free_bytes(state).unwrap_or(0)).rough(),
        state.display()
    )
}

/// Returns the text of the alarm `disk` as a command finds it, whatever the roles show.
pub(crate) fn disk_alarm(state: &Path) -> Option<Cause> {
    let root = state.display();
    let is_read_only = statvfs(state).is_ok_and(|told| told.flags().contains(FsFlags::ST_RDONLY));
    if is_read_only {
        let text = format!("the file system of {root} is read-only, and no role can go on");
        let repair = format!("findmnt -T {root}, then look at the disk and mount it for writing");
        return Some(Cause::repaired_by(text, repair));
    }
    let free = free_bytes(state).ok()?;
    let text = || disk_text(state, "nothing more is accepted").into();
    (free < NO_ROOM_BYTES).then(text)
}

/// Passes on how a role ended. After a failure on a disk that takes nothing, waits for room first, or for the signal to
/// stop: the service manager would only start the role again and again.
pub fn outlast<T, E: std::fmt::Display>(tmp: &Path, ended: Result<T, E>) -> Result<T, E> {
    let Err(error) = &ended else {
        return ended;
    };
    let mut is_told = false;
    while let Err(blocked) = probe(tmp) {
        let is_read_only = blocked.kind() == io::ErrorKind::ReadOnlyFilesystem;
        if !is_full(&blocked) && !is_read_only {
            break;
        }
        if !is_told {
            is_told = true;
            let what = match is_read_only {
                true => "its file system is read-only: look at the disk, then mount it for writing",
                false => "its disk is full: make room",
            };
            tracing::error!(
                "this role cannot go on ({error}), because {what}; it waits until then"
            );
            service::status("waits: the disk takes nothing");
        }
        match wait() {
            Ok(Flow::Wait) => service::watchdog(),
            Ok(Flow::Stop) | Err(_) => break,
        }
    }
    ended
}

enum Flow {
    Wait,
    Stop,
}

fn wait() -> io::Result<Flow> {
    // Its own descriptor: the one of the role may be gone. Signals that are blocked already stay so.
    let signals = Signals::new()?;
    let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::from(PROBE_EVERY_MS))?;
    while let Some(asked) = signals.take()? {
        if asked == Asked::Stop {
            return Ok(Flow::Stop);
        }
    }
    Ok(Flow::Wait)
}

/// Writes as much as a start needs, and takes it away again.
fn probe(tmp: &Path) -> io::Result<()> {
    let path = tmp.join("probe");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&path)?;
        file.write_all(&vec![0; PROBE_BYTES])
    };
    let written = write();
    let _ = fs::remove_file(&path);
    written
}
