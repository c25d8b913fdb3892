//! A waiting cable in the hands of a command: its manifest, who may read it, and why it cannot be read.

use std::io;
use std::path::Path;

use valise_common::approval::Refusal;
use valise_common::config::SenderConfig;
use valise_common::host::cli::state_failure;
use valise_common::host::folders::SenderState;
use valise_common::ids::{MailboxId, MessageId};
use valise_common::label::Label;
use valise_common::limits;
use valise_common::manifest::Manifest;
use valise_common::os::durable::read_bounded;

use super::CliError;
use super::look::{list_in_force, person_here, read_view};
use crate::spool::pending::MANIFEST_NAME;

/// Returns the manifest of a waiting cable, exactly as gate keeps it, checked to be one.
pub(super) fn waiting_manifest(config: &SenderConfig, id: &MessageId) -> Result<Vec<u8>, CliError> {
    let state = SenderState::new(&config.state);
    state.check_commissioned()?;
    let path = state.pending_of(id).join(MANIFEST_NAME);
    let bytes = match read_bounded(&path, limits::MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::Refused(why_not_waiting(config, id)));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(why_closed(config, id, &error, &path));
        }
        Err(error) => return Err(state_failure(&error, &path, &state.pending())),
    };
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    if manifest.message_id != *id {
        return Err(CliError::System(format!(
            "{} is not of cable {id}",
            path.display()
        )));
    }
    // Where all roles and persons are one user, only this keeps a person within their limits.
    check_need_to_know(config, &manifest.label, &manifest.to)?;
    Ok(bytes)
}

/// Refuses a cable that the calling user's person need not know of, by the trust list in force. A user who is no person of the
/// list is left to the rights of the files.
fn check_need_to_know(
    config: &SenderConfig,
    label: &Label,
    to: &[MailboxId],
) -> Result<(), CliError> {
    let Some(id) = person_here(config) else {
        return Ok(());
    };
    let list = list_in_force(config)?
        .ok_or_else(|| CliError::Refused("no trust list is in force".to_owned()))?;
    let Some(person) = list.person(&id) else {
        return Ok(());
    };
    list.check_need_to_know(person, label, to)
        .map_err(|limit| CliError::Refused(Refusal::OutsideLimits { id, limit }.to_string()))
}

/// Returns the failure of a user whom the system does not let read a waiting cable.
fn why_closed(config: &SenderConfig, id: &MessageId, error: &io::Error, path: &Path) -> CliError {
    let state = SenderState::new(&config.state);
    let view = read_view(config).ok().flatten();
    let cable = view.and_then(|view| view.cables.into_iter().find(|cable| cable.id == *id));
    if let Some(cable) = cable
        && let Err(refused @ CliError::Refused(_)) =
            check_need_to_know(config, &cable.label, &cable.to)
    {
        return refused;
    }
    if state.pending_of(id).is_dir() {
        // Others may pass `pending/`, so it is this cable that is closed to the user.
        return CliError::Refused(format!(
            "cable {id} is open only to officers who need to know of it, and to its drafter: the trust list limits persons, \
             and [persons] in the configuration says which user is which person"
        ));
    }
    state_failure(error, path, &state.pending())
}

/// Returns the manifest for a terminal: its bytes hold no control or invisible characters, and letters that would reorder a line
/// are escaped.
pub(super) fn manifest_text(bytes: &[u8]) -> Result<String, CliError> {
    let manifest = Manifest::decode(bytes).map_err(CliError::system)?;
    let mut lines = Vec::new();
    let text = String::from_utf8_lossy(bytes);
    let mut parts = manifest.parts.iter();
    for line in text.lines() {
        if line.starts_with("subject: ") {
            lines.push(format!("subject: {}", manifest.subject.escaped()));
        } else if let Some(reference) = manifest
            .reference
            .as_ref()
            .filter(|_| line.starts_with("reference: "))
        {
            lines.push(format!("reference: {}", reference.escaped()));
        } else if line.starts_with("part: ")
            && let Some(part) = parts.next()
        {
            let kept: Vec<&str> = line.splitn(6, ' ').take(5).collect();
            lines.push(format!("{} {}", kept.join(" "), part.name.escaped()));
        } else {
            lines.push(line.to_owned());
        }
    }
    Ok(lines.join("\n"))
}

/// Returns why nothing of a cable is there to be read: it never came, or it does not wait any more.
fn why_not_waiting(config: &SenderConfig, id: &MessageId) -> String {
    let view = read_view(config).ok().flatten();
    let cable = view.and_then(|view| view.cables.into_iter().find(|cable| cable.id == *id));
    match cable {
        Some(cable) if cable.serial.is_some() => format!(
            "cable {id} is sealed ({}): its text was erased here, and nobody reads it before the receiver",
            cable.state
        ),
        Some(cable) if !matches!(cable.state.as_str(), "submitted" | "approved") => format!(
            "cable {id} is {}: its text was erased, and nothing is left to read",
            cable.state
        ),
        _ => format!("no cable {id} waits for approval; valise-sender list shows what does"),
    }
}

/// Returns the failure of reading a part. A cable may be sealed, and its text erased, while somebody reads it.
pub(super) fn of_part(error: &io::Error, path: &Path, pending: &Path, number: usize) -> CliError {
    if error.kind() == io::ErrorKind::NotFound && !pending.exists() {
        return CliError::Refused(format!(
            "part {number} is gone: the cable was sealed or ended while it was read"
        ));
    }
    state_failure(error, path, pending)
}

/// Returns the refusal of a part that differs from its manifest.
pub(super) fn wrong_part(number: usize) -> CliError {
    CliError::Refused(format!(
        "part {number} is not what the manifest says; do not approve, and tell the operator"
    ))
}

/// Returns bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
