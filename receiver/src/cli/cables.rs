//! Serials and what became of them: `list`, `show`, `gaps`, `quarantine …`.

use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::{Shown, check_reader, confirm_if_attended};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::Serial;

use super::arguments::{Discard, List, OneSerial};
use super::request::{ask_and_print, check_reason};
use super::status::read_view;
use super::{CliError, print_json, print_line};
use crate::model::rows::{CableRow, Claim};
use crate::model::states::{ChannelState, StateRow, void_serials};
use crate::release::ledger::claimed_by;
use crate::release::request::RequestText;
use crate::spool::register::Register;
use crate::spool::view::{ReceiveView, ReleaseView, set_of};

/// All that commands know of serials: from the register, and from what both daemons show.
pub(super) struct Known {
    /// What speaks of serials that nothing claimed.
    pub channel_state: ChannelState,
    /// What claimed its serial.
    pub cables: Vec<CableRow>,
    /// The view of `receive`, if it ever ran.
    pub receive: Option<ReceiveView>,
}

impl Known {
    /// Reads the register and the views.
    pub(super) fn read(config: &ReceiverConfig) -> Result<Known, CliError> {
        let state = ReceiverState::new(&config.state);
        state.check_commissioned()?;
        check_reader(&state.view(), &state.requests())?;
        let receive: Option<ReceiveView> = read_view(&state, Role::Receive)?;
        if !state.register().exists() {
            return Ok(Known {
                channel_state: ChannelState::default(),
                cables: Vec::new(),
                receive,
            });
        }
        // The view first: what it calls waiting may be claimed by the time the register is read, never the reverse.
        let view: Option<ReleaseView> = read_view(&state, Role::Release)?;
        let register = Register::open_to_read(&state.register()).map_err(CliError::system)?;
        let bundles = register.bundles().map_err(CliError::system)?;
        let cables = register.cables(None).map_err(CliError::system)?;
        let claimed = claimed_by(&cables);
        let mut channel_state = ChannelState {
            first: bundles.iter().map(|bundle| bundle.first).min(),
            void: void_serials(&bundles, &claimed),
            claimed,
            assembling: receive
                .as_ref()
                .map(ReceiveView::assembling_set)
                .unwrap_or_default(),
            ..ChannelState::default()
        };
        if let Some(view) = view {
            channel_state.complete = set_of(&view.complete);
            channel_state.opened = set_of(&view.opened);
            channel_state.gaps = set_of(&view.gaps);
            channel_state.not_sent = set_of(&view.not_sent);
            if let Some(beacon) = &view.beacon {
                channel_state.announced = beacon.announced();
            }
        }
        Ok(Known {
            channel_state,
            cables,
            receive,
        })
    }

    fn row(&self, serial: Serial) -> Option<StateRow<'_>> {
        let outside = self.channel_state.first.is_none_or(|first| serial < first)
            || self
                .channel_state
                .highest()
                .is_none_or(|highest| serial > highest);
        if outside {
            return None;
        }
        self.channel_state
            .rows(&self.cables)
            .find(|row| row.serial == serial)
    }
}

/// Why a cable is held, or was destroyed: the word and the sentence.
fn reason_of(cable: Option<&CableRow>) -> Option<String> {
    let cable = cable?;
    if cable.claim == Claim::Discarded {
        // The sentence is the operator's; the word is what it had been held for.
        return cable.reason.clone();
    }
    match (&cable.code, &cable.reason) {
        (Some(code), Some(reason)) => Some(format!("{code}: {reason}")),
        (None, Some(reason)) => Some(reason.clone()),
        (code, None) => code.clone(),
    }
}

/// One row of `list --json`.
fn row_json(row: &StateRow<'_>) -> Value {
    json!({
        "serial": row.serial,
        "state": row.state.as_str(),
        "reason": reason_of(row.cable),
        "message_id": row.cable.and_then(|cable| cable.message_id),
    })
}

/// Returns a serial as `list --json` has it.
fn serial_json(config: &ReceiverConfig, serial: Serial) -> Result<Value, CliError> {
    let known = Known::read(config)?;
    let row = known.row(serial);
    Ok(row.map_or_else(|| json!({ "serial": serial }), |row| row_json(&row)))
}

/// `list`
pub(super) fn list(config: &ReceiverConfig, options: &List) -> Result<(), CliError> {
    let known = Known::read(config)?;
    let wanted = |row: &StateRow<'_>| options.state.is_none_or(|state| row.state == state);
    let rows = known.channel_state.rows(&known.cables).filter(wanted);
    if options.json {
        return print_json(&rows.map(|row| row_json(&row)).collect::<Vec<_>>());
    }
    let mut row_count: u64 = 0;
    for row in rows {
        row_count = row_count.saturating_add(1);
        let id = row.cable.and_then(|cable| cable.message_id);
        let id = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let reason = reason_of(row.cable).unwrap_or_default();
        let line = format!("{:>8}  {:<11}  {id:<32}  {reason}", row.serial, row.state);
        print_line(line.trim_end())?;
    }
    if row_count == 0 {
        print_line("no serial")?;
    }
    Ok(())
}

