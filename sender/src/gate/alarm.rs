//! What needs a person: each alarm is told once, and stands until its cause is gone.

use std::collections::BTreeMap;

use valise_common::limits;
use valise_common::manifest::one_line;
use valise_common::os::alarm::{AlarmCommands, AlarmRunner};
use valise_common::units::UtcTime;

use crate::io::view::AlarmView;

/// The alarms that stand.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
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
    }
}
