//! Looking: lists, one cable, slots. Everything comes from `view/`; nothing is changed.

use serde::Serialize;
use serde_json::{Value, json};
use valise_common::config::SenderConfig;
use valise_common::host::cli::{Shown, check_reader, trust, warn};
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::life::Observed;
use valise_common::ids::{MessageId, PersonId};
use valise_common::limits;
use valise_common::trust::{Role as PersonRole, TrustList};
use valise_common::units::count_of;

use super::arguments::{List, Show};
use super::waiting::{manifest_text, waiting_manifest};
use super::{CliError, print_json, print_line};
use crate::gate::persons_by_uid;
use crate::spool::view::{CableView, View};

/// The words that `--state` takes.
const STATES: [&str; 11] = [
    "submitted",
    "approved",
    "sealed",
    "queued",
    "transmitting",
    "transmitted",
    "retained",
    "retired",
    "rejected",
    "withdrawn",
    "expired",
];

/// What gate shows, with its signs of life.
pub(super) fn look_at_gate(config: &SenderConfig) -> Result<Observed<View>, CliError> {
    let state = SenderState::new(&config.state);
    check_reader(&state.view(), &state.requests())?;
    let (lock, path) = (state.lock(Role::Gate), state.view_of(Role::Gate));
    Observed::look(Role::Gate, &lock, &path, limits::GATE_VIEW_BYTES_MAX).map_err(CliError::system)
}

/// What gate shows. Standard error tells if gate does not keep it up to date.
pub(super) fn read_view(config: &SenderConfig) -> Result<Option<View>, CliError> {
    SenderState::new(&config.state).check_commissioned()?;
    let shown = look_at_gate(config)?;
    warn("valise-sender", shown.warning());
    shown.into_view().map_err(CliError::System)
}

/// One row of `list --json`.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    serial: Option<u64>,
    state: &'a str,
    precedence: &'a str,
    label: String,
    approvals: usize,
    needed: u8,
}

impl<'a> Row<'a> {
    fn new(cable: &'a CableView) -> Self {
        Self {
            id: cable.id.to_string(),
            serial: cable.serial.map(|serial| serial.get()),
            state: &cable.state,
            precedence: cable.precedence.as_str(),
            label: cable.label.to_string(),
            approvals: cable.approvals,
            needed: cable.needed,
        }
    }
}

/// Returns a cable as `list --json` has it, with the reason why it ended or is not sealed.
pub(super) fn cable_json(config: &SenderConfig, id: &MessageId) -> Result<Value, CliError> {
    let view = read_view(config)?;
    let cable = view.and_then(|view| view.cables.into_iter().find(|cable| cable.id == *id));
    let Some(cable) = cable else {
        // Older than what is shown; the answer counts all the same.
        return Ok(json!({ "id": id }));
    };
    let mut row = serde_json::to_value(Row::new(&cable)).map_err(CliError::system)?;
    row["reason"] = json!(cable.reason);
    Ok(row)
}

/// `list`
pub(super) fn list(config: &SenderConfig, options: &List) -> Result<(), CliError> {
    if let Some(state) = &options.state
        && !STATES.contains(&state.as_str())
    {
        let text = format!("no such state; states are {}", STATES.join(", "));
        return Err(CliError::Usage(text));
    }
    let cables = read_view(config)?
        .map(|view| view.cables)
        .unwrap_or_default();
    let mine = if options.mine {
        Some(my_officer(config)?)
    } else {
        None
    };
    let shown: Vec<&CableView> = cables
        .iter()
        .filter(|cable| {
            options
                .state
                .as_ref()
                .is_none_or(|state| *state == cable.state)
        })
        .filter(|cable| {
            mine.as_ref()
                .is_none_or(|(me, list)| needs_me(cable, me, list.as_ref()))
        })
        .collect();
    if options.json {
        return print_json(
            &shown
                .iter()
                .map(|cable| Row::new(cable))
                .collect::<Vec<_>>(),
        );
    }
    for cable in shown {
        print_line(&line_of(cable))?;
    }
    Ok(())
}