/// `show`
pub(super) fn show(config: &ReceiverConfig, options: &OneSerial) -> Result<(), CliError> {
    let known = Known::read(config)?;
    let serial = options.serial;
    let Some(row) = known.row(serial) else {
        return Err(CliError::Refused(format!(
            "serial {serial} was not announced; see valise-receiver list"
        )));
    };
    let receive = known.receive.iter();
    let assembling = receive
        .flat_map(|view| &view.assembling)
        .find(|one| one.serial == serial);
    let cable = row.cable;
    let mailboxes: Vec<&str> = cable
        .and_then(|cable| cable.mailboxes.as_deref())
        .map(|names| names.split(' ').collect())
        .unwrap_or_default();
    let shown = json!({
        "serial": serial,
        "state": row.state.as_str(),
        "reason": reason_of(cable),
        "held_for": cable.and_then(|cable| cable.code.as_deref()),
        "message_id": cable.and_then(|cable| cable.message_id),
        "container": cable.map(|cable| cable.container),
        "mailboxes": mailboxes,
        "act_by": cable.and_then(|cable| cable.act_by),
        "claimed": cable.map(|cable| cable.claimed_at),
        "changed": cable.map(|cable| cable.updated_at),
        "have_symbols": assembling.map(|one| one.have_symbols),
        "need_symbols": assembling.map(|one| one.need_symbols),
    });
    if options.json {
        return print_json(&shown);
    }
    print_fields(&shown)
}

/// Prints the fields of a document that hold something, one a line.
fn print_fields(document: &Value) -> Result<(), CliError> {
    for key in [
        "serial",
        "state",
        "reason",
        "held_for",
        "message_id",
        "container",
        "mailboxes",
        "act_by",
        "claimed",
        "changed",
        "have_symbols",
        "need_symbols",
        "since",
    ] {
        let text = match document.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) if items.is_empty() => continue,
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" "),
            Some(other) => other.to_string(),
        };
        print_line(&format!("{:<13} {text}", key.replace('_', "-")))?;
    }
    Ok(())
}

/// `gaps`
pub(super) fn gaps(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    let known = Known::read(config)?;
    let missing = known.channel_state.missing();
    if options.json {
        return print_json(&json!({
            "missing": missing.iter().collect::<Vec<_>>(),
            "ranges": missing.to_string(),
            "settled": known.channel_state.announced.settled,
            "highest": known.channel_state.highest(),
        }));
    }
    if missing.is_empty() {
        return print_line("nothing is missing");
    }
    print_line(&missing.to_string())
}

fn held(config: &ReceiverConfig) -> Result<Vec<CableRow>, CliError> {
    let mut cables = Known::read(config)?.cables;
    cables.retain(|cable| cable.claim == Claim::Quarantined);
    Ok(cables)
}

fn held_json(cable: &CableRow) -> Value {
    json!({
        "serial": cable.serial,
        "message_id": cable.message_id,
        "code": cable.code,
        "reason": cable.reason,
        "container": cable.container,
        "since": cable.claimed_at,
        "checked": cable.updated_at,
    })
}

/// `quarantine list`
pub(super) fn quarantine_list(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    let cables = held(config)?;
    if options.json {
        return print_json(&cables.iter().map(held_json).collect::<Vec<_>>());
    }
    if cables.is_empty() {
        return print_line("nothing is in quarantine");
    }
    for cable in &cables {
        let reason = reason_of(Some(cable)).unwrap_or_default();
        print_line(&format!(
            "{:>8}  {}  {reason}",
            cable.serial, cable.claimed_at
        ))?;
    }
    Ok(())
}

/// `quarantine show`
pub(super) fn quarantine_show(
    config: &ReceiverConfig,
    options: &OneSerial,
) -> Result<(), CliError> {
    let serial = options.serial;
    let Some(cable) = held(config)?
        .into_iter()
        .find(|cable| cable.serial == serial)
    else {
        return Err(CliError::Refused(format!(
            "serial {serial} is not in quarantine; see valise-receiver quarantine list"
        )));
    };
    if options.json {
        return print_json(&held_json(&cable));
    }
    let mut shown = held_json(&cable);
    shown["reason"] = json!(reason_of(Some(&cable)));
    print_fields(&shown)?;
    print_line(&format!(
        "recheck it after a newer trust list, or destroy it: valise-receiver quarantine recheck {serial}, \
         quarantine discard {serial} --reason TEXT"
    ))
}

/// `quarantine recheck`
pub(super) fn recheck(config: &ReceiverConfig, options: &OneSerial) -> Result<(), CliError> {
    let what = RequestText::QuarantineRecheck {
        serial: options.serial,
    };
    ask_and_print(config, &what, &[], options.json, |_| {
        serial_json(config, options.serial)
    })
}

/// `quarantine discard`
pub(super) fn discard(config: &ReceiverConfig, options: &Discard) -> Result<(), CliError> {
    let what = RequestText::QuarantineDiscard {
        serial: options.serial,
        reason: options.reason.clone(),
    };
    check_reason(&options.reason)?;
    confirm_if_attended(&format!(
        "Destroy the quarantined cable {}, so that nobody can ever open it?",
        options.serial
    ))?;
    ask_and_print(config, &what, &[], options.json, |_| {
        serial_json(config, options.serial)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use valise_common::ids::ContainerHash;
    use valise_common::units::UtcTime;

    use super::*;

    #[test]
    fn a_discarded_cable_shows_why_the_operator_destroyed_it() {
        let mut cable = CableRow {
            serial: Serial::new(3).unwrap(),
            claim: Claim::Quarantined,
            container: ContainerHash::from_bytes([0; 32]),
            message_id: None,
            code: Some("expired".to_owned()),
            reason: Some("the cable expired".to_owned()),
            mailboxes: None,
            act_by: None,
            claimed_at: UtcTime::EPOCH,
            updated_at: UtcTime::EPOCH,
        };
        let expected = Some("expired: the cable expired".to_owned());
        assert_eq!(reason_of(Some(&cable)), expected);
        cable.claim = Claim::Discarded;
        cable.reason = Some("sent again as serial 9".to_owned());
        let expected = Some("sent again as serial 9".to_owned());
        assert_eq!(reason_of(Some(&cable)), expected);
    }
}
