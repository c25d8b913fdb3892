//! What the courier and the administrators bring: bundles and trust lists.

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use valise_common::bundle::Bundle;
use valise_common::ids::ChannelId;
use valise_common::os::durable::remove_any;
use valise_common::os::layout::Role;
use valise_common::secret::Secret32;

use super::courier::VerifiedBundle;
use super::error::GateError;
use super::event::Event;
use super::host::Gate;
use super::refusal::No;
use crate::io::link_key::{self, StoredLinkKey};
use crate::io::slots;
use crate::io::trust_store::{SignedList, clear_staging};

fn trust_answer(version: u32) -> String {
    format!("trust list version {version} is in force")
}

fn bundle_answer(bundle: &Bundle) -> String {
    let (id, first, count) = (bundle.id, bundle.first, bundle.count());
    format!(
        "bundle {id} imported: {count} slots from serial {first}; now destroy the courier's copy"
    )
}

impl Gate {
    /// Puts a verified trust list into force. Its channel fixes the host's, if nothing did before.
    ///
    /// # Errors
    /// [`GateError`]; the process must end. A refusal is the inner error.
    pub fn import_trust(&mut self, signed: &SignedList) -> Result<Result<String, No>, GateError> {
        let list = match signed.verify(&self.host.administrators) {
            Ok(list) => list,
            Err(error) => return Ok(Err(No::new("trust", error))),
        };
        let (version, hash) = (list.version(), signed.hash());
        if self.ledger.trust == Some((version, hash)) && self.trust.is_some() {
            // A repeated request gets the same answer.
            return Ok(Ok(trust_answer(version)));
        }
        if let Some((held, held_hash)) = self.ledger.trust
            && version <= held
            && held_hash != hash
        {
            let text = format!("version {version} does not rise: {held} is in force");
            return Ok(Err(No::new("trust-rollback", text)));
        }
        if let Some(no) = self.foreign(list.channel()) {
            return Ok(Err(no));
        }
        if let Err(no) = self.check_issued(&list) {
            return Ok(Err(no));
        }
        signed.stage(&self.state)?;
        self.record(&Event::TrustImported {
            version,
            channel: list.channel(),
            hash,
        });
        self.commit()?;
        signed.install(&self.state)?;
        clear_staging(&self.state)?;
        self.fix_channel(list.channel())?;
        if list.allow_software_keys() {
            tracing::warn!("this trust list allows software keys: for exercises only");
        }
        self.trust = Some(list);
        self.alarms.clear("trust-missing");
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
    ) -> Result<Result<String, No>, GateError> {
        let (bundle, statement) = (&verified.bundle, &verified.statement);
        let id = bundle.id;
        if let Some(held) = self.ledger.bundles.get(&id) {
            return Ok(if held.sha256 == verified.sha256() {
                Ok(bundle_answer(bundle))
            } else {
                Err(No::new(
                    "overlap",
                    format!("another bundle {id} is held already"),
                ))
            });
        }
        if let Some(no) = self
            .foreign(bundle.channel)
            .or_else(|| self.overlap(verified))
        {
            return Ok(Err(no));
        }
        if !self.may_write_link_keys() {
            let text = "gate may not write keys/link; stop gate and run bundle import as root";
            return Ok(Err(No::new("link-keys", text)));
        }
        self.place_bundle(verified)?;
        self.record(&Event::BundleImported {
            bundle: id,
            channel: bundle.channel,
            first_serial: bundle.first,
            count: bundle.count(),
            replaces: statement.replaces,
            sha256: verified.sha256(),
        });
        self.commit()?;
        self.fix_channel(bundle.channel)?;
        if let Some(replaced) = statement.replaces {
            self.slots.destroy(replaced)?;
        }
        self.drop_old_link_keys()?;
        self.alarms.clear("slots-none");
        Ok(Ok(bundle_answer(bundle)))
    }

    fn foreign(&self, channel: ChannelId) -> Option<No> {
        let known = self.ledger.channel.or(self.host.channel)?;
        (known != channel).then(|| {
            let text = format!("it is for channel {channel}; this host's is {known}");
            No::new("foreign-channel", text)
        })
    }

    fn overlap(&self, verified: &VerifiedBundle) -> Option<No> {
        let bundle = &verified.bundle;
        let newest = self.ledger.bundles.keys().next_back().copied();
        if let Some(newest) = newest.filter(|newest| *newest > bundle.id) {
            let text = format!(
                "bundle {} is older than bundle {newest}, which is held",
                bundle.id
            );
            return Some(No::new("overlap", text));
        }
        let held_to = self
            .ledger
            .bundles
            .values()
            .map(|held| held.last().get())
            .max()
            .unwrap_or(0);
        let held_to = held_to.max(self.ledger.issued);
        (bundle.first.get() <= held_to).then(|| {
            let text = format!(
                "its serials begin at {}, but serials up to {held_to} are held or used already",
                bundle.first
            );
            No::new("overlap", text)
        })
    }

    /// Writes both halves. What a killed import left under their names is no bundle of ours and goes first.
    fn place_bundle(&mut self, verified: &VerifiedBundle) -> Result<(), GateError> {
        let bundle = &verified.bundle;
        let tmp = self.state.tmp(Role::Gate);
        let (slots, key) = (
            self.state.slots_of(bundle.id),
            self.state.link_key(bundle.id),
        );
        remove_any(&slots)?;
        remove_any(&key)?;
        slots::stage(&tmp, bundle)?.finish()?.publish(&slots)?;
        let stored = StoredLinkKey {
            bundle: bundle.id,
            key_id: bundle.link_key_id,
            key: Secret32::new(*bundle.link_key.expose()),
            channel: bundle.channel,
        };
        link_key::write(&self.state, Role::Gate, &stored)?;
        Ok(())
    }

    /// Where gate and transmit are two users, the link keys' folder is closed to gate.
    fn may_write_link_keys(&self) -> bool {
        let wanted = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        faccessat(
            AT_FDCWD,
            &self.state.link_keys(),
            wanted,
            AtFlags::AT_EACCESS,
        )
        .is_ok()
    }

    /// Finishes an import that was cut short behind its line of the log: the host is for that channel.
    ///
    /// # Errors
    /// [`GateError`] if it cannot be written down.
    pub fn recover_channel(&mut self) -> Result<(), GateError> {
        match self.ledger.channel {
            Some(channel) => self.fix_channel(channel),
            None => Ok(()),
        }
    }

    fn fix_channel(&mut self, channel: ChannelId) -> Result<(), GateError> {
        if self.host.channel.is_none() {
            self.host.channel = Some(channel);
            self.host.store(&self.state)?;
        }
        Ok(())
    }

    /// Deletes every link key but the newest bundle's, as far as gate may; tells of a newest one that is missing.
    ///
    /// # Errors
    /// [`GateError`] if one cannot be deleted.
    pub fn drop_old_link_keys(&mut self) -> Result<(), GateError> {
        if !self.may_write_link_keys() {
            return Ok(());
        }
        let newest = self
            .ledger
            .bundles
            .keys()
            .next_back()
            .map(|id| self.state.link_key(*id));
        for entry in std::fs::read_dir(self.state.link_keys())? {
            let path = entry?.path();
            if Some(&path) != newest.as_ref() {
                remove_any(&path)?;
            }
        }
        if newest.is_some_and(|newest| !newest.exists()) {
            self.alarm(
                "link-key",
                "the link key of the newest bundle is missing; import a new bundle",
            );
        }
        Ok(())
    }
}
