//! What an officer reads before an approval: manifest and parts of a waiting cable, shown here or copied out.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use valise_common::approval::Refusal;
use valise_common::config::SenderConfig;
use valise_common::host::cli::state_failure;
use valise_common::host::folders::{SenderState, part_file};
use valise_common::host::unfinished::{Unfinished, hold};
use valise_common::ids::{MailboxId, MessageId};
use valise_common::label::Label;
use valise_common::limits;
use valise_common::manifest::{Manifest, Part, shown_lines};
use valise_common::os::durable::read_bounded;
use valise_common::os::tty;
use valise_common::units::ByteSize;

use super::arguments::{Export, Read};
use super::look::{list_in_force, person_here, read_view};
use super::{CliError, print_done_json, print_json, print_line};
use crate::spool::pending::{MANIFEST_NAME, PartFiles};

/// The file of an export that `sha256sum --check` reads.
const SUMS_NAME: &str = "SHA256SUMS";

/// Bytes of the longest text that is shown; a longer part is exported.
const SHOWN_BYTES_MAX: u64 = 16 << 20;

/// What stands before each line of a part, and before each further row of a long one.
const MARGIN: &str = "| ";
const MARGIN_AGAIN: &str = "  ";

/// Columns of the shortest row of a text.
const ROW_COLUMNS_MIN: usize = 20;

/// Returns the manifest of a waiting cable, exactly as gate keeps it, checked to be one.
pub fn waiting_manifest(config: &SenderConfig, id: &MessageId) -> Result<Vec<u8>, CliError> {
    let state = SenderState::new(&config.state);
    state.check_commissioned()?;
    let path = state.pending_of(id).join(MANIFEST_NAME);
    let bytes = match read_bounded(&path, limits::MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::Refused(why_not_waiting(config, id)));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(why_closed(config, id, &error, &path));
        }
        Err(error) => return Err(state_failure(&error, &path, &state.pending())),
    };
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    if manifest.message_id != *id {
        return Err(CliError::System(format!(
            "{} is not of cable {id}",
            path.display()
        )));
    }
    // Where all roles and persons are one user, only this keeps a person within their limits.
    check_need_to_know(config, &manifest.label, &manifest.to)?;
    Ok(bytes)
}

/// Refuses a cable that the calling user's person need not know of, by the trust list in force. A user who is no person of the
/// list is left to the rights of the files.
fn check_need_to_know(
    config: &SenderConfig,
    label: &Label,
    to: &[MailboxId],
) -> Result<(), CliError> {
    let Some(id) = person_here(config) else {
        return Ok(());
    };
    let list = list_in_force(config)?
        .ok_or_else(|| CliError::Refused("no trust list is in force".to_owned()))?;
    let Some(person) = list.person(&id) else {
        return Ok(());
    };
    list.check_need_to_know(person, label, to)
        .map_err(|limit| CliError::Refused(Refusal::OutsideLimits { id, limit }.to_string()))
}

/// Returns the failure of a user whom the system does not let read a waiting cable.
fn why_closed(config: &SenderConfig, id: &MessageId, error: &io::Error, path: &Path) -> CliError {
    let state = SenderState::new(&config.state);
    let view = read_view(config).ok().flatten();
    let cable = view.and_then(|view| view.cables.into_iter().find(|cable| cable.id == *id));
    if let Some(cable) = cable
        && let Err(refused @ CliError::Refused(_)) =
            check_need_to_know(config, &cable.label, &cable.to)
    {
        return refused;
    }
    if state.pending_of(id).is_dir() {
        // Others may pass `pending/`, so it is this cable that is closed to the user.
        return CliError::Refused(format!(
            "cable {id} is open only to officers who need to know of it, and to its drafter: the trust list limits persons, \
             and [persons] in the configuration says which user is which person"
        ));
    }
    state_failure(error, path, &state.pending())
}

/// Returns the manifest for a terminal: its bytes hold no control or invisible characters, and letters that would reorder a line
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

/// Returns why nothing of a cable is there to be read: it never came, or it does not wait any more.
fn why_not_waiting(config: &SenderConfig, id: &MessageId) -> String {
    let view = read_view(config).ok().flatten();
    let cable = view.and_then(|view| view.cables.into_iter().find(|cable| cable.id == *id));
    match cable {
        Some(cable) if cable.serial.is_some() => format!(
            "cable {id} is sealed ({}): its text was erased here, and nobody reads it before the receiver",
            cable.state
        ),
        Some(cable) if !matches!(cable.state.as_str(), "submitted" | "approved") => format!(
            "cable {id} is {}: its text was erased, and nothing is left to read",
            cable.state
        ),
        _ => format!("no cable {id} waits for approval; valise-sender list shows what does"),
    }
}

