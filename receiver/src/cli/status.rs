//! `status` of the receiver: what receive and release show of themselves.

use serde::de::DeserializeOwned;
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::{check_reader, warn};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::life::{Ages, Observed};
use valise_common::host::status::{self, Facts, Health, Status};
use valise_common::limits;
use valise_common::units::count_of;

use super::CliError;
use crate::spool::view::{LineView, ReceiveView, ReleaseView};

/// Containers that are being collected, at most, that the text shows.
const ASSEMBLING_SHOWN_MAX: usize = 10;

/// Looks at one role: its view, and its signs of life.
pub(super) fn look<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Observed<T>, CliError> {
    check_reader(&state.view(), &state.requests())?;
    let (lock, path) = (state.lock(role), state.view_of(role));
    Observed::look(role, &lock, &path, limits::VIEW_BYTES_MAX).map_err(CliError::system)
}

/// Reads a role's view. Standard error tells if the role does not keep it up to date.
pub(super) fn read_view<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Option<T>, CliError> {
    let shown = look(state, role)?;
    warn("valise-receiver", shown.warning());
    shown.into_view().map_err(CliError::System)
}

/// `status`
pub(super) fn status(config: &ReceiverConfig, options: Status) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    state.check_commissioned()?;
    status::status(options, &state.view(), |ages| health(&state, ages))
}

fn health(state: &ReceiverState, ages: Ages) -> Result<Health, CliError> {
    let release = look::<ReleaseView>(state, Role::Release)?.with(ages);
    let receive = look::<ReceiveView>(state, Role::Receive)?.with(ages);
    let facts = release.view.as_ref().map(facts);
    let passing = receive.view.as_ref().map_or_else(Vec::new, passing);
    let view = serde_json::to_value(&release.view).map_err(CliError::system)?;
    let mut health = Health::new(state.root(), &release, view, facts, passing);
    let view = serde_json::to_value(&receive.view).map_err(CliError::system)?;
    health.add(&receive, view);
    Ok(health)
}

fn facts(view: &ReleaseView) -> Facts {
    let cables = view.cables();
    let (slots_left, slots_total) = view.slots();
    Facts {
        channel: Some(view.channel.to_string()),
        trust_version: view.trust_version,
        software_keys: view.software_keys,
        highest_serial: view.counts.highest,
        slots_left,
        slots_total,
        cables: cables
            .map(|(state, count)| (state.to_owned(), count))
            .into(),
    }
}

fn passing(view: &ReceiveView) -> Vec<String> {
    let assembling = view.assembling.iter().take(ASSEMBLING_SHOWN_MAX);
    let mut lines: Vec<String> = assembling
        .map(|one| {
            let (have, need) = (one.have_symbols, one.need_symbols);
            format!("serial    {}: {have} of {need} symbols", one.serial)
        })
        .collect();
    let last = view.last_datagram;
    lines.push(match last {
        Some(last) => format!("link      the last datagram at {last}"),
        None => "link      no datagram since the start".to_owned(),
    });
    lines.extend(view.line.map(|line| {
        let LineView {
            baud,
            frames,
            discarded_bytes,
            burst_bytes_max,
            rate_bits,
            ..
        } = line;
        let broken = view.broken_frames();
        format!(
            "line      {rate_bits} of {baud} bit/s; {} whole and {broken} broken; {} discarded, {burst_bytes_max} in a row",
            count_of(frames, "frame"),
            count_of(discarded_bytes, "byte"),
        )
    }));
    lines
}
