//! What needs a person: each alarm is told once, and stands until its cause is gone.

use std::collections::BTreeMap;

use valise_common::limits;
use valise_common::manifest::one_line;
use valise_common::os::alarm::{AlarmCommands, AlarmRunner};
use valise_common::units::{Mono, UtcTime};

use crate::io::view::AlarmView;

/// How long an alarm about one happening stays, as on the receiver.
const HAPPENING_STAYS_US: u64 = 24 * 3_600 * 1_000_000;

/// The alarms that stand.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
    /// When alarms about one happening end.
    until: BTreeMap<&'static str, Mono>,
    commands: AlarmCommands,
    changed: bool,
}

impl Alarms {
    /// Raises an alarm. Returns `false` if it stands already.
    pub fn raise(&mut self, word: &'static str, text: &str, now: UtcTime) -> bool {
        let text = one_line(text, limits::ALARM_BYTES_MAX);
        if let Some((_, standing)) = self.standing.get_mut(word) {
            *standing = text;
            return false;
        }
        self.changed = true;
        tracing::warn!(alarm = word, "{text}");
        self.commands.tell(format!("{word}: {text}"));
        self.standing.insert(word, (now, text));
        true
    }

    /// Has a raised alarm end a day from now: it is about something that happened, not about something that lasts.
    pub fn end_in_a_day(&mut self, word: &'static str, now: Mono) {
        self.until.insert(word, now.plus_us(HAPPENING_STAYS_US));
    }

    /// Ends alarms about happenings whose day is over.
    pub fn handle_time(&mut self, now: Mono) {
        let over: Vec<_> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(word, _)| *word)
            .collect();
        for word in over {
            self.until.remove(word);
            self.clear(word);
        }
    }

    /// Ends an alarm whose cause is gone.
    pub fn clear(&mut self, word: &'static str) {
        if self.standing.remove(word).is_some() {
            self.changed = true;
            tracing::info!(alarm = word, "the cause of the alarm is gone");
        }
    }

    /// Tells whether an alarm came or went since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The alarms, oldest first.
    pub fn views(&self) -> Vec<AlarmView> {
        let mut views: Vec<AlarmView> = self
            .standing
            .iter()
            .map(|(word, (since, text))| AlarmView {
                alarm: (*word).to_owned(),
                text: text.clone(),
                since: *since,
            })
            .collect();
        views.sort_by_key(|view| view.since);
        views
    }

    /// Takes the process that runs the alarm command.
    pub fn run_by(&mut self, runner: Option<AlarmRunner>) {
        self.commands.run_by(runner);
    }

    /// Has the alarm command run for what is new; to be called when the audit log has it.
    pub fn run_commands(&mut self) {
        self.commands.run();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn an_alarm_is_told_once_until_its_cause_is_gone() {
        let mut alarms = Alarms::default();
        let now = UtcTime::from_s(7);
        assert!(alarms.raise("slots-low", "19 of 100 slots are left", now));
        assert!(!alarms.raise("slots-low", "18 of 100 slots are left", now));
        assert_eq!(alarms.views()[0].text, "18 of 100 slots are left");
        alarms.clear("slots-low");
        assert!(alarms.views().is_empty());
        assert!(alarms.raise("slots-low", "again", now));
        alarms.raise("not-sealed", "a cable", now);
        alarms.end_in_a_day("not-sealed", Mono(5));
        alarms.handle_time(Mono(HAPPENING_STAYS_US + 4));
        assert_eq!(alarms.views().len(), 2);
        alarms.handle_time(Mono(HAPPENING_STAYS_US + 5));
        assert_eq!(alarms.views()[0].alarm, "slots-low");
        assert_eq!(alarms.views().len(), 1);
    }
}