/// `read`
pub fn read(config: &SenderConfig, options: &Read) -> Result<(), CliError> {
    let id = &options.id;
    let bytes = waiting_manifest(config, id)?;
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    let chosen = chosen_parts(&manifest, options)?;
    let pending = SenderState::new(&config.state).pending_of(id);
    if let (Some(file), Some((number, part))) = (&options.file, chosen.first()) {
        copy_part(&pending, *number, part, file)?;
        return match options.json {
            true => print_json(&json!({
                "id": id, "part": number, "file": file.display().to_string(), "bytes": part.length,
                "sha256": hex(&part.sha256),
            })),
            false => Ok(()),
        };
    }
    let marking = marking(config, &manifest)?;
    let mut documents = Vec::new();
    for (number, part) in chosen {
        let text = if part.media_type.is_text() && part.length <= SHOWN_BYTES_MAX {
            Some(read_part(&pending, number, part)?)
        } else {
            None
        };
        if options.json {
            let text = text.and_then(|text| String::from_utf8(text).ok());
            documents.push(part_json(number, part, text));
        } else {
            show_part(&manifest, &marking, number, text.as_deref())?;
        }
    }
    if options.json {
        let label = manifest.label.to_string();
        return print_json(
            &json!({ "id": id, "label": label, "marking": marking, "parts": documents }),
        );
    }
    Ok(())
}

/// Returns the parts that are asked for, with their numbers.
fn chosen_parts<'m>(
    manifest: &'m Manifest,
    options: &Read,
) -> Result<Vec<(usize, &'m Part)>, CliError> {
    let mut parts = (1..).zip(&manifest.parts);
    let Some(number) = options.part.map(usize::from) else {
        return Ok(parts.collect());
    };
    let found = parts.find(|(one, _)| *one == number);
    found.map(|part| vec![part]).ok_or_else(|| {
        let count = manifest.parts.len();
        CliError::Refused(format!(
            "cable {} has no part {number}; its last is part {count}",
            manifest.message_id
        ))
    })
}

/// Returns the marking of a cable's classification, by the trust list in force.
fn marking(config: &SenderConfig, manifest: &Manifest) -> Result<String, CliError> {
    let id = manifest.label.classification();
    let list = list_in_force(config)?;
    let classification = list.as_ref().and_then(|list| list.classification(id));
    Ok(match classification {
        Some((_, classification)) => classification.marking.escaped(),
        // No longer in the list, so that it cannot be approved: still no reason to show its text unmarked.
        None => id.to_string(),
    })
}

fn part_json(number: usize, part: &Part, text: Option<String>) -> Value {
    json!({
        "part": number, "name": part.name.as_str(), "media_type": part.media_type, "bytes": part.length,
        "sha256": hex(&part.sha256), "text": text,
    })
}

/// Prints one part between lines with the marking.
fn show_part(
    manifest: &Manifest,
    marking: &str,
    number: usize,
    text: Option<&[u8]>,
) -> Result<(), CliError> {
    let Some(part) = manifest.parts.get(number.saturating_sub(1)) else {
        return Ok(());
    };
    print_line(marking)?;
    print_line(&format!(
        "part {number} of {}: {}, {}, {}, sha256:{}",
        manifest.parts.len(),
        part.name.escaped(),
        part.media_type,
        ByteSize(part.length).rough(),
        hex(&part.sha256)
    ))?;
    match text {
        Some(text) => {
            let columns = tty::size().map(|(columns, _)| columns);
            for line in shown_lines(text) {
                for row in rows_of(&line, columns) {
                    print_line(&row)?;
                }
            }
        }
        None => {
            let (id, extension) = (manifest.message_id, part.media_type.extension());
            let why = match part.media_type.is_text() {
                true => "too long to be shown here",
                false => "not text",
            };
            print_line(&format!(
                "{why}: valise-sender read {id} {number} FILE{extension} copies this part into a new file, \
                 valise-sender export {id} DIR all of them"
            ))?;
        }
    }
    print_line(marking)
}

/// Returns a line of a part as rows for the terminal, each behind a margin: no row of a text looks like a line of this
/// program, not even one that the terminal would have begun by itself.
fn rows_of(line: &str, columns: Option<usize>) -> Vec<String> {
    let room = columns.map_or(usize::MAX, |columns| {
        columns.saturating_sub(MARGIN.len()).max(ROW_COLUMNS_MIN)
    });
    let (mut rows, mut row, mut used) = (Vec::new(), MARGIN.to_owned(), 0);
    for c in line.chars() {
        // Two columns for whatever may be wide. A row that ends too early misleads nobody.
        let wide = if c < '\u{1100}' { 1 } else { 2 };
        if wide > room.saturating_sub(used) {
            rows.push(std::mem::replace(&mut row, MARGIN_AGAIN.to_owned()));
            used = 0;
        }
        row.push(c);
        used = used.saturating_add(wide);
    }
    rows.push(row);
    rows
}

