//! A daemon's end of `requests/`: which request is next, its answer, and the end of its folder.
//!
//! A request is in hand from [`RequestService::next`] until it is answered or left. The daemon judges it in between, and
//! makes what it decided durable before it answers.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use super::server::{Found, Requests};
use super::unanswered::Unanswered;
use super::{Answer, RequestQueue};
use crate::host::alarms::Alarms;
use crate::os::durable::SyncBatch;
use crate::units::{Mono, UtcTime};

/// Answers that nobody fetched are kept for this time.
const ANSWERS_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Time between two searches for answers that nobody fetched.
const EXPIRE_US: u64 = 3_600_000_000;

/// The requests of a host.
#[derive(Debug)]
pub struct RequestService {
    requests: Requests,
    queue: RequestQueue,
    /// Requests that are being judged.
    in_hand: BTreeSet<String>,
    /// Requests that the daemon found when it started.
    left_over: BTreeSet<String>,
    unanswered: Unanswered,
    /// Answers that are not synced yet.
    batch: SyncBatch,
    /// Accepted requests whose answers are in the batch.
    accepted: Vec<String>,
    /// Requests to be looked at again with the next ones.
    postponed: Vec<Found>,
    /// Something changed that may let a request be judged.
    look_again: bool,
    expired: Option<Mono>,
}

impl RequestService {
    /// Serves `requests`; nothing is looked at yet.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn new(requests: Requests) -> io::Result<Self> {
        Ok(Self {
            queue: RequestQueue::default(),
            in_hand: BTreeSet::new(),
            left_over: BTreeSet::new(),
            unanswered: Unanswered::default(),
            batch: SyncBatch::new(requests.folder())?,
            accepted: Vec::new(),
            postponed: Vec::new(),
            look_again: true,
            expired: None,
            requests,
        })
    }

    /// Erases what an earlier process left half erased, and notes the requests that are there.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn take_over(&mut self) -> io::Result<()> {
        self.left_over = self.requests.left_over()?;
        Ok(())
    }

    /// The folder's files.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Returns whether a request was found at the start. An earlier process may have done what it asks, and have been killed
    /// before it answered.
    pub fn is_left_over(&self, name: &str) -> bool {
        self.left_over.contains(name)
    }

    /// Takes note of a name that came or went.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn notice(&mut self, name: &OsStr) -> io::Result<()> {
        self.queue.notice(&self.requests, name)
    }

    /// Has every name looked at again: notices were lost, or requests that were left can be judged now.
    pub fn look_at_all(&mut self) {
        self.queue.lost();
        self.look_again = true;
    }

    /// Has postponed requests looked at again.
    pub fn look_again(&mut self) {
        self.look_again = true;
    }

    /// Returns whether requests can be judged now.
    pub fn is_due(&self, now: Mono) -> bool {
        (self.look_again || self.queue.is_due(now)) && !self.unanswered.is_full()
    }

    /// Begins a turn: looks at a slice of the folder, if that is due.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn begin(&mut self, now: Mono) -> io::Result<()> {
        if std::mem::take(&mut self.look_again) {
            for found in std::mem::take(&mut self.postponed) {
                self.queue.put_back(&found);
            }
        }
        self.queue.look(&self.requests, now)
    }

    /// Takes the next request in hand.
    pub fn next(&mut self, now: Mono) -> Option<Found> {
        loop {
            if self.unanswered.is_full() {
                return None;
            }
            let mut found = self.queue.take(now)?;
            // A pass over the folder finds again what is in hand.
            if self.in_hand.contains(&found.name) || self.unanswered.holds(&found.name) {
                continue;
            }
            match self.requests.answer_of(&found.name) {
                Some(Answer::Refused(_)) => continue,
                answer => found.answered = answer.is_some(),
            }
            self.in_hand.insert(found.name.clone());
            return Some(found);
        }
    }

    /// Counts a refusal: whoever is refused again and again waits.
    pub fn count_refusal(&mut self, owner_uid: u32, now: Mono) {
        self.queue.refused(owner_uid, now);
    }

    /// Ends a turn: its refusals have been counted.
    pub fn end(&mut self) {
        self.queue.settled();
    }

    /// Puts a request back until [`RequestService::look_again`].
    pub fn postpone(&mut self, found: Found) {
        self.in_hand.remove(&found.name);
        self.postponed.push(found);
    }

    /// Leaves a request without an answer. A later pass over the folder finds it again, if it is still there.
    pub fn leave(&mut self, name: &str) {
        self.in_hand.remove(name);
    }

    /// Answers a request, or keeps the answer until it can be written. [`RequestService::finish`] makes it durable.
    pub fn answer(&mut self, now: Mono, name: &str, owner_uid: u32, answer: Answer) {
        self.in_hand.remove(name);
        let is_accepted = matches!(answer, Answer::Accepted(_));
        let (requests, batch) = (&self.requests, &mut self.batch);
        let is_written = self
            .unanswered
            .answer(requests, now, name, owner_uid, answer, batch);
        if is_written && is_accepted {
            self.accepted.push(name.to_owned());
        }
    }

    /// Ends a request that has the answer `accepted` already.
    pub fn repeated(&mut self, name: &str) {
        self.in_hand.remove(name);
        // The process that wrote the answer may have been killed before it synced it.
        match self.requests.sync_accepted(name, &mut self.batch) {
            Ok(()) => self.accepted.push(name.to_owned()),
            Err(error) => tracing::warn!("an answered request stays: {error}"),
        }
    }

    /// Makes the answers durable, and takes away the folders of accepted requests.
    ///
    /// # Errors
    /// A failed sync; the process must end.
    pub fn finish(&mut self) -> io::Result<()> {
        self.batch.commit()?;
        for name in std::mem::take(&mut self.accepted) {
            if let Err(error) = self.requests.forget(&name) {
                // The answer is durable; a later pass finds the folder and tries again.
                tracing::warn!("an answered request could not be deleted: {error}");
            }
        }
        Ok(())
    }

    /// Does what time brings: answers that could not be written, folders that commands left, old answers, alarms.
    ///
    /// # Errors
    /// A failure of the disk; the process must end.
    pub fn keep_up(&mut self, alarms: &mut Alarms, utc: UtcTime, now: Mono) -> io::Result<()> {
        let (requests, batch) = (&self.requests, &mut self.batch);
        let written = self.unanswered.retry(requests, now, batch);
        self.finish()?;
        for name in written {
            // The folder may be another one by now: whoever judges requests looks before it is taken away.
            self.queue.notice(&self.requests, OsStr::new(&name))?;
        }
        self.queue.take_abandoned(&self.requests, now);
        for (alarm, level, text) in self.queue.alarms(&self.requests, now) {
            alarms.set(alarm, utc, level, || text);
        }
        let expired = self.expired.get_or_insert(now);
        if now.since_us(*expired) >= EXPIRE_US {
            *expired = now;
            if let Err(error) = self.requests.expire_answers(ANSWERS_KEPT) {
                tracing::warn!("old answers cannot be looked for: {error}");
            }
        }
        Ok(())
    }
}
