//! What requests do: judge a held cable again, discard it, put a trust list into force, accept the clock.

use std::io;

use valise_common::alarm::Alarm;
use valise_common::host::folders::InboxName;
use valise_common::host::trust_store::{Held, SignedList, TrustStoreError};
use valise_common::ids::Serial;
use valise_common::os::clock;
use valise_common::os::durable::{self, is_full};

use crate::model::event::{Asker, Event};
use crate::model::rows::{CableRow, Claim};
use crate::release::error::ReleaseError;
use crate::release::host::Release;
use crate::release::inbox::{Incoming, Origin};
use crate::release::ledger::now_of;
use crate::release::requests::{Verdict, failed, reason_of};

impl Release {
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

    pub(super) fn ask_recheck(
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

    pub(super) fn discard(
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

    pub(super) fn accept_clock(&mut self, by: Asker) -> Result<Verdict, ReleaseError> {
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
}