/// Reads a part and checks that it is what the manifest says.
fn read_part(pending: &Path, number: usize, part: &Part) -> Result<Vec<u8>, CliError> {
    let path = PartFiles::path(pending, number);
    let bytes = usize::try_from(part.length)
        .map_err(io::Error::other)
        .and_then(|length| read_bounded(&path, length))
        .map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => wrong_part(number),
            _ => of_part(&error, &path, pending, number),
        })?;
    if <[u8; 32]>::from(Sha256::digest(&bytes)) == part.sha256 {
        Ok(bytes)
    } else {
        Err(wrong_part(number))
    }
}

/// Copies a part into a new file, and leaves none behind that is not what the manifest says.
fn copy_part(pending: &Path, number: usize, part: &Part, to: &Path) -> Result<(), CliError> {
    let from = PartFiles::path(pending, number);
    let mut source = File::open(&from).map_err(|error| of_part(&error, &from, pending, number))?;
    let mut file = create(to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage(format!(
            "{} is there already; name a new file",
            to.display()
        )),
        _ => CliError::of_given(to, &error),
    })?;
    let copied = copy_hashed(&mut source, &mut file)
        .map_err(|error| CliError::System(format!("{}: {error}", to.display())))
        .and_then(|sha256| match sha256 == part.sha256 {
            true => Ok(()),
            false => Err(wrong_part(number)),
        });
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied
}

/// Returns the failure of reading a part. A cable may be sealed, and its text erased, while somebody reads it.
fn of_part(error: &io::Error, path: &Path, pending: &Path, number: usize) -> CliError {
    if error.kind() == io::ErrorKind::NotFound && !pending.exists() {
        return CliError::Refused(format!(
            "part {number} is gone: the cable was sealed or ended while it was read"
        ));
    }
    state_failure(error, path, pending)
}

fn wrong_part(number: usize) -> CliError {
    CliError::Refused(format!(
        "part {number} is not what the manifest says; do not approve, and tell the operator"
    ))
}

/// Tells whether a folder is one itself, and nobody but this user puts anything into it: officers sign what they read there.
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
    // What is read elsewhere is no less classified: for who exports it alone, whatever the umask says. Half of it is erased.
    let mut unfinished = Vec::new();
    let mut begin = |path: &Path| -> Result<(), CliError> {
        unfinished.push(Unfinished::begin(path).map_err(CliError::system)?);
        Ok(())
    };
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
        created => {
            created.map_err(|error| CliError::System(format!("{shown}: {error}")))?;
            begin(folder)?;
        }
    }
    let failed = |error: io::Error| CliError::System(format!("{shown}: {error}"));
    let mut sums = format!("{}  {MANIFEST_NAME}\n", hex(&Sha256::digest(&bytes)));
    let mut names = vec![MANIFEST_NAME.to_owned()];
    begin(&folder.join(MANIFEST_NAME))?;
    create(&folder.join(MANIFEST_NAME))
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(failed)?;
    for (number, part) in (1..).zip(&manifest.parts) {
        let name = part_file(number, part.media_type.extension());
        begin(&folder.join(&name))?;
        copy_part(&pending, number, part, &folder.join(&name))?;
        sums.push_str(&format!("{}  {name}\n", hex(&part.sha256)));
        names.push(name);
    }
    begin(&folder.join(SUMS_NAME))?;
    create(&folder.join(SUMS_NAME))
        .and_then(|mut file| file.write_all(sums.as_bytes()))
        .map_err(failed)?;
    unfinished.into_iter().for_each(Unfinished::done);
    if options.json {
        names.push(SUMS_NAME.to_owned());
        print_done_json(&json!({ "folder": shown.to_string(), "files": names }))?;
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

fn copy_hashed(from: &mut File, to: &mut File) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
        let _held = hold();
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
    use super::*;

    #[test]
    fn no_row_of_a_text_begins_without_a_margin() {
        assert_eq!(rows_of("", None), ["| "]);
        assert_eq!(rows_of(&"x".repeat(500), None).len(), 1);
        let rows = rows_of(&format!("{}RESTREINT UE", " ".repeat(38)), Some(40));
        assert_eq!(
            rows,
            [format!("| {}", " ".repeat(38)), "  RESTREINT UE".to_owned()]
        );
        let rows = rows_of(&"日".repeat(20), Some(22));
        assert_eq!(
            rows,
            [
                format!("| {}", "日".repeat(10)),
                format!("  {}", "日".repeat(10))
            ]
        );
    }
}
