//! Answers that could not be written, kept until they can: no answer is worth the end of the daemon.

use std::collections::BTreeMap;
use std::io;

use super::{Answer, Requests};
use crate::os::durable::SyncBatch;
use crate::units::Mono;

/// How long a daemon waits before it writes them again.
const RETRY_US: u64 = 10_000_000;

/// Answers that may wait. A daemon takes no more requests while there are so many.
const WAITING_MAX: usize = 1_000;

/// Answers that wait for their files. What they answer is done, logged, and not to be judged again.
///
/// # Bounds
/// A few more than a thousand, if the daemon asks [`Unanswered::is_full`] before it takes requests.
#[derive(Debug, Default)]
pub struct Unanswered {
    /// By request: who asked, and the answer.
    answers: BTreeMap<String, (u32, Answer)>,
    retry: Option<Mono>,
}

impl Unanswered {
    /// Writes an answer, or keeps it. Tells whether it is written: the batch must be committed then.
    pub fn answer(
        &mut self,
        requests: &Requests,
        now: Mono,
        name: &str,
        owner_uid: u32,
        answer: Answer,
        batch: &mut SyncBatch,
    ) -> bool {
        match write(requests, name, owner_uid, &answer, batch) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("a request cannot be answered now, its answer waits: {error}");
                self.answers.insert(name.to_owned(), (owner_uid, answer));
                self.retry.get_or_insert(now.plus_us(RETRY_US));
                false
            }
        }
    }

    /// Writes those again that wait, when it is time. Returns the names that have their answer now; the batch must be
    /// committed before anything is made of them. An answer whose request was taken back is dropped.
    pub fn retry(&mut self, requests: &Requests, now: Mono, batch: &mut SyncBatch) -> Vec<String> {
        if self.retry.is_none_or(|retry| now < retry) {
            return Vec::new();
        }
        let mut written = Vec::new();
        self.answers.retain(|name, (owner_uid, answer)| {
            let is_there = std::fs::symlink_metadata(requests.requests.join(name)).is_ok();
            if is_there && write(requests, name, *owner_uid, answer, batch).is_err() {
                return true;
            }
            written.push(name.clone());
            false
        });
        self.retry = (!self.answers.is_empty()).then(|| now.plus_us(RETRY_US));
        written
    }

    /// Whether a request has been judged and waits for its answer.
    pub fn holds(&self, name: &str) -> bool {
        self.answers.contains_key(name)
    }

    /// Whether no more requests are to be taken.
    pub fn is_full(&self) -> bool {
        self.answers.len() >= WAITING_MAX
    }
}

fn write(
    requests: &Requests,
    name: &str,
    owner_uid: u32,
    answer: &Answer,
    batch: &mut SyncBatch,
) -> io::Result<()> {
    match answer {
        Answer::Accepted(text) => requests.answer_accepted(name, owner_uid, text, batch),
        Answer::Refused(reason) => requests.answer_refused(name, owner_uid, reason, batch),
        Answer::NoDaemon | Answer::Waiting => unreachable!("a daemon answers yes or no"),
    }
}
