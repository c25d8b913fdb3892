//! `init`: the state's folders, the first keys of the audit logs, and at last `host.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::first_keys::{self, FirstKeys};
use super::{CliError, needs_root, print_done, read_administrators};
use crate::history::log::AuditLog;
use crate::host::commissioned::Host;
use crate::host::folders::{Layout, Role, State};
use crate::ids::ChannelId;
use crate::os::lock::HostLock;
use crate::os::{clock, sandbox};
use crate::secret::Secret32;

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// An administrator's public key; at least two, better three.
    #[arg(long = "administrator", value_name = "KEY.pub", required = true)]
    administrators: Vec<PathBuf>,
    /// A new file for the first keys of the audit logs, instead of standard output: the auditor's.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Commissions a host. `next` are the commands that come after.
///
/// # Errors
/// [`CliError`]. Nothing was changed then, or the error tells what is left.
pub fn init<L: Layout>(
    state: &State<L>,
    channel: L::Channel,
    options: &Init,
    next: &str,
) -> Result<(), CliError> {
    let command = format!("{} init", L::PROGRAM);
    // It makes the first keys of the audit logs.
    sandbox::protect_memory().map_err(CliError::system)?;
    let administrators = read_administrators(L::PROGRAM, &options.administrators)?;
    let shown = state.root().display();
    if fs::symlink_metadata(state.host()).is_ok() {
        return Err(CliError::Refused(format!(
            "{} exists: this host is commissioned already, and nothing was changed",
            state.host().display()
        )));
    }
    fs::create_dir_all(state.root())
        .and_then(|()| state.create_all())
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => needs_root(&command),
            _ => CliError::System(format!("{shown}: {error}")),
        })?;
    let keeper = L::KEEPER;
    let stand_in = state.stand_in(keeper, &[]).map_err(CliError::system)?;
    if stand_in.is_foreign() {
        return Err(needs_root(&command));
    }
    let _lock = stand_in
        .run(|| HostLock::try_take(&state.lock(keeper)))
        .and_then(|taken| taken)
        .map_err(CliError::system)?
        .ok_or_else(|| CliError::Refused(format!("{keeper} runs in {shown}: stop it first")))?;
    for role in L::ROLES {
        as_role(state, role, || {
            AuditLog::check_unused(&state.audit(), role.as_str())
        })?
        .map_err(CliError::refused)?;
    }
    let mut first_keys = FirstKeys::open(options.out.as_deref())?;
    let shown_channel: Option<ChannelId> = channel.into();
    let commission = || -> Result<(), CliError> {
        let count = administrators.len();
        let (mut keys, mut checkpoint_keys) = (BTreeMap::new(), BTreeMap::new());
        for role in L::ROLES {
            let begin = || begin_log(state, role, shown_channel, count);
            let (verifier, key) = as_role(state, role, begin)??;
            checkpoint_keys.insert(role.as_str(), verifier);
            keys.insert(role.as_str(), key.to_hex().to_string());
        }
        let text = match options.json {
            true => {
                let mut given = serde_json::Map::new();
                if let Some(channel) = shown_channel {
                    given.insert("channel".to_owned(), json!(channel));
                }
                given.insert("state".to_owned(), json!(shown.to_string()));
                given.insert("audit_keys".to_owned(), json!(keys));
                given.insert("checkpoint_keys".to_owned(), json!(checkpoint_keys));
                let text = serde_json::to_string_pretty(&Value::Object(given));
                Zeroizing::new(text.map_err(CliError::system)?)
            }
            false => first_keys::text(&keys, &checkpoint_keys),
        };
        first_keys.hand_over(&text)?;
        let host = Host {
            administrators,
            channel,
        };
        as_role(state, keeper, || state.write_host(host))?.map_err(CliError::system)
    };
    if let Err(error) = commission() {
        let discard = |role: Role| {
            as_role(state, role, || {
                AuditLog::discard(&state.audit(), role.as_str())
            })?
            .map_err(CliError::system)
        };
        let undone = L::ROLES.into_iter().try_for_each(discard);
        return Err(error.after_undo(undone, state.root()));
    }
    first_keys.keep()?;
    if options.json {
        return Ok(());
    }
    let channel = shown_channel.map_or_else(String::new, |channel| format!(", channel {channel}"));
    print_done(&format!("commissioned in {shown}{channel}"))?;
    print_done(&format!("next: {} {next}", L::PROGRAM))
}

fn as_role<L: Layout, T>(
    state: &State<L>,
    role: Role,
    work: impl FnOnce() -> T,
) -> Result<T, CliError> {
    let done = state.stand_in(role, &[]).and_then(|user| user.run(work));
    done.map_err(CliError::system)
}

/// Begins a role's audit log; returns the public key of its checkpoints and its first key.
fn begin_log<L: Layout>(
    state: &State<L>,
    role: Role,
    channel: Option<ChannelId>,
    administrators: usize,
) -> Result<(String, Secret32), CliError> {
    let (origin, mut fields) = match channel {
        Some(channel) => (
            format!("valise/{channel}/{role}"),
            vec![("channel", json!(channel))],
        ),
        None => (format!("{}/{role}", L::PROGRAM), Vec::new()),
    };
    fields.push(("administrators", json!(administrators)));
    let audit = state.audit();
    // An earlier init may have been cut short, and gave its keys to nobody who needs them.
    AuditLog::discard_unused(&audit, role.as_str()).map_err(CliError::system)?;
    let (mut log, key) =
        AuditLog::create(&audit, role.as_str(), &origin).map_err(CliError::system)?;
    log.append(clock::utc_now(), "init", &fields);
    log.commit().map_err(CliError::system)?;
    Ok((log.verifier_text(), key))
}
