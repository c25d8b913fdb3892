//! What drafters and officers do with cables.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use valise_common::config::SenderConfig;
use valise_common::host::cli::{confirm, confirm_if_attended};
use valise_common::host::folders::part_file;
use valise_common::host::requests::REQUEST_FILE;
use valise_common::ids::Serial;
use valise_common::limits;
use valise_common::manifest::{FreeText, MediaType, shown_name};
use valise_common::os::tty;
use valise_common::serial_set::SerialSet;

use super::arguments::{Approve, OneCable, Reject, Resend, Submit};
use super::look::cable_json;
use super::request::{ask, begin, print_answer, set};
use super::waiting::{manifest_text, waiting_manifest};
use super::{CliError, print_done, print_done_json, sign};
use crate::gate::prepare::REASON_CHARS_MAX;
use crate::steps::resend::Resending;
use crate::steps::submit::split_media_type;

/// A part as the caller named it.
struct Given {
    path: PathBuf,
    name: String,
    media_type: Option<MediaType>,
}

/// `submit`
pub(super) fn submit(config: &SenderConfig, options: &Submit) -> Result<(), CliError> {
    let parts = given_parts(&options.files)?;
    let mut text = toml::Table::new();
    set(&mut text, "request", "submit");
    set(&mut text, "label", options.label.to_string());
    let to: Vec<String> = options.to.iter().map(ToString::to_string).collect();
    set(&mut text, "to", to);
    set(&mut text, "precedence", options.precedence.as_str());
    let subject = subject(options)?;
    check_text("subject", &subject, limits::SUBJECT_CHARS_MAX)?;
    set(&mut text, "subject", subject);
    if let Some(reference) = &options.reference {
        check_text("--reference", reference, limits::REFERENCE_CHARS_MAX)?;
        set(&mut text, "reference", reference.clone());
    }
    if let Some(not_after) = options.not_after {
        set(&mut text, "not-after", not_after.to_string());
    }
    if let Some(act_by) = options.act_by {
        set(&mut text, "act-by", act_by.to_string());
    }
    // A name in a folder stays on the disk when the folder is gone; the request's text is overwritten.
    let neutral = |number: usize| part_file(number, "");
    let entries: Vec<String> = (1..)
        .zip(&parts)
        .map(|(number, part)| match &part.media_type {
            Some(media_type) => format!("{}:{media_type}", neutral(number)),
            None => neutral(number),
        })
        .collect();
    set(&mut text, "files", entries);
    let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
    set(&mut text, "names", names);
    let mut request = begin(config)?;
    for (number, part) in (1..).zip(&parts) {
        request
            .add_path(&neutral(number), &part.path)
            .map_err(|error| CliError::of_given(&part.path, &error))?;
    }
    let id = ask(config, request, &text)?;
    if options.json {
        print_done_json(&json!({ "id": id }))
    } else {
        print_done(&id)
    }
}

