//! What needs a person: each alarm is told once, and stands until its cause is gone.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use valise_common::os::signals::spawn_unmasked;
use valise_common::units::UtcTime;

use crate::io::view::AlarmView;

/// Alarm programs that may run at a time.
const CHILDREN_MAX: usize = 8;

/// The alarms that stand.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
    children: Vec<Child>,
    changed: bool,
}

impl Alarms {
    /// Raises an alarm and runs the alarm command for it. Returns `false` if it stands already.
    pub fn raise(
        &mut self,
        word: &'static str,
        text: &str,
        now: UtcTime,
        command: &[String],
    ) -> bool {
        if let Some((_, standing)) = self.standing.get_mut(word) {
            text.clone_into(standing);
            return false;
        }
        self.changed = true;
        tracing::warn!(alarm = word, "{text}");
        self.standing.insert(word, (now, text.to_owned()));
        self.run(command, &format!("{word}: {text}"));
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

    fn run(&mut self, command: &[String], line: &str) {
        self.reap();
        let Some((program, arguments)) = command.split_first() else {
            return;
        };
        if self.children.len() >= CHILDREN_MAX {
            tracing::warn!("the alarm command was not run: {CHILDREN_MAX} of it still run");
            return;
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        match spawn_unmasked(&mut command) {
            Ok(child) => self.children.push(child),
            Err(error) => tracing::warn!("the alarm command could not be run: {error}"),
        }
    }

    /// Takes note of alarm programs that ended.
    pub fn reap(&mut self) {
        self.children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn an_alarm_is_told_once_until_its_cause_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script = format!("printf '%s\\n' \"$1\" >> {}", file.display());
        let command = ["sh", "-c", &script, "sh"].map(str::to_owned);
        let mut alarms = Alarms::default();
        let now = UtcTime::from_s(7);
        assert!(alarms.raise("slots-low", "19 of 100 slots are left", now, &command));
        assert!(!alarms.raise("slots-low", "18 of 100 slots are left", now, &command));
        for child in &mut alarms.children {
            child.wait().unwrap();
        }
        alarms.reap();
        assert!(alarms.children.is_empty());
        let told = std::fs::read_to_string(&file).unwrap();
        assert_eq!(told, "slots-low: 19 of 100 slots are left\n");
        assert_eq!(alarms.views()[0].text, "18 of 100 slots are left");
        alarms.clear("slots-low");
        assert!(alarms.views().is_empty());
        assert!(alarms.raise("slots-low", "again", now, &[]));
    }
}
