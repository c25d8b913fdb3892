//! What the loop watches: the inbox, the beacon, what is missing, and what it shows of all that.

use std::fs;
use std::os::unix::fs::MetadataExt;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::folders::Role;
use valise_common::ids::Serial;
use valise_common::os::room::disk_text;
use valise_common::os::{clock, durable};
use valise_common::units::{Mono, UtcTime, count_of};

use crate::model::rows::{BundleRow, BundleState, Claim};
use crate::model::states::{Announced, ChannelState};
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::release::inbox::Due;
use crate::release::view::{left_of, shortened};
use crate::spool::view::ReceiveView;
use valise_common::serial_set::SerialSet;

/// Something that had a cable's name in a mailbox: the text after its description.
pub(super) const PUT_ASIDE: &str = " that had the name of a cable's folder and was put aside; the cable is visible under its own name";

/// Below this many free bytes an operator must make room.
const DISK_LOW_BYTES: u64 = 1 << 30;

/// A clock so far behind the log is wrong, or was.
const CLOCK_BEHIND_S: u64 = 300;

/// Folders of one mailbox that are looked at.
const FOLDERS_MAX: usize = 100_000;

/// How often mailboxes are looked at.
const PICKUP_EVERY_US: u64 = 60_000_000;

impl Release {
    /// What is known of all serials, except what `receive` is collecting.
    pub(super) fn channel_state(&self) -> ChannelState {
        let mut complete = SerialSet::new();
        // Something else in a container's place must not hide that a cable is missing. A file that only may not be read is
        // the cable: to call it missing would have it sent again, which does not help.
        self.inbox
            .waiting
            .iter()
            .filter(|(_, waiting)| !matches!(waiting.due, Due::Readable(_)))
            .for_each(|(name, _)| complete.insert(name.serial));
        let mut opened = SerialSet::new();
        self.inbox
            .in_work
            .into_iter()
            .for_each(|serial| opened.insert(serial));
        ChannelState {
            first: self
                .ledger
                .bundles()
                .iter()
                .map(|bundle| bundle.first)
                .min(),
            claimed: self.ledger.claimed().clone(),
            void: self.ledger.void(),
            complete,
            opened,
            assembling: SerialSet::new(),
            gaps: self.ledger.gaps().all().clone(),
            not_sent: self.ledger.not_sent().all().clone(),
            announced: self
                .link
                .beacon
                .as_ref()
                .map(|believed| Announced::from(&believed.beacon))
                .unwrap_or_default(),
        }
    }

    /// Looks at everything that no descriptor tells of, once a second.
    pub(super) fn observe(&mut self) -> Result<(), ReleaseError> {
        let (now, mono) = (self.now(), self.mono());
        self.shown.alarms.handle_time(mono);
        self.read_beacon()?;
        let channel_state = self.channel_state();
        let missing = channel_state.missing();
        let (link, ledger) = (&mut self.link, &mut self.ledger);
        link.note_ranges(ledger, now, mono, &channel_state, &missing);
        link.withdraw_ranges(ledger, now, &channel_state);
        self.ledger.commit()?;
        if self.link.handover_is_behind {
            self.hand_over()?;
        }
        self.shown.show_foreign(now);
        self.watch_slot_files(now);
        self.watch_host(now)?;
        self.watch_cables(now, &channel_state, &missing)?;
        self.watch_mailboxes(now, mono)?;
        if self.ledger.is_checkpoint_due(mono) {
            self.ledger.checkpoint(mono)?;
        }
        self.shown.dirty = true;
        Ok(())
    }

    /// Shows a damaged slot file until its bundle is replaced.
    pub(super) fn watch_slot_files(&mut self, now: UtcTime) {
        let lacks_some = |row: &&BundleRow| {
            row.state == BundleState::Live && !self.slots.holds(row.bundle, row.last)
        };
        let bundle = self.ledger.bundles().iter().find(lacks_some);
        let bundle = bundle.map(|row| row.bundle);
        let path = bundle.map(|bundle| self.state.slots_of(bundle));
        self.shown.alarms
            .set(Alarm::SlotsDamaged, now, u64::from(bundle.is_some()), || {
                let bundle = bundle.map_or(0, |bundle| bundle.0);
                let path = path.unwrap_or_default();
                let text = format!(
                    "{} is damaged, or covered with a credential that release has not (release.slots_credential), and \
                     cables of bundle {bundle} whose slots it lacks wait in inbox/; they have to be submitted again once \
                     another bundle replaces it",
                    path.display()
                );
                let repair = format!(
                    "valise-receiver bundle create --slots N --out DIR --replaces {bundle}, then valise-sender bundle import DIR"
                );
                Cause::repaired_by(text, repair)
            });
    }

