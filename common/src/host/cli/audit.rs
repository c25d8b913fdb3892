//! `audit verify`, which is the same command on both hosts but for the roles: what an auditor brings, what is verified, and
//! how it ends.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::run::ROLES;
use super::{CliError, print_json, print_line};
use crate::history::check::{Brought, BroughtFiles, Check, Place, Report};
use crate::host::folders::{Layout, Role, State};

/// Options of `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A log elsewhere, a copy for example; by default the logs of both roles of this host.
    #[arg(value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Whose log FILE is, if it is not called ROLE.log.
    #[arg(long, requires = "log", value_parser = ROLES)]
    pub role: Option<String>,
    /// What the auditor brings.
    #[command(flatten)]
    pub brought: BroughtFiles,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Reads what an auditor brings, and warns on standard error in the name of `program`.
///
/// # Errors
/// [`CliError::Usage`] for a file that is not there or does not hold what it is named for.
pub fn read(files: &BroughtFiles, program: &str) -> Result<Brought, CliError> {
    let brought = Brought::read(files)?;
    for warning in &brought.warnings {
        eprintln!("{program}: warning: {warning}");
    }
    Ok(brought)
}

/// Says on standard error, in the name of `program`, what a report leaves unproved: for output that has no place for it.
pub fn warn_of_unproved(report: &Report, program: &str) {
    let name = report.role.as_deref().unwrap_or("log");
    for one in &report.not_proved {
        eprintln!("{program}: warning: {name}: not proved: {one}");
    }
}

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In words.
    Text,
    /// One JSON document.
    Json,
}

impl Form {
    /// What the option `--json` asks for.
    pub(crate) fn of_option(json: bool) -> Self {
        if json { Form::Json } else { Form::Text }
    }
}

/// Returns the logs of both roles of a host.
fn places_of_host<L: Layout>(state: &State<L>) -> Result<Vec<Place>, CliError> {
    if !state.host().exists() {
        return Err(CliError::Usage(format!(
            "{} is not there: this host is not commissioned; run init, or name a log",
            state.host().display()
        )));
    }
    let place = |role: Role| Place::of_host(&state.audit(), role.as_str());
    Ok(L::ROLES.map(place).into())
}

/// `audit verify`: verifies logs, prints the reports, and refuses with one line for all faults. The state is asked for only
/// where no log is named.
///
/// # Errors
/// [`CliError::Refused`] if a log is not intact; the others if none could be read.
pub fn verify<L: Layout>(
    state: impl FnOnce() -> Result<State<L>, CliError>,
    options: &AuditVerify,
) -> Result<(), CliError> {
    let brought = read(&options.brought, L::PROGRAM)?;
    let places = match &options.log {
        Some(log) => vec![Place::of_file(log, options.role.as_deref())],
        None => places_of_host(&state()?)?,
    };
    let mut reports = Vec::new();
    for place in &places {
        reports.push(Check::open(place, &brought)?.report()?);
    }
    match Form::of_option(options.json) {
        Form::Json => {
            let intact = reports.iter().all(|report| report.intact);
            print_json(&json!({ "intact": intact, "logs": reports }))?;
        }
        Form::Text => reports
            .iter()
            .try_for_each(|report| print_line(&report.text()))?,
    }
    let faults: Vec<String> = reports.iter().filter_map(Report::refusal).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(CliError::Refused(faults.join("; ")))
}
