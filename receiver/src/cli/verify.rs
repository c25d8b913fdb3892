//! `valise-verify`: what a reader asks of a released folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use valise_common::host::cli::{
    CliError, print_failure, print_json, print_line, read_administrators,
};

use crate::spool::released::{Fault, ReleasedCable};

/// Checks the folder of a released cable: every byte, its approvals, and who signed the trust list that released it.
#[derive(Debug, Parser)]
#[command(
    name = "valise-verify",
    version,
    after_help = "Example:\n  valise-verify 17-0123456789abcdef0123456789abcdef --administrator admin1.pub --administrator admin2.pub"
)]
pub struct Verify {
    /// The folder, with everything that was released in it.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The public key of an administrator whom you trust; at least two. Without them nothing vouches for the trust list.
    #[arg(long = "administrator", value_name = "KEY.pub")]
    administrators: Vec<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    match run(&Verify::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print_failure("valise-verify", &error),
    }
}

fn run(options: &Verify) -> Result<(), CliError> {
    // None is a question too: whether the folder agrees with itself.
    let administrators = match options.administrators.as_slice() {
        [] => Vec::new(),
        files => read_administrators("valise-verify", files)?,
    };
    let cable = ReleasedCable::check(&options.folder).map_err(|fault| told(options, fault))?;
    let vouched = match administrators.is_empty() {
        true => Err(
            "nothing vouches for the trust list, so that anybody may have made this folder: \
                     name the administrators' keys with --administrator KEY.pub"
                .to_owned(),
        ),
        false => cable
            .signed()
            .clone()
            .verify(&administrators)
            .map(drop)
            .map_err(|error| error.to_string()),
    };
    print(&cable, vouched.is_ok(), options.json)?;
    vouched.map_err(CliError::Refused)
}

/// Returns the failure that a fault is for the command: a folder that is not there is the caller's mistake.
fn told(options: &Verify, fault: Fault) -> CliError {
    match &fault {
        Fault::Io { path, source } if *path == options.folder => CliError::of_given(path, source),
        Fault::Io { .. } => CliError::system(fault),
        _ => CliError::Refused(format!(
            "{fault}; do not rely on this cable, and ask the registry for another copy"
        )),
    }
}

fn print(cable: &ReleasedCable, vouched: bool, as_json: bool) -> Result<(), CliError> {
    let (manifest, record, list) = (cable.manifest(), cable.record(), cable.list());
    if as_json {
        return print_json(&json!({
            "vouched": vouched,
            "release": record,
            "subject": manifest.subject.as_str(),
            "created": manifest.created,
            "not_after": manifest.not_after,
            "act_by": manifest.act_by,
            "trust": { "version": list.version(), "issued": list.issued(), "sha256": cable.signed().sha256() },
        }));
    }
    let ids = |ids: &mut dyn Iterator<Item = String>| ids.collect::<Vec<_>>().join(" ");
    let parts = manifest.parts.len();
    let count = match parts {
        1 => "1 part".to_owned(),
        _ => format!("{parts} parts"),
    };
    for (name, text) in [
        ("serial", record.serial.to_string()),
        ("message-id", manifest.message_id.to_string()),
        ("label", manifest.label.to_string()),
        ("precedence", manifest.precedence.to_string()),
        ("to", ids(&mut manifest.to.iter().map(ToString::to_string))),
        ("subject", manifest.subject.escaped()),
        (
            "drafter",
            format!("{} (the sender's word)", manifest.drafter),
        ),
        (
            "approved-by",
            ids(&mut record.approved_by.iter().map(ToString::to_string)),
        ),
        ("created", manifest.created.to_string()),
        ("not-after", manifest.not_after.to_string()),
        (
            "act-by",
            manifest
                .act_by
                .map_or_else(|| "-".to_owned(), |act_by| act_by.to_string()),
        ),
        (
            "verified",
            format!("{} (the receiver's word)", record.verified),
        ),
        (
            "trust-list",
            format!("version {}, issued {}", list.version(), list.issued()),
        ),
        ("holds", format!("{count}, as approved; nothing was added")),
        (
            "signed",
            match vouched {
                true => "by the administrators that you named".to_owned(),
                false => "by nobody whom you named".to_owned(),
            },
        ),
    ] {
        print_line(&format!("{name:<13} {text}"))?;
    }
    Ok(())
}
