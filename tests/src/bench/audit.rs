//! `audit verify` of a million lines: the real command, every MAC and every checkpoint.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;
use valise_common::audit::{Chain, CheckpointKey};
use valise_common::secret::Secret32;
use valise_common::units::UtcTime;

use super::figure::Figure;
use super::options::Options;
use super::report::Report;
use crate::harness::{HarnessError, Programs, Result};

/// Lines of the log; a checkpoint for each thousand.
const LINES: u64 = 1_000_000;

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let parent = options.one_place().folder();
    let fail = |error| HarnessError::io("write a log below", &parent, error);
    std::fs::create_dir_all(&parent).map_err(fail)?;
    let folder = tempfile::tempdir_in(&parent).map_err(fail)?;
    write_log(folder.path()).map_err(fail)?;
    let with = format!(
        "{LINES} lines, all MACs and checkpoints, {}",
        options.one_place().word()
    );
    let mut figure = Figure::new("audit verify", "s", with);
    for _ in 0..options.runs() {
        let start = Instant::now();
        let status = Command::new(Programs::beside_this()?.sender)
            .args(["audit", "verify"])
            .arg(folder.path().join("gate.log"))
            .arg("--key")
            .arg(folder.path().join("handout"))
            .arg("--public-key")
            .arg(folder.path().join("handout"))
            .stdout(Stdio::null())
            .status()
            .map_err(|error| HarnessError::io("verify a log in", &parent, error))?;
        if status.success() {
            figure.samples.push(start.elapsed().as_secs_f64());
        } else {
            figure.failures += 1;
        }
    }
    report.add(figure);
    Ok(())
}

/// Writes a log of lines as gate's are on average, its checkpoints, and the auditor's keys.
fn write_log(folder: &Path) -> std::io::Result<()> {
    let first_key = || Secret32::new([7; 32]);
    let signer = CheckpointKey::new("valise-sender/gate", &Secret32::new([8; 32]))
        .map_err(std::io::Error::other)?;
    let create = |name: &str| File::create(folder.join(name)).map(BufWriter::new);
    let (mut log, mut notes) = (create("gate.log")?, create("gate.checkpoints")?);
    let mut chain = Chain::start(first_key());
    let mut line = Vec::new();
    for number in 0..LINES {
        line.clear();
        let fields = [
            ("id", json!(format!("{number:032x}"))),
            ("serial", json!(number + 1)),
            ("container", json!(format!("{number:064x}"))),
            ("container_bytes", json!(6_000)),
            ("passes", json!(2)),
        ];
        chain.append(
            &mut line,
            UtcTime::from_s(1_800_000_000 + number),
            "sealed",
            &fields,
        );
        log.write_all(&line)?;
        if number % 1_000 == 0 || number + 1 == LINES {
            let note = signer.sign(&chain.state()).unwrap_or_default();
            writeln!(notes, "{note}")?;
        }
    }
    log.flush()?;
    notes.flush()?;
    let keys = format!(
        "{}\n{}\n",
        first_key().to_hex().as_str(),
        signer.verifier_text()
    );
    let handout = folder.join("handout");
    std::fs::write(&handout, keys)?;
    std::fs::set_permissions(&handout, std::fs::Permissions::from_mode(0o600))
}
