//! Health at a glance: what gate and transmit show of themselves, and whether they run.

use serde::Serialize;
use serde_json::Value;
use valise_common::config::SenderConfig;
use valise_common::os::cli::audit::Form;
use valise_common::os::cli::follow::{Shown, follow};
use valise_common::os::clock;
use valise_common::os::layout::{Role, SenderState};
use valise_common::os::life::{Ages, Observed};
use valise_common::os::room::disk_alarm;
use valise_common::units::{ByteSize, count_of};

use super::arguments::Status;
use super::look::look_at_gate;
use super::{CliError, check_commissioned, print_json, print_line};
use crate::io::view::{self, AlarmView};

/// Everything that `status` tells.
#[derive(Serialize)]
struct Health {
    gate: &'static str,
    transmit: &'static str,
    /// The age of what each shows, in seconds.
    gate_age_s: Option<u64>,
    transmit_age_s: Option<u64>,
    /// The same for a person.
    #[serde(skip)]
    lines: [String; 2],
    channel: Option<String>,
    trust_version: Option<u32>,
    software_keys: bool,
    /// The highest serial issued. Void slots leave holes, so that it is no count.
    highest_serial: u64,
    slots_left: u64,
    slots_total: u64,
    disk_free_bytes: u64,
    cables: std::collections::BTreeMap<String, usize>,
    alarms: Vec<AlarmView>,
    transmit_view: Option<Value>,
}

fn health(config: &SenderConfig, ages: Ages) -> Result<Health, CliError> {
    let state = SenderState::new(&config.state);
    check_commissioned(&state)?;
    let gate = look_at_gate(config)?.with(ages);
    let role = Role::Transmit;
    let (lock, path) = (state.lock(role), state.view_of(role));
    let transmit: Observed<Value> =
        Observed::look(role, &lock, &path, view::VIEW_BYTES_MAX).map_err(CliError::system)?;
    let transmit = transmit.with(ages);
    let view = gate.view.as_ref();
    let mut alarms = view.map_or_else(Vec::new, |view| view.host.alarms.clone());
    let since = clock::utc_now();
    let signs = gate.alarms().into_iter().chain(transmit.alarms());
    alarms.extend(signs.map(|(alarm, text)| AlarmView { alarm, text, since }));
    if let Some(told) = transmit.view.as_ref().and_then(|value| value.get("alarms"))
        && let Ok(told) = serde_json::from_value::<Vec<AlarmView>>(told.clone())
    {
        alarms.extend(told);
    }
    // A role that does not get as far as to say so itself.
    if !alarms.iter().any(|told| told.alarm == "disk") {
        let full = disk_alarm(state.root());
        alarms.extend(full.map(|(alarm, text)| AlarmView { alarm, text, since }));
    }
    let mut cables = std::collections::BTreeMap::new();
    for cable in view.into_iter().flat_map(|view| &view.cables) {
        *cables.entry(cable.state.clone()).or_default() += 1;
    }
    let host = view.map(|view| &view.host);
    let of = |number: fn(&view::HostView) -> u64| host.map_or(0, number);
    Ok(Health {
        gate: gate.life.as_str(),
        transmit: transmit.life.as_str(),
        gate_age_s: gate.age.map(|age| age.as_secs()),
        transmit_age_s: transmit.age.map(|age| age.as_secs()),
        lines: [gate.line(), transmit.line()],
        channel: host
            .and_then(|host| host.channel)
            .map(|channel| channel.to_string()),
        trust_version: host.and_then(|host| host.trust_version),
        software_keys: host.is_some_and(|host| host.software_keys),
        highest_serial: of(|host| host.issued),
        slots_left: of(|host| host.slots_left),
        slots_total: of(|host| host.slots_total),
        disk_free_bytes: of(|host| host.disk_free_bytes),
        cables,
        alarms,
        transmit_view: transmit.view,
    })
}

/// `status`
pub fn status(config: &SenderConfig, options: &Status) -> Result<(), CliError> {
    if options.follow {
        let view = SenderState::new(&config.state).view();
        return follow(&view, Form::of_option(options.json), || {
            let health = health(config, Ages::LeftOut)?;
            let document = serde_json::to_value(&health).map_err(CliError::system)?;
            // Free space changes all the time; too little of it is an alarm.
            let lines = health_lines(&health).into_iter();
            let (passing, lines) = lines.partition(|line| line.starts_with("disk "));
            Ok(Shown {
                lines,
                passing,
                document,
            })
        });
    }
    let health = health(config, Ages::Shown)?;
    if options.json {
        print_json(&health)?;
    } else if options.check {
        for alarm in &health.alarms {
            print_line(&format!("{}: {}", alarm.alarm, alarm.text))?;
        }
    } else {
        print_line(&health_lines(&health).join("\n"))?;
    }
    if options.check && !health.alarms.is_empty() {
        let alarms = count_of(health.alarms.len(), "alarm");
        return Err(CliError::Refused(format!(
            "{alarms}; each line above says what to do"
        )));
    }
    Ok(())
}

fn health_lines(health: &Health) -> Vec<String> {
    let [gate, transmit] = &health.lines;
    let mut lines = vec![
        format!("gate      {gate}"),
        format!("transmit  {transmit}"),
        format!(
            "channel   {}",
            health
                .channel
                .as_deref()
                .unwrap_or("none yet; import a bundle")
        ),
        health.trust_version.map_or_else(
            || "trust     no list; import one".to_owned(),
            |version| format!("trust     version {version}"),
        ),
        match health.highest_serial {
            0 => "serials   none issued yet".to_owned(),
            highest => format!("serials   issued up to {highest}"),
        },
        match (health.slots_left, health.slots_total) {
            (0, _) => "slots     none left: import a new bundle".to_owned(),
            (left, total) => format!("slots     {left} of {total} left"),
        },
        format!(
            "disk      {} free",
            ByteSize(health.disk_free_bytes).rough()
        ),
    ];
    let cables: Vec<String> = health
        .cables
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let cables = if cables.is_empty() {
        "none".to_owned()
    } else {
        cables.join(", ")
    };
    lines.push(format!("cables    {cables}"));
    if health.software_keys {
        lines.push("warning   the trust list allows software keys: for exercises only".to_owned());
    }
    lines.extend(
        health
            .alarms
            .iter()
            .map(|alarm| format!("ALARM     {}: {}", alarm.alarm, alarm.text)),
    );
    lines
}
