//! Sets with forged symbols, on their way into the log: at once, and then together, so that a thief of the link key cannot
//! fill the disk with lines.

use std::collections::BTreeSet;
use valise_common::limits;

use valise_common::ids::Serial;
use valise_common::units::Mono;

/// The log hears of forged sets no more often than this.
const REPORT_US_MIN: u64 = 60_000_000;

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The lowest of the serials whose sets were discarded.
    pub serials: Vec<Serial>,
    /// How many sets were.
    pub sets: u64,
}

/// What the log has not heard of yet.
///
/// # Bounds
/// 32 serials.
#[derive(Debug, Default)]
pub(super) struct Forged {
    serials: BTreeSet<Serial>,
    sets: u64,
    reported: Option<Mono>,
}

impl Forged {
    /// A set of this serial was discarded.
    pub(super) fn handle_set(&mut self, serial: Serial) {
        self.sets = self.sets.saturating_add(1);
        self.serials.insert(serial);
        if self.serials.len() > limits::FORGED_SERIALS_LOGGED_MAX {
            self.serials.pop_last();
        }
    }

    /// What is to be told now, if anything is.
    pub(super) fn poll(&mut self, now: Mono) -> Option<Report> {
        let due = self
            .reported
            .is_none_or(|reported| now.since_us(reported) >= REPORT_US_MIN);
        if !due {
            return None;
        }
        let report = self.take()?;
        self.reported = Some(now);
        Some(report)
    }

    /// What was not told, due or not.
    pub(super) fn take(&mut self) -> Option<Report> {
        if self.sets == 0 {
            return None;
        }
        Some(Report {
            serials: std::mem::take(&mut self.serials).into_iter().collect(),
            sets: std::mem::take(&mut self.sets),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn the_first_forgery_is_told_at_once_and_a_flood_of_them_once_a_minute() {
        let mut forged = Forged::default();
        assert_eq!(forged.poll(Mono(0)), None);
        let mut reports = Vec::new();
        // Ten a second for ten minutes, each of another serial.
        for tenth in 0..6_000_u64 {
            forged.handle_set(Serial::new(10_000 - tenth).unwrap());
            reports.extend(forged.poll(Mono(tenth * 100_000)));
        }
        assert_eq!(reports.len(), 10);
        let first = &reports[0];
        assert_eq!((first.serials.len(), first.sets), (1, 1));
        assert_eq!(
            (reports[1].serials.len(), reports[1].sets),
            (limits::FORGED_SERIALS_LOGGED_MAX, 600)
        );
        let told: u64 = reports.iter().map(|report| report.sets).sum();
        assert_eq!(told + forged.take().unwrap().sets, 6_000);
        assert_eq!(forged.take(), None);
    }
}
