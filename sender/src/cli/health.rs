//! Health at a glance: what gate and transmit show of themselves, and whether they run.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::Value;
use valise_common::config::SenderConfig;
use valise_common::os::durable::read_bounded;
use valise_common::os::layout::{Role, SenderState};
use valise_common::os::lock::HostLock;
use valise_common::os::watch::{DirWatch, Notice};
use valise_common::{limits, os::clock};

use super::arguments::Status;
use super::look::read_view;
use super::{CliError, print_json, print_line};
use crate::io::view::{self, AlarmView};

/// How long a health report may be old before it counts as none: gate writes one at every change, and every ten seconds
/// it could.
const FOLLOW_MS: u16 = 2_000;

/// Everything that `status` tells.
#[derive(Serialize)]
struct Health {
    gate: &'static str,
    transmit: &'static str,
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

fn running(state: &SenderState, role: Role) -> Result<bool, CliError> {
    HostLock::is_held(&state.lock(role)).map_err(CliError::system)
}

fn health(config: &SenderConfig) -> Result<Health, CliError> {
    let state = SenderState::new(&config.state);
    let view = read_view(config)?;
    let word = |runs| if runs { "running" } else { "not running" };
    let (gate, transmit) = (
        running(&state, Role::Gate)?,
        running(&state, Role::Transmit)?,
    );
    let mut alarms = view
        .as_ref()
        .map(|view| view.host.alarms.clone())
        .unwrap_or_default();
    for (role, runs) in [(Role::Gate, gate), (Role::Transmit, transmit)] {
        if !runs {
            alarms.push(AlarmView {
                alarm: format!("{role}-not-running"),
                text: format!("{role} is not running; start it with valise-sender run"),
                since: clock::utc_now(),
            });
        }
    }
    let transmit_view: Option<Value> =
        read_bounded(&state.view_of(Role::Transmit), limits::CONFIG_BYTES_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(told) = transmit_view.as_ref().and_then(|value| value.get("alarms"))
        && let Ok(told) = serde_json::from_value::<Vec<AlarmView>>(told.clone())
    {
        alarms.extend(told);
    }
    let mut cables = std::collections::BTreeMap::new();
    for cable in view.iter().flat_map(|view| &view.cables) {
        *cables.entry(cable.state.clone()).or_default() += 1;
    }
    let host = view.map(|view| view.host);
    let of = |number: fn(&view::HostView) -> u64| host.as_ref().map_or(0, number);
    Ok(Health {
        gate: word(gate),
        transmit: word(transmit),
        channel: host
            .as_ref()
            .and_then(|host| host.channel)
            .map(|channel| channel.to_string()),
        trust_version: host.as_ref().and_then(|host| host.trust_version),
        software_keys: host.as_ref().is_some_and(|host| host.software_keys),
        highest_serial: of(|host| host.issued),
        slots_left: of(|host| host.slots_left),
        slots_total: of(|host| host.slots_total),
        disk_free_bytes: of(|host| host.disk_free_bytes),
        cables,
        alarms,
        transmit_view,
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
        print_line(&health_text(&health))?;
    }
    if options.check && !health.alarms.is_empty() {
        let count = health.alarms.len();
        return Err(CliError::Refused(format!(
            "{count} alarms; see valise-sender status"
        )));
    }
    Ok(())
}

fn health_text(health: &Health) -> String {
    let mut lines = vec![
        format!("gate      {}", health.gate),
        format!("transmit  {}", health.transmit),
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
            health_text(&health)
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
