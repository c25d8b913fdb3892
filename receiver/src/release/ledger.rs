//! The history of this host: the audit log, which decides what has happened, and the register that follows it.

use thiserror::Error;
use valise_common::config::AuditFiles;
use valise_common::history::log::{AuditLog, AuditLogError, Recovered};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::{BundleId, ContainerHash, Serial};
use valise_common::units::{Mono, UtcTime};

use crate::model::attributed::Attributed;
use crate::model::event::{Event, Line, Recorded};
use crate::model::serial_set::SerialSet;
use crate::model::states::void_serials;
use crate::spool::register::{BundleRow, BundleState, RangeKind, Register, RegisterError};

/// Lines that are rolled forward in one transaction.
const ROLL_LINES: usize = 1_000;

/// Why the history cannot go on.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The audit log.
    #[error("{0}")]
    Log(#[from] AuditLogError),
    /// The register.
    #[error("{0}")]
    Register(#[from] RegisterError),
}

/// The audit log of `release`, its register, and what the loop needs of both at hand.
pub struct Ledger {
    log: AuditLog,
    register: Register,
    is_rebuilt: bool,
    pending: Vec<Line>,
    claimed: SerialSet,
    gaps: Attributed,
    not_sent: Attributed,
    kept: SerialSet,
    bundles: Vec<BundleRow>,
    retired: Vec<BundleId>,
}

impl Ledger {
    /// Opens both and rolls the register forward.
    ///
    /// # Errors
    /// [`LedgerError`] when the log does not go with its key, or the disk fails.
    pub fn open(
        state: &ReceiverState,
        files: AuditFiles,
    ) -> Result<(Ledger, Recovered), LedgerError> {
        let (mut log, recovered) = AuditLog::open(&state.audit(), Role::Release.as_str())?;
        log.set_part_bytes(files.file_bytes.0);
        let register = match Self::roll_forward(&log, state) {
            Err(LedgerError::Register(error)) if error.is_damage() => {
                tracing::warn!(%error, "the register is built again from the audit log");
                Register::remove(&state.register())?;
                Self::roll_forward(&log, state)
            }
            rolled => rolled,
        };
        let (register, is_rebuilt) = register?;
        let ledger = Ledger {
            claimed: register.claimed()?,
            gaps: register.ranges(RangeKind::Gap)?,
            not_sent: register.ranges(RangeKind::NotSent)?,
            kept: register.ranges(RangeKind::Kept)?.all().clone(),
            bundles: register.bundles()?,
            retired: register.retired()?,
            log,
            register,
            is_rebuilt,
            pending: Vec::new(),
        };
        Ok((ledger, recovered))
    }

    /// Opens the register and rolls it forward. Returns whether it was built again from a log with a history.
    fn roll_forward(
        log: &AuditLog,
        state: &ReceiverState,
    ) -> Result<(Register, bool), LedgerError> {
        let mut register = Register::open(&state.register())?;
        let next = u64::try_from(register.applied_seq()?.saturating_add(1)).unwrap_or(0);
        log.check_index(next)?;
        Register::give_to_operators(&state.register(), &state.requests())
            .map_err(RegisterError::Io)?;
        let is_rebuilt = next == 0 && log.next_seq() > 1;
        let mut lines = Vec::new();
        for record in log.lines_from(next)? {
            lines.push(Line::from(record?));
            if lines.len() >= ROLL_LINES {
                register.apply(&lines)?;
                lines.clear();
            }
        }
        register.apply(&lines)?;
        // Rows that are damaged show here, not in the middle of the work.
        register.cables(None)?;
        Ok((register, is_rebuilt))
    }

    /// Whether the register was damaged or missing, and is built again from the log.
    pub fn is_rebuilt(&self) -> bool {
        self.is_rebuilt
    }

    /// Adds an event to the next commit. It has not happened before [`Ledger::commit`] returns.
    pub fn append(&mut self, now: UtcTime, event: Event) {
        let seq = self.log.append(now, event.name(), &event.fields());
        match &event {
            Event::Publishing { serial, .. } | Event::Quarantined { serial, .. } => {
                self.claimed.insert(*serial);
            }
            Event::Gap {
                first,
                last,
                bundle,
            } => self.gaps.insert_range(*bundle, *first, *last),
            Event::GapWithdrawn { first, last } => self.gaps.remove_range(*first, *last),
            Event::NotSent {
                first,
                last,
                bundle,
            } => self.not_sent.insert_range(*bundle, *first, *last),
            Event::NotSentWithdrawn { first, last } => self.not_sent.remove_range(*first, *last),
            Event::SlotsKept { kept, .. }
            | Event::BundleCreated { kept, .. }
            | Event::BundleVoided { kept, .. } => {
                for (first, last) in kept {
                    self.kept.insert_range(*first, *last);
                }
            }
            _ => {}
        }
        self.pending.push(Line::Known(Recorded {
            seq,
            time: now,
            event,
        }));
    }

    /// Makes the appended events happen. After an error the process must end.
    ///
    /// # Errors
    /// [`LedgerError`] when the disk fails.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.log.commit()?;
        let bundles = |line: &Line| {
            matches!(
                line,
                Line::Known(Recorded {
                    event: Event::BundleCreated { .. }
                        | Event::BundleVoided { .. }
                        | Event::LinkKeyRetired { .. },
                    ..
                })
            )
        };
        let bundles_changed = self.pending.iter().any(bundles);
        self.register.apply(&self.pending)?;
        self.pending.clear();
        if bundles_changed {
            self.bundles = self.register.bundles()?;
            self.retired = self.register.retired()?;
        }
        Ok(())
    }

    /// Commits, and writes a checkpoint of the log.
    ///
    /// # Errors
    /// [`LedgerError`] when the disk fails.
    pub fn checkpoint(&mut self, mono: Mono) -> Result<(), LedgerError> {
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
        self.retired.contains(&bundle)
    }

    /// The bundles whose link keys have ended.
    pub fn retired(&self) -> &[BundleId] {
        &self.retired
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
                    || self.kept.contains(serial)
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
        &self.kept
    }

    /// Whether `container` is the one that claimed its serial.
    ///
    /// # Errors
    /// [`LedgerError`] when SQLite fails.
    pub fn is_claimed_by(
        &self,
        serial: Serial,
        container: &ContainerHash,
    ) -> Result<bool, LedgerError> {
        Ok(self
            .register
            .cable(serial)?
            .is_some_and(|cable| cable.container == *container))
    }
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
}
