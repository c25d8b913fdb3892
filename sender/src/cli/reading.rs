//! `read`: shows the parts of a waiting cable to an officer, before an approval.

use std::io;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use valise_common::config::SenderConfig;
use valise_common::host::folders::SenderState;
use valise_common::manifest::{Manifest, Part, shown_lines};
use valise_common::os::durable::read_bounded;
use valise_common::os::tty;
use valise_common::units::ByteSize;

use super::arguments::Read;
use super::export::copy_part;
use super::look::list_in_force;
use super::waiting::{hex, of_part, waiting_manifest, wrong_part};
use super::{CliError, print_json, print_line};
use crate::spool::pending::PartFiles;

/// Bytes of the longest text that is shown; a longer part is exported.
const SHOWN_BYTES_MAX: u64 = 16 << 20;

/// The margin before each line of a part.
const MARGIN: &str = "| ";
/// The margin before each further row of a long line.
const MARGIN_AGAIN: &str = "  ";

/// Columns of the shortest row of a text.
const ROW_COLUMNS_MIN: usize = 20;

/// `read`
pub(super) fn read(config: &SenderConfig, options: &Read) -> Result<(), CliError> {
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

/// Returns a line of a part as rows for the terminal, each after a margin: no row of a text looks like a line of this
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
