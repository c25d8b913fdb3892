//! Commissioning: the host's state, the courier's material, the trust list.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::json;
use valise_common::config::SenderConfig;
use valise_common::history::log::AuditLog;
use valise_common::host::cli::first_keys::{self, FirstKeys};
use valise_common::host::cli::{confirm_if_attended, needs_root, read_administrators};
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::requests::TakenFile;
use valise_common::host::stand_in::StandIn;
use valise_common::limits;
use valise_common::os::clock;
use valise_common::os::durable::read_bounded;
use valise_common::os::lock::HostLock;
use valise_common::os::sandbox;
use valise_common::secret::Secret32;
use valise_common::trust::{TrustList, difference};
use zeroize::Zeroizing;

use super::arguments::{BundleImport, Init, Shown, TrustFile};
use super::cables::not_utf8;
use super::look::read_view;
use super::request::{ask, begin, print_answer, set};
use super::{CliError, check_commissioned, print_done, print_json, print_line};
use crate::gate::GateError;
use crate::gate::commission::Replay;
use crate::gate::courier::{BUNDLE_NAME, STATEMENT_NAME, TRUST_NAME, signed_list, verify_bundle};
use crate::gate::host::Gate;
use crate::gate::refusal::No;
use crate::spool::trust_store::{Host, SignedList, TrustStoreError};

/// Whose logs `init` begins.
const ROLES: [Role; 2] = [Role::Gate, Role::Transmit];

/// `init`
pub fn init(config: &SenderConfig, options: &Init) -> Result<(), CliError> {
    // It makes the first keys of the audit logs.
    sandbox::protect_memory().map_err(CliError::system)?;
    let administrators = read_administrators("valise-sender", &options.administrators)?;
    let state = SenderState::new(&config.state);
    if state.host().exists() {
        let shown = state.host().display().to_string();
        return Err(CliError::Refused(format!(
            "{shown} is there: this host is commissioned already, and nothing was changed"
        )));
    }
    std::fs::create_dir_all(state.root())
        .and_then(|()| state.create_all())
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => needs_root("valise-sender init"),
            _ => CliError::System(format!("{}: {error}", state.root().display())),
        })?;
    let gate = stand_in(&state, Role::Gate)?;
    if gate.is_foreign() {
        return Err(needs_root("valise-sender init"));
    }
    let _lock = gate
        .run(|| HostLock::try_take(&state.lock(Role::Gate)))
        .and_then(|taken| taken)
        .map_err(CliError::system)?
        .ok_or_else(|| CliError::Refused("gate runs on this state folder".to_owned()))?;
    for role in ROLES {
        let check = || AuditLog::check_unused(&state.audit(), role.as_str());
        let checked = stand_in(&state, role)?.run(check);
        checked
            .map_err(CliError::system)?
            .map_err(CliError::refused)?;
    }
    let mut first_keys = FirstKeys::open(options.out.as_deref())?;
    let shown = state.root().display();
    let commission = || -> Result<(), CliError> {
        let (mut keys, mut checkpoint_keys) = (BTreeMap::new(), BTreeMap::new());
        for role in ROLES {
            let begun =
                stand_in(&state, role)?.run(|| begin_log(&state, role, administrators.len()));
            let (verifier, key) = begun.map_err(CliError::system)??;
            checkpoint_keys.insert(role.as_str(), verifier);
            keys.insert(role.as_str(), key.to_hex().to_string());
        }
        let text = match options.json {
            true => Zeroizing::new(
                serde_json::to_string_pretty(&json!({
                    "state": shown.to_string(), "audit_keys": keys, "checkpoint_keys": checkpoint_keys,
                }))
                .map_err(CliError::system)?,
            ),
            false => first_keys::text(&keys, &checkpoint_keys),
        };
        first_keys.hand_over(&text)?;
        // The host's file comes last: with it the host is commissioned.
        let host = Host {
            administrators,
            channel: None,
        };
        gate.run(|| host.store(&state))
            .map_err(CliError::system)?
            .map_err(CliError::system)
    };
    if let Err(error) = commission() {
        let undone = ROLES.into_iter().try_for_each(|role| {
            stand_in(&state, role)?
                .run(|| AuditLog::discard(&state.audit(), role.as_str()))
                .and_then(|done| done)
                .map_err(CliError::system)
        });
        return Err(error.after_undo(undone, state.root()));
    }
    first_keys.keep()?;
    if options.json {
        return Ok(());
    }
    print_done(&format!("commissioned in {shown}"))?;
    print_done("next: valise-sender bundle import DIR, then trust import")
}

