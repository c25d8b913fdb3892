//! Bundles and their link keys: made for the courier, put into force, destroyed, ended.

use std::io;
use std::path::{Path, PathBuf};

use valise_common::host::folders::InboxName;
use valise_common::host::requests::Answer;
use valise_common::ids::{BundleId, LinkKeyId, Serial, Sha256Digest};
use valise_common::limits;
use valise_common::os::durable;

use crate::model::event::{Asker, Event};
use crate::model::reply::{BundleMade, COURIER};
use crate::model::rows::{BundleRow, BundleState};
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::release::requests::{Verdict, failed, reason_of};
use crate::spool::bundle_store::{self, BundlePlan, BundleStoreError};
use crate::spool::regular::is_in_the_way;
use valise_common::serial_set::SerialSet;

/// Ranges of kept serials in one line of the log. Two serials of 19 digits and their brackets take 43 bytes, and a thief
/// of the link key can make half a million ranges.
const KEPT_RANGES_MAX: usize = 8_192;

// Beside them a line holds little: the longest field is an operator's reason.
const _: () = assert!(KEPT_RANGES_MAX * 43 < limits::AUDIT_LINE_BYTES_MAX / 2);

impl Release {
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

    pub(super) fn courier_stage(&self, bundle: BundleId) -> Result<PathBuf, ReleaseError> {
        let courier = self.state.root().join(COURIER);
        durable::make_dir(&courier, 0o700)?;
        let out = courier.join(format!(".{bundle}"));
        durable::erase(&out)?;
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
                durable::erase(&out)?;
                let text = match &error {
                    BundleStoreError::Bundle(_) => error.to_string(),
                    _ => failed(&error),
                };
                return self.refuse(request, "bundle-create", by, &text);
            }
        };
        let uid = by.uid;
        let verdict = self.settle_bundle(&plan, sha256, by)?;
        self.show_to_courier(plan.bundle)?;
        match verdict {
            Verdict::Accepted(text) => {
                self.answer(request, uid, Answer::Accepted(text));
                Ok(())
            }
            other => Err(io::Error::other(format!("a bundle was made, and then {other:?}")).into()),
        }
    }

    /// Gives the courier's files of a bundle that is in force the name that its command reads.
    pub(super) fn show_to_courier(&self, bundle: BundleId) -> Result<(), ReleaseError> {
        let courier = self.state.root().join(COURIER);
        let shown = courier.join(bundle.to_string());
        durable::erase(&shown)?;
        durable::rename_new(&courier.join(format!(".{bundle}")), &shown)?;
        Ok(durable::sync_dir(&courier)?)
    }

    /// Makes a bundle in this thread, for a command that holds the host's lock, and shows it as the daemon does.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn make_for_courier(
        &mut self,
        plan: &BundlePlan,
        by: Asker,
    ) -> Result<BundleMade, ReleaseError> {
        let staged = self.courier_stage(plan.bundle)?;
        let made = self.make_bundle(plan, &staged, by);
        if made.is_err() {
            // What was written of it is no use to anybody; if the log has it, start-up shows it.
            let known = self.ledger.bundle(plan.bundle).is_some();
            if !known {
                let _ = durable::erase(&staged);
            }
        }
        let sha256 = made?;
        self.show_to_courier(plan.bundle)?;
        Ok(BundleMade {
            bundle: plan.bundle,
            first: plan.first,
            count: plan.count,
            link_key: plan.link_key,
            sha256,
            folder: Path::new(COURIER).join(plan.bundle.to_string()),
        })
    }

    /// Makes a bundle in this thread.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn make_bundle(
        &mut self,
        plan: &BundlePlan,
        out: &Path,
        by: Asker,
    ) -> Result<Sha256Digest, ReleaseError> {
        let sha256 = bundle_store::make(&self.state, plan, out, self.slots.key.as_ref())?;
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
            Some(old) => self.keep_arrived(old)?,
            None => Vec::new(),
        };
        let event = Event::BundleCreated {
            bundle: plan.bundle,
            first: plan.first,
            count: plan.count,
            link_key: plan.link_key,
            replaces: plan.replaces,
            kept,
            sha256: sha256.to_string(),
            by,
        };
        let verdict = self.happened(self.now(), event)?;
        bundle_store::settle(&self.state, plan.bundle)?;
        self.hand_over()?;
        self.open_slots()?;
        if let Some(old) = plan.replaces {
            self.erase_unused(old)?;
        }
        self.shown.dirty = true;
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

    /// What the line that makes a bundle void keeps. What it has no room for is appended in lines of its own before it, and
    /// happens with it.
    fn keep_arrived(&mut self, bundle: BundleId) -> Result<Vec<(Serial, Serial)>, ReleaseError> {
        let mut kept: Vec<_> = self.arrived_of(bundle)?.ranges().collect();
        let now = self.now();
        while kept.len() > KEPT_RANGES_MAX {
            let kept = kept.drain(..KEPT_RANGES_MAX).collect();
            self.ledger.append(now, Event::SlotsKept { bundle, kept });
        }
        Ok(kept)
    }

    /// Serials with a container in the inbox, whether or not the loop knows of it.
    pub(super) fn in_inbox(&self) -> Result<SerialSet, ReleaseError> {
        let mut serials = SerialSet::new();
        for entry in durable::list(&self.state.inbox())? {
            if let Some(name) = InboxName::of_container(&entry?.file_name()) {
                serials.insert(name.serial);
            }
        }
        Ok(serials)
    }

    /// Erases what the log calls void and no waiting container keeps. Done again, it changes nothing.
    pub(super) fn erase_unused(&self, bundle: BundleId) -> Result<(), ReleaseError> {
        let Some(row) = self.ledger.bundle(bundle) else {
            return Ok(());
        };
        let Some(slots) = self.slots.of(bundle) else {
            // A damaged file: no slot in it can be told from another.
            durable::erase(&self.state.slots_of(bundle))?;
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

    /// Tells `receive` which link keys it gets and which have ended. What stands in the way of that is told and tried again.
    pub(super) fn hand_over(&mut self) -> Result<(), ReleaseError> {
        let known: Vec<_> = self.ledger.bundles().iter().map(|row| row.bundle).collect();
        let told = bundle_store::hand_over(&self.state, &known, &self.ledger.retired());
        self.link.handover_is_behind = false;
        let folder = self.state.handover_folder();
        match told {
            Err(error) if is_in_the_way(&error) => {
                self.link.handover_is_behind = true;
                let advice = format!(
                    ", and something in it cannot be replaced or deleted, so that receive does not learn which link keys \
                     are in force ({error})"
                );
                self.note_foreign(Trouble::Foreign, &folder, &advice);
            }
            other => {
                other?;
                self.shown.foreign.forget(&folder);
            }
        }
        Ok(())
    }

    pub(super) fn void_bundle(
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
            kept: self.keep_arrived(bundle)?,
            reason,
            by,
        };
        let verdict = self.happened(self.now(), voided)?;
        self.erase_unused(bundle)?;
        self.hand_over()?;
        self.read_beacon()?;
        self.shown.dirty = true;
        Ok(verdict)
    }

    pub(super) fn retire_link_key(
        &mut self,
        link_key: LinkKeyId,
        by: Asker,
    ) -> Result<Verdict, ReleaseError> {
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
        self.hand_over()?;
        self.read_beacon()?;
        Ok(verdict)
    }
}
