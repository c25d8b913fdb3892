//! What operators ask: each request is judged on a copy, done, logged and answered.

use std::io;

use serde::{Deserialize, Serialize};
use valise_common::alarm::Alarm;
use valise_common::host::folders::{InboxName, Role};
use valise_common::host::requests::{
    Answer, Found, RequestRefused, SYSTEM_FAILURE, TakeLimits, Taken, answer_text,
};
use valise_common::host::trust_store::{Held, SignedList, TrustStoreError};
use valise_common::ids::{BundleId, LinkKeyId, Serial};
use valise_common::limits;
use valise_common::manifest::FreeText;
use valise_common::os::clock;
use valise_common::os::durable::{self, SyncBatch, is_full};
use valise_common::units::{ByteSize, UtcTime};

use crate::model::event::{Asker, Event};
use crate::model::reply::Reply;
use crate::model::rows::{CableRow, Claim};
use crate::release::error::ReleaseError;
use crate::release::host::Release;
use crate::release::inbox::{Incoming, Origin};
use crate::release::ledger::now_of;
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

/// `request.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RequestText {
    /// Verify a quarantined cable again.
    QuarantineRecheck {
        /// Its serial.
        serial: Serial,
    },
    /// Destroy a quarantined cable.
    QuarantineDiscard {
        /// Its serial.
        serial: Serial,
        /// Why.
        reason: String,
    },
    /// Put a signed trust list into force.
    TrustImport {},
    /// Make a bundle for the courier.
    BundleCreate {
        /// Number of slots.
        slots: u32,
        /// The bundle whose unused slots become void.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<BundleId>,
    },
    /// Destroy the unused slots of a bundle.
    BundleVoid {
        /// The bundle.
        bundle: BundleId,
        /// Why.
        reason: String,
    },
    /// End an old link key early.
    LinkKeyRetire {
        /// The key.
        link_key: LinkKeyId,
    },
    /// Set "now" back to the clock.
    ClockAccept {},
}

