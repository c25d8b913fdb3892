//! Signing through `ssh-keygen`, which speaks to agents, files and security keys.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use valise_common::host::unfinished::Unfinished;
use valise_common::limits;
use valise_common::os::durable::{StagedFile, read_bounded};
use valise_common::os::signals::spawn_unmasked;
use valise_common::os::tty;
use valise_common::sshsig::{Namespace, Signature};

use super::CliError;

/// A folder of this user alone, erased with the value or when a signal ends the command.
struct Scratch(
    PathBuf,
    #[expect(dead_code, reason = "its end erases the folder")] Unfinished,
);

/// Signs a manifest's exact bytes with a key.
pub(super) fn approve_with(key: &Path, manifest: &[u8]) -> Result<Signature, CliError> {
    if !key.is_file() {
        return Err(CliError::Usage(format!(
            "{}: no such key file",
            key.display()
        )));
    }
    let template = std::env::temp_dir().join("valise-approve-XXXXXX");
    let folder = nix::unistd::mkdtemp(&template).map_err(CliError::system)?;
    let unfinished = Unfinished::begin(&folder).map_err(CliError::system)?;
    let scratch = Scratch(folder, unfinished);
    let path = scratch.0.join("manifest.txt");
    write_private(&scratch.0, &path, manifest).map_err(CliError::system)?;
    let mut command = Command::new("ssh-keygen");
    command
        .arg("-Y")
        .arg("sign")
        .arg("-n")
        .arg(Namespace::CableApproval.as_str());
    command.arg("-f").arg(key).arg("--").arg(&path);
    // Standard output is for answers. What ssh-keygen asks and says is for a person, if there is one.
    command.stdout(Stdio::null());
    if !tty::is_attended() {
        command.stderr(Stdio::piped());
    }
    let output = spawn_unmasked(&mut command)
        .and_then(Child::wait_with_output)
        .map_err(|error| {
            CliError::System(format!(
                "ssh-keygen cannot be run: {error}; install openssh-client"
            ))
        })?;
    if !output.status.success() {
        let said = reason_of(&String::from_utf8_lossy(&output.stderr));
        return Err(CliError::Refused(format!(
            "ssh-keygen did not sign: {said}"
        )));
    }
    read_signature(&scratch.0.join("manifest.txt.sig"))
}

/// Returns all that `ssh-keygen` wrote, on one line: its reason is seldom in the last one. Frames of `@` go.
fn reason_of(written: &str) -> String {
    let lines = written
        .lines()
        .map(|line| line.trim_matches(['@', ' ', '\r']));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "its reason is above".to_owned();
    }
    lines.join("; ")
}

/// Reads a signature that was made elsewhere.
pub(super) fn read_signature(path: &Path) -> Result<Signature, CliError> {
    let shown = path.display();
    let bytes = read_bounded(path, limits::REQUEST_TEXT_BYTES_MAX)
        .map_err(|error| CliError::of_given(path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    Signature::from_armor(&text).map_err(|error| CliError::Refused(format!("{shown}: {error}")))
}

fn write_private(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("a file needs a name"))?;
    let mut staged = StagedFile::create_named(folder, name)?;
    staged.write_all(bytes)?;
    let _ = staged.finish()?;
    Ok(())
}
