//! What an operator must look at. Each new alarm goes to the audit log and to `[alarm] command`, without content: at once,
//! and then together, so that nobody who can bring an alarm about again and again fills the disk with lines.

use std::collections::BTreeMap;

use valise_common::limits;
use valise_common::manifest::one_line;
use valise_common::os::alarm::{AlarmCommands, AlarmRunner};
use valise_common::units::{Mono, UtcTime};

use crate::io::view::AlarmView;
use crate::release::event::Event;

/// The trust list on disk is not the one that was imported last.
pub const TRUST_DAMAGED: &str = "trust-damaged";

/// How long an alarm about one happening stays visible.
const EVENT_STAYS_US: u64 = 24 * 3_600 * 1_000_000;

/// The log hears of one kind of alarm no more often than this.
const LINE_US_MIN: u64 = 60_000_000;

struct Active {
    text: String,
    since: UtcTime,
    level: u64,
    until: Option<Mono>,
}

/// What the log has not heard of yet, of one kind of alarm.
struct Fresh {
    /// The newest sentence.
    text: String,
    /// Happenings before it that get no line of their own.
    more: u64,
}

/// The alarms of `release`.
///
/// # Bounds
/// One entry for each code.
#[derive(Default)]
pub struct Alarms {
    active: BTreeMap<&'static str, Active>,
    fresh: BTreeMap<&'static str, Fresh>,
    /// When the log last heard of a code, less than a minute ago.
    told: BTreeMap<&'static str, Mono>,
    commands: AlarmCommands,
}

impl Alarms {
    /// No alarm.
    pub fn new() -> Alarms {
        Alarms::default()
    }

    /// Says how bad a lasting condition is; it is new when it is worse than before, and gone at 0. What comes and goes within
    /// the minute behind its line gets no other.
    pub fn set(
        &mut self,
        code: &'static str,
        now: UtcTime,
        level: u64,
        text: impl FnOnce() -> String,
    ) {
        if level == 0 {
            self.active.remove(code);
            if self.told.contains_key(code) {
                self.fresh.remove(code);
            }
            return;
        }
        let text = one_line(&text(), limits::ALARM_BYTES_MAX);
        let before = self.active.get(code);
        let (since, is_new) = match before {
            Some(active) => (active.since, level > active.level),
            None => (now, true),
        };
        // A line that waits tells how it is then.
        if is_new || self.fresh.contains_key(code) {
            let text = text.clone();
            self.fresh.insert(code, Fresh { text, more: 0 });
        }
        let active = Active {
            text,
            since,
            level,
            until: None,
        };
        self.active.insert(code, active);
    }

    /// Says that something happened; it stays visible for a day.
    pub fn raise(&mut self, code: &'static str, now: UtcTime, mono: Mono, text: &str) {
        let text = one_line(text, limits::ALARM_BYTES_MAX);
        let more = self.fresh.remove(code);
        let more = more.map_or(0, |before| before.more.saturating_add(1));
        let newest = text.clone();
        self.fresh.insert(code, Fresh { text: newest, more });
        let until = Some(mono.plus_us(EVENT_STAYS_US));
        self.active.insert(
            code,
            Active {
                text,
                since: now,
                level: 1,
                until,
            },
        );
    }

    /// Forgets happenings whose day is over.
    pub fn handle_time(&mut self, mono: Mono) {
        self.active
            .retain(|_, active| active.until.is_none_or(|until| mono < until));
    }

    /// The next new alarm that is due, for the log.
    pub fn poll_fresh(&mut self, mono: Mono) -> Option<Event> {
        self.told
            .retain(|_, told| mono.since_us(*told) < LINE_US_MIN);
        let is_due = |code: &&'static str| !self.told.contains_key(*code);
        let code = self.fresh.keys().copied().find(is_due)?;
        let Fresh { mut text, more } = self.fresh.remove(code)?;
        if more > 0 {
            text = format!("{text}; {more} more of its kind since the last line");
        }
        self.told.insert(code, mono);
        self.commands.tell(format!("{code}: {text}"));
        Some(Event::Alarm {
            code: code.to_owned(),
            text,
        })
    }

    /// Makes due what waits: the process ends, and nobody would hear of it.
    pub fn end(&mut self) {
        self.told.clear();
    }

    /// What `status` shows.
    pub fn view(&self) -> Vec<AlarmView> {
        let view = |(code, active): (&&'static str, &Active)| AlarmView {
            code: (*code).to_owned(),
            text: active.text.clone(),
            since: active.since,
        };
        self.active.iter().map(view).collect()
    }

