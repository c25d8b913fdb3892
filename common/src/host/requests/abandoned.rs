//! Hidden folders of requests that their writers left behind.
//!
//! A command holds a lock (`flock`) on the folder that it writes, and the kernel frees it when the command is killed.
//! Another program need not: a folder in which something changes is not taken away.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use nix::fcntl::{AtFlags, Flock, FlockArg};
use nix::sys::stat::fstatat;

use super::server::Requests;
use crate::limits;
use crate::os::durable::{for_each_name, open_dir};
use crate::units::Mono;

/// A folder that nobody holds is taken away when nothing changed in it for so long.
pub(super) const GRACE_US: u64 = 10 * 60 * 1_000_000;

/// A folder that somebody holds is, after so long.
pub(super) const HELD_US: u64 = 24 * 3_600 * 1_000_000;

/// Folders of one owner that are watched at a time.
const OWNER_FOLDERS_MAX: usize = 100;

/// Folders that are watched at a time.
const FOLDERS_MAX: usize = 10_000;

/// Folders that are taken away at a time.
const DUE_MAX: usize = 16;

/// A hidden folder.
#[derive(Debug)]
struct Seen {
    owner_uid: u32,
    /// What changes with the folder and the files in it.
    stamp: [u8; 32],
    /// Since when nothing changed.
    since: Mono,
    /// Whether this pass found it.
    is_there: bool,
    /// Whether it could not be taken away.
    stays: bool,
}

/// The hidden folders in `requests/`, and since when nothing changed in each.
///
/// # Bounds
/// 10,000 folders, 100 of each owner. The others are looked at when these are gone.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    seen: BTreeMap<String, Seen>,
}

impl Abandoned {
    /// Begins a pass over the directory.
    pub(super) fn begin(&mut self) {
        self.seen
            .values_mut()
            .for_each(|seen| seen.is_there = false);
    }

    /// Ends a pass: what it did not find is gone.
    pub(super) fn end(&mut self) {
        self.seen.retain(|_, seen| seen.is_there);
    }

    /// Takes note of a hidden folder.
    pub(super) fn note(&mut self, requests: &Requests, name: &str, owner_uid: u32, now: Mono) {
        let Some(stamp) = stamp_of(requests, name) else {
            return;
        };
        if let Some(seen) = self.seen.get_mut(name) {
            if seen.stamp != stamp || seen.owner_uid != owner_uid {
                (seen.stamp, seen.owner_uid, seen.since) = (stamp, owner_uid, now);
            }
            seen.is_there = true;
            return;
        }
        let of_owner = |seen: &&Seen| seen.owner_uid == owner_uid;
        if self.seen.len() >= FOLDERS_MAX
            || self.seen.values().filter(of_owner).count() >= OWNER_FOLDERS_MAX
        {
            return;
        }
        let seen = Seen {
            owner_uid,
            stamp,
            since: now,
            is_there: true,
            stays: false,
        };
        self.seen.insert(name.to_owned(), seen);
    }

    /// Takes note of whether a folder could be taken away.
    pub(super) fn tried(&mut self, name: &str, is_gone: bool) {
        if is_gone {
            self.seen.remove(name);
        } else if let Some(seen) = self.seen.get_mut(name) {
            seen.stays = true;
        }
    }

    /// Returns a folder that could not be taken away, its owner, and how many there are.
    pub(super) fn staying(&self) -> Option<(String, u32, usize)> {
        let mut staying = self.seen.iter().filter(|(_, seen)| seen.stays);
        let (name, seen) = staying.next()?;
        Some((name.clone(), seen.owner_uid, staying.count() + 1))
    }

    /// Returns folders that nobody holds and in which nothing changed for ten minutes; those that somebody holds, after a day.
    pub(super) fn due(&mut self, requests: &Requests, now: Mono) -> Vec<String> {
        let mut due = Vec::new();
        for (name, seen) in &mut self.seen {
            let age_us = now.since_us(seen.since);
            if age_us < GRACE_US || due.len() == DUE_MAX {
                continue;
            }
            if stamp_of(requests, name) != Some(seen.stamp) {
                seen.since = now;
            } else if age_us >= HELD_US || is_free(requests, name) {
                due.push(name.clone());
                // Tried again later, if it cannot be taken away.
                seen.since = now;
            }
        }
        due
    }
}

/// A hash of the lengths and times of a folder and its files, or `None` if it is not a folder that this user can read.
fn stamp_of(requests: &Requests, name: &str) -> Option<[u8; 32]> {
    let folder = open_dir(&requests.requests.join(name)).ok()?;
    let metadata = folder.metadata().ok()?;
    let mut hasher = blake3::Hasher::new();
    let mut add = |numbers: [i64; 3]| {
        for number in numbers {
            hasher.update(&number.to_be_bytes());
        }
    };
    add([0, metadata.mtime(), metadata.mtime_nsec()]);
    let mut left = limits::REQUEST_FILES_MAX;
    let listed = for_each_name(&folder, |file| {
        // The first ones stand for all others: a writer that is not done adds or changes files.
        left = left.checked_sub(1).ok_or(std::io::ErrorKind::Other)?;
        let stat = fstatat(&folder, file, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        add([stat.st_size, stat.st_mtime, stat.st_mtime_nsec]);
        std::io::Result::Ok(())
    });
    let is_listed = listed.is_ok() || left == 0;
    is_listed.then(|| *hasher.finalize().as_bytes())
}

/// Whether no process holds the lock of a folder.
fn is_free(requests: &Requests, name: &str) -> bool {
    let opened = open_dir(&requests.requests.join(name));
    opened.is_ok_and(|folder| hold(folder).is_some())
}

/// Takes the lock of a folder, unless another process has it.
pub(super) fn hold(folder: File) -> Option<Flock<File>> {
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).ok()
}
