//! Signs of life: whether a role works, and how old is what it shows.
//!
//! A role holds its lock while it lives, and rewrites its view every ten seconds even when nothing changes. A role that is
//! stopped by a signal, or hangs, keeps its lock; only the age of its view gives it away.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::folders::Role;
use crate::alarm::{Alarm, AlarmView, Installation, Runs};
use crate::os::clock::Stamp;
use crate::os::durable::read_bounded;
use crate::os::lock::HostLock;
use crate::units::UtcTime;

/// A role rewrites its view at least this often.
pub const VIEW_EVERY_US: u64 = 10_000_000;

/// A role that lives and wrote nothing for three of these intervals does not work.
const SILENCE_MAX: Duration = Duration::from_micros(3 * VIEW_EVERY_US);

/// Whether a role works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nobody holds its lock.
    NotRunning,
    /// Its last sign of life is recent.
    Running,
    /// It holds its lock, and has shown nothing for too long.
    Hung,
}

impl Life {
    /// Returns the state in two words at most, for `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Life::NotRunning => "not running",
            Life::Running => "running",
            Life::Hung => "hung",
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a role shows, and what can be said of the role.
#[derive(Debug)]
pub struct Observed<T> {
    /// The role.
    pub role: Role,
    /// Its view; `None` if it never wrote one, or the file is damaged.
    pub view: Option<T>,
    /// Whether it works.
    pub life: Life,
    /// When the view was written.
    pub time: Option<UtcTime>,
    /// The age of the view; `None` without a view, and for one from before the host's last start.
    pub age: Option<Duration>,
    /// The host that the role runs on.
    pub installation: Installation,
    /// The alarms of its view.
    reported: Vec<AlarmView>,
    /// Why the view does not parse.
    damage: Option<String>,
    ages: Ages,
}

/// Whether texts on a role include the age of its view, which changes with every look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ages {
    /// They do.
    Shown,
    /// They do not: only changes count.
    LeftOut,
}

/// Returns how this process, a role, runs. To be called before the fences, which close the system's list of users.
pub fn runs(role: Role) -> Runs {
    let user = User::from_uid(geteuid()).ok().flatten();
    match user.is_some_and(|user| user.name == format!("valise-{role}")) {
        true => Runs::AsUnits,
        false => Runs::UnderRun,
    }
}

/// Returns how the roles of this host run: as units where a role has a user of its own, to whom its lock belongs.
pub fn installation(role: Role, lock: &Path) -> Installation {
    let owner = std::fs::symlink_metadata(lock)
        .ok()
        .map(|found| found.uid());
    let is_ours = owner.is_none_or(|owner| owner == geteuid().as_raw());
    let user = owner.and_then(|owner| User::from_uid(owner.into()).ok().flatten());
    let is_under_run = is_ours && user.is_none_or(|user| user.name != format!("valise-{role}"));
    Installation {
        runs: match is_under_run {
            true => Runs::UnderRun,
            false => Runs::AsUnits,
        },
        // The lock is in the state folder.
        state: lock.parent().unwrap_or(lock).display().to_string(),
    }
}

/// The part of every view that says when it was written, and what the role has to say of alarms.
#[derive(Default, Deserialize)]
struct Signs {
    #[serde(default)]
    time: Option<UtcTime>,
    #[serde(default)]
    written: Option<Stamp>,
    #[serde(default)]
    alarms: Vec<AlarmView>,
}

