//! `audit verify`: what the log proves, and to whom; and `audit reconcile`: both hosts' logs against each other.

mod compare;
mod reconcile;
mod row;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use valise_common::config::ReceiverConfig;
use valise_common::os::audit_check::{Brought, BroughtFiles, Check, Place, Report};
use valise_common::os::layout::{ReceiverState, Role};

use super::{CliError, print_json, print_line};
pub use reconcile::reconcile;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verifies the logs of both roles, or one that is named, and says what that proves and what not.
    #[command(
        after_help = "Example:\n  valise-receiver audit verify\n  valise-receiver audit verify copied/release.log --key init.txt --public-key init.txt \\\n    --checkpoint january.checkpoints\n\n\
                      init.txt is what init printed; an auditor keeps it away from this host."
    )]
    Verify(Verify),
    /// Tells for each serial what the sender's log and this host's say of it.
    #[command(after_help = "Example:\n  valise-receiver audit reconcile gate.log --key init.txt")]
    Reconcile(reconcile::Reconcile),
}

/// What an auditor brings.
#[derive(Debug, Args)]
pub struct Bringing {
    /// The first keys, as init printed them: with them every MAC is verified.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The public keys of the checkpoints, as init printed them; by default what lies beside the log.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// Checkpoints that the auditor took away earlier; may be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
}

/// Options of `audit verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A log elsewhere, a copy for example; by default the logs of both roles of this host.
    #[arg(value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Whose log FILE is, if its name does not say it.
    #[arg(long, requires = "log", value_parser = ["receive", "release"])]
    pub role: Option<String>,
    /// What the auditor brings.
    #[command(flatten)]
    pub bringing: Bringing,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

impl Bringing {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CliError::Usage`] for one that is not there or does not hold what it is named for.
    pub fn read(&self) -> Result<Brought, CliError> {
        let files = BroughtFiles {
            key: self.key.clone(),
            public_key: self.public_key.clone(),
            checkpoints: self.checkpoints.clone(),
        };
        let brought = Brought::read(&files)?;
        for warning in &brought.warnings {
            eprintln!("valise-receiver: warning: {warning}");
        }
        Ok(brought)
    }
}

/// `audit verify`. The configuration is asked for only where no log is named.
pub fn verify(
    config: impl FnOnce() -> Result<ReceiverConfig, CliError>,
    options: &Verify,
) -> Result<(), CliError> {
    let brought = options.bringing.read()?;
    let places = match &options.log {
        Some(log) => vec![Place::of_file(log, options.role.as_deref())],
        None => places(&ReceiverState::new(config()?.state))?,
    };
    let mut reports = Vec::new();
    for place in &places {
        reports.push(Check::open(place, &brought)?.report()?);
    }
    if options.json {
        let intact = reports.iter().all(|report| report.intact);
        print_json(&json!({ "intact": intact, "logs": reports }))?;
    } else {
        for report in &reports {
            print_line(&report.text())?;
        }
    }
    refuse(&reports)
}

/// The logs of both roles.
fn places(state: &ReceiverState) -> Result<Vec<Place>, CliError> {
    if !state.host().exists() {
        return Err(CliError::Usage(format!(
            "{} is not there: this host is not commissioned; run init, or name a log",
            state.host().display()
        )));
    }
    let audit = state.audit();
    let of_role = |role: Role| Place::of_host(&audit, role.as_str());
    Ok([Role::Receive, Role::Release].map(of_role).into())
}

/// One line for all faults, and exit status 1.
fn refuse(reports: &[Report]) -> Result<(), CliError> {
    let faults: Vec<String> = reports.iter().filter_map(Report::refusal).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(CliError::Refused(faults.join("; ")))
}
