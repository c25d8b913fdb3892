//! `status`: health at a glance, for a person, a script, or a monitor. One layout on both hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::alarm::{Alarm, AlarmView};
use crate::host::cli::audit::Form;
use crate::host::cli::follow::{ALARM_LINES, Shown, follow};
use crate::host::cli::{CliError, print_json, print_line};
use crate::host::life::{Ages, Observed};
use crate::os::clock;
use crate::os::durable::free_bytes;
use crate::os::room::disk_alarm;
use crate::role::Role;
use crate::units::{ByteSize, UtcTime, count_of};

/// The options of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Status {
    /// Goes on showing it, whenever it changes.
    #[arg(long, conflicts_with = "check")]
    pub follow: bool,
    /// Prints one line an alarm, and exits with 1 if there is one.
    #[arg(long)]
    pub check: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What a host shows of itself besides its roles and their alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The channel, once known.
    pub channel: Option<String>,
    /// The version of the trust list in force.
    pub trust_version: Option<u32>,
    /// Whether the trust list allows software keys.
    pub software_keys: bool,
    /// The highest serial issued or announced. Not a count: void slots leave gaps.
    pub highest_serial: u64,
    /// Slots left in all bundles.
    pub slots_left: u64,
    /// Slots of the bundles that have some left.
    pub slots_total: u64,
    /// How many cables are in which state.
    pub cables: BTreeMap<String, u64>,
}

impl Facts {
    fn lines(&self) -> [String; 5] {
        let channel = self.channel.as_deref();
        let channel = channel.unwrap_or("none yet; import a bundle");
        let trust = match self.trust_version {
            Some(version) if self.software_keys => {
                format!("version {version}, which allows software keys: for exercises only")
            }
            Some(version) => format!("version {version}"),
            None => "no list; import one".to_owned(),
        };
        let serials = match self.highest_serial {
            0 => "none yet".to_owned(),
            highest => format!("up to {highest}"),
        };
        let slots = match (self.slots_left, self.slots_total) {
            (0, _) => "none left".to_owned(),
            (left, total) => format!("{left} of {total} left"),
        };
        let cables = self.cables.iter().filter(|(_, count)| **count > 0);
        let cables: Vec<String> = cables
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let cables = match cables.is_empty() {
            true => "none".to_owned(),
            false => cables.join(", "),
        };
        [
            format!("channel   {channel}"),
            format!("trust     {trust}"),
            format!("serials   {serials}"),
            format!("slots     {slots}"),
            format!("cables    {cables}"),
        ]
    }
}

/// One role, as it shows itself.
#[derive(Debug, Serialize)]
struct RoleStatus {
    state: &'static str,
    /// When its view was written.
    written: Option<UtcTime>,
    age_s: Option<u64>,
    view: Value,
    #[serde(skip)]
    line: String,
}

/// Everything that `status` shows.
#[derive(Debug, Serialize)]
pub struct Health {
    host: &'static str,
    time: UtcTime,
    roles: BTreeMap<Role, RoleStatus>,
    /// Nothing before the role that knows the cables has shown itself.
    #[serde(flatten)]
    facts: Option<Facts>,
    #[serde(skip)]
    passing: Vec<String>,
    disk_free_bytes: u64,
    alarms: Vec<AlarmView>,
}

impl Health {
    /// Begins with the role that knows the cables, on the host with this state folder. `passing` are lines that change by
    /// themselves all the time.
    pub fn new<T>(
        state: &Path,
        first: &Observed<T>,
        view: Value,
        facts: Option<Facts>,
        passing: Vec<String>,
    ) -> Self {
        let disk = disk_alarm(state).map(|cause| {
            let on = &first.installation;
            AlarmView::new(Alarm::Disk, first.role, on, None, cause)
        });
        let mut health = Self {
            host: first.role.host(),
            time: clock::utc_now(),
            roles: BTreeMap::new(),
            facts,
            passing,
            disk_free_bytes: free_bytes(state).unwrap_or(0),
            alarms: Vec::new(),
        };
        health.add(first, view);
        // A role may not get as far as to report it itself.
        health.add_alarms(disk);
        health
    }

    /// Adds a role.
    pub fn add<T>(&mut self, role: &Observed<T>, view: Value) {
        self.add_alarms(role.alarms(None));
        let status = RoleStatus {
            state: role.life.as_str(),
            written: role.time,
            age_s: role.age.map(|age| age.as_secs()),
            view,
            line: role.line(),
        };
        self.roles.insert(role.role, status);
    }

    /// Adds alarms but those that are there: the role and its neighbour may both report one.
    fn add_alarms(&mut self, alarms: impl IntoIterator<Item = AlarmView>) {
        let key = |view: &AlarmView| (view.alarm.clone(), view.role);
        let mut known: BTreeSet<_> = self.alarms.iter().map(key).collect();
        let new = alarms.into_iter().filter(|view| known.insert(key(view)));
        self.alarms.extend(new.collect::<Vec<_>>());
    }

    fn lines(&self) -> Vec<String> {
        let roles = self.roles.iter();
        let mut lines: Vec<String> = roles
            .map(|(role, status)| format!("{:<10}{}", role.as_str(), status.line))
            .collect();
        lines.extend(self.facts.iter().flat_map(Facts::lines));
        if self.alarms.is_empty() {
            lines.push("alarms    none".to_owned());
        }
        let [what, means, repair] = ALARM_LINES;
        for view in &self.alarms {
            let AlarmView { alarm, since, .. } = view;
            let since = since.map(|since| format!(" (since {since})"));
            lines.push(format!(
                "{what:<10}{alarm}: {}{}",
                view.text,
                since.unwrap_or_default()
            ));
            lines.push(format!("{means:<10}{alarm}: {}", view.means));
            lines.push(format!("{repair:<10}{alarm}: {}", view.repair));
        }
        lines
    }

    fn shown(&self) -> Result<Shown, CliError> {
        let mut passing = self.passing.clone();
        // Free space changes all the time; too little of it is an alarm.
        let free = ByteSize(self.disk_free_bytes).rough();
        passing.push(format!("disk      {free} free"));
        Ok(Shown {
            lines: self.lines(),
            passing,
            document: serde_json::to_value(self).map_err(CliError::system)?,
        })
    }
}

/// Shows what `look` returns, as the options ask; `view` is the folder whose changes are followed.
///
/// # Errors
/// Those of `look`; [`CliError::Refused`] for `--check` while there is an alarm.
pub fn status(
    options: Status,
    view: &Path,
    mut look: impl FnMut(Ages) -> Result<Health, CliError>,
) -> Result<(), CliError> {
    let form = Form::of_option(options.json);
    if options.follow {
        return follow(view, form, || look(Ages::LeftOut)?.shown());
    }
    let health = look(Ages::Shown)?;
    if !options.check {
        let shown = health.shown()?;
        return match form {
            Form::Json => print_json(&shown.document),
            Form::Text => print_line(&[shown.lines, shown.passing].concat().join("\n")),
        };
    }
    match form {
        Form::Json => print_json(&health.alarms)?,
        Form::Text => {
            for alarm in &health.alarms {
                print_line(&alarm.to_string())?;
            }
        }
    }
    match health.alarms.len() {
        0 => Ok(()),
        count => Err(CliError::Refused(format!(
            "{}; each line above has the command that repairs it",
            count_of(count, "alarm")
        ))),
    }
}
