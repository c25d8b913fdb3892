//! Options that both command lines have.

use std::path::PathBuf;

use clap::Args;

use crate::history::check::BroughtFiles;

/// The roles of both hosts.
const ROLES: [&str; 4] = ["gate", "transmit", "receive", "release"];

/// How to show something.
#[derive(Debug, Args)]
pub struct Shown {
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// An administrator's public key; at least two, better three.
    #[arg(long = "administrator", value_name = "KEY.pub", required = true)]
    pub administrators: Vec<PathBuf>,
    /// A new file for the first keys of the audit logs, instead of standard output: the auditor's.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `trust check` and `trust import`.
#[derive(Debug, Args)]
pub struct TrustFile {
    /// The list; its signatures are beside it, as FILE.1.sig, FILE.2.sig.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

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

/// Options of `note-end`.
#[derive(Debug, Args)]
pub struct NoteEnd {
    /// The role that ended.
    #[arg(value_parser = ROLES)]
    pub role: String,
}

/// Options of the generator.
#[derive(Debug, Args)]
pub struct SystemdGenerator {
    /// Where systemd reads units; it names three folders, and the first is meant.
    #[arg(value_name = "FOLDER", num_args = 1.., required = true)]
    pub folders: Vec<PathBuf>,
}

/// Options of the alarm's runner.
#[derive(Debug, Args)]
pub struct AlarmRunner {
    /// The alarm command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}
