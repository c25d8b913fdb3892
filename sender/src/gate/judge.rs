//! Requests → their effects and answers, many at a time: one sync of the files, one commit of the audit log.

use std::path::PathBuf;

use valise_common::host::requests::{self, Found};
use valise_common::ids::{MessageId, Serial};
use valise_common::os::clock;
use valise_common::os::durable::FinishedFile;
use valise_common::precedence::Precedence;

use super::commission::Replay;
use super::error::GateError;
use super::host::Gate;
use super::intake_error::Refused;
use super::refusal::{Refusal, may_accept_clock};
use super::request::{Prepared, Request};
use super::worker::Work;
use crate::model::event::Event;
use crate::spool::pending::StagedSubmission;

/// What a request gets.
pub(super) enum Answer {
    Text(String),
    /// How an approval stands is said once the batch is sealed.
    Approval(MessageId),
}

#[derive(Default)]
pub(super) struct Batch {
    /// The request and its answer.
    pub(super) accepted: Vec<(Found, Answer)>,
    /// The request and the reason.
    pub(super) refused: Vec<(Found, String)>,
    pub(super) submissions: Vec<StagedSubmission>,
    pub(super) approvals: Vec<(FinishedFile, PathBuf)>,
    pub(super) ended: Vec<MessageId>,
    pub(super) resent: Vec<Serial>,
}

impl Gate {
    /// Judges requests, seals what has its quorum, and answers. Large cables come back as work for the worker.
    ///
    /// # Errors
    /// [`GateError`]; the process must end. Nothing was answered that is not durable.
    pub fn handle(
        &mut self,
        requests: Vec<Result<Prepared, Refused>>,
    ) -> Result<Vec<(Precedence, Work)>, GateError> {
        let mut batch = Batch::default();
        // Imports and the clock commit by themselves, so they come before anything whose files are not synced yet.
        let (imports, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(commits_itself);
        let imported = !imports.is_empty();
        for request in imports.into_iter().chain(others) {
            let found = match &request {
                Ok(prepared) => &prepared.found,
                Err(refused) => &refused.found,
            };
            if self.preparer.requests.is_accepted(&found.name) {
                self.settle_accepted(request)?;
                continue;
            }
            match request {
                Ok(prepared) => self.handle_one(prepared, &mut batch)?,
                Err(refused) => {
                    let refusal = Refusal::from(&refused.reason);
                    self.refuse(&mut batch, refused.found, refused.kind, None, refusal);
                }
            }
        }
        self.show(&mut batch)?;
        let large = self.seal_ready(imported)?;
        for serial in std::mem::take(&mut batch.resent) {
            self.rewrite_geometry(serial)?;
        }
        for id in std::mem::take(&mut batch.ended) {
            self.waiting.pending.remove(&id)?;
        }
        self.answer(batch)?;
        Ok(large)
    }

    /// Takes away a folder beside an answer `accepted`: it is the one that was answered, or is placed again. It gets no other
    /// answer and has no other effect. A submission that gate does not know under this name is somebody's only copy, and
    /// stays.
    fn settle_accepted(&mut self, request: Result<Prepared, Refused>) -> Result<(), GateError> {
        match request {
            Ok(Prepared {
                found,
                act: Request::Submit(submission),
                ..
            }) => {
                self.eraser.put(&submission.folder)?;
                if self
                    .history
                    .register()
                    .of_request(&submission.digest)?
                    .is_some()
                {
                    self.requests.repeated(&found.name);
                    return Ok(());
                }
                tracing::info!(
                    "a folder in requests/ has the name of an accepted request; place it under a new name"
                );
                self.requests.leave(&found.name);
            }
            Ok(prepared) => self.requests.repeated(&prepared.found.name),
            // Its author changed it after the answer.
            Err(refused) => self.requests.leave(&refused.found.name),
        }
        Ok(())
    }

    /// Lets officers see submissions and approvals: their files are durable first, then their lines, then their names. What a
    /// kill leaves without a line start-up deletes, and what it leaves without its name start-up gives it.
    fn show(&mut self, batch: &mut Batch) -> Result<(), GateError> {
        if batch.submissions.is_empty() && batch.approvals.is_empty() {
            return Ok(());
        }
        self.sync.commit()?;
        self.commit()?;
        for staged in std::mem::take(&mut batch.submissions) {
            self.waiting.pending.publish(staged, &mut self.sync)?;
        }
        for (file, path) in std::mem::take(&mut batch.approvals) {
            file.publish_in(&path, &mut self.sync)?;
        }
        Ok(self.sync.commit()?)
    }

    /// Steps ① to ⑤ for every cable that has its quorum and changed; for all of them with `all`.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn seal_ready(&mut self, all: bool) -> Result<Vec<(Precedence, Work)>, GateError> {
        let ids: Vec<MessageId> = if all {
            self.history.ledger().cables.keys().copied().collect()
        } else {
            self.history.changed().collect()
        };
        let issuing = self.issue(ids);
        self.commit()?;
        if issuing.is_empty() {
            return Ok(Vec::new());
        }
        self.write_beacon()?;
        self.seal_issued(issuing)
    }

