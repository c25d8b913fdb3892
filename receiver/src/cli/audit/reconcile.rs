//! `audit reconcile`: both hosts' logs against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::history::check::{Brought, BroughtFiles, Check, Place, Report};
use valise_common::host::cli::audit;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::Serial;
use valise_common::units::count_of;

use super::compare::{Compared, Comparison, NotOfRole};
use super::row::{Problem, Row, State};
use crate::cli::{CliError, print_line};
use valise_common::serial_set::SerialSet;

/// Options of `audit reconcile`.
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// A copy of the sender's audit/gate.log.
    #[arg(value_name = "SENDER.log")]
    pub sender: PathBuf,
    /// The receiver's log of release; by default this host's.
    #[arg(long, value_name = "FILE")]
    pub receiver: Option<PathBuf>,
    /// Only serials in this state.
    #[arg(long)]
    pub state: Option<State>,
    /// What the auditor brings, for both logs.
    #[command(flatten)]
    pub brought: BroughtFiles,
    /// A JSON array instead of text. What is not proved of the logs is on standard error then.
    #[arg(long)]
    pub json: bool,
}

/// `audit reconcile`
pub(crate) fn reconcile(
    config: impl FnOnce() -> Result<ReceiverConfig, CliError>,
    options: &Reconcile,
) -> Result<(), CliError> {
    let brought = audit::read(&options.brought, "valise-receiver")?;
    let sender = Place::of_file(&options.sender, Some("gate"));
    let receiver = match &options.receiver {
        Some(log) => Place::of_file(log, Some(Role::Release.as_str())),
        None => {
            let state = ReceiverState::new(config()?.state);
            Place::of_host(&state.audit(), Role::Release.as_str())
        }
    };
    let mut comparison = Comparison::default();
    type Take = fn(&mut Comparison, &[u8]) -> Result<(), NotOfRole>;
    let logs: [(&Place, Take); 2] = [
        (&sender, Comparison::take_sender),
        (&receiver, Comparison::take_receiver),
    ];
    for (place, take) in logs {
        let report = read(place, &brought, |line| take(&mut comparison, line))?;
        if let Some(refusal) = report.refusal() {
            return Err(CliError::Refused(format!(
                "nothing was compared, for a log cannot be trusted: {refusal}"
            )));
        }
        if options.json {
            // The array is of serials. That lines fit each other proves little of who wrote them: nobody shall take it for more.
            audit::warn_of_unproved(&report, "valise-receiver");
        } else {
            print_line(&report.text())?;
        }
    }
    let compared = comparison.finish();
    show(&compared, options)?;
    judge(&compared)
}

/// Reads a log to its end or its first bad line; only lines that verify are taken.
fn read(
    place: &Place,
    brought: &Brought,
    mut take: impl FnMut(&[u8]) -> Result<(), NotOfRole>,
) -> Result<Report, CliError> {
    let mut check = Check::open(place, brought)?;
    let mut line_number = 0_u64;
    while let Some(line) = check.next_line() {
        line_number += 1;
        take(line).map_err(|error| {
            let shown = place.log.display();
            CliError::Refused(format!("{shown}: line {line_number}: {error}"))
        })?;
    }
    Ok(check.report()?)
}

fn show(compared: &Compared, options: &Reconcile) -> Result<(), CliError> {
    let rows = || {
        let wanted = |state| options.state.is_none_or(|only| only == state);
        compared
            .rows
            .iter()
            .filter(move |(_, row)| wanted(row.state()))
    };
    if options.json {
        // Row by row: a million of them need not stand in memory as text.
        let mut last = None;
        for (serial, row) in rows() {
            match last {
                None => print_line("[")?,
                Some(text) => print_line(&format!("{text},"))?,
            }
            last = Some(indented(&document(*serial, row)));
        }
        return match last {
            None => print_line("[]"),
            Some(text) => print_line(&format!("{text}\n]")),
        };
    }
    print_line(&format!(
        "{:>10}  {:<17}  {:<32}  note",
        "serial", "state", "message-id"
    ))?;
    for (serial, row) in rows() {
        let id = row.message_id().map_or("-".to_owned(), |id| id.to_string());
        let problem = row
            .problem()
            .map(|problem| format!("PROBLEM: {}", problem.text()));
        let note = problem
            .or(row.reason().map(str::to_owned))
            .unwrap_or_default();
        let line = format!("{serial:>10}  {:<17}  {id:<32}  {note}", row.state().word());
        print_line(line.trim_end())?;
    }
    let mut counts: BTreeMap<State, u64> = BTreeMap::new();
    for row in compared.rows.values() {
        *counts.entry(row.state()).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    print_line(&format!(
        "{}: {}",
        count_of(compared.rows.len(), "serial"),
        counts.join(", ")
    ))
}

/// Returns a row as an element of an array that is printed as every other document.
fn indented(row: &Value) -> String {
    format!("  {}", format!("{row:#}").replace('\n', "\n  "))
}

fn document(serial: Serial, row: &Row) -> Value {
    let sent = row.sent.as_ref();
    let received = row.received.as_ref();
    json!({
        "serial": serial,
        "state": row.state(),
        "problem": row.problem(),
        "reason": row.reason(),
        "message_id": row.message_id(),
        "sealed": sent.and_then(|sent| sent.containers.last()),
        "received": received.and_then(|received| received.container),
    })
}

/// Exit status 1 if the auditor must look into something.
fn judge(compared: &Compared) -> Result<(), CliError> {
    let mut faults = compared.faults.clone();
    let mut problems: BTreeMap<(Problem, State), SerialSet> = BTreeMap::new();
    for (serial, row) in &compared.rows {
        if let Some(problem) = row.problem() {
            let key = (problem, row.state());
            problems.entry(key).or_default().insert(*serial);
        }
    }
    for ((problem, state), serials) in &problems {
        faults.push(match (problem, state) {
            (Problem::Unsealed, State::ReleasedUnsealed) => format!(
                "released without having been sealed: {serials} (if the sender's log was copied before, copy it anew)"
            ),
            _ => format!("{}: {serials} ({})", problem.text(), state.word()),
        });
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(CliError::Refused(faults.join("; ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_is_indented_as_in_every_other_document() {
        let row = json!({ "serial": 3, "received": null });
        let whole = serde_json::to_string_pretty(&json!([row])).unwrap();
        assert_eq!(format!("[\n{}\n]", indented(&row)), whole);
    }
}
