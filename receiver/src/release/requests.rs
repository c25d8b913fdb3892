//! What operators ask: each request is judged on a copy, done, logged and answered.

use std::io;

use valise_common::host::folders::Role;
use valise_common::host::requests::{
    Answer, Found, RequestRefused, SYSTEM_FAILURE, TakeLimits, Taken, answer_text,
};
use valise_common::host::trust_store::{SignedList, TrustStoreError};
use valise_common::limits;
use valise_common::manifest::FreeText;
use valise_common::os::durable::{self, SyncBatch};
use valise_common::units::{ByteSize, UtcTime};

use crate::model::event::{Asker, Event};
use crate::model::reply::Reply;
use crate::release::error::ReleaseError;
use crate::release::host::Release;
use crate::release::request::RequestText;
use crate::release::worker::Task;

/// Characters of an operator's reason.
pub const REASON_CHARS_MAX: usize = 200;

/// Requests that are served before cables are looked at again.
const SERVED_MAX: usize = 32;

/// Bytes of the disk that a request leaves for the log and the answer. Little, so that a discard can still make room.
const RESERVE_BYTES: u64 = 64 << 10;

/// Below this not even a refusal would find room: the request waits.
const REFUSAL_BYTES: u64 = 16 << 10;

/// Bytes of a request's files: a trust list and its signatures are the most.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// What becomes of a request at once.
#[derive(Debug)]
pub enum Verdict {
    /// Done; the text answers.
    Accepted(String),
    /// Refused; nothing was changed.
    Refused(String),
    /// It is under way and will be answered.
    UnderWay,
    /// The second thread is busy; to be looked at again.
    Later,
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Verdict {
        match reply {
            Reply::Accepted(text) => Verdict::Accepted(text),
            Reply::Refused(text) => Verdict::Refused(text),
        }
    }
}

impl Release {
    /// Judges and answers the next requests.
    pub(super) fn serve_requests(&mut self) -> Result<(), ReleaseError> {
        let now = self.mono();
        self.requests.begin(now)?;
        let mut count: usize = 0;
        while count < SERVED_MAX
            && let Some(found) = self.requests.next(now)
        {
            self.serve(found)?;
            count += 1;
        }
        self.requests.finish()?;
        self.requests.end();
        Ok(())
    }

    fn serve(&mut self, found: Found) -> Result<(), ReleaseError> {
        let name = found.name.as_str();
        let by = Asker::user(found.owner_uid);
        // Looked at before anything is copied: the copy and the answer need room.
        let files = self.requests.requests();
        let size = files.size(&found).unwrap_or(0);
        let needed_bytes = size.min(REQUEST_BYTES_MAX).saturating_add(RESERVE_BYTES);
        let free_bytes = durable::free_bytes(self.state.root())?;
        if free_bytes < REFUSAL_BYTES {
            self.requests.postpone(found);
            return Ok(());
        }
        if free_bytes < needed_bytes {
            let text = format!(
                "{SYSTEM_FAILURE}: the disk is nearly full ({} free, {} needed); nothing was done, make room and ask again",
                ByteSize(free_bytes).rough(),
                ByteSize(needed_bytes).rough()
            );
            return self.refuse(name, "unknown", by, &text);
        }
        let into = self
            .state
            .tmp(Role::Release)
            .join(format!("request-{name}"));
        self.eraser.put(&into)?;
        let most = TakeLimits {
            files_max: limits::ADMINISTRATOR_SIGNATURES_MAX.saturating_add(2),
            bytes_max: REQUEST_BYTES_MAX,
            // They are small, and the room was looked at for all of them.
            reserve_bytes: 0,
        };
        let mut copies = SyncBatch::new(self.state.root())?;
        let files = self.requests.requests();
        let result = match files.intake(&found, &into, most, &mut copies) {
            Err(RequestRefused::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                // Its author took it back.
                self.requests.leave(name);
                Ok(())
            }
            Err(_) if found.answered => {
                self.requests.leave(name);
                Ok(())
            }
            // Whether its author or this host's disk caused it cannot always be told; no request may end the daemon.
            Err(refused) => {
                let text = refused.to_string();
                self.refuse_as(name, "unknown", by, &refused.logged(), Some(&text))
            }
            Ok(taken) => self.judge_request(found, &taken),
        };
        self.eraser.put(&into)?;
        result
    }

    fn judge_request(&mut self, found: Found, taken: &Taken) -> Result<(), ReleaseError> {
        let name = found.name.as_str();
        let by = Asker {
            uid: taken.owner_uid,
            asked: Some(taken.idempotency_key.clone()),
        };
        let reply = self.ledger.register().reply(&taken.idempotency_key)?;
        if found.answered {
            // The folder that was answered, or another one under its name; somebody's only copy of a file stays.
            if reply.is_some() || taken.files.is_empty() {
                self.requests.repeated(name);
            } else {
                tracing::info!(
                    "a folder in requests/ has the name of an accepted request; place it under a new name"
                );
                self.requests.leave(name);
            }
            return Ok(());
        }
        // Done before a crash, and not answered.
        if let Some(reply) = reply {
            let answer = match reply {
                Reply::Accepted(text) => Answer::Accepted(text),
                Reply::Refused(text) => Answer::Refused(text),
            };
            self.answer(name, by.uid, answer);
            return Ok(());
        }
        let request: RequestText = match toml::from_str(&taken.toml) {
            Ok(request) => request,
            Err(error) => {
                let text = format!("request.toml cannot be read: {}", error.message());
                return self.refuse(name, "unknown", by, &text);
            }
        };
        match self.act(name, &request, taken, by.clone())? {
            Verdict::Accepted(text) => self.answer(name, by.uid, Answer::Accepted(text)),
            Verdict::Refused(text) => self.refuse(name, request.as_str(), by, &text)?,
            Verdict::UnderWay => {}
            Verdict::Later => self.requests.postpone(found),
        }
        Ok(())
    }