    fn answer(&mut self, batch: Batch) -> Result<(), GateError> {
        self.publish_view()?;
        let now = clock::mono_now();
        for (found, answer) in batch.accepted {
            let text = match answer {
                Answer::Text(text) => text,
                Answer::Approval(id) => self.approval_text(&id)?,
            };
            let answer = requests::Answer::Accepted(text);
            self.requests
                .answer(now, &found.name, found.owner_uid, answer);
        }
        for (found, reason) in batch.refused {
            self.requests.count_refusal(found.owner_uid, now);
            let answer = requests::Answer::Refused(reason);
            self.requests
                .answer(now, &found.name, found.owner_uid, answer);
        }
        self.sync.commit()?;
        Ok(self.requests.finish()?)
    }

    fn approval_text(&self, id: &MessageId) -> Result<String, GateError> {
        let cable = match self.history.ledger().cables.get(id) {
            Some(cable) => Some(cable.clone()),
            None => self.history.register().cable(id)?,
        };
        let Some(cable) = cable else {
            return Ok("approved".to_owned());
        };
        let mut text = format!(
            "approved: {} of {}",
            cable.approvals.len(),
            self.authority.needed(&cable)
        );
        match cable.serial() {
            Some(serial) if self.outgoing.in_sealing.contains(&serial) => {
                text.push_str(&format!("; being sealed as serial {serial}"));
            }
            Some(serial) => text.push_str(&format!("; sealed as serial {serial}")),
            None => {
                if let Some(reason) = self.waiting.blocked(id) {
                    text.push_str(&format!("; not sealed yet: {reason}"));
                }
            }
        }
        Ok(text)
    }

    /// Records that a command's own import was refused.
    pub fn note_refusal<T>(&mut self, request: &str, result: &Result<T, Refusal>) {
        if let Err(no) = result {
            let by = self.authority.asker(nix::unistd::getuid().as_raw());
            let (request, reason) = (request.to_owned(), no.code.to_owned());
            self.history.record(&Event::Refused {
                request,
                id: None,
                by,
                reason,
            });
        }
    }

    fn refuse(
        &mut self,
        batch: &mut Batch,
        found: Found,
        kind: &'static str,
        id: Option<MessageId>,
        refusal: Refusal,
    ) {
        let by = self.authority.asker(found.owner_uid);
        tracing::info!(request = kind, reason = refusal.code, by, "refused");
        let reason = refusal.code.to_owned();
        self.history.record(&Event::Refused {
            request: kind.to_owned(),
            id,
            by,
            reason,
        });
        batch.refused.push((found, refusal.text));
    }

    fn handle_one(&mut self, prepared: Prepared, batch: &mut Batch) -> Result<(), GateError> {
        let Prepared { found, kind, act } = prepared;
        let uid = found.owner_uid;
        let id = act.id();
        let replay = match self.requests.is_left_over(&found.name) {
            true => Replay::Possible,
            false => Replay::Refusal,
        };
        let result = match act {
            Request::Submit(submission) => {
                let folder = submission.folder.clone();
                let result = self.submit(uid, *submission, batch)?;
                self.eraser.put(&folder)?;
                result
            }
            Request::Approve { id, signature } => self.approve(id, &signature, batch)?,
            Request::Reject { id, reason } => self.reject(uid, id, reason, batch),
            Request::Withdraw { id } => self.withdraw(uid, id, batch),
            Request::Resend { serials, digest } => self.resend(uid, &serials, digest, batch),
            Request::BundleImport(verified) => {
                self.import_bundle(&verified, replay)?.map(Answer::Text)
            }
            Request::TrustImport(signed) => self.import_trust(*signed, replay)?.map(Answer::Text),
            Request::ClockAccept => match may_accept_clock(uid) {
                Ok(()) => Ok(Answer::Text(self.accept_clock(uid)?)),
                Err(refusal) => Err(refusal),
            },
        };
        match result {
            Ok(answer) => batch.accepted.push((found, answer)),
            Err(refusal) => self.refuse(batch, found, kind, id, refusal),
        }
        Ok(())
    }
}

fn commits_itself(request: &Result<Prepared, Refused>) -> bool {
    matches!(
        request,
        Ok(Prepared {
            act: Request::BundleImport(_) | Request::TrustImport(_) | Request::ClockAccept,
            ..
        })
    )
}
