//! What requests do to cables: each judged on its own, recorded, and left to the batch to make durable.

use std::fs::File;

use valise_common::approval::Refusal as PolicyRefusal;
use valise_common::ids::{MessageId, Serial};
use valise_common::limits;
use valise_common::os::entropy;
use valise_common::serial_set::SerialSet;
use valise_common::sshsig::Signature;
use valise_common::trust::Role;
use valise_common::units::count_of;

use super::error::GateError;
use super::host::Gate;
use super::judge::{Answer, Batch};
use super::refusal::{Refusal, is_operator, no_cable, no_time, no_trust, not_open};
use super::request::PreparedSubmission;
use crate::model::event::Event;
use crate::model::ledger::{Cable, Phase};
use crate::spool::outbox_write::name_of;
use crate::spool::pending::PendingError;
use crate::spool::progress;
use crate::steps::approve::judge;
use crate::steps::resend::{Resending, Retained};
use crate::steps::submit::{Occasion, Submission};

impl Gate {
    pub(super) fn submit(
        &mut self,
        uid: u32,
        submission: PreparedSubmission,
        batch: &mut Batch,
    ) -> Result<Result<Answer, Refusal>, GateError> {
        if let Some(cable) = self.history.register().of_request(&submission.digest)? {
            if cable.phase == Phase::Open && !self.waiting.pending.exists(&cable.id) {
                // An answer would have the request deleted, and with it the only copy.
                let text =
                    "its cable's folder is missing; place the request again under a new name";
                return Ok(Err(Refusal::new("pending-missing", text)));
            }
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
            self.waiting
                .pending
                .stage(id, prepared.bytes(), &submission.copies, &mut self.sync)?;
        let readers = self
            .authority
            .readers_of(&manifest.drafter, &manifest.label, &manifest.to);
        self.waiting.share(staged.path(), &readers, &mut self.shown);
        batch.submissions.push(staged);
        self.history.record(&Event::Submitted {
            id,
            request: submission.digest,
            drafter: manifest.drafter.clone(),
            label: manifest.label.clone(),
            precedence: manifest.precedence,
            to: manifest.to.clone(),
            not_after: manifest.not_after,
            act_by: manifest.act_by,
            body_bytes: manifest.body_bytes(),
            needed: prepared.needed(),
        });
        Ok(Ok(Answer::Text(id.to_string())))
    }

    fn judge_submission(
        &mut self,
        uid: u32,
        submission: &PreparedSubmission,
    ) -> Result<Submission, Refusal> {
        let drafter = self.authority.known_person(uid)?;
        let list = self.authority.list().ok_or_else(no_trust)?;
        if self.history.doubt().is_some() {
            // It would say a wrong `created`, which officers sign and the receiver refuses.
            return Err(no_time());
        }
        let open = self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| cable.phase == Phase::Open)
            .count();
        let max = self.config.limits.pending_max;
        if open >= usize::try_from(max).unwrap_or(usize::MAX) {
            let text = format!(
                "no more than {} may wait for approval at a time; try again later",
                count_of(max, "cable")
            );
            return Err(Refusal::new("pending-full", text));
        }
        let random = entropy::bytes().map_err(|error| Refusal::failure("system", error))?;
        let occasion = Occasion {
            channel: list.channel(),
            message_id: MessageId::from_bytes(random),
            drafter,
            now: self.history.now(),
        };
        Submission::new(&submission.draft, submission.parts.clone(), &occasion, list)
            .map_err(|error| Refusal::new(error.code(), error))
    }

    pub(super) fn approve(
        &mut self,
        id: MessageId,
        signature: &Signature,
        batch: &mut Batch,
    ) -> Result<Result<Answer, Refusal>, GateError> {
        let Some(cable) = self.history.cable(&id)? else {
            return Ok(Err(no_cable()));
        };
        let Some(list) = self.authority.list() else {
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
            return Ok(Err(Refusal::new(
                "too-many-approvals",
                "no more approvals fit into its container",
            )));
        }
        let manifest = match self.waiting.pending.manifest(&id) {
            Ok(manifest) => manifest,
            Err(error @ PendingError::Damaged { .. }) => {
                self.note_damaged(id, &error.to_string());
                return Ok(Err(Refusal::new("damaged", error)));
            }
            Err(error) => return Ok(Err(Refusal::failure("system", error))),
        };
        let officer = match judge(
            &manifest,
            signature,
            &cable.approvals,
            list,
            self.history.now(),
        ) {
            Ok(officer) => officer,
            Err(error) => return Ok(Err(Refusal::new(error.code(), error))),
        };
        let file = self
            .waiting
            .pending
            .stage_approval(&id, &officer, signature, &mut self.sync)?;
        batch
            .approvals
            .push((file, self.waiting.pending.approval_path(&id, &officer)));
        self.history.record(&Event::Approved { id, by: officer });
        Ok(Ok(Answer::Approval(id)))
    }

    fn is_stored(&self, cable: &Cable, signature: &Signature) -> bool {
        cable.approvals.iter().any(|officer| {
            self.waiting
                .pending
                .approval(&cable.id, officer)
                .is_ok_and(|stored| stored.as_bytes() == signature.as_bytes())
        })
    }

