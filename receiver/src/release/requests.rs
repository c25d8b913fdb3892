//! What operators ask: each request is judged on a copy, done, logged and answered.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, LinkKeyId, Serial, Sha256Digest};
use valise_common::limits;
use valise_common::manifest::FreeText;
use valise_common::os::clock;
use valise_common::os::durable;
use valise_common::os::layout::{InboxName, Role};
use valise_common::os::request::{Found, RequestRefused, TakeLimits, Taken};
use valise_common::units::UtcTime;

use crate::io::bundle_store::{self, BundlePlan, BundleStoreError};
use crate::io::register::{BundleRow, BundleState, CableRow, Claim};
use crate::io::trust_store::{self, LIST_FILE, SignedList, TrustStoreError};
use crate::release::cables::{Incoming, Origin, is_full};
use crate::release::daemon::{Release, ReleaseError};
use crate::release::event::{Asker, Event};
use crate::release::ledger::now_of;
use crate::release::reply::{COURIER, Reply};
use crate::release::serial_set::SerialSet;
use crate::release::worker::{Busy, Task};

/// Characters of an operator's reason.
const REASON_CHARS_MAX: usize = 200;

/// Requests that are served before cables are looked at again.
const SERVED_MAX: usize = 32;

/// Bytes of the disk that a request leaves for the log and the answer. Little, so that a discard can still make room.
const RESERVE_BYTES: u64 = 64 << 10;

/// How a refusal begins that is this host's fault, not the request's: the command ends with another exit status.
pub const SYSTEM_FAILURE: &str = "system failure";

/// Bytes of a request's files: a trust list and its signatures are the most.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// `request.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
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

