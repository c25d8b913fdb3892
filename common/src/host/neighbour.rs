//! What gate sees of transmit, and release of receive: signs of life, and alarms that only this role has a command for.

use crate::limits;
use std::path::PathBuf;

use serde::de::IgnoredAny;

use super::alarms::Alarms;
use crate::alarm::AlarmView;
use crate::host::life::{Ages, Life, Observed};
use crate::role::Role;
use crate::units::{Mono, UtcTime};

/// A neighbour that has not run yet is given so long to start.
const START_US: u64 = 30_000_000;

/// The neighbour of a role.
#[derive(Debug)]
pub struct Neighbour {
    role: Role,
    lock: PathBuf,
    view: PathBuf,
    /// When it was first looked at.
    first: Option<Mono>,
    has_run: bool,
}

impl Neighbour {
    /// Takes the files of the role that is looked at.
    pub fn new(role: Role, lock: PathBuf, view: PathBuf) -> Self {
        Self {
            role,
            lock,
            view,
            first: None,
            has_run: false,
        }
    }

    /// Looks at it, and reports its alarms. One that cannot be looked at keeps those that it had.
    pub fn watch(&mut self, alarms: &mut Alarms, now: UtcTime, mono: Mono) {
        let seen =
            Observed::<IgnoredAny>::look(self.role, &self.lock, &self.view, limits::VIEW_BYTES_MAX);
        let seen = match seen {
            // The age changes with every look.
            Ok(seen) => seen.with(Ages::LeftOut),
            Err(error) => return tracing::warn!("{} cannot be looked at: {error}", self.role),
        };
        self.has_run |= seen.life == Life::Running;
        let first = *self.first.get_or_insert(mono);
        let is_starting = !self.has_run && mono.since_us(first) < START_US;
        let views: Vec<AlarmView> = match (seen.life, is_starting) {
            (Life::Running, _) | (_, false) => seen.alarms(Some(now)),
            (Life::NotRunning | Life::Hung, true) => Vec::new(),
        };
        alarms.report(self.role, now, views);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::alarm::Alarm;
    use crate::os::lock::HostLock;

    #[test]
    fn a_neighbour_that_stops_or_never_starts_is_an_alarm_and_one_that_starts_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, view) = (folder.path().join("lock"), folder.path().join("view"));
        let mut alarms = Alarms::new(Role::Gate, folder.path());
        let now = UtcTime::from_s(5);
        let mut neighbour = Neighbour::new(Role::Transmit, lock.clone(), view.clone());
        let mut words = |neighbour: &mut Neighbour, mono| {
            neighbour.watch(&mut alarms, now, Mono(mono));
            let views = alarms.views().into_iter();
            views.map(|view| view.alarm).collect::<Vec<_>>()
        };
        assert!(words(&mut neighbour, 0).is_empty());
        assert_eq!(words(&mut neighbour, START_US), ["transmit-not-running"]);
        let held = HostLock::try_take(&lock).unwrap().unwrap();
        assert!(words(&mut neighbour, START_US).is_empty());
        let of_view = AlarmView {
            alarm: Alarm::LinkDown.as_str().to_owned(),
            role: Role::Transmit,
            since: Some(now),
            text: "no carrier".to_owned(),
            means: String::new(),
            repair: String::new(),
        };
        let text = serde_json::json!({ "alarms": [of_view] }).to_string();
        fs::write(&view, text).unwrap();
        assert_eq!(words(&mut neighbour, START_US), ["link-down"]);
        drop(held);
        HostLock::await_free(&lock);
        let found = words(&mut neighbour, START_US + 1);
        assert!(
            found.contains(&"transmit-not-running".to_owned()),
            "{found:?}"
        );
    }
}