    fn watch_host(&mut self, now: UtcTime) -> Result<(), ReleaseError> {
        durable::refill_reserve();
        let free_bytes = durable::free_bytes(self.state.root())?;
        let low = u64::from(free_bytes < DISK_LOW_BYTES);
        let full = self
            .inbox
            .waiting
            .values()
            .any(|waiting| matches!(waiting.due, Due::Room(_)));
        let level = if full { 2 } else { low };
        self.shown.alarms.set(Alarm::Disk, now, level, || {
            let effect = match full {
                true => "cables wait",
                false => "soon no more cables are taken",
            };
            disk_text(self.state.root(), effect)
        });
        let clock = clock::utc_now();
        let behind_s = now.since(clock);
        self.shown.alarms.set(
            Alarm::Clock,
            now,
            u64::from(behind_s > CLOCK_BEHIND_S),
            || format!("the clock says {clock}, but the log or the trust list says {now}"),
        );
        let none = u64::from(self.trust.is_none());
        self.shown.alarms.set(Alarm::TrustMissing, now, none, || {
            "no trust list is in force".to_owned()
        });
        for (alarm, text) in &self.shown.fences {
            self.shown.alarms.set(*alarm, now, 1, || text.as_str());
        }
        let mono = self.mono();
        self.shown
            .neighbour
            .watch(&mut self.shown.alarms, clock, mono);
        // A view that cannot be read has an alarm of its own, and ends none of these.
        if let Ok(receive) = ReceiveView::read(&self.state.view_of(Role::Receive)) {
            self.watch_receive(receive.as_ref(), now);
        }
        Ok(())
    }

    /// Shows what `receive` reports of the link.
    fn watch_receive(&mut self, receive: Option<&ReceiveView>, now: UtcTime) {
        let forged = receive.map_or(0, |view| view.poisoned);
        self.shown
            .alarms
            .set(Alarm::Forged, now, u64::from(forged > 0), || {
                format!(
                    "receive has discarded {} with forged symbols since its start",
                    count_of(forged, "set")
                )
            });
        let last = receive.map(ReceiveView::silent_since);
        let silent_s = last.map_or(0, |last| clock::utc_now().since(last));
        let limit_s = self.config.silence_alarm().as_s();
        self.shown
            .alarms
            .set(Alarm::Silence, now, u64::from(silent_s > limit_s), || {
                format!(
                    "no datagram has verified since {}",
                    last.unwrap_or(UtcTime::EPOCH)
                )
            });
    }

    fn watch_cables(
        &mut self,
        now: UtcTime,
        channel_state: &ChannelState,
        missing: &SerialSet,
    ) -> Result<(), ReleaseError> {
        let gaps = missing.without(&missing.without(self.ledger.gaps().all()));
        self.shown
            .alarms
            .set(Alarm::Missing, now, gaps.serial_count(), || {
                let serials = shortened(&gaps);
                let count = count_of(gaps.serial_count(), "serial");
                let repair = format!("valise-sender resend {serials}");
                let text = format!("{count} did not arrive: {serials}");
                Cause::repaired_by(text, repair)
            });
        for serial in self.inbox.damaged.clone().iter() {
            let row = self.ledger.register().cable(serial)?;
            if row.is_some_and(|row| row.claim != Claim::Quarantined) {
                self.inbox.damaged.remove(serial);
            }
        }
        let damaged = &self.inbox.damaged;
        self.shown.alarms.set(Alarm::Damaged, now, damaged.serial_count(), || {
            let serials = shortened(damaged);
            let repair = format!("valise-sender resend {serials}");
            let text = format!(
                "containers that had arrived were damaged on the disk: {serials}. Look at the health of the disk"
            );
            Cause::repaired_by(text, repair)
        });
        let held = self.ledger.register().cables(Some(Claim::Quarantined))?;
        let held_count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        self.shown
            .alarms
            .set(Alarm::Quarantine, now, held_count, || {
                format!("{held_count} in quarantine")
            });
        let highest = channel_state.highest().map_or(0, Serial::get);
        let bundles = self.ledger.bundles();
        let newest = bundles
            .iter()
            .rev()
            .find(|row| row.state == BundleState::Live);
        // Without a bundle there are no slots, and none left.
        let (left, count) = match newest {
            Some(row) => (left_of(row.first, row.last, highest), u64::from(row.count)),
            None => (0, 0),
        };
        let low = left <= self.config.alarm.slots_low.of_ceil(count);
        self.shown
            .alarms
            .set(Alarm::SlotsLow, now, u64::from(low), || {
                format!("{} left", count_of(left, "slot"))
            });
        Ok(())
    }

    /// Cables that nobody fetched.
    fn watch_mailboxes(&mut self, now: UtcTime, mono: Mono) -> Result<(), ReleaseError> {
        let due = self
            .shown
            .mailboxes_seen
            .is_none_or(|seen| mono.since_us(seen) >= PICKUP_EVERY_US);
        if !due {
            return Ok(());
        }
        self.shown.mailboxes_seen = Some(mono);
        let Some(signed) = &self.trust else {
            return Ok(());
        };
        let clock_s = clock::utc_now().as_s();
        let limit_s = self.config.release.pickup_alarm.as_s();
        let mut old: u64 = 0;
        let mut asides = Vec::new();
        for mailbox in signed.list.mailboxes() {
            let Ok(entries) = fs::read_dir(self.state.mailbox(&mailbox.id)) else {
                continue;
            };
            for entry in entries.take(FOLDERS_MAX).flatten() {
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if entry.file_name().as_encoded_bytes().starts_with(b".aside-") {
                    asides.push(entry.path());
                    continue;
                }
                let changed_s = u64::try_from(metadata.ctime()).unwrap_or(0);
                if metadata.is_dir() && clock_s.saturating_sub(changed_s) > limit_s {
                    old = old.saturating_add(1);
                }
            }
        }
        for aside in asides {
            self.note_foreign(Trouble::Foreign, &aside, PUT_ASIDE);
        }
        self.shown.alarms.set(Alarm::NotFetched, now, old, || {
            format!(
                "not fetched for {}: {}",
                self.config.release.pickup_alarm,
                count_of(old, "released cable")
            )
        });
        Ok(())
    }
}