impl Ask {
    /// The request's word.
    pub fn word(&self) -> &'static str {
        match self {
            Ask::QuarantineRecheck { .. } => "quarantine-recheck",
            Ask::QuarantineDiscard { .. } => "quarantine-discard",
            Ask::TrustImport {} => "trust-import",
            Ask::BundleCreate { .. } => "bundle-create",
            Ask::BundleVoid { .. } => "bundle-void",
            Ask::LinkKeyRetire { .. } => "link-key-retire",
            Ask::ClockAccept {} => "clock-accept",
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
    /// Serves the next requests that have no answer.
    pub(super) fn serve_requests(&mut self) -> Result<(), ReleaseError> {
        self.more_requests = false;
        let mut served: usize = 0;
        for found in self.requests.scan()? {
            if found.answered || self.pending_requests.contains(&found.name) {
                continue;
            }
            if served == SERVED_MAX {
                self.more_requests = true;
                break;
            }
            self.serve(&found)?;
            served += 1;
        }
        Ok(())
    }

    fn serve(&mut self, found: &Found) -> Result<(), ReleaseError> {
        let name = found.name.as_str();
        let by = Asker::user(found.owner_uid);
        // Told before anything is taken: the copy and the answer need room.
        let size = self.requests.size(found).unwrap_or(0);
        let needed_bytes = size.min(REQUEST_BYTES_MAX).saturating_add(RESERVE_BYTES);
        let free_bytes = durable::free_bytes(self.state.root())?;
        if free_bytes < needed_bytes {
            let text = format!(
                "{SYSTEM_FAILURE}: the disk is nearly full ({free_bytes} bytes free, {needed_bytes} needed); \
                 nothing was done, make room and ask again"
            );
            return self.refuse(name, "unknown", by, &text);
        }
        let into = self
            .state
            .tmp(Role::Release)
            .join(format!("request-{name}"));
        durable::remove_any(&into)?;
        let most = TakeLimits {
            files_max: limits::ADMINISTRATOR_SIGNATURES_MAX.saturating_add(2),
            bytes_max: REQUEST_BYTES_MAX,
        };
        let mut copies = valise_common::os::durable::SyncBatch::new(self.state.root())?;
        let taken = self.requests.intake(found, &into, most, &mut copies);
        let result = match taken {
            Err(RequestRefused::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                // Its author took it back.
                Ok(())
            }
            // Whether its author or this host's disk caused it cannot always be told; no request may end the daemon.
            Err(refused) => self.refuse(name, "unknown", by, &refused.to_string()),
            Ok(taken) => self.judge_request(name, &taken),
        };
        durable::remove_any(&into)?;
        result
    }

    fn judge_request(&mut self, name: &str, taken: &Taken) -> Result<(), ReleaseError> {
        let by = Asker {
            uid: taken.owner_uid,
            asked: Some(taken.placing.clone()),
        };
        // Done before a crash, and not answered.
        match self.ledger.register().reply(&taken.placing)? {
            Some(Reply::Accepted(text)) => return self.accept(name, &text),
            Some(Reply::Refused(reason)) => return self.refuse_quietly(name, &reason),
            None => {}
        }
        let ask: Ask = match toml::from_str(&taken.toml) {
            Ok(ask) => ask,
            Err(error) => {
                let text = format!("request.toml cannot be read: {}", error.message());
                return self.refuse(name, "unknown", by, &text);
            }
        };
        match self.act(name, &ask, taken, by.clone())? {
            Verdict::Accepted(text) => self.accept(name, &text),
            Verdict::Refused(text) => self.refuse(name, ask.word(), by, &text),
            Verdict::UnderWay => {
                self.pending_requests.insert(name.to_owned());
                Ok(())
            }
            Verdict::Later => {
                self.look_again = true;
                Ok(())
            }
        }
    }

    fn act(
        &mut self,
        name: &str,
        ask: &Ask,
        taken: &Taken,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        match ask {
            Ask::QuarantineRecheck { serial } => self.ask_recheck(name, *serial, by),
            Ask::QuarantineDiscard { serial, reason } => self.discard(*serial, reason, by),
            Ask::TrustImport {} => match taken.files.get(LIST_FILE) {
                None => Ok(Verdict::Refused(format!("the request has no {LIST_FILE}"))),
                Some(_) => {
                    // The copies keep their authors' names only in this map, so they are put where a list is read.
                    let folder = self.state.tmp(Role::Release).join(format!("list-{name}"));
                    durable::remove_any(&folder)?;
                    durable::make_dir(&folder, 0o700)?;
                    for number in 0..=limits::ADMINISTRATOR_SIGNATURES_MAX {
                        let file = match number {
                            0 => LIST_FILE.to_owned(),
                            number => format!("{LIST_FILE}.{number}.sig"),
                        };
                        if let Some(copy) = taken.files.get(&file) {
                            durable::rename_new(&copy.path, &folder.join(file))?;
                        }
                    }
                    let verdict = self.import_trust(&folder.join(LIST_FILE), by);
                    durable::remove_any(&folder)?;
                    verdict
                }
            },
            Ask::BundleCreate { slots, replaces } => {
                let plan = match self.plan_bundle(*slots, *replaces)? {
                    Ok(plan) => plan,
                    Err(refused) => return Ok(Verdict::Refused(refused)),
                };
                if self.worker.busy() == Busy::Yes {
                    return Ok(Verdict::Later);
                }
                let out = self.courier_stage(plan.bundle)?;
                self.worker
                    .give(Task::Bundle(plan, out, name.to_owned(), by))?;
                Ok(Verdict::UnderWay)
            }
            Ask::BundleVoid { bundle, reason } => self.void_bundle(*bundle, reason, by),
            Ask::LinkKeyRetire { link_key } => self.retire_link_key(*link_key, by),
            Ask::ClockAccept {} => self.accept_clock(by),
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
        self.rechecks.push_back(Incoming {
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
        if self.rechecks.iter().any(|one| one.name == container) || self.in_work == Some(serial) {
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
            .and_then(|bundle| self.slots.get(&bundle.bundle))
        {
            slots.erase(serial)?;
            slots.sync()?;
        }
        durable::remove_any(&self.state.quarantined(&container))?;
        Ok(verdict)
    }

    /// Makes an event happen, and tells what who asked for it is answered.
    fn happened(&mut self, time: UtcTime, event: Event) -> Result<Verdict, ReleaseError> {
        let reply = event.reply(time);
        self.ledger.append(time, event);
        self.ledger.commit()?;
        let done = || Verdict::Accepted("done".to_owned());
        Ok(reply.map_or_else(done, Verdict::from))
    }

    /// Puts a signed list into force.
    ///
    /// # Errors
    /// The system's. What is wrong with the list is a verdict.
    pub fn import_trust(&mut self, path: &Path, by: Asker) -> Result<Verdict, ReleaseError> {
        let signed = match SignedList::read(path) {
            Ok(signed) => signed,
            Err(error) => return Ok(Verdict::Refused(told(&error))),
        };
        let version = signed.list.version();
        let held = self.trust.as_ref();
        if held.is_some_and(|held| held.sha256 == signed.sha256) {
            return Ok(Verdict::Accepted(format!(
                "trust list {version} is in force already"
            )));
        }
        if let Err(error) = signed.check(&self.host, held.map(|held| &*held.list)) {
            return Ok(Verdict::Refused(error.to_string()));
        }
        match signed.stage(&self.state) {
            Err(error) if is_full(&error) => return Ok(Verdict::Refused(failed(&error))),
            other => other?,
        }
        let imported = Event::TrustImported {
            version,
            sha256: signed.sha256.to_string(),
            by,
        };
        let verdict = self.happened(self.now(), imported)?;
        trust_store::swap(&self.state)?;
        if signed.list.allow_software_keys() {
            tracing::warn!("trust list {version} lets software keys approve: for harnesses only");
        }
        self.trust = Some(signed);
        self.make_mailboxes()?;
        // Cables that waited for a list go out now.
        self.dirty = true;
        Ok(verdict)
    }

    /// What the next bundle will be, or why there is none.
    ///
    /// # Errors
    /// The register's.
    pub fn plan_bundle(
        &self,
        slots: u32,
        replaces: Option<BundleId>,
    ) -> Result<Result<BundlePlan, String>, ReleaseError> {
        if !(1..=limits::SLOTS_MAX).contains(&slots) {
            return Ok(Err(format!(
                "a bundle has 1 to {} slots",
                limits::SLOTS_MAX
            )));
        }
        if let Some(old) = replaces
            && self.ledger.bundle(old).is_none()
        {
            return Ok(Err(format!("there is no bundle {old} to replace")));
        }
        let last: Option<&BundleRow> = self.ledger.bundles().last();
        let next = match last {
            None => Some((BundleId(1), Serial::FIRST, LinkKeyId(1))),
            Some(last) => last
                .bundle
                .0
                .checked_add(1)
                .zip(last.last.next())
                .map(|(id, first)| {
                    (
                        BundleId(id),
                        first,
                        LinkKeyId(last.link_key.0.wrapping_add(1)),
                    )
                }),
        };
        let fits = next.filter(|(_, first, _)| first.plus(u64::from(slots)).is_some());
        let Some((bundle, first, link_key)) = fits else {
            return Ok(Err(
                "the channel has no serials left; commission a new one".to_owned()
            ));
        };
        let channel = self.host.channel;
        Ok(Ok(BundlePlan {
            channel,
            bundle,
            first,
            count: slots,
            link_key,
            replaces,
        }))
    }

    fn courier_stage(&self, bundle: BundleId) -> Result<PathBuf, ReleaseError> {
        let courier = self.state.root().join(COURIER);
        durable::make_dir(&courier, 0o700)?;
        let out = courier.join(format!(".{bundle}"));
        durable::remove_any(&out)?;
        durable::make_dir(&out, 0o700)?;
        durable::sync_dir(&courier)?;
        Ok(out)
    }

    /// Takes a bundle that the second thread made.
    pub(super) fn take_bundle(
        &mut self,
        plan: BundlePlan,
        out: PathBuf,
        request: &str,
        by: Asker,
        made: Result<Sha256Digest, BundleStoreError>,
    ) -> Result<(), ReleaseError> {
        let sha256 = match made {
            Ok(sha256) => sha256,
            Err(error) => {
                durable::remove_any(&out)?;
                let text = match &error {
                    BundleStoreError::Bundle(_) => error.to_string(),
                    _ => failed(&error),
                };
                return self.refuse(request, "bundle-create", by, &text);
            }
        };
        let verdict = self.settle_bundle(&plan, sha256, by)?;
        self.show_to_courier(plan.bundle)?;
        match verdict {
            Verdict::Accepted(text) => self.accept(request, &text),
            other => Err(io::Error::other(format!("a bundle was made, and then {other:?}")).into()),
        }
    }

    /// Gives the courier's files of a bundle that is in force the name that its command reads.
    pub(super) fn show_to_courier(&self, bundle: BundleId) -> Result<(), ReleaseError> {
        let courier = self.state.root().join(COURIER);
        let shown = courier.join(bundle.to_string());
        durable::remove_any(&shown)?;
        durable::rename_new(&courier.join(format!(".{bundle}")), &shown)?;
        Ok(durable::sync_dir(&courier)?)
    }

    /// Makes a bundle in this thread, for a command that holds the host's lock.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn make_bundle(
        &mut self,
        plan: &BundlePlan,
        out: &Path,
        by: Asker,
    ) -> Result<Sha256Digest, ReleaseError> {
        let sha256 = bundle_store::make(&self.state, plan, out)?;
        self.settle_bundle(plan, sha256, by)?;
        Ok(sha256)
    }

    fn settle_bundle(
        &mut self,
        plan: &BundlePlan,
        sha256: Sha256Digest,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        let kept = match plan.replaces {
            Some(old) => self.arrived_of(old)?,
            None => SerialSet::new(),
        };
        let event = Event::BundleCreated {
            bundle: plan.bundle,
            first: plan.first,
            count: plan.count,
            link_key: plan.link_key,
            replaces: plan.replaces,
            kept: kept.ranges().collect(),
            sha256: sha256.to_string(),
            by,
        };
        let verdict = self.happened(self.now(), event)?;
        bundle_store::settle(&self.state, plan.bundle)?;
        self.open_slots()?;
        if let Some(old) = plan.replaces {
            self.erase_unused(old)?;
        }
        self.dirty = true;
        Ok(verdict)
    }

    /// Serials of a bundle whose containers are complete and not judged yet.
    fn arrived_of(&self, bundle: BundleId) -> Result<SerialSet, ReleaseError> {
        let mut arrived = self.in_inbox()?;
        if let Some(row) = self.ledger.bundle(bundle) {
            let mut others = arrived.clone();
            others.remove_range(row.first, row.last);
            arrived = arrived.without(&others);
        }
        // What is claimed needs no leave to keep its slot.
        Ok(arrived.without(self.ledger.claimed()))
    }

    /// Serials with a container in the inbox, whether or not the loop knows of it.
    pub(super) fn in_inbox(&self) -> Result<SerialSet, ReleaseError> {
        let mut serials = SerialSet::new();
        for entry in fs::read_dir(self.state.inbox())? {
            if let Some(name) = InboxName::of_container(&entry?.file_name()) {
                serials.insert(name.serial);
            }
        }
        Ok(serials)
    }

    /// Erases what the log calls void and no waiting container keeps. Done again, it changes nothing.
    pub(super) fn erase_unused(&self, bundle: BundleId) -> Result<(), ReleaseError> {
        let (Some(row), Some(slots)) = (self.ledger.bundle(bundle), self.slots.get(&bundle)) else {
            return Ok(());
        };
        let waiting = self.in_inbox()?;
        let keeps = |serial| self.ledger.kept().contains(serial) && waiting.contains(serial);
        let void = self.ledger.void();
        for serial in void.iter().filter(|serial| row.holds(*serial)) {
            if !keeps(serial) {
                slots.erase(serial)?;
            }
        }
        Ok(slots.sync()?)
    }

    fn void_bundle(
        &mut self,
        bundle: BundleId,
        reason: &str,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
        match self.ledger.bundle(bundle) {
            None => return Ok(Verdict::Refused(format!("there is no bundle {bundle}"))),
            Some(row) if row.state == BundleState::Void => {
                return Ok(Verdict::Accepted(format!(
                    "bundle {bundle} is void already"
                )));
            }
            Some(_) => {}
        }
        let reason = match reason_of(reason) {
            Ok(reason) => reason,
            Err(verdict) => return Ok(verdict),
        };
        let voided = Event::BundleVoided {
            bundle,
            kept: self.arrived_of(bundle)?.ranges().collect(),
            reason,
            by,
        };
        let verdict = self.happened(self.now(), voided)?;
        self.erase_unused(bundle)?;
        bundle_store::remove_link_key(&self.state, bundle)?;
        self.read_beacon()?;
        self.dirty = true;
        Ok(verdict)
    }

    fn retire_link_key(&mut self, link_key: LinkKeyId, by: Asker) -> Result<Verdict, ReleaseError> {
        let bundles = self.ledger.bundles();
        let newest = bundles
            .iter()
            .rev()
            .find(|row| row.state == BundleState::Live);
        if newest.is_some_and(|row| row.link_key == link_key) {
            return Ok(Verdict::Refused(format!(
                "link key {link_key} is the newest; without it nothing is received"
            )));
        }
        let Some(bundle) = bundles
            .iter()
            .rev()
            .find(|row| row.link_key == link_key)
            .map(|row| row.bundle)
        else {
            return Ok(Verdict::Refused(format!("there is no link key {link_key}")));
        };
        if self.ledger.is_retired(bundle) {
            return Ok(Verdict::Accepted(format!(
                "link key {link_key} of bundle {bundle} is retired already"
            )));
        }
        let retired = Event::LinkKeyRetired {
            link_key,
            bundle,
            by,
        };
        let verdict = self.happened(self.now(), retired)?;
        bundle_store::remove_link_key(&self.state, bundle)?;
        self.read_beacon()?;
        Ok(verdict)
    }

    fn accept_clock(&mut self, by: Asker) -> Result<Verdict, ReleaseError> {
        let (before, clock) = (self.now(), clock::utc_now());
        let issued = self.trust.as_ref().map(|signed| signed.list.issued());
        let now = now_of(clock, issued, None);
        self.dirty = true;
        // The line carries the clock's own time: with it the last audit time goes back.
        self.happened(clock, Event::ClockAccepted { before, now, by })
    }

    /// Answers yes, and deletes the request.
    pub(super) fn accept(&mut self, name: &str, text: &str) -> Result<(), ReleaseError> {
        #[cfg(test)]
        if self.stop_after == Some(crate::release::cables::Step::Acted) {
            return Ok(());
        }
        self.requests.answer_accepted(name, text, &mut self.sync)?;
        self.sync.commit()?;
        self.pending_requests.remove(name);
        if let Err(error) = self.requests.forget(name) {
            tracing::warn!("a request that was answered cannot be deleted: {error}");
        }
        Ok(())
    }

    /// Answers no, and logs it.
    pub(super) fn refuse(
        &mut self,
        name: &str,
        request: &str,
        by: Asker,
        reason: &str,
    ) -> Result<(), ReleaseError> {
        let event = Event::RequestRefused {
            request: request.to_owned(),
            reason: reason.chars().take(1_000).collect(),
            by,
        };
        match self.happened(self.now(), event)? {
            Verdict::Refused(reason) => self.refuse_quietly(name, &reason),
            _ => self.refuse_quietly(name, reason),
        }
    }

    /// Answers no; the log says so in another line.
    pub(super) fn refuse_quietly(&mut self, name: &str, reason: &str) -> Result<(), ReleaseError> {
        #[cfg(test)]
        if self.stop_after == Some(crate::release::cables::Step::Acted) {
            return Ok(());
        }
        self.requests.answer_refused(name, reason, &mut self.sync)?;
        self.sync.commit()?;
        self.pending_requests.remove(name);
        Ok(())
    }
}

/// A failure of this host's system, as a command tells it from a refusal.
fn failed(error: &dyn std::fmt::Display) -> String {
    format!("{SYSTEM_FAILURE}: {error}")
}

/// What is wrong with a list, or that it could not be read.
fn told(error: &TrustStoreError) -> String {
    match error {
        TrustStoreError::Io(_) => failed(error),
        _ => error.to_string(),
    }
}

fn reason_of(text: &str) -> Result<String, Verdict> {
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
            Ask::QuarantineRecheck { serial },
            Ask::QuarantineDiscard {
                serial,
                reason: "wrong \"desk\"".to_owned(),
            },
            Ask::TrustImport {},
            Ask::BundleCreate {
                slots: 10,
                replaces: None,
            },
            Ask::BundleCreate {
                slots: 10,
                replaces: Some(BundleId(1)),
            },
            Ask::BundleVoid {
                bundle: BundleId(2),
                reason: "lost".to_owned(),
            },
            Ask::LinkKeyRetire {
                link_key: LinkKeyId(1),
            },
            Ask::ClockAccept {},
        ] {
            let text = toml::to_string(&ask).unwrap();
            assert!(
                text.contains(&format!("request = \"{}\"", ask.word())),
                "{text}"
            );
            assert_eq!(toml::from_str::<Ask>(&text).unwrap(), ask);
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
            assert!(toml::from_str::<Ask>(text).is_err(), "{text}");
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