impl<T: DeserializeOwned> Observed<T> {
    /// Looks at a role: its lock, and its view of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// If one of the two cannot be read for this user. A view that does not parse is not an error.
    pub fn look(role: Role, lock: &Path, path: &Path, bytes_max: usize) -> io::Result<Self> {
        let is_held = HostLock::is_held(lock)?;
        let mut observed = Self {
            role,
            view: None,
            life: Life::NotRunning,
            time: None,
            age: None,
            installation: installation(role, lock),
            reported: Vec::new(),
            damage: None,
            ages: Ages::Shown,
        };
        match read_bounded(path, bytes_max) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(view) => {
                    observed.view = Some(view);
                    let signs: Signs = serde_json::from_slice(&bytes).unwrap_or_default();
                    observed.time = signs.time;
                    observed.age = signs.written.and_then(|stamp| stamp.age());
                    observed.reported = signs.alarms;
                }
                Err(error) => observed.damage = Some(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let text = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => observed.damage = Some(error.to_string()),
        }
        if is_held {
            // A role that starts has not written its view yet, and may take a while.
            let started = HostLock::taken(lock).and_then(|stamp| stamp.age());
            let signs = [observed.age, started];
            let last_sign = signs.into_iter().flatten().min();
            let is_recent = last_sign.is_some_and(|age| age <= SILENCE_MAX);
            observed.life = if is_recent { Life::Running } else { Life::Hung };
        }
        Ok(observed)
    }
}

impl<T> Observed<T> {
    /// Returns the view, for a command that is of no use without it.
    ///
    /// # Errors
    /// Why the view does not parse, and what to do.
    pub fn into_view(self) -> Result<Option<T>, String> {
        match self.damage_text() {
            Some(text) => Err(text),
            None => Ok(self.view),
        }
    }

    fn damage_text(&self) -> Option<String> {
        let (role, damage) = (self.role, self.damage.as_ref()?);
        Some(format!(
            "view/{role}.json cannot be read: {damage}; {role} writes it again within seconds while it works"
        ))
    }

    /// Returns the same, with texts that include the age of the view or not.
    #[must_use]
    pub fn with(self, ages: Ages) -> Self {
        Self { ages, ..self }
    }

    /// Two words on the role, and the age of its view.
    pub fn line(&self) -> String {
        if self.ages == Ages::LeftOut {
            return self.life.to_string();
        }
        match (&self.view, self.age) {
            (None, _) => self.life.to_string(),
            (Some(_), Some(age)) => format!("{}; shown as of {} ago", self.life, Age(age)),
            (Some(_), None) => {
                format!(
                    "{}; shown as of before the last start of this host",
                    self.life
                )
            }
        }
    }

    /// Returns the warning for a command that shows what may not be true any more; `None` while the role works.
    pub fn warning(&self) -> Option<String> {
        let role = self.role;
        match self.life {
            Life::Running => None,
            Life::NotRunning | Life::Hung => Some(format!("{role} is {}", self.line())),
        }
    }

    /// Returns the signs that the role itself cannot give: it does not run, it hangs, its view is damaged.
    pub fn signs(&self) -> Vec<(Alarm, String)> {
        let (role, line) = (self.role, self.line());
        let mut signs = Vec::new();
        match self.life {
            Life::Running => {}
            Life::NotRunning => signs.push((Alarm::not_running(role), format!("{role} is {line}"))),
            Life::Hung => {
                let text = format!(
                    "{role} is {line}; it is stopped, it hangs, or it cannot write its view"
                );
                signs.push((Alarm::hung(role), text));
            }
        }
        signs.extend(self.damage_text().map(|text| (Alarm::view(role), text)));
        signs
    }

    /// Returns every alarm of the role: its signs, and what it reports in its view. `noticed` is the beginning of a sign whose
    /// role has left nothing to tell it.
    pub fn alarms(&self, noticed: Option<UtcTime>) -> Vec<AlarmView> {
        let since = self.time.or(noticed);
        let signs = self.signs().into_iter().map(|(alarm, text)| {
            AlarmView::new(alarm, self.role, &self.installation, since, text.into())
        });
        signs.chain(self.reported()).collect()
    }

    /// Returns the role's own alarms in its view, as far as they are the role's to choose.
    fn reported(&self) -> Vec<AlarmView> {
        let own = self.reported.iter().filter(|view| view.role == self.role);
        let known =
            own.filter_map(|view| Some(view.clone().of_role(self.role, &self.installation)?.1));
        known.collect()
    }
}

