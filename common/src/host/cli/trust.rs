//! `trust check` and `trust show`: what a list means, and what keeps it from being in force.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CliError, Shown, print_json, print_line};
use crate::host::folders::{Layout, State};
use crate::host::trust_store::{Held, SignedList, TrustStoreError, check_succession};
use crate::ids::{ChannelId, Sha256Digest};
use crate::os::clock;
use crate::trust::{TrustList, difference};

/// Options of `trust check` and `trust import`.
#[derive(Debug, clap::Args)]
pub struct TrustFile {
    /// The list; its signatures are beside it, as FILE.1.sig, FILE.2.sig.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Returns the failure of a command on a list that a caller brought.
pub fn failed(path: &Path, error: TrustStoreError) -> CliError {
    match error {
        TrustStoreError::Io(error) => CliError::of_given(path, &error),
        error => CliError::Refused(format!("{}: {error}", path.display())),
    }
}

/// `trust check`: prints what a list means. One that is signed and cannot be imported is refused. `channel` is what the caller
/// knows of the host's channel, beside `host.toml` and the list in force.
///
/// # Errors
/// [`CliError`].
pub fn check<L: Layout>(
    state: &State<L>,
    channel: Option<ChannelId>,
    options: &TrustFile,
) -> Result<(), CliError> {
    let path = options.file.as_path();
    let offered = SignedList::read(path).map_err(|error| failed(path, error))?;
    let list = offered
        .parse()
        .map_err(|error| failed(path, error.into()))?;
    let (held, now) = (in_force(state)?, clock::utc_now());
    let host = state.read_host().ok();
    let judged = match &host {
        None => Ok(()),
        Some(host) => {
            let channel = host.channel.into().or(channel);
            let channel = channel.or(held.as_ref().map(|(_, held)| held.channel()));
            let held = held.as_ref().map(|(sha256, held)| Held {
                version: held.version(),
                is_offered: *sha256 == offered.sha256(),
                is_usable: true,
            });
            match offered.is_signed() {
                true => offered
                    .clone()
                    .admit(&host.administrators, channel, held, now)
                    .map(drop),
                false => list
                    .check_apart(&host.administrators)
                    .map_err(TrustStoreError::from)
                    .and_then(|()| check_succession(&list, channel, held)),
            }
        }
    };
    let against = match judged {
        Err(error @ TrustStoreError::InForce { .. }) => Some(error.to_string()),
        Err(error) => return Err(failed(path, error)),
        Ok(()) if !offered.is_signed() => Some("it is not signed yet".to_owned()),
        Ok(()) if host.is_none() => {
            Some("this host is not commissioned, and knows no administrator".to_owned())
        }
        Ok(()) => None,
    };
    let changes = held.as_ref().map(|(_, held)| difference(held, &list));
    if options.json {
        let mut shown = document(offered.sha256(), &list);
        shown["changes"] = json!(changes);
        shown["importable"] = json!(against.is_none());
        shown["against"] = json!(against);
        return print_json(&shown);
    }
    print_list(&list)?;
    match changes {
        None => print_line("\nno list is in force yet")?,
        Some(lines) if lines.is_empty() => print_line("\nit means the same as the list in force")?,
        Some(lines) => print_line(&format!("\nchanges:\n  {}", lines.join("\n  ")))?,
    }
    match against {
        None => print_line("\nsigned by two administrators; it can be imported"),
        Some(text) => print_line(&format!("\nit cannot be imported: {text}")),
    }
}

/// `trust show`: prints what the list in force means.
///
/// # Errors
/// [`CliError`].
pub fn show<L: Layout>(state: &State<L>, options: &Shown) -> Result<(), CliError> {
    state.check_commissioned()?;
    let (sha256, list) = in_force(state)?.ok_or_else(|| {
        CliError::Refused(format!(
            "no trust list is in force; import one with {} trust import",
            L::PROGRAM
        ))
    })?;
    match options.json {
        true => print_json(&document(sha256, &list)),
        false => print_list(&list),
    }
}

/// Returns which list is in force, for the answer of `trust import`.
///
/// # Errors
/// [`CliError::System`].
pub fn imported<L: Layout>(state: &State<L>) -> Result<Value, CliError> {
    Ok(json!(in_force(state)?.map(|(sha256, list)| json!({
        "version": list.version(), "channel": list.channel(), "sha256": sha256,
    }))))
}

/// Reads the list in force and its hash.
///
/// # Errors
/// [`CliError::System`].
pub fn in_force<L: Layout>(
    state: &State<L>,
) -> Result<Option<(Sha256Digest, TrustList)>, CliError> {
    let store = state.trust_store();
    store
        .show()
        .map_err(|error| CliError::System(format!("{}: {error}", store.folder().display())))
}

fn document(sha256: Sha256Digest, list: &TrustList) -> Value {
    json!({
        "version": list.version(),
        "channel": list.channel(),
        "issued": list.issued(),
        "sha256": sha256,
        "meaning": list.explain(),
        "warnings": list.warnings(clock::utc_now()),
    })
}

fn print_list(list: &TrustList) -> Result<(), CliError> {
    print_line(&list.explain().join("\n"))?;
    let warnings = list.warnings(clock::utc_now());
    warnings
        .iter()
        .try_for_each(|warning| print_line(&format!("warning: {warning}")))
}