/// Begins a role's audit log; returns the public key of its checkpoints and its first key.
fn begin_log(
    state: &SenderState,
    role: Role,
    administrators: usize,
) -> Result<(String, Secret32), CliError> {
    let origin = format!("valise-sender/{role}");
    let audit = state.audit();
    // An earlier init may have been cut short, and gave its keys to nobody who needs them.
    AuditLog::discard_unused(&audit, role.as_str()).map_err(CliError::system)?;
    let (mut log, key) =
        AuditLog::create(&audit, role.as_str(), &origin).map_err(CliError::system)?;
    let fields = [("administrators", json!(administrators))];
    log.append(clock::utc_now(), "init", &fields);
    log.commit().map_err(CliError::system)?;
    Ok((log.verifier_text(), key))
}

/// Whose work this command does where root calls it.
fn stand_in(state: &SenderState, role: Role) -> Result<StandIn, CliError> {
    StandIn::of(state.root(), &state.tmp(role), &[]).map_err(CliError::system)
}

/// Opens the host in this process, if no daemon has it and this user may do the daemon's work.
fn open_here(config: &SenderConfig, role: &StandIn) -> Result<Option<Gate>, CliError> {
    if role.is_foreign() {
        check_commissioned(&SenderState::new(&config.state))?;
        return Ok(None);
    }
    match role.run(|| Gate::open(config)).map_err(CliError::system)? {
        Ok(mut gate) => {
            // Large cables that must be sealed again wait for the daemon.
            role.run(|| gate.recover())
                .map_err(CliError::system)?
                .map_err(CliError::system)?;
            Ok(Some(gate))
        }
        Err(GateError::AlreadyRunning) => Ok(None),
        Err(GateError::Trust(error @ TrustStoreError::NotCommissioned)) => {
            Err(CliError::usage(error))
        }
        Err(error) => Err(CliError::system(error)),
    }
}

fn close_here(mut gate: Gate, answer: Result<String, No>) -> Result<String, CliError> {
    gate.commit().map_err(CliError::system)?;
    gate.publish_view().map_err(CliError::system)?;
    answer.map_err(|no| {
        if no.is_failure() {
            CliError::system(no)
        } else {
            CliError::refused(no)
        }
    })
}

/// The files of a folder that an import takes, by name.
fn files_of(folder: &Path, base: &[&str]) -> BTreeMap<String, TakenFile> {
    let mut names: Vec<String> = base.iter().map(|name| (*name).to_owned()).collect();
    for name in base {
        names.extend(
            (1..=limits::ADMINISTRATOR_SIGNATURES_MAX).map(|number| format!("{name}.{number}.sig")),
        );
    }
    let mut files = BTreeMap::new();
    for name in names {
        let path = folder.join(&name);
        if let Ok(metadata) = path.metadata() {
            files.insert(
                name,
                TakenFile {
                    path,
                    bytes: metadata.len(),
                },
            );
        }
    }
    files
}

fn request_with(
    config: &SenderConfig,
    word: &str,
    files: &BTreeMap<String, TakenFile>,
) -> Result<String, CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", word);
    let mut request = begin(config)?;
    for (name, file) in files {
        request
            .add_path(name, &file.path)
            .map_err(|error| CliError::of_given(&file.path, &error))?;
    }
    ask(config, request, &text)
}