fn line_of(cable: &CableView) -> String {
    let serial = cable
        .serial
        .map_or_else(|| "-".to_owned(), |serial| serial.to_string());
    let mut state = cable.state.clone();
    match cable.state.as_str() {
        "submitted" | "approved" => {
            state.push_str(&format!(" {} of {}", cable.approvals, cable.needed));
        }
        "transmitting" => {
            if let (Some(pass), Some(passes)) = (cable.pass, cable.passes) {
                state.push_str(&format!(" (pass {pass} of {passes})"));
            }
        }
        _ => {}
    }
    let mut line = format!(
        "{} {serial:>8} {:<9} {state:<28} {}",
        cable.id, cable.precedence, cable.label
    );
    if let Some(act_by) = cable.act_by {
        line.push_str(&format!("  act by {act_by}"));
    }
    line
}

/// Returns the person that the calling user is.
pub(super) fn person_here(config: &SenderConfig) -> Option<PersonId> {
    persons_by_uid(&config.persons).remove(&nix::unistd::getuid().as_raw())
}

/// Returns the trust list in force, if there is one.
pub(super) fn list_in_force(config: &SenderConfig) -> Result<Option<TrustList>, CliError> {
    let held = trust::in_force(&SenderState::new(&config.state))?;
    Ok(held.map(|(_, list)| list))
}

/// Returns the calling user's person, who must be an officer for `--mine` to mean anything, and the list in force if the user
/// may read it.
fn my_officer(config: &SenderConfig) -> Result<(PersonId, Option<TrustList>), CliError> {
    let me = person_here(config).ok_or_else(|| {
        let uid = nix::unistd::getuid();
        CliError::Refused(format!(
            "user {uid} is no person of this host; [persons] in the configuration maps users"
        ))
    })?;
    // Whoever may not read the list is shown what waits all the same.
    let list = list_in_force(config).ok().flatten();
    let officer = list
        .as_ref()
        .and_then(|list| list.person(&me))
        .is_some_and(|person| person.has_role(PersonRole::Officer));
    if list.is_some() && !officer {
        return Err(CliError::Refused(format!(
            "{me} is not an officer of the trust list"
        )));
    }
    Ok((me, list))
}

fn needs_me(cable: &CableView, me: &PersonId, list: Option<&TrustList>) -> bool {
    let knows = |list: &TrustList| {
        list.person(me).is_some_and(|person| {
            let checked = list.check_need_to_know(person, &cable.label, &cable.to);
            checked.is_ok()
        })
    };
    matches!(cable.state.as_str(), "submitted" | "approved")
        && cable.serial.is_none()
        && cable.approvals < usize::from(cable.needed)
        && cable.drafter != *me
        && !cable.approved_by.contains(me)
        && list.is_none_or(knows)
}

/// `show`
pub(super) fn show(config: &SenderConfig, options: &Show) -> Result<(), CliError> {
    let view = read_view(config)?;
    let cable = view
        .as_ref()
        .and_then(|view| view.cables.iter().find(|cable| cable.id == options.id))
        .ok_or_else(|| {
            CliError::Refused(format!(
                "no cable {} is known; valise-sender list shows what is, the register what was",
                options.id
            ))
        })?;
    let waits = matches!(cable.state.as_str(), "submitted" | "approved");
    let manifest = if waits {
        waiting_manifest(config, &options.id).ok()
    } else {
        None
    };
    let missing = usize::from(cable.needed).saturating_sub(cable.approvals);
    if options.json {
        let mut value = serde_json::to_value(cable).map_err(CliError::system)?;
        if let Value::Object(fields) = &mut value {
            let text = manifest.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            fields.insert("manifest".to_owned(), json!(text));
            fields.insert(
                "still_needed".to_owned(),
                json!(if waits { missing } else { 0 }),
            );
        }
        return print_json(&value);
    }
    print_line(&line_of(cable))?;
    print_line(&format!("drafter    {}", cable.drafter))?;
    print_line(&format!("submitted  {}", cable.submitted))?;
    print_line(&format!("not after  {}", cable.not_after))?;
    if let Some(act_by) = cable.act_by {
        print_line(&format!("act by     {act_by}"))?;
    }
    let by: Vec<&str> = cable.approved_by.iter().map(PersonId::as_str).collect();
    let by = if by.is_empty() {
        "nobody yet".to_owned()
    } else {
        by.join(", ")
    };
    print_line(&format!("approved   by {by}"))?;
    if waits && missing > 0 {
        print_line(&format!(
            "needs      {missing} more of {} officers",
            cable.needed
        ))?;
    }
    if let Some(officer) = &cable.rejected_by {
        print_line(&format!("rejected   by {officer}"))?;
    }
    if let Some(reason) = &cable.reason {
        print_line(&format!("because    {reason}"))?;
    }
    if let (Some(container), Some(bytes)) = (cable.container, cable.container_bytes) {
        print_line(&format!("container  {container}, {bytes} bytes"))?;
    }
    if let Some(manifest) = manifest {
        print_line(&format!("\n{}", manifest_text(&manifest)?))?;
    }
    Ok(())
}

