//! What the courier and the administrators bring: bundles and trust lists.

use valise_common::alarm::Alarm;
use valise_common::bundle::Bundle;
use valise_common::host::folders::Role;
use valise_common::host::trust_store::{Held, SignedList, TrustStoreError};
use valise_common::ids::{BundleId, ChannelId};
use valise_common::os::clock;
use valise_common::os::durable::{erase, is_full};
use valise_common::secret::Secret32;
use valise_common::units::count_of;

use super::courier::VerifiedBundle;
use super::error::GateError;
use super::host::Gate;
use super::refusal::Refusal;
use crate::model::event::Event;
use crate::spool::link_key::{self, StoredLinkKey};
use crate::spool::slots;

fn trust_answer(version: u32) -> String {
    format!("trust list version {version} is in force")
}

fn bundle_answer(bundle: &Bundle) -> String {
    let (id, first, count) = (bundle.id, bundle.first, bundle.count());
    format!(
        "bundle {id} imported: {} from serial {first}; now destroy the courier's copy",
        count_of(count, "slot")
    )
}

/// Whether an import may be the repetition of one that was done and not answered before a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Its request stood there when this gate started.
    Possible,
    /// It did not.
    Refusal,
}

impl Gate {
    /// Verifies a trust list and puts it into force. Its channel is the host's from then on.
    ///
    /// # Errors
    /// [`GateError`]; the process must end. A refusal is the inner error.
    pub fn import_trust(
        &mut self,
        signed: SignedList,
        replay: Replay,
    ) -> Result<Result<String, Refusal>, GateError> {
        let hash = signed.blake3();
        let held = self.history.ledger().trust.map(|(version, held)| Held {
            version,
            is_offered: held == hash,
            is_usable: self.authority.list().is_some(),
        });
        let (administrators, channel) = (
            self.authority.administrators(),
            self.history.ledger().channel,
        );
        let verified = match signed.admit(administrators, channel, held, clock::utc_now()) {
            Ok(verified) => verified,
            // A repeated request gets the same answer.
            Err(TrustStoreError::InForce { version }) if replay == Replay::Possible => {
                return Ok(Ok(trust_answer(version)));
            }
            Err(error) => return Ok(Err(Refusal::new(error.code(), error))),
        };
        let store = self.state.trust_store();
        match store.stage(&verified) {
            Err(error) if is_full(&error) => return Ok(Err(Refusal::failure("disk-full", error))),
            staged => staged?,
        }
        let list = verified.list;
        let version = list.version();
        self.history.record(&Event::TrustImported {
            version,
            channel: list.channel(),
            hash,
        });
        self.commit()?;
        store.put_into_force()?;
        if list.allow_software_keys() {
            tracing::warn!("this trust list allows software keys: for exercises only");
        }
        self.history.take_list(list.issued());
        self.authority.put_into_force(list);
        self.shown.alarms.clear(Alarm::TrustMissing);
        self.shown.alarms.clear(Alarm::TrustDamaged);
        let ledger = self.history.ledger();
        self.waiting
            .share_all(ledger, &self.authority, &mut self.shown);
        self.stop_unfit_sealing()?;
        self.write_beacon()?;
        Ok(Ok(trust_answer(version)))
    }

    /// Takes a verified bundle: slots for gate, link key for transmit.
    ///
    /// # Errors
    /// [`GateError`]; the process must end. A refusal is the inner error.
    pub fn import_bundle(
        &mut self,
        verified: &VerifiedBundle,
        replay: Replay,
    ) -> Result<Result<String, Refusal>, GateError> {
        let (bundle, statement) = (&verified.bundle, &verified.statement);
        let id = bundle.id;
        if let Some(held) = self.history.ledger().bundles.get(&id) {
            let is_same = held.sha256 == verified.sha256();
            if is_same && replay == Replay::Possible {
                return Ok(Ok(bundle_answer(bundle)));
            }
            let text = match is_same {
                true => format!("bundle {id} is held already; nothing was changed"),
                false => format!("another bundle {id} is held already"),
            };
            return Ok(Err(Refusal::new("overlap", text)));
        }
        if let Some(no) = self
            .foreign(bundle.channel)
            .or_else(|| self.overlap(verified))
        {
            return Ok(Err(no));
        }
        self.place_bundle(verified)?;
        self.history.record(&Event::BundleImported {
            bundle: id,
            channel: bundle.channel,
            first_serial: bundle.first,
            count: bundle.count(),
            replaces: statement.replaces,
            sha256: verified.sha256(),
        });
        self.commit()?;
        self.outgoing.slots.open(slots::header_of(bundle))?;
        self.give_link_key()?;
        if let Some(replaced) = statement.replaces {
            self.outgoing.slots.destroy(replaced)?;
            self.stop_unfit_sealing()?;
        }
        self.shown.alarms.clear(Alarm::SlotsNone);
        self.check_slot_files();
        Ok(Ok(bundle_answer(bundle)))
    }

    fn foreign(&self, channel: ChannelId) -> Option<Refusal> {
        let known = self.history.ledger().channel?;
        (known != channel).then(|| {
            let text = format!("it is for channel {channel}; this host's is {known}");
            Refusal::new("foreign-channel", text)
        })
    }

    fn overlap(&self, verified: &VerifiedBundle) -> Option<Refusal> {
        let bundle = &verified.bundle;
        let newest = self.history.ledger().bundles.keys().next_back().copied();
        if let Some(newest) = newest.filter(|newest| *newest > bundle.id) {
            let text = format!(
                "bundle {} is older than bundle {newest}, which is held",
                bundle.id
            );
            return Some(Refusal::new("overlap", text));
        }
        let held_to = self
            .history
            .ledger()
            .bundles
            .values()
            .map(|held| held.last().get())
            .max()
            .unwrap_or(0);
        let held_to = held_to.max(self.history.ledger().issued);
        (bundle.first.get() <= held_to).then(|| {
            let text = format!(
                "its serials begin at {}, but serials up to {held_to} are held or used already",
                bundle.first
            );
            Refusal::new("overlap", text)
        })
    }

    /// Writes both halves. What a killed import left under their names is no bundle of ours and goes first.
    fn place_bundle(&mut self, verified: &VerifiedBundle) -> Result<(), GateError> {
        let bundle = &verified.bundle;
        let tmp = self.state.tmp(Role::Gate);
        let slots = self.state.slots_of(bundle.id);
        erase(&slots)?;
        slots::stage(&tmp, bundle)?.finish()?.publish(&slots)?;
        let stored = StoredLinkKey {
            bundle: bundle.id,
            key_id: bundle.link_key_id,
            key: Secret32::new(*bundle.link_key.expose()),
            channel: bundle.channel,
        };
        link_key::place(&self.state, &stored)?;
        Ok(())
    }

    /// Hands the newest bundle's link key over to transmit, and takes back older ones that transmit has not taken: it knows
    /// bundles only by their keys.
    ///
    /// # Errors
    /// [`GateError`] if the key cannot be handed over, or another cannot be deleted.
    pub fn give_link_key(&mut self) -> Result<(), GateError> {
        let handover = self.state.handover();
        let newest: Option<BundleId> = self.history.ledger().bundles.keys().next_back().copied();
        if let Some(newest) = newest {
            handover.give(newest)?;
        }
        handover.clear_placed()?;
        for bundle in handover.given_bundles()? {
            if Some(bundle) != newest {
                handover.take_back(bundle)?;
            }
        }
        Ok(())
    }
}
