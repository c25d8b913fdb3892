//! What time it is, and whether that may be believed.
//!
//! "Now" is the latest of the clock, the trust list's `issued` and the last audit time. Judging by it is safe whatever the
//! clock does: one that runs ahead refuses too much, never too little. What cannot be undone is another matter. A cable that
//! a wrong clock expires is lost for good, so expiry waits while the clock is in doubt, until it is put right or an operator
//! says with `clock accept` that it is.

use valise_common::alarm::Alarm;
use valise_common::os::clock;
use valise_common::units::{Mono, UtcTime};

use super::error::GateError;
use super::host::Gate;
use crate::model::event::Event;

/// No clock is set so far forward while the process runs, unless it was wrong before or is now.
const AHEAD_S_MAX: u64 = 86_400;

/// At start nothing has counted the time since the last audit line: a host may have been off for long.
const AHEAD_AT_START_S_MAX: u64 = 366 * 86_400;

/// A clock so far behind the log is wrong, or was.
const BEHIND_S_MAX: u64 = 300;

/// Why time is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// "Now" leapt ahead of what the process has counted.
    Ahead {
        /// About what it should be.
        expected: UtcTime,
    },
    /// The clock is behind the log. That a trust list was issued later is none: the clock is not compared with it.
    Behind,
}

/// One look at everything that tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The clock.
    pub clock: UtcTime,
    /// The clock, or the last audit time if that is later.
    pub logged: UtcTime,
    /// "Now": never before either, nor before the trust list was issued.
    pub now: UtcTime,
    /// What counts on whatever the clock does.
    pub mono: Mono,
}

/// The last time that was believed, and when that was.
#[derive(Debug)]
pub struct Timekeeper {
    believed: UtcTime,
    at: Mono,
    ahead_s_max: u64,
}

impl Timekeeper {
    /// Begins at the last audit line, or now for a log without one. After a leap that nobody has accepted a long absence is
    /// no excuse.
    pub fn new(last_audit: Option<UtcTime>, reading: Reading, leapt: bool) -> Self {
        Self {
            believed: last_audit.unwrap_or(reading.now),
            at: reading.mono,
            ahead_s_max: if leapt {
                AHEAD_S_MAX
            } else {
                AHEAD_AT_START_S_MAX
            },
        }
    }

    /// What is wrong with the time, if anything is.
    pub fn doubt(&self, reading: Reading) -> Option<Doubt> {
        let passed_s = reading.mono.since_us(self.at) / 1_000_000;
        let expected = self.believed.plus_s(passed_s);
        if reading.now.since(expected) > self.ahead_s_max {
            Some(Doubt::Ahead { expected })
        } else if reading.logged.since(reading.clock) > BEHIND_S_MAX {
            Some(Doubt::Behind)
        } else {
            None
        }
    }

    /// Takes "now" as right, and counts from it.
    pub fn believe(&mut self, reading: Reading) {
        self.believed = reading.now;
        self.at = reading.mono;
        self.ahead_s_max = AHEAD_S_MAX;
    }
}

impl Gate {
    /// Looks at the clock, and raises or ends its alarms.
    pub fn watch_clock(&mut self) -> Option<Doubt> {
        let reading = self.history.reading();
        let (clock, logged, now) = (reading.clock, reading.logged, reading.now);
        let doubt = self.history.doubt_of(reading);
        if !matches!(doubt, Some(Doubt::Ahead { .. })) {
            self.shown.alarms.clear(Alarm::ClockAhead);
        }
        if doubt != Some(Doubt::Behind) {
            self.shown.alarms.clear(Alarm::Clock);
        }
        match doubt {
            Some(Doubt::Ahead { expected }) => {
                if !self.history.ledger().clock_leapt {
                    self.history.record(&Event::ClockLeapt { clock });
                }
                let (says, mend) = if now > logged {
                    (
                        "trust list is issued at",
                        "a list with the right time is imported",
                    )
                } else {
                    ("clock says", "the clock is set")
                };
                let text = format!(
                    "the {says} {now}, but it should be about {expected}: no submission is taken and nothing \
                     expires until {mend}"
                );
                self.shown.alarm(Alarm::ClockAhead, text);
            }
            Some(Doubt::Behind) => {
                let text = format!("the clock says {clock}, but the log says {logged}");
                self.shown.alarm(Alarm::Clock, text);
            }
            None => {
                self.history.believe(reading);
                if self.history.ledger().clock_leapt {
                    self.history.record(&Event::ClockRestored);
                    // What was refused by the wrong time is judged again.
                    self.outgoing.wants_room = true;
                }
            }
        }
        doubt
    }