/// `bundle status`
pub(super) fn bundle_status(config: &SenderConfig, options: &Shown) -> Result<(), CliError> {
    let Some(view) = read_view(config)? else {
        return Err(CliError::Refused(
            "no bundle was imported; run bundle import".to_owned(),
        ));
    };
    let host = &view.host;
    if options.json {
        return print_json(&json!({
            "slots_left": host.slots_left,
            "slots_total": host.slots_total,
            "highest_serial": host.issued,
            "bundles": host.bundles,
        }));
    }
    for bundle in &host.bundles {
        let void = if bundle.void { ", replaced" } else { "" };
        print_line(&format!(
            "bundle {}: serials {} to {}, {} left{void}",
            bundle.bundle,
            bundle.first_serial,
            bundle.last_serial,
            count_of(bundle.left, "slot")
        ))?;
    }
    let left = match (host.slots_left, host.slots_total) {
        (0, _) => "no slot is left: import a new bundle".to_owned(),
        (left, total) => format!("{left} of {} left", count_of(total, "slot")),
    };
    let issued = match host.issued {
        0 => "no serial is issued yet".to_owned(),
        highest => format!("serials are issued up to {highest}"),
    };
    print_line(&format!("{left}; {issued}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::precedence::Precedence;
    use valise_common::units::UtcTime;

    use super::*;

    fn cable() -> CableView {
        CableView {
            id: MessageId::from_bytes([1; 16]),
            serial: None,
            state: "approved".into(),
            precedence: Precedence::Flash,
            label: "EU-RESTRICTED".parse().unwrap(),
            approvals: 1,
            needed: 2,
            drafter: "a.person".parse().unwrap(),
            approved_by: vec!["b.officer".parse().unwrap()],
            body_bytes: 4,
            submitted: UtcTime::from_s(1),
            to: vec!["paris-desk".parse().unwrap()],
            not_after: UtcTime::from_s(9),
            act_by: None,
            changed: UtcTime::from_s(2),
            reason: None,
            rejected_by: None,
            pass: None,
            passes: None,
            container: None,
            container_bytes: None,
        }
    }

    #[test]
    fn a_row_has_the_fixed_names_and_nulls() {
        let value = serde_json::to_value(Row::new(&cable())).unwrap();
        assert_eq!(
            value,
            json!({
                "id": "01010101010101010101010101010101",
                "serial": null,
                "state": "approved",
                "precedence": "FLASH",
                "label": "EU-RESTRICTED",
                "approvals": 1,
                "needed": 2,
            })
        );
        let line = line_of(&cable());
        assert!(line.contains("approved 1 of 2") && !line.contains("act by"));
        let due = CableView {
            act_by: Some(UtcTime::from_s(8)),
            ..cable()
        };
        assert!(line_of(&due).ends_with("EU-RESTRICTED  act by 1970-01-01T00:00:08Z"));
    }

    #[test]
    fn mine_is_what_still_needs_my_approval() {
        let person = |name: &str| name.parse::<PersonId>().unwrap();
        assert!(needs_me(&cable(), &person("c.officer"), None));
        assert!(!needs_me(&cable(), &person("b.officer"), None));
        assert!(!needs_me(&cable(), &person("a.person"), None));
        let sealed = CableView {
            state: "queued".into(),
            ..cable()
        };
        assert!(!needs_me(&sealed, &person("c.officer"), None));
    }
}