    pub(super) fn reject(
        &mut self,
        uid: u32,
        id: MessageId,
        reason: String,
        batch: &mut Batch,
    ) -> Result<Answer, Refusal> {
        let by = self.authority.counting_person(uid, self.history.now())?;
        let list = self.authority.list().ok_or_else(no_trust)?;
        let person = list.person(&by);
        let Some(person) = person.filter(|person| person.has_role(Role::Officer)) else {
            let text = format!("{by} is not an officer of the trust list");
            return Err(Refusal::new("role", text));
        };
        let cable = self.known_cable(&id)?;
        // Whoever may not read a cable does not end it.
        if let Err(limit) = list.check_need_to_know(person, &cable.label, &cable.to) {
            let refusal = PolicyRefusal::OutsideLimits { id: by, limit };
            return Err(Refusal::new(refusal.code(), refusal));
        }
        if cable.phase == Phase::Rejected && cable.reason.as_deref() == Some(&reason) {
            return Ok(Answer::Text("rejected".to_owned()));
        }
        self.end(&cable, Event::Rejected { id, by, reason }, batch)?;
        Ok(Answer::Text("rejected".to_owned()))
    }

    pub(super) fn withdraw(
        &mut self,
        uid: u32,
        id: MessageId,
        batch: &mut Batch,
    ) -> Result<Answer, Refusal> {
        let by = self.authority.counting_person(uid, self.history.now())?;
        let cable = self.known_cable(&id)?;
        if cable.drafter != by {
            return Err(Refusal::new(
                "not-drafter",
                "only its drafter withdraws a cable",
            ));
        }
        if cable.phase == Phase::Withdrawn {
            return Ok(Answer::Text("withdrawn".to_owned()));
        }
        self.end(&cable, Event::Withdrawn { id, by }, batch)?;
        Ok(Answer::Text("withdrawn".to_owned()))
    }

    fn end(&mut self, cable: &Cable, event: Event, batch: &mut Batch) -> Result<(), Refusal> {
        if cable.phase != Phase::Open {
            return Err(not_open(cable));
        }
        self.history.record(&event);
        self.waiting.unblock(&cable.id);
        batch.ended.push(cable.id);
        Ok(())
    }

    pub(super) fn resend(
        &mut self,
        uid: u32,
        wanted: &SerialSet,
        request: MessageId,
        batch: &mut Batch,
    ) -> Result<Answer, Refusal> {
        // It takes the link's time, and passes that are not unlimited.
        if !is_operator(uid) {
            self.authority.counting_person(uid, self.history.now())?;
        }
        let within = wanted.ranges().flat_map(|(first, last)| {
            let serials = self.history.ledger().serials.range(first..=last);
            serials.filter_map(|(_, id)| self.history.ledger().cables.get(id))
        });
        let retained: Vec<Retained> = within
            .filter(|cable| matches!(cable.phase, Phase::Sealed | Phase::Transmitted))
            .filter_map(|cable| cable.issued.as_ref())
            .map(|issued| {
                // As it is now: transmit may have made a pass that gate has not taken note of.
                let progress = progress::read(&self.state.progress(), issued.serial);
                Retained {
                    serial: issued.serial,
                    passes: issued.passes,
                    passes_done: progress.ok().flatten().map_or(0, |it| it.passes_done),
                    // One whose answer a killed process took along has had its effect, perhaps on some serials only.
                    is_repeated: issued.resent == Some(request),
                }
            })
            .collect();
        let resending = Resending::of(wanted, &retained, self.config.fec.passes);
        if resending.queued.is_empty() {
            let code = match resending.spent.is_empty() {
                true => "not-retained",
                false => "too-many-passes",
            };
            let text = format!(
                "{resending}; list --state transmitted and list --state retained show what can be sent"
            );
            return Err(Refusal::new(code, text));
        }
        let by = self.authority.asker(uid);
        for (serial, passes) in &resending.raised {
            self.history.record(&Event::Resent {
                serial: *serial,
                passes: *passes,
                by: by.clone(),
                request: Some(request),
            });
            batch.resent.push(*serial);
        }
        Ok(Answer::Text(resending.to_string()))
    }

    /// Makes the geometry file of a serial say how many passes the ledger wants.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn rewrite_geometry(&mut self, serial: Serial) -> Result<(), GateError> {
        let Some(cable) = self.history.ledger().by_serial(serial) else {
            return Ok(());
        };
        let (Some(name), Some(issued)) = (name_of(cable), cable.issued.as_ref()) else {
            return Ok(());
        };
        let Some((hash, bytes)) = issued.container else {
            return Ok(());
        };
        let passes = issued.passes;
        let fec = match self.outgoing.outbox.geometry(&name)? {
            Some(fec) if fec.hash == hash && fec.passes == passes => return Ok(()),
            Some(fec) if fec.hash == hash => crate::spool::outbox::FecFile { passes, ..fec },
            _ => {
                let geometry = self.geometry(bytes)?;
                crate::spool::outbox::FecFile {
                    geometry,
                    passes,
                    container: hash.id(),
                    hash,
                }
            }
        };
        self.outgoing.outbox.rewrite_geometry(&name, &fec)?;
        Ok(())
    }

    fn known_cable(&self, id: &MessageId) -> Result<Cable, Refusal> {
        self.history
            .cable(id)
            .map_err(|error| Refusal::failure("system", error))?
            .ok_or_else(no_cable)
    }
}