/// A time span as a person says it, one unit: less changes from look to look.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7_200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::os::clock::mono_now;

    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn look(&self) -> Observed<Value> {
            let (lock, view) = (self.path("gate.lock"), self.path("gate.json"));
            Observed::look(Role::Gate, &lock, &view, 4_096).unwrap()
        }

        fn codes(&self) -> Vec<String> {
            let alarms = self.look().alarms(None);
            alarms.into_iter().map(|view| view.alarm).collect()
        }

        /// Writes a view, or the stamp of a lock, that is so old.
        fn write(&self, name: &str, age_s: u64) {
            let mut stamp = serde_json::to_value(Stamp::now()).unwrap();
            stamp["mono_us"] = json!(mono_now().0.saturating_sub(age_s * 1_000_000));
            let text = match name {
                "gate.lock" => stamp,
                _ => json!({ "written": stamp, "cables": [] }),
            };
            fs::write(self.path(name), text.to_string()).unwrap();
        }

        fn hold(&self) -> HostLock {
            HostLock::try_take(&self.path("gate.lock"))
                .unwrap()
                .unwrap()
        }
    }

    // The monotonic clock of a host that was just started is too low for stamps of its past.
    fn is_up_for(seconds: u64) -> bool {
        mono_now().0 > seconds * 1_000_000
    }

    #[test]
    fn a_role_that_keeps_its_lock_and_shows_nothing_for_three_intervals_is_hung() {
        if !is_up_for(200) {
            return;
        }
        let world = World::new();
        let _lock = world.hold();
        world.write("gate.lock", 200);
        world.write("gate.json", 25);
        assert_eq!(world.look().life, Life::Running);
        assert!(world.codes().is_empty());
        assert_eq!(world.look().warning(), None);
        world.write("gate.json", 95);
        let alarm = world.look().alarms(None).remove(0);
        assert_eq!(alarm.alarm, "gate-hung");
        let text = alarm.text;
        assert!(
            text.contains("gate is hung; shown as of 95 s ago"),
            "{text}"
        );
        assert!(alarm.repair.starts_with("valise-sender run"));
        assert!(world.look().warning().unwrap().contains("95 s ago"));
    }

    #[test]
    fn a_role_that_starts_is_given_three_intervals_for_its_first_view() {
        if !is_up_for(200) {
            return;
        }
        let world = World::new();
        let _lock = world.hold();
        assert!(world.codes().is_empty(), "it has written no view yet");
        world.write("gate.json", 150);
        assert!(world.codes().is_empty(), "the view is of an earlier run");
        assert!(world.look().line().contains("2 min ago"));
        world.write("gate.lock", 31);
        assert_eq!(world.codes(), ["gate-hung"]);
        fs::remove_file(world.path("gate.json")).unwrap();
        assert_eq!(world.codes(), ["gate-hung"]);
    }

    #[test]
    fn a_view_from_before_the_last_start_of_the_host_is_never_fresh() {
        let world = World::new();
        let mut stamp = serde_json::to_value(Stamp::now()).unwrap();
        stamp["mono_us"] = json!(u64::MAX);
        let view = json!({ "written": stamp });
        fs::write(world.path("gate.json"), view.to_string()).unwrap();
        let text = world.look().alarms(None).remove(0).text;
        assert!(
            text.contains("before the last start of this host"),
            "{text}"
        );
        let _lock = world.hold();
        fs::write(world.path("gate.lock"), stamp.to_string()).unwrap();
        assert_eq!(world.codes(), ["gate-hung"]);
    }

    #[test]
    fn a_role_that_does_not_run_and_a_damaged_view_are_told_apart() {
        let world = World::new();
        assert_eq!(world.codes(), ["gate-not-running"], "never started");
        drop(world.hold());
        HostLock::await_free(&world.path("gate.lock"));
        world.write("gate.json", 0);
        assert_eq!(world.codes(), ["gate-not-running"], "ended");
        fs::write(world.path("gate.json"), b"{\"written\":").unwrap();
        assert_eq!(world.codes(), ["gate-not-running", "gate-view"]);
        let _lock = world.hold();
        assert_eq!(world.codes(), ["gate-view"]);
        // A view that says nothing of its age is of no use as a sign of life.
        fs::write(world.path("gate.json"), b"{}").unwrap();
        fs::write(world.path("gate.lock"), b"").unwrap();
        assert_eq!(world.codes(), ["gate-hung"]);
    }
}
