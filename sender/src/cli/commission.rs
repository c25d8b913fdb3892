//! Commissioning: the courier's material, the trust list, the clock.

use std::path::PathBuf;

use serde_json::json;
use valise_common::config::SenderConfig;
use valise_common::host::cli::ask::add_files;
use valise_common::host::cli::trust::{self, TrustFile};
use valise_common::host::cli::{Shown, confirm_if_attended};
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::stand_in::StandIn;
use valise_common::host::trust_store::{LIST_FILE, SignedList, signed_files};
use valise_common::os::sandbox;

use super::CliError;
use super::arguments::BundleImport;
use super::look::read_view;
use super::request::{ask, begin, print_answer, set};
use crate::gate::GateError;
use crate::gate::commission::Replay;
use crate::gate::courier::{BUNDLE_NAME, STATEMENT_NAME, verify_bundle};
use crate::gate::host::Gate;
use crate::gate::intake_error::IntakeError;
use crate::gate::refusal::Refusal;

/// Opens the host in this process, if no daemon has it and this user may do the daemon's work.
fn open_here(config: &SenderConfig, role: &StandIn) -> Result<Option<Gate>, CliError> {
    if role.is_foreign() {
        SenderState::new(&config.state).check_commissioned()?;
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
        Err(error) => Err(error.into()),
    }
}

/// Imports what a command brings, without the daemon. A refusal is logged like that of a request.
fn import_here<T>(
    role: &StandIn,
    mut gate: Gate,
    request: &'static str,
    brought: Result<T, IntakeError>,
    import: impl FnOnce(&mut Gate, T) -> Result<Result<String, Refusal>, GateError>,
) -> Result<String, CliError> {
    let work = || {
        let result = match brought {
            Ok(brought) => import(&mut gate, brought)?,
            Err(unfit) => Err(Refusal::from(&unfit)),
        };
        gate.note_refusal(request, &result);
        gate.commit()?;
        gate.publish_view()?;
        Ok(result)
    };
    let result: Result<_, GateError> = role.run(work).map_err(CliError::system)?;
    result?.map_err(|no| match no.is_failure() {
        true => CliError::system(no),
        false => CliError::refused(no),
    })
}

fn request_with(
    config: &SenderConfig,
    word: &str,
    files: &[(String, PathBuf)],
) -> Result<String, CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", word);
    let mut request = begin(config)?;
    add_files(&mut request, files)?;
    ask(config, request, &text)
}

fn stand_in(config: &SenderConfig) -> Result<StandIn, CliError> {
    let state = SenderState::new(&config.state);
    state.stand_in(Role::Gate, &[]).map_err(CliError::system)
}

/// `bundle import`
pub(super) fn bundle_import(config: &SenderConfig, options: &BundleImport) -> Result<(), CliError> {
    // Without a gate it holds every PSK, and the link key.
    sandbox::protect_memory().map_err(CliError::system)?;
    let [bundle, statement] = [BUNDLE_NAME, STATEMENT_NAME].map(|name| options.folder.join(name));
    bundle
        .metadata()
        .map_err(|error| CliError::of_given(&bundle, &error))?;
    let mut files = signed_files(&statement, STATEMENT_NAME)
        .map_err(|error| CliError::of_given(&statement, &error))?;
    files.push((BUNDLE_NAME.to_owned(), bundle));
    let role = stand_in(config)?;
    let answer = match open_here(config, &role)? {
        Some(gate) => {
            // Read as who calls: the courier's folder is nobody's business but his.
            let path_of = |name: &str| Some(options.folder.join(name));
            let verified = verify_bundle(path_of, gate.authority.administrators());
            import_here(&role, gate, "bundle-import", verified, |gate, verified| {
                gate.import_bundle(&verified, Replay::Refusal)
            })?
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
pub(super) fn trust_import(config: &SenderConfig, options: &TrustFile) -> Result<(), CliError> {
    let files = signed_files(&options.file, LIST_FILE)
        .map_err(|error| CliError::of_given(&options.file, &error))?;
    let role = stand_in(config)?;
    let answer = match open_here(config, &role)? {
        Some(gate) => {
            let signed = SignedList::read(&options.file).map_err(IntakeError::from);
            import_here(&role, gate, "trust-import", signed, |gate, signed| {
                gate.import_trust(signed, Replay::Refusal)
            })?
        }
        None => request_with(config, "trust-import", &files)?,
    };
    print_answer(&answer, options.json, || {
        trust::imported(&SenderState::new(&config.state))
    })
}

/// `clock accept`
pub(super) fn clock_accept(config: &SenderConfig, options: &Shown) -> Result<(), CliError> {
    confirm_if_attended("Take the clock of this host as right? What is over by it expires.")?;
    let answer = request_with(config, "clock-accept", &[])?;
    print_answer(&answer, options.json, || {
        Ok(json!({ "now": read_view(config)?.map(|view| view.host.time) }))
    })
}
