//! Requests → their effects and answers, many at a time: one sync of the files, one commit of the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use valise_common::ids::{MessageId, PersonId, Serial};
use valise_common::limits;
use valise_common::os::durable::{FinishedFile, remove_any};
use valise_common::os::entropy;
use valise_common::precedence::Precedence;
use valise_common::sshsig::Signature;
use valise_common::trust::Role;

use super::error::GateError;
use super::event::Event;
use super::host::Gate;
use super::ledger::{Cable, Phase};
use super::prepare::{Prepared, PreparedSubmission, Refused, Unfit, Wish};
use super::worker::Work;
use crate::io::outbox_write::name_of;
use crate::io::pending::StagedSubmission;
use crate::stage::approve::judge;
use crate::stage::submit::{Occasion, Submission};

/// What a request gets.
enum Answer {
    Text(String),
    /// How an approval stands is said once the batch is sealed.
    Approval(MessageId),
}

/// How the answer begins by which a command knows that the system failed, not the request.
pub const SYSTEM_FAILURE: &str = "system failure: ";

/// A refusal: a word for the audit log, a sentence for who asked.
pub struct No {
    code: &'static str,
    text: String,
}

impl No {
    /// A refusal.
    pub fn new(code: &'static str, text: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    /// Nothing is wrong with what was asked: this host could not do it.
    pub fn failure(code: &'static str, text: impl std::fmt::Display) -> Self {
        Self::new(code, format!("{SYSTEM_FAILURE}{text}; nothing was changed"))
    }

    /// Whether the system failed.
    pub fn is_failure(&self) -> bool {
        self.text.starts_with(SYSTEM_FAILURE)
    }
}

impl From<&Unfit> for No {
    fn from(unfit: &Unfit) -> Self {
        if unfit.is_failure() {
            Self::failure(unfit.code(), unfit)
        } else {
            Self::new(unfit.code(), unfit)
        }
    }
}

impl std::fmt::Display for No {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Default)]
struct Batch {
    accepted: Vec<(String, Answer)>,
    refused: Vec<(String, String)>,
    submissions: Vec<StagedSubmission>,
    approvals: Vec<(FinishedFile, PathBuf)>,
    ended: Vec<MessageId>,
    resent: Vec<Serial>,
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
            match request {
                Ok(prepared) => self.handle_one(prepared, &mut batch)?,
                Err(refused) => {
                    let no = No::from(&refused.reason);
                    self.refuse(
                        &mut batch,
                        refused.name,
                        refused.request,
                        None,
                        refused.owner_uid,
                        no,
                    );
                }
            }
        }
        self.sync.commit()?;
        for staged in std::mem::take(&mut batch.submissions) {
            self.pending.publish(staged, &mut self.sync)?;
        }
        for (file, path) in std::mem::take(&mut batch.approvals) {
            file.publish_in(&path, &mut self.sync)?;
        }
        self.sync.commit()?;
        let large = self.seal_ready(imported)?;
        for serial in std::mem::take(&mut batch.resent) {
            self.rewrite_geometry(serial)?;
        }
        for id in std::mem::take(&mut batch.ended) {
            self.pending.remove(&id)?;
        }
        self.answer(batch)?;
        Ok(large)
    }

    /// Steps ① to ⑤ for every cable that has its quorum and changed; for all of them with `all`.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn seal_ready(&mut self, all: bool) -> Result<Vec<(Precedence, Work)>, GateError> {
        let ids: Vec<MessageId> = if all {
            self.ledger.cables.keys().copied().collect()
        } else {
            self.changed.iter().copied().collect()
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
        let mut names = Vec::with_capacity(batch.accepted.len());
        for (name, answer) in batch.accepted {
            let text = match answer {
                Answer::Text(text) => text,
                Answer::Approval(id) => self.approval_text(&id)?,
            };
            self.preparer
                .requests
                .answer_accepted(&name, &text, &mut self.sync)?;
            names.push(name);
        }
        for (name, reason) in batch.refused {
            self.preparer
                .requests
                .answer_refused(&name, &reason, &mut self.sync)?;
        }
        self.sync.commit()?;
        for name in names {
            if let Err(error) = self.preparer.requests.forget(&name) {
                // The answer stands; a later scan finds the folder answered and tries again.
                tracing::warn!("an answered request could not be deleted: {error}");
            }
        }
        Ok(())
    }

    fn approval_text(&self, id: &MessageId) -> Result<String, GateError> {
        let cable = match self.ledger.cables.get(id) {
            Some(cable) => Some(cable.clone()),
            None => self.register.cable(id)?,
        };
        let Some(cable) = cable else {
            return Ok("approved".to_owned());
        };
        let mut text = format!(
            "approved: {} of {}",
            cable.approvals.len(),
            self.needed(&cable)
        );
        match cable.serial() {
            Some(serial) if self.in_sealing.contains(&serial) => {
                text.push_str(&format!("; being sealed as serial {serial}"));
            }
            Some(serial) => text.push_str(&format!("; sealed as serial {serial}")),
            None => {
                if let Some(reason) = self.hindered.get(id) {
                    text.push_str(&format!("; not sealed yet: {reason}"));
                }
            }
        }
        Ok(text)
    }

    /// Records that a command's own import was refused.
    pub fn note_refusal<T>(&mut self, request: &str, result: &Result<T, No>) {
        if let Err(no) = result {
            let by = self.asker(nix::unistd::getuid().as_raw());
            let (request, reason) = (request.to_owned(), no.code.to_owned());
            self.record(&Event::Refused {
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
        name: String,
        request: &'static str,
        id: Option<MessageId>,
        uid: u32,
        no: No,
    ) {
        let by = self.asker(uid);
        tracing::info!(request, reason = no.code, by, "refused");
        let reason = no.code.to_owned();
        self.record(&Event::Refused {
            request: request.to_owned(),
            id,
            by,
            reason,
        });
        batch.refused.push((name, no.text));
    }

    fn handle_one(&mut self, prepared: Prepared, batch: &mut Batch) -> Result<(), GateError> {
        let Prepared {
            name,
            owner_uid: uid,
            wish,
        } = prepared;
        let (request, id) = (wish.word(), wish.id());
        let result = match wish {
            Wish::Submit(submission) => {
                let folder = submission.folder.clone();
                let result = self.submit(uid, *submission, batch)?;
                remove_any(&folder)?;
                result
            }
            Wish::Approve { id, signature } => self.approve(id, &signature, batch)?,
            Wish::Reject { id, reason } => self.reject(uid, id, reason, batch),
            Wish::Withdraw { id } => self.withdraw(uid, id, batch),
            Wish::Resend { ranges, digest } => self.resend(uid, &ranges, digest, batch),
            Wish::BundleImport(verified) => self.import_bundle(&verified)?.map(Answer::Text),
            Wish::TrustImport(signed) => self.import_trust(&signed)?.map(Answer::Text),
            Wish::ClockAccept => Ok(Answer::Text(self.accept_clock(uid)?)),
        };
        match result {
            Ok(answer) => batch.accepted.push((name, answer)),
            Err(no) => self.refuse(batch, name, request, id, uid, no),
        }
        Ok(())
    }

    fn submit(
        &mut self,
        uid: u32,
        submission: PreparedSubmission,
        batch: &mut Batch,
    ) -> Result<Result<Answer, No>, GateError> {
        if let Some(cable) = self.register.of_request(&submission.digest)? {
            return Ok(Ok(Answer::Text(cable.id.to_string())));
        }
        let prepared = match self.judge_submission(uid, &submission) {
            Ok(prepared) => prepared,
            Err(no) => return Ok(Err(no)),
        };
        let manifest = prepared.manifest();
        let id = manifest.message_id;
        if !submission.durable {
            for copy in &submission.copies {
                self.sync.add_file(File::open(copy)?)?;
            }
        }
        let staged =
            self.pending
                .stage(id, prepared.bytes(), &submission.copies, &mut self.sync)?;
        batch.submissions.push(staged);
        self.record(&Event::Submitted {
            id,
            request: submission.digest,
            drafter: manifest.drafter.clone(),
            label: manifest.label.clone(),
            precedence: manifest.precedence,
            to: manifest.to.clone(),
            not_after: manifest.not_after,
            body_bytes: manifest.body_bytes(),
            needed: prepared.needed(),
        });
        Ok(Ok(Answer::Text(id.to_string())))
    }

    fn judge_submission(
        &mut self,
        uid: u32,
        submission: &PreparedSubmission,
    ) -> Result<Submission, No> {
        let drafter = self.known_person(uid)?;
        let list = self.trust.as_ref().ok_or_else(no_trust)?;
        if self.doubt().is_some() {
            // It would say a wrong `created`, which officers sign and the receiver refuses.
            return Err(no_time());
        }
        let open = self
            .ledger
            .cables
            .values()
            .filter(|cable| cable.phase == Phase::Open)
            .count();
        let max = self.config.limits.pending_max;
        if open >= usize::try_from(max).unwrap_or(usize::MAX) {
            let text = format!("{max} cables wait for approval already; try again later");
            return Err(No::new("pending-full", text));
        }
        let random = entropy::bytes().map_err(|error| No::failure("system", error))?;
        let occasion = Occasion {
            channel: list.channel(),
            message_id: MessageId::from_bytes(random),
            drafter,
            now: self.now(),
        };
        Submission::new(&submission.draft, submission.parts.clone(), &occasion, list)
            .map_err(|error| No::new(error.code(), error))
    }

    fn approve(
        &mut self,
        id: MessageId,
        signature: &Signature,
        batch: &mut Batch,
    ) -> Result<Result<Answer, No>, GateError> {
        let Some(cable) = self.cable(&id)? else {
            return Ok(Err(no_cable()));
        };
        let Some(list) = self.trust.as_ref() else {
            return Ok(Err(no_trust()));
        };
        let signer = list
            .person_of_key(signature.public_key())
            .map(|person| person.id.clone());
        let repeated = signer.is_some_and(|signer| cable.approvals.contains(&signer));
        if cable.phase != Phase::Open {
            // A repeated request gets the same answer.
            return Ok(if repeated {
                Ok(Answer::Approval(id))
            } else {
                Err(not_open(&cable))
            });
        }
        if repeated && self.is_stored(&cable, signature) {
            return Ok(Ok(Answer::Approval(id)));
        }
        if cable.approvals.len() >= limits::APPROVALS_MAX {
            return Ok(Err(No::new(
                "too-many-approvals",
                "no more approvals fit into its container",
            )));
        }
        let manifest = match self.pending.manifest(&id) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Err(No::failure("system", error))),
        };
        let officer = match judge(&manifest, signature, &cable.approvals, list, self.now()) {
            Ok(officer) => officer,
            Err(error) => return Ok(Err(No::new(error.code(), error))),
        };
        let file = self.pending.stage_approval(signature, &mut self.sync)?;
        batch
            .approvals
            .push((file, self.pending.approval_path(&id, &officer)));
        self.record(&Event::Approved { id, by: officer });
        Ok(Ok(Answer::Approval(id)))
    }

    fn is_stored(&self, cable: &Cable, signature: &Signature) -> bool {
        cable.approvals.iter().any(|officer| {
            self.pending
                .approval(&cable.id, officer)
                .is_ok_and(|stored| stored.as_bytes() == signature.as_bytes())
        })
    }

    fn reject(
        &mut self,
        uid: u32,
        id: MessageId,
        reason: String,
        batch: &mut Batch,
    ) -> Result<Answer, No> {
        let by = self.known_person(uid)?;
        let now = self.now();
        let list = self.trust.as_ref().ok_or_else(no_trust)?;
        let counts = list.person(&by).is_some_and(|person| {
            person.has_role(Role::Officer) && person.is_valid_at(now) && !person.is_revoked(now)
        });
        if !counts {
            return Err(No::new(
                "role",
                format!("{by} is not an officer of the trust list"),
            ));
        }
        let cable = self.known_cable(&id)?;
        if cable.phase == Phase::Rejected && cable.reason.as_deref() == Some(&reason) {
            return Ok(Answer::Text("rejected".to_owned()));
        }
        self.end(&cable, Event::Rejected { id, by, reason }, batch)?;
        Ok(Answer::Text("rejected".to_owned()))
    }

    fn withdraw(&mut self, uid: u32, id: MessageId, batch: &mut Batch) -> Result<Answer, No> {
        let by = self.known_person(uid)?;
        let cable = self.known_cable(&id)?;
        if cable.drafter != by {
            return Err(No::new("not-drafter", "only its drafter withdraws a cable"));
        }
        if cable.phase == Phase::Withdrawn {
            return Ok(Answer::Text("withdrawn".to_owned()));
        }
        self.end(&cable, Event::Withdrawn { id, by }, batch)?;
        Ok(Answer::Text("withdrawn".to_owned()))
    }

    fn end(&mut self, cable: &Cable, event: Event, batch: &mut Batch) -> Result<(), No> {
        if cable.phase != Phase::Open {
            return Err(not_open(cable));
        }
        self.record(&event);
        self.hindered.remove(&cable.id);
        batch.ended.push(cable.id);
        Ok(())
    }

    fn resend(
        &mut self,
        uid: u32,
        ranges: &[(Serial, Serial)],
        request: MessageId,
        batch: &mut Batch,
    ) -> Result<Answer, No> {
        let mut serials = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (first, last) in ranges {
            let wanted = last.get() - first.get() + 1;
            let mut found = 0_u64;
            for (serial, id) in self.ledger.serials.range(*first..=*last) {
                let kept = self
                    .ledger
                    .cables
                    .get(id)
                    .filter(|cable| matches!(cable.phase, Phase::Sealed | Phase::Transmitted));
                if let Some(issued) = kept.and_then(|cable| cable.issued.as_ref()) {
                    found += 1;
                    asked.insert(*serial);
                    // One whose answer a killed process took along has had its effect, perhaps on some serials only.
                    if issued.resent != Some(request) {
                        serials.insert(*serial, issued.passes);
                    }
                }
            }
            if found < wanted {
                let missing = wanted - found;
                let text = format!(
                    "{missing} serials of {first}-{last} are not retained; list --state retained shows what is"
                );
                return Err(No::new("not-retained", text));
            }
        }
        let more = self.config.fec.passes;
        if let Some((serial, _)) = serials.iter().find(|(_, passes)| {
            passes
                .checked_add(more)
                .is_none_or(|sum| sum > limits::PASSES_MAX)
        }) {
            let text = format!("serial {serial} has been sent too often; submit the cable again");
            return Err(No::new("too-many-passes", text));
        }
        let by = self.asker(uid);
        for (serial, passes) in &serials {
            let passes = passes.saturating_add(more);
            self.record(&Event::Resent {
                serial: *serial,
                passes,
                by: by.clone(),
                request: Some(request),
            });
            batch.resent.push(*serial);
        }
        Ok(Answer::Text(format!(
            "queued again: {} cables",
            asked.len()
        )))
    }

    /// Makes the geometry file of a serial say how many passes the ledger wants.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn rewrite_geometry(&mut self, serial: Serial) -> Result<(), GateError> {
        let Some(cable) = self.ledger.by_serial(serial) else {
            return Ok(());
        };
        let (Some(name), Some(issued)) = (name_of(cable), cable.issued.as_ref()) else {
            return Ok(());
        };
        let Some((hash, bytes)) = issued.container else {
            return Ok(());
        };
        let passes = issued.passes;
        let fec = match self.outbox.geometry(&name)? {
            Some(fec) if fec.hash == hash && fec.passes == passes => return Ok(()),
            Some(fec) if fec.hash == hash => crate::io::outbox::FecFile { passes, ..fec },
            _ => {
                let geometry = self.geometry(bytes)?;
                crate::io::outbox::FecFile {
                    geometry,
                    passes,
                    container: hash.id(),
                    hash,
                }
            }
        };
        self.outbox.rewrite_geometry(&name, &fec)?;
        Ok(())
    }

    fn known_person(&self, uid: u32) -> Result<PersonId, No> {
        self.person(uid).ok_or_else(|| {
            let text = format!(
                "user {uid} is no person of this host; [persons] in the configuration maps users"
            );
            No::new("unknown-user", text)
        })
    }

    fn cable(&self, id: &MessageId) -> Result<Option<Cable>, GateError> {
        match self.ledger.cables.get(id) {
            Some(cable) => Ok(Some(cable.clone())),
            None => Ok(self.register.cable(id)?),
        }
    }

    fn known_cable(&self, id: &MessageId) -> Result<Cable, No> {
        self.cable(id)
            .map_err(|error| No::failure("system", error))?
            .ok_or_else(no_cable)
    }
}

