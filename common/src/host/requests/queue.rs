//! Which requests wait for a daemon, found by notices and by passes over `requests/`, and taken in turns of their owners.
//!
//! A notice leads to one name, so that a request costs the same however many names are beside it. A pass looks at every
//! name, a slice at a time: what was there before the daemon began, what no notice came of, and what commands left behind.
//!
//! Whoever is refused again and again waits: the answers, the lines of the log and the time that an owner's bad requests
//! cost are bounded for each minute, and nobody else waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::File;
use std::io;

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::abandoned::Abandoned;
use super::server::{Found, Requests};
use super::{Answer, Kind, is_request_name};
use crate::alarm::{Alarm, Cause};
use crate::os::durable::{Names, open_dir};
use crate::units::Mono;

/// Opens the folder of requests.
fn open_requests(requests: &Requests) -> io::Result<File> {
    let folder = &requests.requests;
    open_dir(folder).map_err(|error| {
        let text = format!("cannot open {}: {error}", folder.display());
        io::Error::new(error.kind(), text)
    })
}

/// Requests of one owner that are known at a time. The others are found when these are done.
const OWNER_REQUESTS_MAX: usize = 1_000;

/// Owners whose requests are known at a time.
const OWNERS_MAX: usize = 1_000;

/// What one slice of a pass may cost. A folder costs more, because it and its answers are looked at.
const SLICE_COST: usize = 20_000;
const FOLDER_COST: usize = 10;

/// Passes that no lost notice asks for begin no more often than this.
const PASS_US: u64 = 300_000_000;

/// Refusals of an owner that are answered at once.
pub(super) const REFUSED_AT_ONCE: u64 = 100;

/// Time after which one more is.
const REFUSED_US: u64 = 2_000_000;

/// The requests of one owner.
#[derive(Debug, Default)]
struct Owner {
    names: BTreeSet<String>,
    /// More were found than are known.
    has_more: bool,
    /// Refusals that still count, as of a time.
    refused: Option<(u64, Mono)>,
    /// Requests taken since a refusal was last reported.
    taken: u64,
}

impl Owner {
    fn refused_at(&self, now: Mono) -> u64 {
        self.refused.map_or(0, |(count, since)| {
            count.saturating_sub(now.since_us(since) / REFUSED_US)
        })
    }

    /// Whether another request may be taken. Of an owner who was not refused lately any number may.
    fn may_ask(&self, now: Mono) -> bool {
        match self.refused_at(now) {
            0 => true,
            refused => refused.saturating_add(self.taken) < REFUSED_AT_ONCE,
        }
    }

    fn is_idle(&self, now: Mono) -> bool {
        self.names.is_empty() && !self.has_more && self.refused_at(now) == 0
    }
}

/// A pass over the directory that is under way.
struct Pass {
    directory: Names,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}

/// Requests that wait.
///
/// # Bounds
/// 1,000 owners, 1,000 requests of each. A slice of a pass looks at 20,000 names, or at 2,000 folders.
#[derive(Debug, Default)]
pub struct RequestQueue {
    owners: BTreeMap<u32, Owner>,
    last_owner: Option<u32>,
    pass: Option<Pass>,
    /// When the last pass began.
    passed: Option<Mono>,
    /// Notices were lost.
    is_lost: bool,
    abandoned: Abandoned,
}

impl RequestQueue {
    /// Takes note of a name that came or went: a request's, or an answer's beside one.
    ///
    /// # Errors
    /// If the directory cannot be opened.
    pub fn notice(&mut self, requests: &Requests, name: &std::ffi::OsStr) -> io::Result<()> {
        let Some(name) = name.to_str() else {
            return Ok(());
        };
        let of_answer = Kind::ALL
            .iter()
            .find_map(|kind| name.strip_suffix(kind.suffix()));
        let name = of_answer.unwrap_or(name);
        if !is_request_name(name) {
            return Ok(());
        }
        let directory = open_requests(requests)?;
        let found = std::ffi::CString::new(name).ok();
        let stat = found.and_then(|name| folder_at(&directory, &name));
        if let Some(stat) = stat
            && !is_settled(requests, name)
        {
            self.add(stat.st_uid, name);
        }
        Ok(())
    }

    /// Has every name looked at again, because notices were lost.
    pub fn lost(&mut self) {
        self.is_lost = true;
    }

