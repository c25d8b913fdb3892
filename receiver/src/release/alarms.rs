//! What an operator must look at. Each new alarm goes to the audit log and to `[alarm] command`, without content.

use std::collections::BTreeMap;

use valise_common::os::alarm::AlarmCommands;
use valise_common::units::{Mono, UtcTime};

use crate::io::view::AlarmView;
use crate::release::event::Event;

/// How long an alarm about one happening stays visible.
const EVENT_STAYS_US: u64 = 24 * 3_600 * 1_000_000;

struct Active {
    text: String,
    since: UtcTime,
    level: u64,
    until: Option<Mono>,
}

/// The alarms of `release`.
#[derive(Default)]
pub struct Alarms {
    active: BTreeMap<&'static str, Active>,
    fresh: Vec<(&'static str, String)>,
    commands: AlarmCommands,
}

impl Alarms {
    /// No alarm.
    pub fn new() -> Alarms {
        Alarms::default()
    }

    /// Says how bad a lasting condition is; it is new when it is worse than before, and gone at 0.
    pub fn set(
        &mut self,
        code: &'static str,
        now: UtcTime,
        level: u64,
        text: impl FnOnce() -> String,
    ) {
        if level == 0 {
            self.active.remove(code);
            return;
        }
        let text = text();
        match self.active.get_mut(code) {
            Some(active) => {
                if level > active.level {
                    self.fresh.push((code, text.clone()));
                }
                active.level = level;
                active.text = text;
            }
            None => {
                self.fresh.push((code, text.clone()));
                self.active.insert(
                    code,
                    Active {
                        text,
                        since: now,
                        level,
                        until: None,
                    },
                );
            }
        }
    }

    /// Says that something happened; it stays visible for a day.
    pub fn raise(&mut self, code: &'static str, now: UtcTime, mono: Mono, text: String) {
        self.fresh.push((code, text.clone()));
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

    /// The next new alarm, for the log.
    pub fn poll_fresh(&mut self) -> Option<Event> {
        if self.fresh.is_empty() {
            return None;
        }
        let (code, text) = self.fresh.remove(0);
        self.commands.tell(format!("{code}: {text}"));
        Some(Event::Alarm {
            code: code.to_owned(),
            text,
        })
    }

    /// Whether there are new alarms.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
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

    /// Runs the alarm command for what is new and in the log.
    pub fn run_commands(&mut self, command: &[String]) {
        self.commands.run(command);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    fn codes(alarms: &mut Alarms) -> Vec<String> {
        std::iter::from_fn(|| alarms.poll_fresh())
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
        for level in [1, 1, 3, 2, 2, 0, 1] {
            alarms.set("missing", now, level, || level.to_string());
        }
        assert_eq!(codes(&mut alarms), ["missing 1", "missing 3", "missing 1"]);
        assert_eq!(alarms.view().len(), 1);
    }

    #[test]
    fn a_happening_stays_for_a_day() {
        let mut alarms = Alarms::new();
        alarms.raise("unopened", UtcTime::from_s(5), Mono(0), "one".to_owned());
        alarms.handle_time(Mono(EVENT_STAYS_US - 1));
        assert_eq!(alarms.view().len(), 1);
        alarms.handle_time(Mono(EVENT_STAYS_US));
        assert!(alarms.view().is_empty());
        assert_eq!(codes(&mut alarms), ["unopened one"]);
    }
}
