//! `status` of the sender: what gate and transmit show of themselves.

use serde::Deserialize;
use serde_json::Value;
use valise_common::config::SenderConfig;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::life::{Ages, Observed};
use valise_common::host::status::{self, Facts, Health, Status};
use valise_common::limits;

use super::CliError;
use super::look::look_at_gate;
use crate::spool::view::View;

/// What `status` needs of transmit's view.
#[derive(Deserialize)]
struct Link {
    link: String,
    #[serde(default)]
    rate_achieved_bits: u64,
}

/// `status`
pub(super) fn status(config: &SenderConfig, options: Status) -> Result<(), CliError> {
    let state = SenderState::new(&config.state);
    status::status(options, &state.view(), |ages| health(config, &state, ages))
}

fn health(config: &SenderConfig, state: &SenderState, ages: Ages) -> Result<Health, CliError> {
    state.check_commissioned()?;
    let gate = look_at_gate(config)?.with(ages);
    let (lock, path) = (state.lock(Role::Transmit), state.view_of(Role::Transmit));
    let transmit: Observed<Value> =
        Observed::look(Role::Transmit, &lock, &path, limits::VIEW_BYTES_MAX)
            .map_err(CliError::system)?
            .with(ages);
    let facts = gate.view.as_ref().map(facts);
    let link = transmit
        .view
        .as_ref()
        .and_then(|view| Link::deserialize(view).ok());
    let passing = link.iter().map(|link| {
        let (state, bits) = (&link.link, link.rate_achieved_bits);
        format!("link      {state}, {bits} bit/s")
    });
    // The cables are what `list` shows.
    let host = gate
        .view
        .as_ref()
        .map(|view| serde_json::to_value(&view.host));
    let host = host.transpose().map_err(CliError::system)?;
    let (host, passing) = (host.unwrap_or_default(), passing.collect());
    let mut health = Health::new(state.root(), &gate, host, facts, passing);
    let view = transmit.view.clone().unwrap_or_default();
    health.add(&transmit, view);
    Ok(health)
}

fn facts(View { host, cables }: &View) -> Facts {
    let mut facts = Facts {
        channel: host.channel.map(|channel| channel.to_string()),
        trust_version: host.trust_version,
        software_keys: host.software_keys,
        highest_serial: host.issued,
        slots_left: host.slots_left,
        slots_total: host.slots_total,
        ..Facts::default()
    };
    for cable in cables {
        *facts.cables.entry(cable.state.clone()).or_default() += 1;
    }
    facts
}
