//! What a batch decides: judged once more when it is committed, written into the log, and answered.

use std::sync::Arc;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::folders::InboxName;
use valise_common::host::requests::Answer;
use valise_common::units::UtcTime;

use crate::model::event::Event;
use crate::release::error::ReleaseError;
use crate::release::host::Release;
use crate::release::inbox::{Due, Incoming, Origin};
use crate::steps::verify::{Held, Policy, StillValid, verify_again};

use crate::release::commit::Batch;

impl Release {
    /// Judges staged cables again, by the list and the time of their publishing: while a large one was staged, another
    /// list may have come into force, or its time may have ended.
    pub(super) fn judge_staged(
        &mut self,
        batch: &mut Batch,
        now: UtcTime,
    ) -> Result<(), ReleaseError> {
        let Some(list) = self.trust.as_ref().map(|signed| Arc::clone(&signed.list)) else {
            return Ok(());
        };
        let policy = Policy {
            channel: self.host.channel,
            list: &list,
            now,
        };
        for ready in std::mem::take(&mut batch.ready) {
            match verify_again(&ready.cable, &policy) {
                Ok(StillValid::AsIs) => batch.ready.push(ready),
                Ok(StillValid::OtherList) => {
                    self.unstage(&ready.cable)?;
                    self.take_in_anew(ready.incoming);
                }
                Err(held) => {
                    self.unstage(&ready.cable)?;
                    batch.held.push((ready.incoming, held));
                }
            }
        }
        Ok(())
    }

    /// Lets a container wait its turn once more. Only a newer list brings that about, so that it ends.
    fn take_in_anew(&mut self, incoming: Incoming) {
        match incoming.origin {
            Origin::Inbox => {
                self.inbox.wait(incoming.name, incoming.bytes, Due::Now);
            }
            Origin::Quarantine { .. } => self.inbox.rechecks.push_back(incoming),
        }
    }

    /// Writes what was decided into the log; nothing of it has happened before the log is committed.
    pub(super) fn append_verdicts(&mut self, batch: &mut Batch, now: UtcTime) {
        for ready in &batch.ready {
            let manifest = ready.cable.manifest();
            let event = Event::Publishing {
                serial: ready.cable.serial(),
                container: ready.cable.container(),
                message_id: manifest.message_id,
                to: manifest.to.clone(),
                act_by: manifest.act_by,
                trust_version: ready.cable.trust_version(),
                asked: match &ready.incoming.origin {
                    Origin::Inbox => None,
                    Origin::Quarantine { by, .. } => by.asked.clone(),
                },
            };
            self.ledger.append(now, event);
        }
        for (incoming, held) in &batch.held {
            let Held {
                serial,
                container,
                message_id,
                code,
                reason,
            } = held.clone();
            let code = code.to_owned();
            let event = match &incoming.origin {
                Origin::Quarantine { by, .. } => Event::Rechecked {
                    serial,
                    code,
                    reason,
                    by: by.clone(),
                },
                Origin::Inbox => {
                    self.inbox.counters.quarantined += 1;
                    self.inbox.damaged.remove(serial);
                    Event::Quarantined {
                        serial,
                        container,
                        message_id,
                        code,
                        reason,
                    }
                }
            };
            self.ledger.append(now, event);
        }
        for (incoming, reason) in &batch.unopened {
            if incoming.origin != Origin::Inbox {
                continue;
            }
            self.inbox.counters.unopened += 1;
            let InboxName { serial, container } = incoming.name;
            if reason.is_damage() {
                // Only a disk brings this about, each time once for what a sender sent again.
                let code = reason.code().to_owned();
                let unopened = Event::Unopened {
                    serial,
                    container,
                    code,
                };
                self.ledger.append(now, unopened);
            } else if self.inbox.is_first_unopened(serial) {
                let code = reason.code().to_owned();
                self.ledger.append(
                    now,
                    Event::Unopened {
                        serial,
                        container,
                        code,
                    },
                );
                let text = format!(
                    "a container for serial {serial} did not open and was deleted ({reason}); \
                     the serial stays open"
                );
                let repair = format!("valise-sender resend {serial}");
                self.raise(Alarm::Unopened, Cause::repaired_by(text, repair));
            }
        }
        for incoming in &batch.second {
            self.inbox.counters.second_containers += 1;
            let InboxName { serial, container } = incoming.name;
            if self.inbox.is_first_second(serial) {
                self.ledger
                    .append(now, Event::SecondContainer { serial, container });
                let bundle = self.ledger.bundle_of(serial).map(|row| row.bundle);
                let replaces =
                    bundle.map_or_else(|| "BUNDLE".to_owned(), |bundle| bundle.to_string());
                let text = format!(
                    "serial {serial} came a second time, with another cable; the first one counts, and the second one is lost. \
                     Stop the sender until a bundle is imported that replaces this one, and have what was sent since the backup \
                     submitted again"
                );
                let repair = format!(
                    "valise-receiver bundle create --slots N --out DIR --replaces {replaces}, then valise-sender bundle import DIR"
                );
                self.raise(Alarm::SecondContainer, Cause::repaired_by(text, repair));
            }
        }
    }

    pub(super) fn answer_rechecks(&mut self, batch: &Batch) -> Result<(), ReleaseError> {
        for ready in &batch.ready {
            if let Origin::Quarantine { request, by } = &ready.incoming.origin {
                let text = format!("serial {} is released", ready.cable.serial());
                self.answer(request, by.uid, Answer::Accepted(text));
            }
        }
        for (incoming, held) in &batch.held {
            if let Origin::Quarantine { request, by } = &incoming.origin {
                let text = format!(
                    "serial {} stays in quarantine: {}",
                    held.serial, held.reason
                );
                self.answer(request, by.uid, Answer::Refused(text));
            }
        }
        for (incoming, reason) in &batch.unopened {
            if let Origin::Quarantine { request, by } = &incoming.origin {
                let serial = incoming.name.serial;
                let text = match reason.is_damage() {
                    true => format!(
                        "the container of serial {serial} was damaged on the disk of this host ({reason}): have the \
                         sender run valise-sender resend {serial}, and ask again when it has come"
                    ),
                    false => format!("the container of serial {serial} does not open: {reason}"),
                };
                self.refuse(request, "quarantine-recheck", by.clone(), &text)?;
            }
        }
        Ok(())
    }
}
