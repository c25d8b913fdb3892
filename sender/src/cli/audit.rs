//! `audit verify`: what the log proves, and to whom.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use valise_common::config::SenderConfig;
use valise_common::history::check::{BroughtFiles, Place};
use valise_common::host::cli::audit::{self, Form};
use valise_common::host::folders::SenderState;

use super::CliError;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verifies the logs of both roles, or one that is named, and reports what that proves and what not.
    #[command(
        after_help = "Example:\n  valise-sender audit verify\n  valise-sender audit verify copied/gate.log --key init.txt --public-key init.txt \\\n    --checkpoint january.checkpoints\n\n\
                      init.txt is what init printed; an auditor keeps it away from this host."
    )]
    Verify(Verify),
}

/// Options of `audit verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A log elsewhere, a copy for example; by default the logs of both roles of this host.
    #[arg(value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Whose log FILE is, if it is not called ROLE.log.
    #[arg(long, requires = "log", value_parser = ["gate", "transmit"])]
    pub role: Option<String>,
    /// What the auditor brings.
    #[command(flatten)]
    pub brought: BroughtFiles,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `audit verify`. The configuration is asked for only where no log is named.
pub fn verify(
    config: impl FnOnce() -> Result<SenderConfig, CliError>,
    options: &Verify,
) -> Result<(), CliError> {
    let brought = audit::read(&options.brought, "valise-sender")?;
    let places = match &options.log {
        Some(log) => vec![Place::of_file(log, options.role.as_deref())],
        None => audit::places_of_host(&SenderState::new(config()?.state))?,
    };
    audit::verify(&places, &brought, Form::of_option(options.json))
}
