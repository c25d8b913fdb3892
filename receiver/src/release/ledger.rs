//! The history of this host: the audit log, which decides what has happened, and the register that follows it.

use valise_common::audit::Recorded;
use valise_common::config::AuditFiles;
use valise_common::history::index::IndexError;
use valise_common::history::log::{AuditLog, Recovered};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::{BundleId, ContainerHash, Serial};
use valise_common::units::{Mono, UtcTime};

use crate::model::attributed::Attributed;
use crate::model::event::Event;
use crate::model::rows::{BundleRow, BundleState, CableRow, RangeKind, RangeRow};
use crate::model::states::void_serials;
use crate::spool::register::Register;
use valise_common::serial_set::SerialSet;

/// The audit log of `release`, its register, and what the loop needs of both at hand.
pub struct Ledger {
    log: AuditLog,
    register: Register,
    is_rebuilt: bool,
    pending: Vec<Recorded<Event>>,
    claimed: SerialSet,
    gaps: Attributed,
    not_sent: Attributed,
    kept: Attributed,
    bundles: Vec<BundleRow>,
}

impl Ledger {
    /// Opens both and rolls the register forward.
    ///
    /// # Errors
    /// [`IndexError`] when the log does not go with its key, or the disk fails.
    pub fn open(
        state: &ReceiverState,
        files: AuditFiles,
    ) -> Result<(Ledger, Recovered), IndexError> {
        let (mut log, recovered) = AuditLog::open(&state.audit(), Role::Release.as_str())?;
        log.set_part_bytes(files.file_bytes.0);
        let (register, is_rebuilt) = Register::open(state, &log)?;
        let mut ledger = Ledger {
            claimed: register.claimed()?,
            gaps: Attributed::default(),
            not_sent: Attributed::default(),
            kept: Attributed::default(),
            bundles: register.bundles()?,
            log,
            register,
            is_rebuilt,
            pending: Vec::new(),
        };
        for row in ledger.register.ranges()? {
            ledger.take(&row);
        }
        Ok((ledger, recovered))
    }

    fn take(&mut self, row: &RangeRow) {
        let told = match row.kind {
            RangeKind::Gap => &mut self.gaps,
            RangeKind::NotSent => &mut self.not_sent,
            RangeKind::Kept => &mut self.kept,
        };
        for (first, last) in &row.ranges {
            match row.reported_by {
                Some(bundle) => told.insert_range(bundle, *first, *last),
                None => told.remove_range(*first, *last),
            }
        }
    }

    /// Whether the register was damaged or missing, and is built again from the log.
    pub fn is_rebuilt(&self) -> bool {
        self.is_rebuilt
    }

    /// Adds an event to the next commit. It has not happened before [`Ledger::commit`] returns.
    pub fn append(&mut self, now: UtcTime, event: Event) {
        let seq = self.log.append_event(now, &event);
        if let Event::Publishing { serial, .. } | Event::Quarantined { serial, .. } = &event {
            self.claimed.insert(*serial);
        }
        if let Some(row) = RangeRow::of(seq, &event) {
            self.take(&row);
        }
        self.pending.push(Recorded {
            seq,
            time: now,
            event,
        });
    }