impl RequestText {
    /// The request's word.
    pub fn word(&self) -> &'static str {
        match self {
            RequestText::QuarantineRecheck { .. } => "quarantine-recheck",
            RequestText::QuarantineDiscard { .. } => "quarantine-discard",
            RequestText::TrustImport {} => "trust-import",
            RequestText::BundleCreate { .. } => "bundle-create",
            RequestText::BundleVoid { .. } => "bundle-void",
            RequestText::LinkKeyRetire { .. } => "link-key-retire",
            RequestText::ClockAccept {} => "clock-accept",
        }
    }
}

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
        self.requests.end(now);
        Ok(())
    }

    fn serve(&mut self, found: Found) -> Result<(), ReleaseError> {
        let name = found.name.as_str();
        if found.answered {
            // The folder of a request that was answered, or another one under its name.
            self.requests.repeated(name);
            return Ok(());
        }
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
        // Done before a crash, and not answered.
        if let Some(reply) = self.ledger.register().reply(&taken.idempotency_key)? {
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
            Verdict::Refused(text) => self.refuse(name, request.word(), by, &text)?,
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

    fn quarantined(&self, serial: Serial) -> Result<Result<CableRow, Verdict>, ReleaseError> {
        let refused = |text: &str| Err(Verdict::Refused(format!("serial {serial} {text}")));
        let row = self.ledger.register().cable(serial)?;
        Ok(match row {
            Some(row) if row.claim == Claim::Quarantined => Ok(row),
            Some(row) if row.claim == Claim::Discarded => refused("was discarded"),
            Some(_) => refused("is released"),
            None => refused("is not in quarantine; see valise-receiver list"),
        })
    }

    fn ask_recheck(
        &mut self,
        name: &str,
        serial: Serial,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        let row = match self.quarantined(serial)? {
            Ok(row) => row,
            Err(verdict) => return Ok(verdict),
        };
        if self.trust.is_none() {
            return Ok(Verdict::Refused(
                "there is no trust list to verify by".to_owned(),
            ));
        }
        let container = InboxName {
            serial,
            container: row.container.id(),
        };
        let path = self.state.quarantined(&container);
        let bytes = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Verdict::Refused(format!(
                    "the container of serial {serial} is not in quarantine/: restore it, or discard it"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let origin = Origin::Quarantine {
            request: name.to_owned(),
            by,
        };
        self.inbox.rechecks.push_back(Incoming {
            name: container,
            path,
            bytes,
            origin,
        });
        Ok(Verdict::UnderWay)
    }

    fn discard(
        &mut self,
        serial: Serial,
        reason: &str,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        let row = match self.quarantined(serial)? {
            Ok(row) => row,
            Err(verdict) => return Ok(verdict),
        };
        let container = InboxName {
            serial,
            container: row.container.id(),
        };
        if self.inbox.rechecks.iter().any(|one| one.name == container)
            || self.inbox.in_work == Some(serial)
        {
            return Ok(Verdict::Refused(format!(
                "serial {serial} is being rechecked; ask again"
            )));
        }
        let reason = match reason_of(reason) {
            Ok(reason) => reason,
            Err(verdict) => return Ok(verdict),
        };
        let discarded = Event::Discarded { serial, reason, by };
        let verdict = self.happened(self.now(), discarded)?;
        if let Some(slots) = self
            .ledger
            .bundle_of(serial)
            .and_then(|bundle| self.slots.of(bundle.bundle))
        {
            slots.erase(serial)?;
            slots.sync()?;
        }
        durable::remove_any(&self.state.quarantined(&container))?;
        Ok(verdict)
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

    /// Verifies a list and puts it into force.
    ///
    /// # Errors
    /// [`ReleaseError`]; the process must end. A refusal is a verdict.
    pub fn import_trust(
        &mut self,
        offered: Result<SignedList, TrustStoreError>,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        let held = self.ledger.register().trust()?;
        let admitted = offered.and_then(|signed| {
            let held = held.map(|(version, sha256)| Held {
                version,
                is_offered: signed.sha256().to_string() == sha256,
                is_usable: self.trust.is_some(),
            });
            let channel = Some(self.host.channel);
            signed.admit(&self.host.administrators, channel, held, clock::utc_now())
        });
        let verified = match admitted {
            Ok(verified) => verified,
            Err(error) if error.is_failure() => return Ok(Verdict::Refused(failed(&error))),
            Err(error) => return Ok(Verdict::Refused(error.to_string())),
        };
        let store = self.state.trust_store();
        match store.stage(&verified) {
            Err(error) if is_full(&error) => return Ok(Verdict::Refused(failed(&error))),
            staged => staged?,
        }
        let version = verified.list.version();
        let imported = Event::TrustImported {
            version,
            sha256: verified.signed().sha256().to_string(),
            by,
        };
        let verdict = self.happened(self.now(), imported)?;
        store.put_into_force()?;
        if verified.list.allow_software_keys() {
            tracing::warn!("trust list {version} lets software keys approve: for exercises only");
        }
        self.trust = Some(verified);
        let now = self.now();
        self.shown
            .alarms
            .set(Alarm::TrustDamaged, now, 0, String::new);
        self.make_mailboxes()?;
        // Cables that waited for a list go out now.
        self.shown.dirty = true;
        Ok(verdict)
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
        let event = refusal(ask.word(), reason, by);
        self.happened(self.now(), event)
    }

    fn accept_clock(&mut self, by: Asker) -> Result<Verdict, ReleaseError> {
        let (before, clock) = (self.now(), clock::utc_now());
        let issued = self.trust.as_ref().map(|signed| signed.list.issued());
        let now = now_of(clock, issued, None);
        self.shown.dirty = true;
        // The line carries the clock's own time: with it the last audit time goes back.
        let verdict = self.happened(clock, Event::ClockAccepted { before, now, by })?;
        // It seals where the log's times go back.
        self.ledger.checkpoint(self.mono())?;
        Ok(verdict)
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
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn every_request_round_trips_as_toml() {
        let serial = Serial::new(4).unwrap();
        for ask in [
            RequestText::QuarantineRecheck { serial },
            RequestText::QuarantineDiscard {
                serial,
                reason: "wrong \"desk\"".to_owned(),
            },
            RequestText::TrustImport {},
            RequestText::BundleCreate {
                slots: 10,
                replaces: None,
            },
            RequestText::BundleCreate {
                slots: 10,
                replaces: Some(BundleId(1)),
            },
            RequestText::BundleVoid {
                bundle: BundleId(2),
                reason: "lost".to_owned(),
            },
            RequestText::LinkKeyRetire {
                link_key: LinkKeyId(1),
            },
            RequestText::ClockAccept {},
        ] {
            let text = toml::to_string(&ask).unwrap();
            assert!(
                text.contains(&format!("request = \"{}\"", ask.word())),
                "{text}"
            );
            assert_eq!(toml::from_str::<RequestText>(&text).unwrap(), ask);
        }
    }

    #[test]
    fn unknown_words_and_keys_are_refused() {
        for text in [
            "",
            "request = \"submit\"",
            "request = \"clock-accept\"\nmore = 1",
            "request = \"quarantine-recheck\"\nserial = 0",
            "request = \"quarantine-recheck\"\nserial = 1\nreason = \"x\"",
            "request = \"bundle-create\"\nslots = -1",
        ] {
            assert!(toml::from_str::<RequestText>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_holds_no_control_characters() {
        assert_eq!(reason_of("lost on its way").unwrap(), "lost on its way");
        assert!(reason_of("").is_err());
        assert!(reason_of("a\u{1b}[2J").is_err());
        assert!(reason_of(&"x".repeat(201)).is_err());
    }
}
