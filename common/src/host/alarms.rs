//! The alarms of a role, with one design on both hosts. Each new one goes to the journal and to the audit log, and of gate and
//! release to `[alarm] command`, without content: at once, and then together, so that nobody who can bring an alarm about
//! again and again fills the disk with lines.

pub mod command;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::alarm::{Alarm, AlarmView, Cause, Installation, Runs};
use crate::host::alarms::command::{AlarmCommands, AlarmRunner};
use crate::host::life::runs;
use crate::limits;
use crate::manifest::one_line;
use crate::role::Role;
use crate::units::{Mono, UtcTime};

/// How long an alarm about one happening stays visible.
const EVENT_STAYS_US: u64 = 24 * 3_600 * 1_000_000;

/// The log hears of one kind of alarm no more often than this.
const LINE_US_MIN: u64 = 60_000_000;

/// Whose alarm, and which.
type Key = (Role, Alarm);

#[derive(Debug)]
struct Active {
    cause: Cause,
    since: UtcTime,
    level: u64,
    until: Option<Mono>,
}

/// What the log has not heard of yet, of one kind of alarm.
#[derive(Debug)]
struct Fresh {
    /// The newest sentence.
    cause: Cause,
    since: UtcTime,
    /// Happenings before it that get no line of their own.
    more: u64,
}

/// A new alarm, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlarm {
    /// Which.
    pub alarm: Alarm,
    /// What happened, without content.
    pub text: String,
    /// The line that the operator's command gets.
    pub line: String,
}

/// The alarms of a role, and those of its neighbour that it reports.
///
/// # Bounds
/// One entry for each alarm of the table and each of two roles.
#[derive(Debug)]
pub struct Alarms {
    role: Role,
    installation: Installation,
    active: BTreeMap<Key, Active>,
    fresh: BTreeMap<Key, Fresh>,
    /// When the log last heard of an alarm, less than a minute ago.
    logged: BTreeMap<Key, Mono>,
    commands: AlarmCommands,
    changed: bool,
}

impl Alarms {
    /// No alarm yet, of a role of the host with this state folder.
    pub fn new(role: Role, state: &Path) -> Self {
        Self {
            role,
            installation: Installation {
                runs: runs(role),
                state: state.display().to_string(),
            },
            active: BTreeMap::new(),
            fresh: BTreeMap::new(),
            logged: BTreeMap::new(),
            commands: AlarmCommands::default(),
            changed: false,
        }
    }

    /// Sets how bad a lasting condition is. It is new when it is worse than before, and gone at 0. What comes and goes within
    /// a minute of its line in the log gets no other line.
    pub fn set<N: Into<Cause>>(
        &mut self,
        alarm: Alarm,
        now: UtcTime,
        level: u64,
        cause: impl FnOnce() -> N,
    ) {
        self.set_of((self.role, alarm), now, level, cause);
    }

    /// Sets a lasting condition that has a text as long as it lasts.
    pub fn set_text<N: Into<Cause>>(&mut self, alarm: Alarm, now: UtcTime, text: Option<N>) {
        match text {
            Some(text) => self.set(alarm, now, 1, || text),
            None => self.clear(alarm),
        }
    }

    /// Ends an alarm whose cause is gone.
    pub fn clear(&mut self, alarm: Alarm) {
        self.clear_of((self.role, alarm));
    }

    fn set_of<N: Into<Cause>>(
        &mut self,
        key: Key,
        now: UtcTime,
        level: u64,
        cause: impl FnOnce() -> N,
    ) {
        if level == 0 {
            return self.clear_of(key);
        }
        let cause = bounded(cause().into());
        let before = self.active.get(&key);
        let (since, is_new) = match before {
            Some(active) => (active.since, level > active.level),
            None => (now, true),
        };
        self.changed |= before.is_none();
        let active = Active {
            cause,
            since,
            level,
            until: None,
        };
        // A line that waits tells how it is then.
        if is_new || self.fresh.contains_key(&key) {
            let cause = active.cause.clone();
            let more = 0;
            self.fresh.insert(key, Fresh { cause, since, more });
        }
        self.active.insert(key, active);
    }

