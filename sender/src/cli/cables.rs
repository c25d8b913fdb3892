//! What drafters and officers do with cables.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use valise_common::config::SenderConfig;
use valise_common::ids::MessageId;
use valise_common::limits;
use valise_common::manifest::{Manifest, MediaType};
use valise_common::os::durable::read_bounded;
use valise_common::os::layout::{SenderState, part_file};
use valise_common::os::request::REQUEST_FILE;

use super::arguments::{Approve, Export, OneCable, Reject, Resend, Submit};
use super::request::{ask, begin, print_answer, set};
use super::{CliError, check_commissioned, print_json, print_line, sign};
use crate::gate::prepare::parse_ranges;
use crate::io::pending::{MANIFEST_NAME, PartFiles};
use crate::stage::submit::split_media_type;

/// The file of an export that `sha256sum --check` reads.
const SUMS_NAME: &str = "SHA256SUMS";

/// A part as the caller named it.
struct Given {
    path: PathBuf,
    name: String,
    media_type: Option<MediaType>,
}

/// `submit`
pub fn submit(config: &SenderConfig, options: &Submit) -> Result<(), CliError> {
    let parts = given_parts(&options.files)?;
    let mut text = toml::Table::new();
    set(&mut text, "request", "submit");
    set(&mut text, "label", options.label.to_string());
    let to: Vec<String> = options.to.iter().map(ToString::to_string).collect();
    set(&mut text, "to", to);
    set(&mut text, "precedence", options.precedence.as_str());
    set(&mut text, "subject", options.subject.clone());
    if let Some(reference) = &options.reference {
        set(&mut text, "reference", reference.clone());
    }
    if let Some(not_after) = options.not_after {
        set(&mut text, "not-after", not_after.to_string());
    }
    let entries: Vec<String> = parts
        .iter()
        .map(|part| match &part.media_type {
            Some(media_type) => format!("{}:{media_type}", part.name),
            None => part.name.clone(),
        })
        .collect();
    set(&mut text, "files", entries);
    let mut request = begin(config)?;
    for part in &parts {
        request
            .add_path(&part.name, &part.path)
            .map_err(|error| CliError::of_given(&part.path, &error))?;
    }
    let id = ask(config, request, &text)?;
    if options.json {
        print_json(&json!({ "id": id }))
    } else {
        print_line(&id)
    }
}

fn given_parts(files: &[String]) -> Result<Vec<Given>, CliError> {
    let mut names = BTreeSet::new();
    let mut parts = Vec::new();
    for file in files {
        let (path, media_type) = split_media_type(file, |path| Path::new(path).exists());
        let path = PathBuf::from(path);
        let shown = path.display();
        let metadata = path
            .metadata()
            .map_err(|error| CliError::of_given(&path, &error))?;
        if !metadata.is_file() {
            return Err(CliError::Usage(format!("{shown} is not a file")));
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| CliError::Usage(format!("{shown}: the name is not UTF-8")))?
            .to_owned();
        if name == REQUEST_FILE {
            let text =
                format!("{shown}: a request has a file {REQUEST_FILE} of its own; rename yours");
            return Err(CliError::Usage(text));
        }
        if !names.insert(name.clone()) {
            let text = format!("{shown}: another part has this name; rename one of them");
            return Err(CliError::Usage(text));
        }
        parts.push(Given {
            path,
            name,
            media_type,
        });
    }
    if parts.len() > limits::PARTS_MAX {
        let text = format!(
            "{} parts are too many; {} are the most",
            parts.len(),
            limits::PARTS_MAX
        );
        return Err(CliError::Usage(text));
    }
    Ok(parts)
}

/// `approve`
pub fn approve(config: &SenderConfig, options: &Approve) -> Result<(), CliError> {
    // What was signed with nobody there to be asked: it is shown when it was taken, so that a refusal is one line.
    let mut to_show = None;
    let signature = match (&options.signature, &options.key) {
        (Some(path), _) => sign::read_signature(path)?,
        (None, Some(key)) => {
            let manifest = waiting_manifest(config, &options.id)?;
            if io::stdin().is_terminal() {
                confirm(&manifest)?;
            } else {
                to_show = Some(manifest_text(&manifest)?);
            }
            sign::approve_with(key, &manifest)?
        }
        (None, None) => return Err(CliError::Usage("give --key or --signature".to_owned())),
    };
    let mut text = toml::Table::new();
    set(&mut text, "request", "approve");
    set(&mut text, "id", options.id.to_string());
    let mut request = begin(config)?;
    request
        .add_file("approval.sig", &mut signature.to_armor().as_bytes())
        .map_err(CliError::system)?;
    let answer = ask(config, request, &text)?;
    if let Some(manifest) = to_show {
        eprintln!("{manifest}");
    }
    print_answer(&answer, options.json)
}

/// The manifest of a waiting cable, exactly as gate keeps it, checked to be one.
pub fn waiting_manifest(config: &SenderConfig, id: &MessageId) -> Result<Vec<u8>, CliError> {
    let state = SenderState::new(&config.state);
    check_commissioned(&state)?;
    let path = state.pending_of(id).join(MANIFEST_NAME);
    let bytes = match read_bounded(&path, limits::MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text =
                format!("no cable {id} waits for approval; valise-sender list shows what does");
            return Err(CliError::Refused(text));
        }
        Err(error) => return Err(CliError::system(error)),
    };
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    if manifest.message_id != *id {
        return Err(CliError::System(format!(
            "{} is not of cable {id}",
            path.display()
        )));
    }
    Ok(bytes)
}