    fn act(
        &mut self,
        name: &str,
        ask: &RequestText,
        taken: &Taken,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        match ask {
            RequestText::QuarantineRecheck { serial } => self.ask_recheck(name, *serial, by),
            RequestText::QuarantineDiscard { serial, reason } => self.discard(*serial, reason, by),
            RequestText::TrustImport {} => {
                self.import_trust(SignedList::of_request(&taken.files), by)
            }
            RequestText::BundleCreate { slots, replaces } => {
                let plan = match self.plan_bundle(*slots, *replaces)? {
                    Ok(plan) => plan,
                    Err(refused) => return Ok(Verdict::Refused(refused)),
                };
                if self.worker.is_busy() {
                    return Ok(Verdict::Later);
                }
                let out = self.courier_stage(plan.bundle)?;
                self.worker
                    .give(Task::Bundle(plan, out, name.to_owned(), by))?;
                Ok(Verdict::UnderWay)
            }
            RequestText::BundleVoid { bundle, reason } => self.void_bundle(*bundle, reason, by),
            RequestText::LinkKeyRetire { link_key } => self.retire_link_key(*link_key, by),
            RequestText::ClockAccept {} => self.accept_clock(by),
        }
    }

    /// Makes an event happen, and tells what who asked for it is answered.
    pub(super) fn happened(
        &mut self,
        time: UtcTime,
        event: Event,
    ) -> Result<Verdict, ReleaseError> {
        let reply = event.reply(time);
        self.ledger.append(time, event);
        self.ledger.commit()?;
        let done = || Verdict::Accepted("done".to_owned());
        Ok(reply.map_or_else(done, Verdict::from))
    }

    /// Puts a list into force for a command that does it by itself; a refusal is logged like that of a request.
    ///
    /// # Errors
    /// As [`Release::import_trust`].
    pub fn import_here(
        &mut self,
        offered: Result<SignedList, TrustStoreError>,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        match self.import_trust(offered, by.clone())? {
            Verdict::Refused(reason) => self.refuse_here(&RequestText::TrustImport {}, &reason, by),
            other => Ok(other),
        }
    }

    /// Refuses what a command was to do by itself, and logs it like the refusal of a request.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn refuse_here(
        &mut self,
        ask: &RequestText,
        reason: &str,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        let event = refusal(ask.as_str(), reason, by);
        self.happened(self.now(), event)
    }

    /// Answers a request whose effect, if it has one, is durable.
    pub(super) fn answer(&mut self, name: &str, uid: u32, answer: Answer) {
        let now = self.mono();
        self.requests.answer(now, name, uid, answer);
    }

    /// Answers no, and logs it.
    pub(super) fn refuse(
        &mut self,
        name: &str,
        request: &str,
        by: Asker,
        reason: &str,
    ) -> Result<(), ReleaseError> {
        self.refuse_as(name, request, by, reason, None)
    }

    /// Answers no, with a text that is not the log's if it names what the log must not.
    fn refuse_as(
        &mut self,
        name: &str,
        request: &str,
        by: Asker,
        logged: &str,
        told: Option<&str>,
    ) -> Result<(), ReleaseError> {
        let uid = by.uid;
        self.requests.count_refusal(uid, self.mono());
        let event = refusal(request, logged, by);
        let answer = match self.happened(self.now(), event)? {
            Verdict::Refused(reason) => reason,
            _ => logged.to_owned(),
        };
        let answer = told.map_or(answer, str::to_owned);
        self.answer(name, uid, Answer::Refused(answer));
        Ok(())
    }
}

/// The line of a refusal. Whatever the reason quotes, the line is bounded.
fn refusal(request: &str, reason: &str, by: Asker) -> Event {
    Event::RequestRefused {
        request: request.to_owned(),
        reason: answer_text(reason),
        by,
    }
}

/// A failure of this host's system, as a command tells it from a refusal.
pub(super) fn failed(error: &dyn std::fmt::Display) -> String {
    format!("{SYSTEM_FAILURE}: {error}")
}

pub(super) fn reason_of(text: &str) -> Result<String, Verdict> {
    match FreeText::normalize(text, REASON_CHARS_MAX) {
        Ok(reason) => Ok(reason.as_str().to_owned()),
        Err(error) => Err(Verdict::Refused(format!(
            "the reason cannot be used: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_reason_holds_no_control_characters() {
        assert_eq!(reason_of("lost on its way").unwrap(), "lost on its way");
        assert!(reason_of("").is_err());
        assert!(reason_of("a\u{1b}[2J").is_err());
        assert!(reason_of(&"x".repeat(201)).is_err());
    }
}