    fn clear_of(&mut self, key: Key) {
        if self.active.remove(&key).is_some() {
            self.changed = true;
            tracing::info!(alarm = key.1.as_str(), "the cause of the alarm is gone");
        }
        if self.logged.contains_key(&key) {
            self.fresh.remove(&key);
        }
    }

    /// Notes something that happened; it stays visible for a day.
    pub fn raise(&mut self, alarm: Alarm, now: UtcTime, mono: Mono, cause: impl Into<Cause>) {
        let key = (self.role, alarm);
        let more = self.fresh.remove(&key);
        let more = more.map_or(0, |before| before.more.saturating_add(1));
        let cause = bounded(cause.into());
        let fresh = Fresh {
            cause: cause.clone(),
            since: now,
            more,
        };
        let active = Active {
            cause,
            since: now,
            level: 1,
            until: Some(mono.plus_us(EVENT_STAYS_US)),
        };
        self.changed = true;
        self.fresh.insert(key, fresh);
        self.active.insert(key, active);
    }

    /// Takes the alarms that the neighbour has now: this role has the log and the command for them.
    pub fn report(&mut self, neighbour: Role, now: UtcTime, views: Vec<AlarmView>) {
        let mut stay = BTreeSet::new();
        for view in views {
            let Some((alarm, view)) = view.of_role(neighbour, &self.installation) else {
                continue;
            };
            let key = (neighbour, alarm);
            stay.insert(key);
            self.set_of(key, view.since.unwrap_or(now), 1, || {
                Cause::repaired_by(view.text, view.repair)
            });
        }
        let keys: Vec<Key> = self.active.keys().copied().collect();
        let gone = |key: &Key| key.0 == neighbour && !stay.contains(key);
        for key in keys.into_iter().filter(gone) {
            self.clear_of(key);
        }
    }

