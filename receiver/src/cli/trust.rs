//! `trust …`: what a list means, and putting it into force.

use std::io;

use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::host::folders::ReceiverState;
use valise_common::os::clock;
use valise_common::trust::{TrustList, difference};

use super::arguments::{Shown, TrustFile};
use super::commission::work_here;
use super::request::{ask_and_print, print_answer, refused};
use super::{CliError, print_json, print_line};
use crate::model::event::Asker;
use crate::release::Release;
use crate::release::requests::{Ask, Verdict};
use crate::spool::host::Host;
use crate::spool::trust_store::{self, SignedList, TrustStoreError};

/// A list that is wrong is refused; a disk that fails is not the list's fault.
fn told(error: TrustStoreError) -> CliError {
    match error {
        TrustStoreError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            CliError::usage(error)
        }
        TrustStoreError::Io(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            CliError::refused(error)
        }
        TrustStoreError::Io(error) => CliError::system(error),
        other => CliError::refused(other),
    }
}

/// `trust check`
pub fn check(config: &ReceiverConfig, options: &TrustFile) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    let offered = SignedList::read(&options.file).map_err(told)?;
    let host = Host::read(&state.host()).ok();
    let held = trust_store::show(&state).map_err(told)?;
    let held_list = held.as_ref().map(|held| &*held.list);
    let against = match &host {
        Some(host) => offered
            .check(host, held_list, clock::utc_now())
            .err()
            .map(|error| error.to_string()),
        None => Some("this host is not commissioned, so that nobody can say who signs".to_owned()),
    };
    let differs = held_list.map(|held| difference(held, &offered.list));
    let warnings = offered.list.warnings(clock::utc_now());
    if options.json {
        return print_json(&json!({
            "version": offered.list.version(),
            "sha256": offered.sha256,
            "meaning": offered.list.explain(),
            "warnings": warnings,
            "differs": differs,
            "importable": against.is_none(),
            "against": against,
        }));
    }
    print_list(&offered.list, &warnings)?;
    match differs {
        None => print_line("There is no list in force yet.")?,
        Some(lines) if lines.is_empty() => print_line("It means the same as the list in force.")?,
        Some(lines) => {
            print_line("Against the list in force:")?;
            lines
                .iter()
                .try_for_each(|line| print_line(&format!("  {line}")))?;
        }
    }
    match against {
        None => print_line("It is signed, and can be imported."),
        Some(text) => print_line(&format!("It cannot be imported yet: {text}")),
    }
}

fn print_list(list: &TrustList, warnings: &[String]) -> Result<(), CliError> {
    list.explain()
        .iter()
        .try_for_each(|line| print_line(line))?;
    warnings
        .iter()
        .try_for_each(|line| print_line(&format!("Warning: {line}")))
}

/// `trust import`
pub fn import(config: &ReceiverConfig, options: &TrustFile) -> Result<(), CliError> {
    // Looked at here too, so that a wrong path is told before anything is asked. A list that is wrong was offered all the
    // same: it is refused by whoever has the log, this command or the daemon.
    let offered = match SignedList::read(&options.file) {
        Err(error @ TrustStoreError::Io(_)) => return Err(told(error)),
        offered => offered,
    };
    let by = Asker::user(nix::unistd::getuid().as_raw());
    let import = |here: &mut Release| match offered {
        Ok(signed) => Ok(here.import_here(signed, by)?),
        Err(error) => Ok(here.refuse_here(&Ask::TrustImport {}, &error.to_string(), by)?),
    };
    match work_here(config, import)? {
        Some(Verdict::Accepted(text)) => print_answer(&text, options.json, |_| in_force(config)),
        Some(Verdict::Refused(text)) => Err(refused(text)),
        Some(Verdict::UnderWay | Verdict::Later) => {
            Err(CliError::system("the list was not imported"))
        }
        None => {
            let files = trust_store::files_of(&options.file).map_err(CliError::system)?;
            ask_and_print(config, &Ask::TrustImport {}, &files, options.json, |_| {
                in_force(config)
            })
        }
    }
}

/// Returns which list is in force.
fn in_force(config: &ReceiverConfig) -> Result<Value, CliError> {
    let held = trust_store::show(&ReceiverState::new(&config.state)).map_err(told)?;
    Ok(json!(held.map(|held| json!({
        "version": held.list.version(), "channel": held.list.channel(), "sha256": held.sha256,
    }))))
}

/// `trust show`
pub fn show(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    Host::read(&state.host())?;
    let Some(held) = trust_store::show(&state).map_err(told)? else {
        return Err(CliError::Refused(
            "there is no trust list; run valise-receiver trust import".to_owned(),
        ));
    };
    let warnings = held.list.warnings(clock::utc_now());
    if options.json {
        return print_json(&json!({
            "version": held.list.version(),
            "issued": held.list.issued(),
            "sha256": held.sha256,
            "meaning": held.list.explain(),
            "warnings": warnings,
        }));
    }
    print_list(&held.list, &warnings)
}