    /// Looks at the next slice of the directory, if a pass is under way or due.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn look(&mut self, requests: &Requests, now: Mono) -> io::Result<()> {
        if self.pass.is_none() {
            if !self.is_pass_due(now) {
                return Ok(());
            }
            self.is_lost = false;
            self.passed = Some(now);
            self.owners.retain(|_, owner| !owner.is_idle(now));
            for owner in self.owners.values_mut() {
                owner.has_more = false;
            }
            self.abandoned.begin();
            self.pass = Some(Pass {
                directory: Names::of(open_requests(requests)?)?,
            });
        }
        let Some(mut pass) = self.pass.take() else {
            return Ok(());
        };
        let directory = open_requests(requests)?;
        let mut cost = 0;
        while cost < SLICE_COST {
            let Some(entry) = pass.directory.next() else {
                self.abandoned.end();
                return Ok(());
            };
            let (name, may_be_folder) = entry?;
            cost += 1;
            if !may_be_folder {
                continue;
            }
            cost += FOLDER_COST;
            self.look_at(requests, &directory, &name, now);
        }
        self.pass = Some(pass);
        Ok(())
    }

    fn look_at(&mut self, requests: &Requests, directory: &std::fs::File, name: &CStr, now: Mono) {
        let Ok(text) = name.to_str() else {
            return;
        };
        if text.starts_with('.') {
            if let Some(stat) = folder_at(directory, name) {
                self.abandoned.note(requests, text, stat.st_uid, now);
            }
        } else if is_request_name(text)
            && let Some(stat) = folder_at(directory, name)
            && !is_settled(requests, text)
        {
            self.add(stat.st_uid, text);
        }
    }

    fn add(&mut self, owner_uid: u32, name: &str) {
        if self.owners.len() >= OWNERS_MAX && !self.owners.contains_key(&owner_uid) {
            // Found by a later pass.
            return;
        }
        let owner = self.owners.entry(owner_uid).or_default();
        owner.names.insert(name.to_owned());
        if owner.names.len() > OWNER_REQUESTS_MAX {
            owner.names.pop_last();
            owner.has_more = true;
        }
    }

    /// Takes the next request: the first of each owner by name, then the second of each, and so on.
    pub fn take(&mut self, now: Mono) -> Option<Found> {
        let can = |owner: &Owner| !owner.names.is_empty() && owner.may_ask(now);
        let behind = self.last_owner.map_or(0, |uid| uid.saturating_add(1));
        let next = self.owners.range(behind..).find(|(_, owner)| can(owner));
        let next = next.or_else(|| self.owners.iter().find(|(_, owner)| can(owner)));
        let owner_uid = *next?.0;
        let owner = self.owners.get_mut(&owner_uid)?;
        let name = owner.names.pop_first()?;
        owner.taken = owner.taken.saturating_add(1);
        if owner.names.is_empty() && owner.has_more {
            owner.has_more = false;
            self.is_lost = true;
        }
        self.last_owner = Some(owner_uid);
        Some(Found {
            name,
            owner_uid,
            answered: false,
        })
    }

    /// Keeps a request that cannot be served now.
    pub fn put_back(&mut self, found: &Found) {
        self.add(found.owner_uid, &found.name);
    }

    /// Counts a refusal against an owner.
    pub fn refused(&mut self, owner_uid: u32, now: Mono) {
        if self.owners.len() >= OWNERS_MAX && !self.owners.contains_key(&owner_uid) {
            return;
        }
        let owner = self.owners.entry(owner_uid).or_default();
        owner.refused = Some((owner.refused_at(now).saturating_add(1), now));
    }

    /// Reports that every refusal of what was taken has been counted.
    pub fn settled(&mut self) {
        self.owners.values_mut().for_each(|owner| owner.taken = 0);
    }

    /// The owners whose requests wait because too many of them were refused.
    fn held(&self, now: Mono) -> Vec<u32> {
        let held = |owner: &Owner| !owner.names.is_empty() && !owner.may_ask(now);
        let owners = self.owners.iter().filter(|(_, owner)| held(owner));
        owners.map(|(uid, _)| *uid).collect()
    }

    /// Whether there is something to do at once.
    pub fn is_due(&self, now: Mono) -> bool {
        let can = |owner: &Owner| !owner.names.is_empty() && owner.may_ask(now);
        self.pass.is_some() || self.is_pass_due(now) || self.owners.values().any(can)
    }

    /// Whether no pass is under way or lacking.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.pass.is_none() && !self.is_lost
    }

    fn is_pass_due(&self, now: Mono) -> bool {
        let is_old = |passed: Mono| now.since_us(passed) >= PASS_US;
        self.is_lost || self.passed.is_none_or(is_old)
    }

    /// Takes hidden folders away that nobody holds any more, a few at a time.
    pub fn take_abandoned(&mut self, requests: &Requests, now: Mono) {
        for name in self.abandoned.due(requests, now) {
            let taken = requests.take_away(&name);
            match &taken {
                Ok(()) => tracing::info!("requests/{name} was left by its writer and is erased"),
                Err(error) => tracing::warn!("{error}"),
            }
            self.abandoned.tried(&name, taken.is_ok());
        }
    }

    /// The alarms of this moment, each with how bad it is and its text; 0 is not at all.
    pub fn alarms(&self, requests: &Requests, now: Mono) -> [(Alarm, u64, Cause); 3] {
        let held = self.held(now);
        let text = held.first().map_or_else(String::new, |uid| {
            let others = match held.len() {
                1 => String::new(),
                count => format!(" and of {} other users", count - 1),
            };
            format!("requests of user {uid}{others} wait, because too many of them were refused")
        });
        let staying = self.abandoned.staying();
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (count, left) = staying.map_or((0, Cause::from("")), |(name, uid, count)| {
            let text = format!(
                "requests/{name} of user {uid} was left by its writer and cannot be taken away ({count} in all)"
            );
            let folder = requests.requests.display();
            let repair = format!("sudo rm -r {folder}/{name}");
            (count, Cause::repaired_by(text, repair))
        });
        [
            (Alarm::RequestsHeld, level(held.len()), text.into()),
            (Alarm::RequestLeft, level(count), left),
            (
                Alarm::AnswersOpen,
                u64::from(requests.has_opened()),
                "the file system of the state folder has no access control lists".into(),
            ),
        ]
    }
}

/// Whether a request needs nothing more. One that is accepted does: a kill kept its folder from being taken away, or another
/// one was placed under its name.
fn is_settled(requests: &Requests, name: &str) -> bool {
    matches!(requests.answer_of(name), Some(Answer::Refused(_)))
}

/// What a name is, if it is a folder.
fn folder_at(directory: &std::fs::File, name: &CStr) -> Option<FileStat> {
    let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    (kind == SFlag::S_IFDIR).then_some(stat)
}