    /// Forgets happenings whose day is over.
    pub fn handle_time(&mut self, mono: Mono) {
        let over = |active: &Active| active.until.is_some_and(|until| until <= mono);
        let keys = self.active.iter().filter(|(_, active)| over(active));
        let keys: Vec<Key> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.clear_of(key);
        }
    }

    /// Returns the next new alarm that is due, for the audit log; the journal has it then.
    pub fn poll_fresh(&mut self, mono: Mono) -> Option<NewAlarm> {
        self.logged
            .retain(|_, logged| mono.since_us(*logged) < LINE_US_MIN);
        let is_due = |key: &Key| !self.logged.contains_key(key);
        let key = self.fresh.keys().copied().find(is_due)?;
        let Fresh {
            mut cause,
            since,
            more,
        } = self.fresh.remove(&key)?;
        if more > 0 {
            let counted = format!("; {more} more of its kind since the last line");
            cause.text.push_str(&counted);
        }
        self.logged.insert(key, mono);
        let text = cause.text.clone();
        let view = self.view(key, since, cause);
        let line = view.to_string();
        tracing::warn!(
            alarm = view.alarm,
            since = %since,
            means = view.means,
            repair = view.repair,
            "{text}"
        );
        self.commands.tell(line.clone());
        let alarm = key.1;
        Some(NewAlarm { alarm, text, line })
    }

    /// Makes due what waits: the process ends, and nobody would hear of it.
    pub fn end(&mut self) {
        self.logged.clear();
    }

    /// Returns whether an alarm came or went since this was last called.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns what `status` shows, the oldest first.
    pub fn views(&self) -> Vec<AlarmView> {
        let active = self.active.iter();
        let view =
            |(key, active): (&Key, &Active)| self.view(*key, active.since, active.cause.clone());
        let mut views: Vec<_> = active.map(view).collect();
        views.sort_by_key(|view| view.since);
        views
    }

    fn view(&self, (role, alarm): Key, since: UtcTime, cause: Cause) -> AlarmView {
        AlarmView::new(alarm, role, &self.installation, since, cause)
    }

    /// Takes how the role runs, found before its fences: commands that start it depend on it.
    pub fn run_as(&mut self, runs: Runs) {
        self.installation.runs = runs;
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

fn bounded(cause: Cause) -> Cause {
    Cause {
        text: one_line(&cause.text, limits::ALARM_BYTES_MAX),
        ..cause
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    fn alarms() -> Alarms {
        Alarms::new(Role::Release, Path::new("/state"))
    }

    fn codes(alarms: &mut Alarms, mono: Mono) -> Vec<String> {
        std::iter::from_fn(|| alarms.poll_fresh(mono))
            .map(|new| format!("{} {}", new.alarm, new.text))
            .collect()
    }

    #[test]
    fn a_lasting_condition_is_new_once_and_again_when_it_grows() {
        let mut alarms = alarms();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        for (level, minute) in [1, 1, 3, 2, 2, 0, 1].into_iter().zip(0..) {
            alarms.set(Alarm::Missing, now, level, || level.to_string());
            told.extend(codes(&mut alarms, Mono(minute * LINE_US_MIN)));
        }
        assert_eq!(told, ["missing 1", "missing 3", "missing 1"]);
        assert_eq!(alarms.views().len(), 1);
    }

    #[test]
    fn a_condition_that_comes_and_goes_gets_a_line_at_once_and_then_one_a_minute() {
        let mut alarms = alarms();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        // It changes every two seconds for ten minutes.
        for round in 0..300_u64 {
            let level = 1 - round % 2;
            alarms.set(Alarm::Missing, now, level, || round.to_string());
            told.extend(codes(&mut alarms, Mono(round * 2_000_000)));
            assert_eq!(alarms.views().len() as u64, level, "what is shown is true");
        }
        assert_eq!(told.len(), 10, "{told:?}");
        assert_eq!(told[..2], ["missing 0", "missing 30"]);
        // Another one does not wait for it.
        alarms.set(Alarm::Disk, now, 1, || "full".to_owned());
        assert_eq!(codes(&mut alarms, Mono(600_000_000)), ["disk full"]);
    }

    #[test]
    fn what_is_still_up_when_the_minute_ends_is_told_then_and_what_is_gone_is_not() {
        let mut alarms = alarms();
        let now = UtcTime::from_s(5);
        let set = |alarms: &mut Alarms, second: u64, level: u64, text: &str| {
            alarms.set(Alarm::Missing, now, level, || text.to_owned());
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
        let mut alarms = alarms();
        let now = UtcTime::from_s(5);
        let mut told = Vec::new();
        // Hundred a second for two minutes.
        for round in 0..12_000_u64 {
            let mono = Mono(round * 10_000);
            alarms.raise(Alarm::ForeignFile, now, mono, round.to_string());
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
        assert_eq!(alarms.views()[0].text, "11999");
    }

    #[test]
    fn a_happening_stays_for_a_day() {
        let mut alarms = alarms();
        alarms.raise(Alarm::Unopened, UtcTime::from_s(5), Mono(0), "one");
        alarms.handle_time(Mono(EVENT_STAYS_US - 1));
        assert_eq!(alarms.views().len(), 1);
        alarms.handle_time(Mono(EVENT_STAYS_US));
        assert!(alarms.views().is_empty());
        assert_eq!(codes(&mut alarms, Mono(0)), ["unopened one"]);
    }
    #[test]
    fn an_alarm_of_the_neighbour_is_logged_once_and_ends_with_it() {
        let mut alarms = alarms();
        let now = UtcTime::from_s(5);
        let view = |alarm: Alarm, text: &str| {
            let on = &alarms.installation.clone();
            AlarmView::new(alarm, Role::Receive, on, now, text.into())
        };
        let views = [
            view(Alarm::Fence, "no fence"),
            view(Alarm::LinkPort, "taken"),
        ];
        let unknown = AlarmView {
            alarm: "evil".to_owned(),
            ..views[0].clone()
        };
        let three = [&views[..], &[unknown]].concat();
        alarms.report(Role::Receive, now, three.clone());
        alarms.set(Alarm::Fence, now, 1, || "of release itself");
        alarms.report(Role::Receive, now, three);
        let told = codes(&mut alarms, Mono(0));
        let expected = [
            "fence no fence",
            "link-port taken",
            "fence of release itself",
        ];
        assert_eq!(told, expected);
        alarms.report(Role::Receive, now, views[1..].to_vec());
        let left: Vec<_> = alarms.views().into_iter().map(|view| view.text).collect();
        assert_eq!(left, ["taken", "of release itself"]);
        alarms.report(Role::Receive, now, vec![]);
        assert_eq!(alarms.views().len(), 1);
    }
}