    /// Makes the appended events happen. After an error the process must end.
    ///
    /// # Errors
    /// [`IndexError`] when the disk fails.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.log.commit()?;
        self.register.apply(&self.pending)?;
        let changes_bundles = |line: Recorded<Event>| {
            matches!(
                line.event,
                Event::BundleCreated { .. }
                    | Event::BundleVoided { .. }
                    | Event::LinkKeyRetired { .. }
            )
        };
        if self.pending.drain(..).any(changes_bundles) {
            self.bundles = self.register.bundles()?;
        }
        Ok(())
    }

    /// Commits, and writes a checkpoint of the log.
    ///
    /// # Errors
    /// [`IndexError`] when the disk fails.
    pub fn checkpoint(&mut self, mono: Mono) -> Result<(), IndexError> {
        self.commit()?;
        Ok(self.log.checkpoint(mono)?)
    }

    /// Whether a checkpoint is due that no lines bring about.
    pub fn is_checkpoint_due(&self, mono: Mono) -> bool {
        self.log.is_checkpoint_due(mono)
    }

    /// The time of the last line: "now" is never before it.
    pub fn last_time(&self) -> Option<UtcTime> {
        self.log.last_time()
    }

    /// The register, for what the loop does not keep at hand. It knows what is committed.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Every serial that a container has claimed.
    pub fn claimed(&self) -> &SerialSet {
        &self.claimed
    }

    /// Every serial that was once found missing, and that no newer link key took back.
    pub fn gaps(&self) -> &Attributed {
        &self.gaps
    }

    /// Every serial that the sender once gave up, as far as it is believed.
    pub fn not_sent(&self) -> &Attributed {
        &self.not_sent
    }

    /// Whether an operator ended the link key of a bundle, or destroyed the bundle before its time.
    pub fn is_retired(&self, bundle: BundleId) -> bool {
        self.bundle(bundle).is_some_and(|row| row.retired)
    }

    /// The bundles whose link keys have ended.
    pub fn retired(&self) -> Vec<BundleId> {
        let retired = self.bundles.iter().filter(|row| row.retired);
        retired.map(|row| row.bundle).collect()
    }

    /// Every bundle, the oldest first.
    pub fn bundles(&self) -> &[BundleRow] {
        &self.bundles
    }

    /// The live bundle that holds the slot of a serial.
    pub fn bundle_of(&self, serial: Serial) -> Option<&BundleRow> {
        self.bundles
            .iter()
            .find(|bundle| bundle.holds(serial))
            // A quarantined serial of a void bundle keeps its slot: it was used. One whose container waited when the
            // bundle became void keeps it until the container is judged.
            .filter(|bundle| {
                bundle.state == BundleState::Live
                    || self.claimed.contains(serial)
                    || self.kept.all().contains(serial)
            })
    }

    /// A bundle by its number.
    pub fn bundle(&self, id: BundleId) -> Option<&BundleRow> {
        self.bundles.iter().find(|bundle| bundle.bundle == id)
    }

    /// The unused serials of void bundles.
    pub fn void(&self) -> SerialSet {
        void_serials(&self.bundles, &self.claimed)
    }

    /// Serials whose containers had arrived when their bundle became void.
    pub fn kept(&self) -> &SerialSet {
        self.kept.all()
    }

    /// Whether `container` is the one that claimed its serial.
    ///
    /// # Errors
    /// [`IndexError`] when SQLite fails.
    pub fn is_claimed_by(
        &self,
        serial: Serial,
        container: &ContainerHash,
    ) -> Result<bool, IndexError> {
        Ok(self
            .register
            .cable(serial)?
            .is_some_and(|cable| cable.container == *container))
    }
}

/// The serials that cables have claimed.
pub fn claimed_by(cables: &[CableRow]) -> SerialSet {
    let mut claimed = SerialSet::new();
    cables.iter().for_each(|row| claimed.insert(row.serial));
    claimed
}

/// "Now" for judging: the latest of the clock, the trust list's `issued` and the last audit time. A clock that is set
/// back revives no expired cable.
pub fn now_of(clock: UtcTime, issued: Option<UtcTime>, last_audit: Option<UtcTime>) -> UtcTime {
    [issued, last_audit]
        .into_iter()
        .flatten()
        .fold(clock, UtcTime::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn now_never_goes_back() {
        let time = |text: &str| text.parse::<UtcTime>().unwrap();
        let (early, late) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
        assert_eq!(now_of(early, None, None), early);
        assert_eq!(now_of(early, Some(late), None), late);
        assert_eq!(now_of(early, Some(early), Some(late)), late);
        assert_eq!(now_of(late, Some(early), Some(early)), late);
    }

    #[test]
    fn what_was_told_and_withdrawn_can_be_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = ReceiverState::new(folder.path());
        state.create_all().unwrap();
        AuditLog::create(&state.audit(), "release", "valise/01/release").unwrap();
        let serial = |value| Serial::new(value).unwrap();
        let gap = |first: u64, last: u64, bundle: u32| Event::Gap {
            first: serial(first),
            last: serial(last),
            bundle: BundleId(bundle),
        };
        let withdrawn = Event::GapWithdrawn {
            first: serial(3),
            last: serial(9),
        };
        let open = || Ledger::open(&state, AuditFiles::default()).unwrap().0;
        let mut ledger = open();
        for event in [gap(1, 9, 1), withdrawn, gap(5, 5, 2)] {
            ledger.append(UtcTime::from_s(50), event);
        }
        ledger.commit().unwrap();
        // As it was told, and as it is read back.
        for ledger in [ledger, open()] {
            assert_eq!(ledger.gaps().all().to_string(), "1-2,5");
            let old = ledger
                .gaps()
                .reported_only_by(|bundle| bundle == BundleId(1));
            assert_eq!(old.to_string(), "1-2");
            assert!(ledger.not_sent().all().is_empty() && ledger.kept().is_empty());
        }
    }
}