fn commits_itself(request: &Result<Prepared, Refused>) -> bool {
    matches!(
        request,
        Ok(Prepared {
            wish: Wish::BundleImport(_) | Wish::TrustImport(_) | Wish::ClockAccept,
            ..
        })
    )
}

fn no_cable() -> No {
    No::new(
        "unknown-cable",
        "no cable has this id; valise-sender list shows what waits",
    )
}

fn no_trust() -> No {
    No::new(
        "no-trust-list",
        "no trust list is in force; import one with trust import",
    )
}

fn no_time() -> No {
    No::new(
        "clock",
        "the clock disagrees with the audit log; set it, or run valise-sender clock accept if it is right",
    )
}

fn not_open(cable: &Cable) -> No {
    let text = match (cable.phase, cable.serial()) {
        (Phase::Rejected, _) => "the cable was rejected".to_owned(),
        (Phase::Withdrawn, _) => "the cable was withdrawn".to_owned(),
        (Phase::Expired, None) => "the cable expired before it was sealed".to_owned(),
        (_, Some(serial)) => format!("the cable is sealed already, as serial {serial}"),
        _ => "the cable is no longer waiting".to_owned(),
    };
    No::new("not-waiting", text)
}

impl Wish {
    fn word(&self) -> &'static str {
        match self {
            Wish::Submit(_) => "submit",
            Wish::Approve { .. } => "approve",
            Wish::Reject { .. } => "reject",
            Wish::Withdraw { .. } => "withdraw",
            Wish::Resend { .. } => "resend",
            Wish::BundleImport(_) => "bundle-import",
            Wish::TrustImport(_) => "trust-import",
            Wish::ClockAccept => "clock-accept",
        }
    }

    fn id(&self) -> Option<MessageId> {
        match self {
            Wish::Approve { id, .. } | Wish::Reject { id, .. } | Wish::Withdraw { id } => Some(*id),
            _ => None,
        }
    }
}