/// The manifest for a terminal: its bytes hold no control or invisible characters, and letters that would reorder a line
/// are escaped.
pub fn manifest_text(bytes: &[u8]) -> Result<String, CliError> {
    let manifest = Manifest::decode(bytes).map_err(CliError::system)?;
    let mut lines = Vec::new();
    let text = String::from_utf8_lossy(bytes);
    let mut parts = manifest.parts.iter();
    for line in text.lines() {
        if line.starts_with("subject: ") {
            lines.push(format!("subject: {}", manifest.subject.escaped()));
        } else if let Some(reference) = manifest
            .reference
            .as_ref()
            .filter(|_| line.starts_with("reference: "))
        {
            lines.push(format!("reference: {}", reference.escaped()));
        } else if line.starts_with("part: ")
            && let Some(part) = parts.next()
        {
            let kept: Vec<&str> = line.splitn(6, ' ').take(5).collect();
            lines.push(format!("{} {}", kept.join(" "), part.name.escaped()));
        } else {
            lines.push(line.to_owned());
        }
    }
    Ok(lines.join("\n"))
}

fn confirm(manifest: &[u8]) -> Result<(), CliError> {
    eprintln!("{}", manifest_text(manifest)?);
    let input = io::stdin();
    eprint!("\nApprove this cable, exactly as shown? [y/N] ");
    io::stderr().flush().map_err(CliError::system)?;
    let mut answer = String::new();
    input
        .lock()
        .read_line(&mut answer)
        .map_err(CliError::system)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::Refused("not approved".to_owned()))
    }
}

/// `reject`
pub fn reject(config: &SenderConfig, options: &Reject) -> Result<(), CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", "reject");
    set(&mut text, "id", options.id.to_string());
    set(&mut text, "reason", options.reason.clone());
    print_answer(&ask(config, begin(config)?, &text)?, options.json)
}

/// `withdraw`
pub fn withdraw(config: &SenderConfig, options: &OneCable) -> Result<(), CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", "withdraw");
    set(&mut text, "id", options.id.to_string());
    print_answer(&ask(config, begin(config)?, &text)?, options.json)
}

/// `resend`
pub fn resend(config: &SenderConfig, options: &Resend) -> Result<(), CliError> {
    parse_ranges(&options.serials).map_err(CliError::Usage)?;
    let mut text = toml::Table::new();
    set(&mut text, "request", "resend");
    set(&mut text, "serials", options.serials.clone());
    print_answer(&ask(config, begin(config)?, &text)?, options.json)
}

/// Whether a folder is one itself, and nobody but this user puts anything into it: an officer signs what he reads there.
fn is_ours_alone(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0
    })
}

/// `export`
pub fn export(config: &SenderConfig, options: &Export) -> Result<(), CliError> {
    let bytes = waiting_manifest(config, &options.id)?;
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    let pending = SenderState::new(&config.state).pending_of(&options.id);
    let folder = &options.folder;
    let shown = folder.display();
    // What is read elsewhere is no less classified: for who exports it alone, whatever the umask says.
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let empty = std::fs::read_dir(folder).is_ok_and(|mut names| names.next().is_none());
            if !empty {
                return Err(CliError::Usage(format!(
                    "{shown} is there already, and not empty"
                )));
            }
            if !is_ours_alone(folder) {
                return Err(CliError::Usage(format!(
                    "{shown} is a link, or another user may change what is in it; name a new folder"
                )));
            }
        }
        created => created.map_err(|error| CliError::System(format!("{shown}: {error}")))?,
    }
    let failed = |error: io::Error| CliError::System(format!("{shown}: {error}"));
    let mut sums = format!("{}  {MANIFEST_NAME}\n", hex(&Sha256::digest(&bytes)));
    let mut names = vec![MANIFEST_NAME.to_owned()];
    create(&folder.join(MANIFEST_NAME))
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(failed)?;
    for (number, part) in (1..).zip(&manifest.parts) {
        let name = part_file(number, part.media_type.extension());
        let from = PartFiles::path(&pending, number);
        let sha256 = copy_hashed(&from, &folder.join(&name)).map_err(failed)?;
        if sha256 != part.sha256 {
            let text = format!("part {number} is not what the manifest says; tell the operator");
            return Err(CliError::Refused(text));
        }
        sums.push_str(&format!("{}  {name}\n", hex(&sha256)));
        names.push(name);
    }
    create(&folder.join(SUMS_NAME))
        .and_then(|mut file| file.write_all(sums.as_bytes()))
        .map_err(failed)?;
    if options.json {
        names.push(SUMS_NAME.to_owned());
        print_json(&json!({ "folder": shown.to_string(), "files": names }))?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn copy_hashed(from: &Path, to: &Path) -> io::Result<[u8; 32]> {
    let (mut from, mut to) = (File::open(from)?, create(to)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn parts_are_files_with_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("a.txt"), "a").unwrap();
        std::fs::write(path("request.toml"), "r").unwrap();
        std::fs::create_dir(path("b")).unwrap();
        std::fs::write(path("b/a.txt"), "b").unwrap();
        let typed = format!("{}:application/pdf", path("a.txt"));
        let parts = given_parts(&[typed]).unwrap();
        assert_eq!(parts[0].name, "a.txt");
        assert_eq!(
            parts[0].media_type.as_ref().unwrap().as_str(),
            "application/pdf"
        );
        for wrong in [
            vec![path("a.txt"), path("b/a.txt")],
            vec![path("b")],
            vec![path("none")],
            vec![path("request.toml")],
        ] {
            assert!(
                matches!(given_parts(&wrong), Err(CliError::Usage(_))),
                "{wrong:?}"
            );
        }
    }
}