/// `bundle import`
pub fn bundle_import(config: &SenderConfig, options: &BundleImport) -> Result<(), CliError> {
    // Without a gate it holds every PSK, and the link key.
    sandbox::protect_memory().map_err(CliError::system)?;
    let folder = &options.folder;
    for name in [BUNDLE_NAME, STATEMENT_NAME] {
        let path = folder.join(name);
        path.metadata()
            .map_err(|error| CliError::of_given(&path, &error))?;
    }
    let files = files_of(folder, &[BUNDLE_NAME, STATEMENT_NAME]);
    let role = stand_in(&SenderState::new(&config.state), Role::Gate)?;
    let answer = match open_here(config, &role)? {
        Some(mut gate) => {
            // Read as who calls: the courier's folder is nobody's business but his.
            let verified = verify_bundle(&files, &gate.host.administrators);
            let import = || {
                let result = match verified {
                    Ok(verified) => gate
                        .import_bundle(&verified, Replay::No)
                        .map_err(CliError::system)?,
                    Err(unfit) => Err(No::from(&unfit)),
                };
                gate.note_refusal("bundle-import", &result);
                close_here(gate, result)
            };
            role.run(import).map_err(CliError::system)??
        }
        None => request_with(config, "bundle-import", &files)?,
    };
    print_answer(&answer, options.json, || {
        let view = read_view(config)?;
        let bundles = view.map(|view| view.host.bundles).unwrap_or_default();
        Ok(json!(bundles.last()))
    })
}

/// `trust import`
pub fn trust_import(config: &SenderConfig, options: &TrustFile) -> Result<(), CliError> {
    let files = trust_files(&options.file)?;
    let role = stand_in(&SenderState::new(&config.state), Role::Gate)?;
    let answer = match open_here(config, &role)? {
        Some(mut gate) => {
            let signed = signed_list(&files);
            let import = || {
                let result = match signed {
                    Ok(signed) => gate
                        .import_trust(&signed, Replay::No)
                        .map_err(CliError::system)?,
                    Err(unfit) => Err(No::from(&unfit)),
                };
                gate.note_refusal("trust-import", &result);
                close_here(gate, result)
            };
            role.run(import).map_err(CliError::system)??
        }
        None => request_with(config, "trust-import", &files)?,
    };
    print_answer(&answer, options.json, || {
        let list = list_in_force(config)?;
        let version = list.as_ref().map(TrustList::version);
        Ok(json!({ "version": version, "channel": list.map(|list| list.channel()) }))
    })
}

/// The list and its signatures, whatever the list's file is called, under the names of a request.
fn trust_files(path: &Path) -> Result<BTreeMap<String, TakenFile>, CliError> {
    let shown = path.display();
    let metadata = path
        .metadata()
        .map_err(|error| CliError::of_given(path, &error))?;
    let name = path
        .file_name()
        .ok_or_else(|| CliError::Usage(format!("{shown} is not a file")))?;
    let name = name.to_str().ok_or_else(|| not_utf8(name))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let found = files_of(folder.unwrap_or(Path::new(".")), &[name]);
    let renamed = |key: &str| format!("{TRUST_NAME}{}", key.strip_prefix(name).unwrap_or_default());
    let mut files: BTreeMap<String, TakenFile> = found
        .into_iter()
        .map(|(key, file)| (renamed(&key), file))
        .collect();
    let list = TakenFile {
        path: path.to_owned(),
        bytes: metadata.len(),
    };
    files.insert(TRUST_NAME.to_owned(), list);
    Ok(files)
}

