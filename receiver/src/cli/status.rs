//! `status`: health at a glance, for a person, a script, or a monitor.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::os::cli::audit::Form;
use valise_common::os::cli::follow::{Shown, follow};
use valise_common::os::cli::{check_reader, warn};
use valise_common::os::layout::{ReceiverState, Role};
use valise_common::os::life::{Ages, Life, Observed};
use valise_common::os::room::disk_alarm;
use valise_common::units::count_of;

use super::arguments::Status;
use super::{CliError, print_json, print_line};
use crate::io::host::Host;
use crate::io::view::{AlarmView, ReceiveView, ReleaseView, VIEW_BYTES_MAX};

/// Containers that are being collected, at most, that the text shows.
const ASSEMBLING_SHOWN_MAX: usize = 10;

/// What `status` shows.
struct Health {
    receive: Observed<ReceiveView>,
    release: Observed<ReleaseView>,
    /// The alarm `disk`, as it is now.
    disk: Option<(String, String)>,
}

/// Looks at one role: its view, and its signs of life.
pub fn look<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Observed<T>, CliError> {
    check_reader(&state.view(), &state.requests())?;
    let (lock, path) = (state.lock(role), state.view_of(role));
    Observed::look(role, &lock, &path, VIEW_BYTES_MAX).map_err(CliError::system)
}

/// Reads a role's view. Standard error tells if the role does not keep it up to date.
pub fn read_view<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Option<T>, CliError> {
    let shown = look(state, role)?;
    warn("valise-receiver", shown.warning());
    shown.into_view().map_err(CliError::System)
}

/// `status`
pub fn status(config: &ReceiverConfig, options: &Status) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    Host::read(&state.host())?;
    let form = Form::of_option(options.json);
    if options.follow {
        let look = || Ok(Health::read(&state, Ages::LeftOut)?.shown());
        return follow(&state.view(), form, look);
    }
    let health = Health::read(&state, Ages::Shown)?;
    if options.check {
        return check(&health, options);
    }
    let shown = health.shown();
    match form {
        Form::Json => print_json(&shown.document),
        Form::Text => print_line(&[shown.lines, shown.passing].concat().join("\n")),
    }
}

/// One line an alarm; any makes the exit status 1.
fn check(health: &Health, options: &Status) -> Result<(), CliError> {
    let alarms = health.alarms();
    if options.json {
        print_json(&alarms)?;
    } else {
        for (code, text) in &alarms {
            print_line(&format!("{code}: {text}"))?;
        }
    }
    if alarms.is_empty() {
        return Ok(());
    }
    let alarms = count_of(alarms.len(), "alarm");
    Err(CliError::Refused(format!(
        "{alarms}; each line above says what to do"
    )))
}

impl Health {
    fn read(state: &ReceiverState, ages: Ages) -> Result<Health, CliError> {
        Ok(Health {
            receive: look(state, Role::Receive)?.with(ages),
            release: look(state, Role::Release)?.with(ages),
            disk: disk_alarm(state.root()),
        })
    }

    fn alarms(&self) -> Vec<(String, String)> {
        let mut alarms = self.receive.alarms();
        alarms.extend(self.release.alarms());
        let release = self.release.view.iter().flat_map(|view| &view.alarms);
        alarms.extend(release.map(|AlarmView { code, text, .. }| (code.clone(), text.clone())));
        // A role that does not get as far as to say so itself.
        if !alarms.iter().any(|(code, _)| code == "disk") {
            alarms.extend(self.disk.clone());
        }
        alarms
    }

    /// What a person reads; what changes by itself all the time is apart.
    fn shown(&self) -> Shown {
        let mut lines = vec![
            format!("receive   {}", self.receive.line()),
            format!("release   {}", self.release.line()),
        ];
        let mut passing = Vec::new();
        if let Some(view) = &self.release.view {
            lines.extend(release_lines(view));
        }
        if let Some(view) = &self.receive.view {
            passing.extend(
                view.assembling
                    .iter()
                    .take(ASSEMBLING_SHOWN_MAX)
                    .map(|one| {
                        format!(
                            "serial    {}: {} of {} symbols",
                            one.serial, one.have_symbols, one.need_symbols
                        )
                    }),
            );
            let last = view.last_datagram;
            passing.extend(last.map(|last| format!("datagram  the last one at {last}")));
        }
        let alarms = self.alarms();
        if alarms.is_empty() {
            lines.push("alarms    none".to_owned());
        }
        let alarms = alarms.iter();
        lines.extend(alarms.map(|(code, text)| format!("ALARM     {code}: {text}")));
        Shown {
            lines,
            passing,
            document: self.document(),
        }
    }

    fn document(&self) -> Value {
        json!({
            "receive": document_of(&self.receive),
            "release": document_of(&self.release),
            "alarms": self
                .alarms()
                .into_iter()
                .map(|(code, text)| json!({ "code": code, "text": text }))
                .collect::<Vec<_>>(),
        })
    }
}

fn document_of<T: Serialize>(shown: &Observed<T>) -> Value {
    json!({
        "runs": shown.life != Life::NotRunning,
        "state": shown.life.as_str(),
        "age_s": shown.age.map(|age| age.as_secs()),
        "view": shown.view,
    })
}

fn release_lines(view: &ReleaseView) -> Vec<String> {
    let counts = &view.counts;
    let mut lines = vec![
        format!("channel   {}", view.channel),
        match view.trust_version {
            Some(version) if view.software_keys => format!(
                "trust     version {version}, which lets software keys approve: for exercises only"
            ),
            Some(version) => format!("trust     version {version}"),
            None => "trust     no list; import one".to_owned(),
        },
        format!(
            "serials   up to {}: {} decided, {} in quarantine, {} missing, {} waiting",
            counts.highest, counts.claimed, counts.quarantined, counts.missing, counts.complete
        ),
    ];
    lines.extend(view.bundles.iter().map(|bundle| match bundle.void {
        true => format!("bundle    {}, void", bundle.bundle),
        false => format!(
            "bundle    {}, {} of {} left",
            bundle.bundle,
            bundle.left,
            count_of(bundle.count, "slot")
        ),
    }));
    let counters = &view.counters;
    lines.push(format!(
        "started   since then {} released, {} quarantined, {} did not open, {}",
        counters.released,
        counters.quarantined,
        counters.unopened,
        count_of(counters.second_containers, "second container")
    ));
    lines
}
