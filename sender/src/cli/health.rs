//! Health at a glance: what gate and transmit show of themselves, and whether they run.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::Value;
use valise_common::config::SenderConfig;
use valise_common::os::clock;
use valise_common::os::layout::{Role, SenderState};
use valise_common::os::life::Observed;
use valise_common::os::watch::{DirWatch, Notice};

use super::arguments::Status;
use super::look::look_at_gate;
use super::{CliError, check_commissioned, print_json, print_line};
use crate::io::view::{self, AlarmView};

/// A daemon that ends or hangs writes nothing that would be noticed.
const FOLLOW_MS: u16 = 2_000;

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

fn health(config: &SenderConfig) -> Result<Health, CliError> {
    let state = SenderState::new(&config.state);
    check_commissioned(&state)?;
    let gate = look_at_gate(config)?;
    let role = Role::Transmit;
    let (lock, path) = (state.lock(role), state.view_of(role));
    let transmit: Observed<Value> =
        Observed::look(role, &lock, &path, view::VIEW_BYTES_MAX).map_err(CliError::system)?;
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
        return follow(config, options.json);
    }
    let health = health(config)?;
    if options.json {
        print_json(&health)?;
    } else if options.check {
        for alarm in &health.alarms {
            print_line(&format!("{}: {}", alarm.alarm, alarm.text))?;
        }
    } else {
        let [gate, transmit] = &health.lines;
        print_line(&health_text(&health, gate, transmit))?;
    }
    if options.check && !health.alarms.is_empty() {
        let count = health.alarms.len();
        return Err(CliError::Refused(format!(
            "{count} alarms; see valise-sender status"
        )));
    }
    Ok(())
}

fn health_text(health: &Health, gate: &str, transmit: &str) -> String {
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
        format!("disk      {} MiB free", health.disk_free_bytes >> 20),
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
    lines.join("\n")
}

/// Shows the health again whenever something of it changed, until interrupted.
fn follow(config: &SenderConfig, json: bool) -> Result<(), CliError> {
    let state = SenderState::new(&config.state);
    let mut watch = DirWatch::new().map_err(CliError::system)?;
    watch
        .add(&state.view(), Notice::Arrivals)
        .map_err(CliError::system)?;
    let mut last = BTreeSet::new();
    loop {
        let health = health(config)?;
        let text = if json {
            serde_json::to_string(&health).map_err(CliError::system)?
        } else {
            // Without the ages, which change by themselves.
            health_text(&health, health.gate, health.transmit)
        };
        if !last.contains(&text) {
            let separator = if json { "" } else { "\n" };
            print_line(&format!("{text}{separator}"))?;
            last = BTreeSet::from([text]);
        }
        watch.drain().map_err(CliError::system)?;
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(FOLLOW_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(CliError::system(errno)),
        }
    }
}