    /// Takes the process that runs the alarm command.
    pub fn run_by(&mut self, runner: Option<AlarmRunner>) {
        self.commands.run_by(runner);
    }

    /// Has the alarm command run for what is new and in the log.
    pub fn run_commands(&mut self) {
        self.commands.run();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    fn codes(alarms: &mut Alarms, mono: Mono) -> Vec<String> {
        std::iter::from_fn(|| alarms.poll_fresh(mono))
            .map(|event| match event {
                Event::Alarm { code, text } => format!("{code} {text}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_lasting_condition_is_new_once_and_again_when_it_grows() {
        let mut alarms = Alarms::new();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        for (level, minute) in [1, 1, 3, 2, 2, 0, 1].into_iter().zip(0..) {
            alarms.set("missing", now, level, || level.to_string());
            told.extend(codes(&mut alarms, Mono(minute * LINE_US_MIN)));
        }
        assert_eq!(told, ["missing 1", "missing 3", "missing 1"]);
        assert_eq!(alarms.view().len(), 1);
    }

    #[test]
    fn a_condition_that_comes_and_goes_gets_a_line_at_once_and_then_one_a_minute() {
        let mut alarms = Alarms::new();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        // It changes every two seconds for ten minutes.
        for round in 0..300_u64 {
            let level = 1 - round % 2;
            alarms.set("missing", now, level, || round.to_string());
            told.extend(codes(&mut alarms, Mono(round * 2_000_000)));
            assert_eq!(alarms.view().len() as u64, level, "what is shown is true");
        }
        assert_eq!(told.len(), 10, "{told:?}");
        assert_eq!(told[..2], ["missing 0", "missing 30"]);
        // Another one does not wait for it.
        alarms.set("disk", now, 1, || "full".to_owned());
        assert_eq!(codes(&mut alarms, Mono(600_000_000)), ["disk full"]);
    }

    #[test]
    fn what_is_still_up_when_the_minute_ends_is_told_then_and_what_is_gone_is_not() {
        let mut alarms = Alarms::new();
        let now = UtcTime::from_s(5);
        let set = |alarms: &mut Alarms, second: u64, level: u64, text: &str| {
            alarms.set("missing", now, level, || text.to_owned());
            codes(alarms, Mono(second * 1_000_000))
        };
        assert_eq!(set(&mut alarms, 0, 1, "one"), ["missing one"]);
        for (second, level, text) in [(1, 0, ""), (2, 2, "two"), (3, 3, "three"), (59, 2, "last")] {
            assert!(set(&mut alarms, second, level, text).is_empty());
        }
        assert_eq!(set(&mut alarms, 60, 2, "last"), ["missing last"]);
        assert!(set(&mut alarms, 61, 4, "four").is_empty());
        for second in 62..200 {
            assert!(set(&mut alarms, second, 0, "").is_empty());
        }
        // At the end of the process nothing is kept back.
        assert_eq!(set(&mut alarms, 200, 1, "again"), ["missing again"]);
        assert!(set(&mut alarms, 201, 2, "worse").is_empty());
        alarms.end();
        assert_eq!(set(&mut alarms, 201, 2, "worse"), ["missing worse"]);
    }

    #[test]
    fn a_flood_of_happenings_is_counted_and_its_newest_is_told_once_a_minute() {
        let mut alarms = Alarms::new();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        // Hundred a second for two minutes.
        for round in 0..12_000_u64 {
            let mono = Mono(round * 10_000);
            alarms.raise("foreign-file", now, mono, &round.to_string());
            told.extend(codes(&mut alarms, mono));
        }
        alarms.end();
        told.extend(codes(&mut alarms, Mono(120_000_000)));
        let counted = |newest: u64, more: u64| {
            format!("foreign-file {newest}; {more} more of its kind since the last line")
        };
        let expected = [
            "foreign-file 0".to_owned(),
            counted(6_000, 5_999),
            counted(11_999, 5_998),
        ];
        assert_eq!(told, expected);
        assert_eq!(alarms.view()[0].text, "11999");
    }

    #[test]
    fn a_happening_stays_for_a_day() {
        let mut alarms = Alarms::new();
        alarms.raise("unopened", UtcTime::from_s(5), Mono(0), "one");
        alarms.handle_time(Mono(EVENT_STAYS_US - 1));
        assert_eq!(alarms.view().len(), 1);
        alarms.handle_time(Mono(EVENT_STAYS_US));
        assert!(alarms.view().is_empty());
        assert_eq!(codes(&mut alarms, Mono(0)), ["unopened one"]);
    }
}