    /// Takes the clock as right, as an operator says. The line carries the clock's own time: with it the last audit time goes
    /// back.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn accept_clock(&mut self, uid: u32) -> Result<String, GateError> {
        self.shown.log_alarms(&mut self.history);
        self.history.accept_clock(uid)?;
        self.shown.set_time(self.history.log_time());
        self.shown.alarms.clear(Alarm::ClockAhead);
        self.shown.alarms.clear(Alarm::Clock);
        // No time of day in the answer: one that was lost with a killed process must come out the same again.
        Ok(match self.authority.list().map(|list| list.issued()) {
            Some(issued) if issued > clock::utc_now() => {
                format!(
                    "the clock is accepted; the trust list is from {issued}, so now is not before that"
                )
            }
            _ => "the clock is accepted".to_owned(),
        })
    }
}

/// Looks at everything that tells the time.
pub fn reading(issued: Option<UtcTime>, last_audit: Option<UtcTime>) -> Reading {
    let clock = clock::utc_now();
    let issued = issued.unwrap_or(UtcTime::EPOCH);
    Reading {
        clock,
        logged: clock.max(last_audit.unwrap_or(UtcTime::EPOCH)),
        now: clock.max(issued).max(last_audit.unwrap_or(UtcTime::EPOCH)),
        mono: clock::boot_now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    /// The clock, what the log and the list make of it, and the count, all in seconds.
    fn at(clock: u64, now: u64, mono: u64) -> Reading {
        Reading {
            clock: UtcTime::from_s(clock),
            logged: UtcTime::from_s(now),
            now: UtcTime::from_s(now),
            mono: Mono(mono * 1_000_000),
        }
    }

    fn running() -> Timekeeper {
        let mut time = Timekeeper::new(None, at(1_000_000, 1_000_000, 5), false);
        time.believe(at(1_000_000, 1_000_000, 5));
        time
    }

    #[test]
    fn a_leap_of_more_than_a_day_is_in_doubt_until_it_is_undone_or_believed() {
        let mut time = running();
        assert_eq!(time.doubt(at(1_086_410, 1_086_410, 15)), None);
        let leap = at(1_086_411, 1_086_411, 15);
        let expected = UtcTime::from_s(1_000_010);
        assert_eq!(time.doubt(leap), Some(Doubt::Ahead { expected }));
        assert_eq!(time.doubt(at(1_000_020, 1_000_020, 25)), None);
        time.believe(leap);
        assert_eq!(time.doubt(at(1_086_421, 1_086_421, 25)), None);
    }

    #[test]
    fn counted_days_are_no_leap() {
        let time = running();
        let year = 365 * DAY_S;
        assert_eq!(
            time.doubt(at(1_000_000 + year, 1_000_000 + year, 5 + year)),
            None
        );
    }

    #[test]
    fn a_clock_behind_the_log_is_in_doubt_after_five_minutes() {
        let time = running();
        assert_eq!(time.doubt(at(999_700, 1_000_000, 5)), None);
        assert_eq!(time.doubt(at(999_699, 1_000_000, 5)), Some(Doubt::Behind));
    }

    #[test]
    fn a_trust_list_issued_later_puts_no_doubt_on_the_clock() {
        let issued = Reading {
            logged: UtcTime::from_s(1_000_000),
            ..at(1_000_000, 1_003_600, 5)
        };
        assert_eq!(running().doubt(issued), None);
    }

    #[test]
    fn a_long_absence_is_believed_at_start_but_not_ten_years_and_not_after_a_leap() {
        let last = Some(UtcTime::from_s(1_000_000));
        let off = |days: u64| {
            let now = 1_000_000 + days * DAY_S;
            at(now, now, 5)
        };
        let doubts = |days, leapt| Timekeeper::new(last, off(days), leapt).doubt(off(days));
        let expected = UtcTime::from_s(1_000_000);
        assert_eq!(doubts(366, false), None);
        assert_eq!(doubts(3_650, false), Some(Doubt::Ahead { expected }));
        assert_eq!(doubts(1, true), None);
        assert_eq!(doubts(2, true), Some(Doubt::Ahead { expected }));
    }
}