/// The list in force on this host, if there is one.
pub fn list_in_force(config: &SenderConfig) -> Result<Option<TrustList>, CliError> {
    let path = SenderState::new(&config.state).trust_list();
    let bytes = match read_bounded(&path, limits::TRUST_LIST_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(CliError::system)?,
    };
    let list = TrustList::parse(&bytes);
    list.map(Some)
        .map_err(|error| CliError::System(format!("{}: {error}", path.display())))
}

/// `trust check`
pub fn trust_check(config: &SenderConfig, options: &TrustFile) -> Result<(), CliError> {
    let shown = options.file.display();
    let files = trust_files(&options.file)?;
    let signed: SignedList = signed_list(&files).map_err(|unfit| {
        let text = format!("{shown}: {unfit}");
        if unfit.is_failure() {
            CliError::System(text)
        } else {
            CliError::Refused(text)
        }
    })?;
    let list = TrustList::parse(&signed.bytes)
        .map_err(|error| CliError::Refused(format!("{shown}: {error}")))?;
    let held = list_in_force(config)?;
    let changes = held
        .as_ref()
        .map(|held| difference(held, &list))
        .unwrap_or_default();
    let warnings = list.warnings(clock::utc_now());
    let host = Host::load(&SenderState::new(&config.state)).ok();
    if let Some(host) = &host {
        list.check_apart(&host.administrators)
            .map_err(|error| CliError::Refused(format!("{shown}: {error}")))?;
    }
    let signatures = match (&host, signed.signatures.is_empty()) {
        (_, true) => "not signed yet".to_owned(),
        (None, false) => {
            "signed, but this host is not commissioned and knows no administrator".to_owned()
        }
        (Some(host), false) => match signed.verify(&host.administrators) {
            Ok(_) => "signed by two administrators".to_owned(),
            Err(error) => return Err(CliError::Refused(format!("{shown}: {error}"))),
        },
    };
    if !signed.signatures.is_empty() {
        list.check_issued(clock::utc_now())
            .map_err(|error| CliError::Refused(format!("{shown}: {error}")))?;
    }
    if let Some(held) = &held
        && list.version() < held.version()
    {
        return Err(CliError::Refused(format!(
            "{shown}: version {} does not rise; {} is in force",
            list.version(),
            held.version()
        )));
    }
    if options.json {
        return print_json(&json!({
            "version": list.version(),
            "channel": list.channel(),
            "signatures": signatures,
            "meaning": list.explain(),
            "changes": changes,
            "warnings": warnings,
        }));
    }
    print_line(&list.explain().join("\n"))?;
    if !changes.is_empty() {
        print_line(&format!("\nchanges:\n  {}", changes.join("\n  ")))?;
    }
    if !warnings.is_empty() {
        print_line(&format!("\nwarnings:\n  {}", warnings.join("\n  ")))?;
    }
    print_line(&format!("\n{signatures}"))
}

/// `trust show`
pub fn trust_show(config: &SenderConfig, options: &Shown) -> Result<(), CliError> {
    check_commissioned(&SenderState::new(&config.state))?;
    let list = list_in_force(config)?.ok_or_else(|| {
        CliError::Refused("no trust list is in force; import one with trust import".to_owned())
    })?;
    if options.json {
        return print_json(&json!({
            "version": list.version(),
            "channel": list.channel(),
            "issued": list.issued(),
            "meaning": list.explain(),
            "warnings": list.warnings(clock::utc_now()),
        }));
    }
    print_line(&list.explain().join("\n"))?;
    for warning in list.warnings(clock::utc_now()) {
        print_line(&format!("warning: {warning}"))?;
    }
    Ok(())
}

/// `clock accept`
pub fn clock_accept(config: &SenderConfig, options: &Shown) -> Result<(), CliError> {
    confirm_if_attended("Take the clock of this host as right? What is over by it expires.")?;
    let answer = request_with(config, "clock-accept", &BTreeMap::new())?;
    print_answer(&answer, options.json, || {
        Ok(json!({ "now": read_view(config)?.map(|view| view.host.time) }))
    })
}