/// Returns the subject that was typed, or the one line of the file that was named.
fn subject(options: &Submit) -> Result<String, CliError> {
    let Some(path) = &options.subject_file else {
        return Ok(options.subject.clone().unwrap_or_default());
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(limits::REQUEST_TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    let mut read = |source: &mut dyn io::Read| source.take(most).read_to_end(&mut bytes);
    match path.as_os_str() == "-" {
        true => read(&mut io::stdin().lock()),
        false => File::open(path).and_then(|mut file| read(&mut file)),
    }
    .map_err(|error| CliError::of_given(path, &error))?;
    let shown = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::Usage(format!("{shown}: the subject is not UTF-8")))?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.contains('\n') {
        return Err(CliError::Usage(format!(
            "{shown}: a subject is one line, and this file has several"
        )));
    }
    Ok(line.to_owned())
}

/// Checks a text as gate will, so that wrong usage is reported as such.
fn check_text(option: &str, text: &str, chars_max: usize) -> Result<(), CliError> {
    let checked = FreeText::normalize(text, chars_max);
    checked
        .map(drop)
        .map_err(|error| CliError::Usage(format!("{option}: {error}")))
}

fn given_parts(files: &[OsString]) -> Result<Vec<Given>, CliError> {
    let mut names = BTreeSet::new();
    let mut parts = Vec::new();
    for file in files {
        let file = file.to_str().ok_or_else(|| not_utf8(file))?;
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
            .ok_or_else(|| CliError::Usage(format!("{shown} is not a file")))?
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

/// The refusal of a path whose bytes are no text: a cable's names are.
pub(super) fn not_utf8(path: &OsStr) -> CliError {
    let shown = shown_name(path);
    CliError::Usage(format!("{shown}: the name is not UTF-8; rename it"))
}

/// `approve`
pub(super) fn approve(config: &SenderConfig, options: &Approve) -> Result<(), CliError> {
    let signature = match (&options.signature, &options.key) {
        (Some(path), _) => sign::read_signature(path)?,
        (None, Some(key)) => {
            let manifest = waiting_manifest(config, &options.id)?;
            show_and_ask(&manifest, options.yes)?;
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
    print_answer(&answer, options.json, || cable_json(config, &options.id))
}

/// Shows the manifest that is about to be signed. A person at the terminal says yes to it, here or by `--yes`; nobody else
/// can be asked, so that a script gives `--yes`.
fn show_and_ask(manifest: &[u8], yes: bool) -> Result<(), CliError> {
    let shown = manifest_text(manifest)?;
    if yes {
        // Nothing is signed that was not shown: a standard error that takes nothing ends this here.
        return writeln!(io::stderr(), "{shown}").map_err(CliError::system);
    }
    if !tty::is_attended() {
        let text = "standard input is not a terminal, so that nobody can be asked: read the cable \
                    (valise-sender read ID) and approve it with --yes";
        return Err(CliError::Usage(text.to_owned()));
    }
    confirm(&shown, "Approve this cable, exactly as shown?")
}

/// `reject`
pub(super) fn reject(config: &SenderConfig, options: &Reject) -> Result<(), CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", "reject");
    set(&mut text, "id", options.id.to_string());
    check_text("--reason", &options.reason, REASON_CHARS_MAX)?;
    set(&mut text, "reason", options.reason.clone());
    let question = format!("Reject cable {}? Its text is erased here.", options.id);
    confirm_if_attended(&question)?;
    let answer = ask(config, begin(config)?, &text)?;
    print_answer(&answer, options.json, || cable_json(config, &options.id))
}

/// `withdraw`
pub(super) fn withdraw(config: &SenderConfig, options: &OneCable) -> Result<(), CliError> {
    let mut text = toml::Table::new();
    set(&mut text, "request", "withdraw");
    set(&mut text, "id", options.id.to_string());
    let question = format!("Withdraw cable {}? Its text is erased here.", options.id);
    confirm_if_attended(&question)?;
    let answer = ask(config, begin(config)?, &text)?;
    print_answer(&answer, options.json, || cable_json(config, &options.id))
}

/// `resend`
pub(super) fn resend(config: &SenderConfig, options: &Resend) -> Result<(), CliError> {
    SerialSet::parse(&options.serials).map_err(CliError::Usage)?;
    let mut text = toml::Table::new();
    set(&mut text, "request", "resend");
    set(&mut text, "serials", options.serials.clone());
    let answer = ask(config, begin(config)?, &text)?;
    print_answer(&answer, options.json, || {
        let Resending {
            queued,
            not_retained,
            spent,
            ..
        } = Resending::parse(&answer);
        let ranges = |set: &SerialSet| set.ranges().collect::<Vec<_>>();
        let serials: Vec<Serial> = queued.iter().collect();
        let (not_retained, spent) = (ranges(&not_retained), ranges(&spent));
        Ok(json!({ "serials": serials, "not_retained": not_retained, "sent_too_often": spent }))
    })
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
        let parts = given_parts(&[typed.into()]).unwrap();
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
            let wrong: Vec<OsString> = wrong.into_iter().map(OsString::from).collect();
            assert!(
                matches!(given_parts(&wrong), Err(CliError::Usage(_))),
                "{wrong:?}"
            );
        }
    }
}
