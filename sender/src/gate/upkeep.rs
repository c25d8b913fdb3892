//! What time brings: passes that transmit finished, cables that expire, containers that need not be kept, alarms.

use valise_common::alarm::{Alarm, Cause};
use valise_common::ids::{MessageId, Serial};
use valise_common::os::clock;
use valise_common::os::durable::{free_bytes, refill_reserve};
use valise_common::os::room::disk_text;
use valise_common::units::UtcTime;

use super::error::GateError;
use super::host::{DISK_RESERVE_BYTES, Gate};
use crate::model::event::Event;
use crate::model::ledger::Phase;
use crate::spool::outbox_write::name_of;
use crate::spool::progress;

impl Gate {
    /// Takes note of how far transmit has come with some serials. Tells whether anything changed.
    ///
    /// # Errors
    /// [`GateError`] if a progress file cannot be read.
    pub fn note_progress(
        &mut self,
        serials: impl IntoIterator<Item = Serial>,
    ) -> Result<bool, GateError> {
        let mut changed = false;
        for serial in serials {
            let Some(cable) = self.history.ledger().by_serial(serial) else {
                continue;
            };
            let Some(issued) = cable.issued.as_ref() else {
                continue;
            };
            let (id, phase, passes) = (cable.id, cable.phase, issued.passes);
            if !phase.is_sealed() {
                continue;
            }
            let Some(found) = progress::read(&self.state.progress(), serial)? else {
                continue;
            };
            if self.outgoing.progress.get(&serial) == Some(&found) {
                continue;
            }
            changed = true;
            self.history.note_changed(id);
            if phase == Phase::Sealed && found.passes_done >= passes {
                self.history.record(&Event::Transmitted {
                    serial,
                    passes: found.passes_done,
                });
            }
            self.outgoing.progress.insert(serial, found);
        }
        Ok(changed)
    }

    /// Checks slots, disk and clock, and ends what expired or need not be kept, unless the clock is in doubt. Returns when the
    /// next cable expires.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn upkeep(&mut self) -> Result<Option<UtcTime>, GateError> {
        self.shown.alarms.handle_time(clock::mono_now());
        self.check_slots();
        self.check_disk();
        self.check_aside()?;
        let ledger = self.history.ledger();
        self.waiting.check_troubled(ledger, &mut self.shown);
        self.waiting
            .share_what_stayed_closed(ledger, &self.authority, &mut self.shown);
        if self.watch_clock().is_some() {
            // What a wrong clock would end cannot be brought back.
            return Ok(None);
        }
        let now = self.history.now();
        let mut next: Option<UtcTime> = None;
        let mut gone: Vec<MessageId> = Vec::new();
        let mut events = Vec::new();
        let mut retained = Vec::new();
        let mut unsealed = Vec::new();
        for cable in self
            .history
            .ledger()
            .cables
            .values()
            .filter(|cable| !cable.phase.is_final())
        {
            // not-after itself is still in time.
            let expired = cable.not_after < now;
            if !expired {
                next = Some(next.map_or(cable.not_after, |next| next.min(cable.not_after)));
            }
            match (cable.phase, cable.serial()) {
                (Phase::Open, _) if expired => {
                    events.push(Event::Expired { id: cable.id });
                    gone.push(cable.id);
                }
                (Phase::Sealing | Phase::Sealed, Some(serial))
                    if expired && self.outgoing.in_sealing.contains(&serial) =>
                {
                    unsealed.push(cable.id);
                }
                (Phase::Sealed, Some(serial)) if expired => {
                    let reason = "not-after passed before its passes were done".to_owned();
                    events.push(Event::GivenUp { serial, reason });
                    gone.push(cable.id);
                }
                (Phase::Transmitted, Some(serial)) => {
                    let kept_until = cable.changed.plus_s(self.config.retain.time.as_s());
                    if expired || kept_until < now {
                        events.push(Event::Retired { serial });
                        gone.push(cable.id);
                    } else {
                        let bytes = cable.issued.as_ref().and_then(|issued| issued.container);
                        let bytes = bytes.map_or(0, |(_, bytes)| bytes);
                        retained.push((cable.changed, serial, cable.id, bytes));
                    }
                }
                _ => {}
            }
        }
        retained.sort_unstable();
        let mut sum: u64 = retained.iter().map(|(_, _, _, bytes)| *bytes).sum();
        for (_, serial, id, bytes) in retained {
            if sum <= self.config.retain.bytes.0 {
                break;
            }
            sum -= bytes;
            events.push(Event::Retired { serial });
            gone.push(id);
        }
        for event in &events {
            self.history.record(event);
        }
        if !events.is_empty() {
            self.commit()?;
            self.delete(&gone)?;
        }
        for id in unsealed {
            self.give_up(id, "not-after passed before it was sealed")?;
        }
        Ok(next)
    }

    fn delete(&mut self, gone: &[MessageId]) -> Result<(), GateError> {
        for id in gone {
            let Some(cable) = self.history.ledger().cables.get(id) else {
                continue;
            };
            match name_of(cable) {
                Some(name) => {
                    self.outgoing.outbox.remove(&name)?;
                    self.outgoing.progress.remove(&name.serial);
                }
                None => self.waiting.pending.remove(id)?,
            }
            self.waiting.unblock(id);
        }
        self.write_beacon()
    }

    /// Shows a damaged slot file until its bundle is replaced.
    pub(super) fn check_slot_files(&mut self) {
        let live = self
            .history
            .ledger()
            .bundles
            .iter()
            .filter(|(_, held)| !held.void);
        let mut live = live.map(|(bundle, _)| *bundle);
        let Some(bundle) = live.find(|bundle| self.outgoing.slots.is_lost(*bundle)) else {
            return self.shown.alarms.clear(Alarm::SlotsDamaged);
        };
        let text = format!(
            "{} is damaged or missing, and nothing is sealed from bundle {bundle}. Cables that wait are sealed from the bundle that replaces it; \
             one that has a serial of it has to be submitted again",
            self.state.slots_of(bundle).display()
        );
        let repair = format!(
            "valise-receiver bundle create --slots N --out DIR --replaces {bundle}, then valise-sender bundle import DIR"
        );
        self.shown
            .alarm(Alarm::SlotsDamaged, Cause::repaired_by(text, repair));
    }

    fn check_slots(&mut self) {
        let (left, total) = self.history.ledger().slots_left();
        if left == 0 {
            if !self.history.ledger().bundles.is_empty() {
                self.shown.alarms.clear(Alarm::SlotsLow);
                self.shown.alarm(Alarm::SlotsNone, "no slot is left");
            }
            return;
        }
        self.shown.alarms.clear(Alarm::SlotsNone);
        if left <= self.config.alarm.slots_low.of_ceil(total) {
            let text = format!("slots left: {left} of {total}");
            self.shown.alarm(Alarm::SlotsLow, text);
        } else {
            self.shown.alarms.clear(Alarm::SlotsLow);
        }
    }

    fn check_disk(&mut self) {
        match free_bytes(self.state.root()) {
            Ok(free) if free >= DISK_RESERVE_BYTES => self.shown.alarms.clear(Alarm::Disk),
            Ok(_) => {
                let effect = "no request is accepted and nothing is sealed";
                let text = disk_text(self.state.root(), effect);
                self.shown.alarm(Alarm::Disk, text);
            }
            Err(error) => tracing::warn!("free space cannot be read: {error}"),
        }
        refill_reserve();
    }
}
