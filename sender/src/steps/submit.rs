//! draft → Submission.
//!
//! A draft is what a person or a program asks for; a submission is a manifest that policy lets pass, whoever will
//! approve it. Policy fails closed: what the trust list does not name is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use thiserror::Error;
use valise_common::approval::{Refusal, check_policy};
use valise_common::ids::{ChannelId, MailboxId, MessageId, PersonId};
use valise_common::label::Label;
use valise_common::limits;
use valise_common::manifest::{
    FileName, FreeText, Manifest, ManifestError, MediaType, Part, TextError,
};
use valise_common::precedence::Precedence;
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

/// Why a draft is refused. The text names no content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// Subject, reference or a file name cannot stand in a manifest.
    #[error("{field}: {error}")]
    Text {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        error: TextError,
    },
    /// No part came with the request.
    #[error("a cable needs at least one part; put a file into the request folder")]
    NoPart,
    /// More parts than a manifest names.
    #[error("{parts} parts are too many; {} are the most", limits::PARTS_MAX)]
    TooManyParts {
        /// How many there are.
        parts: usize,
    },
    /// `files` names something that is not there, or names it twice.
    #[error("entry {entry} of files names no file of the request, or one that was named before")]
    UnknownFile {
        /// The entry, from 1.
        entry: usize,
    },
    /// `files` leaves something out.
    #[error(
        "not every file of the request is named in files ({left} left); name all of them, or none"
    )]
    UnnamedFile {
        /// How many.
        left: usize,
    },
    /// `names` does not fit `files`.
    #[error("names must hold one name for each entry of files")]
    Names,
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Policy does not let it pass.
    #[error("{0}; valise-sender trust show tells what the list in force allows")]
    Policy(#[from] Refusal),
}

impl SubmitError {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            SubmitError::Text { .. } => "text",
            SubmitError::NoPart => "no-part",
            SubmitError::TooManyParts { .. } => "too-many-parts",
            SubmitError::UnknownFile { .. }
            | SubmitError::UnnamedFile { .. }
            | SubmitError::Names => "files",
            SubmitError::Manifest(_) => "manifest",
            SubmitError::Policy(refusal) => refusal.code(),
        }
    }
}

/// What `request.toml` of a submission says: the options of `submit` as keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Draft {
    /// Classification and categories, in any order.
    #[serde(deserialize_with = "relaxed_label")]
    pub label: Label,
    /// The mailboxes, in any order.
    pub to: Vec<MailboxId>,
    /// The precedence, in any case.
    #[serde(deserialize_with = "relaxed_precedence")]
    pub precedence: Precedence,
    /// What it is about.
    pub subject: String,
    /// Its reference.
    #[serde(default)]
    pub reference: Option<String>,
    /// Its last moment; by default as late as the classification allows.
    #[serde(default, alias = "not_after")]
    pub not_after: Option<UtcTime>,
    /// When an answer is due; by default no time is given.
    #[serde(default, alias = "act_by")]
    pub act_by: Option<UtcTime>,
    /// Order and media types of the parts, as `NAME` or `NAME:MEDIA-TYPE`; by default all, sorted by name.
    #[serde(default)]
    pub files: Option<Vec<String>>,
    /// The names that the manifest shows, one for each entry of `files`; by default those of the files. A name in a folder
    /// stays on the disk when the folder is gone, and the text of a request is overwritten.
    #[serde(default)]
    pub names: Option<Vec<String>>,
}

fn relaxed_label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
    Label::parse_relaxed(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn relaxed_precedence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Precedence, D::Error> {
    Precedence::parse_relaxed(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// A part that has been chosen but not yet measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenPart {
    /// The key of the file among those of the request.
    pub file: String,
    /// Its media type.
    pub media_type: MediaType,
    /// The name that the manifest shows.
    pub name: FileName,
}

/// Length and hash of gate's own copy of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Its bytes.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

/// Splits `NAME[:MEDIA-TYPE]`. A file that has the whole text as its name wins.
pub fn split_media_type(entry: &str, exists: impl Fn(&str) -> bool) -> (&str, Option<MediaType>) {
    if !exists(entry)
        && let Some((name, media_type)) = entry.rsplit_once(':')
        && let Ok(media_type) = media_type.parse()
    {
        return (name, Some(media_type));
    }
    (entry, None)
}

impl Draft {
    /// Puts the request's files in order and gives each its media type and its name.
    ///
    /// # Errors
    /// [`SubmitError`] when there are none or too many, or `files` does not fit them.
    pub fn choose_parts<T>(
        &self,
        files: &BTreeMap<String, T>,
    ) -> Result<Vec<ChosenPart>, SubmitError> {
        let entries_count = self.files.as_ref().map_or(0, Vec::len);
        if self
            .names
            .as_ref()
            .is_some_and(|names| names.len() != entries_count)
        {
            return Err(SubmitError::Names);
        }
        let choose =
            |file: &str, media_type: Option<MediaType>, name: &str| -> Result<_, SubmitError> {
                let media_type = media_type.unwrap_or_else(|| MediaType::for_file_name(name));
                let name = FileName::normalize(name).map_err(|error| SubmitError::Text {
                    field: "a file name",
                    error,
                })?;
                Ok(ChosenPart {
                    file: file.to_owned(),
                    media_type,
                    name,
                })
            };
        let mut chosen: Vec<ChosenPart> = Vec::new();
        match &self.files {
            None => {
                for file in files.keys() {
                    chosen.push(choose(file, None, file)?);
                }
            }
            Some(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let (file, media_type) =
                        split_media_type(entry, |name| files.contains_key(name));
                    let repeated = chosen.iter().any(|part| part.file == file);
                    if repeated || !files.contains_key(file) {
                        return Err(SubmitError::UnknownFile { entry: index + 1 });
                    }
                    let names = self.names.as_ref();
                    let name = names.and_then(|names| names.get(index));
                    chosen.push(choose(file, media_type, name.map_or(file, String::as_str))?);
                }
                if chosen.len() < files.len() {
                    return Err(SubmitError::UnnamedFile {
                        left: files.len() - chosen.len(),
                    });
                }
            }
        }
        if chosen.is_empty() {
            return Err(SubmitError::NoPart);
        }
        if chosen.len() > limits::PARTS_MAX {
            return Err(SubmitError::TooManyParts {
                parts: chosen.len(),
            });
        }
        Ok(chosen)
    }
}

/// A cable as policy let it pass: nobody has approved it yet.
#[derive(Debug)]
pub struct Submission {
    manifest: Manifest,
    bytes: Vec<u8>,
    needed: u8,
}

/// Who submits, for which channel, when, under which id.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// The channel.
    pub channel: ChannelId,
    /// The cable's id, random.
    pub message_id: MessageId,
    /// The person that the calling user is.
    pub drafter: PersonId,
    /// Now.
    pub now: UtcTime,
}

impl Submission {
    /// Makes the manifest of a draft and asks policy.
    ///
    /// # Errors
    /// [`SubmitError`] for the first reason against it.
    pub fn new(
        draft: &Draft,
        parts: Vec<(ChosenPart, Measured)>,
        occasion: &Occasion,
        list: &TrustList,
    ) -> Result<Self, SubmitError> {
        let id = draft.label.classification();
        let (_, classification) = list
            .classification(id)
            .ok_or_else(|| Refusal::UnknownClassification { id: id.to_string() })?;
        let text = |field, text: &str, max| {
            FreeText::normalize(text, max).map_err(|error| SubmitError::Text { field, error })
        };
        let reference = draft
            .reference
            .as_deref()
            .map(|reference| text("reference", reference, limits::REFERENCE_CHARS_MAX))
            .transpose()?;
        let mut to = draft.to.clone();
        to.sort();
        to.dedup();
        let longest_s = u64::from(classification.validity_days_max) * 86_400;
        let manifest = Manifest {
            channel: occasion.channel,
            message_id: occasion.message_id,
            label: draft.label.clone(),
            precedence: draft.precedence,
            to,
            drafter: occasion.drafter.clone(),
            reference,
            subject: text("subject", &draft.subject, limits::SUBJECT_CHARS_MAX)?,
            created: occasion.now,
            not_after: draft
                .not_after
                .unwrap_or_else(|| occasion.now.plus_s(longest_s)),
            act_by: draft.act_by,
            parts: parts
                .into_iter()
                .map(|(chosen, measured)| Part {
                    length: measured.length,
                    media_type: chosen.media_type,
                    sha256: measured.sha256,
                    name: chosen.name,
                })
                .collect(),
        };
        check_policy(&manifest, list, occasion.now)?;
        let bytes = manifest.encode()?;
        let needed = u8::try_from(classification.officers).unwrap_or(u8::MAX);
        Ok(Self {
            manifest,
            bytes,
            needed,
        })
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the exact bytes that officers sign.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Distinct officers that must approve.
    pub fn needed(&self) -> u8 {
        self.needed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn draft(text: &str) -> Draft {
        toml::from_str(text).unwrap()
    }

    const LEAST: &str = "label = 'EU-RESTRICTED LIMITE'\nto = ['paris-desk']\n\
                         precedence = 'routine'\nsubject = 'S'\n";

    fn files(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| ((*name).to_owned(), ())).collect()
    }

    #[test]
    fn parts_come_sorted_by_name_with_types_of_their_extensions() {
        let chosen = draft(LEAST)
            .choose_parts(&files(&["b.pdf", "a.txt", "c"]))
            .unwrap();
        let shown: Vec<_> = chosen
            .iter()
            .map(|part| (part.name.as_str(), part.media_type.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("a.txt", "text/plain"),
                ("b.pdf", "application/pdf"),
                ("c", "application/octet-stream")
            ]
        );
    }

    #[test]
    fn files_fixes_order_and_types_and_must_name_every_file_once() {
        let with = |entries: &str| draft(&format!("{LEAST}files = {entries}"));
        let names = files(&["a.txt", "b.txt"]);
        let chosen = with("['b.txt:application/pdf', 'a.txt']")
            .choose_parts(&names)
            .unwrap();
        assert_eq!(chosen[0].media_type.as_str(), "application/pdf");
        assert_eq!(chosen[1].file, "a.txt");
        assert_eq!(
            with("['a.txt']").choose_parts(&names),
            Err(SubmitError::UnnamedFile { left: 1 })
        );
        for wrong in ["['a.txt', 'a.txt']", "['a.txt', 'c']"] {
            assert_eq!(
                with(wrong).choose_parts(&names),
                Err(SubmitError::UnknownFile { entry: 2 }),
                "{wrong}"
            );
        }
    }

    #[test]
    fn names_are_shown_instead_of_those_of_the_files_and_give_the_media_types() {
        let with = |keys: &str| {
            draft(&format!("{LEAST}{keys}")).choose_parts(&files(&["part-001", "part-002"]))
        };
        let chosen =
            with("files = ['part-002', 'part-001:application/pdf']\nnames = ['annex.txt', 'a']");
        let shown: Vec<_> = chosen
            .as_ref()
            .unwrap()
            .iter()
            .map(|part| {
                let (name, media_type) = (part.name.as_str(), part.media_type.as_str());
                (part.file.as_str(), name, media_type)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("part-002", "annex.txt", "text/plain"),
                ("part-001", "a", "application/pdf")
            ]
        );
        for wrong in [
            "names = ['a', 'b']",
            "files = ['part-001', 'part-002']\nnames = ['a']",
            "files = ['part-001', 'part-002']\nnames = ['a', 'b', 'c']",
        ] {
            assert_eq!(with(wrong), Err(SubmitError::Names), "{wrong}");
        }
        let told = with("files = ['part-001', 'part-002']\nnames = ['a', '']");
        assert!(matches!(told, Err(SubmitError::Text { .. })), "{told:?}");
    }

    #[test]
    fn a_file_whose_name_holds_a_colon_is_found_as_it_is() {
        assert_eq!(
            split_media_type("a:text/plain", |_| true),
            ("a:text/plain", None)
        );
        let (name, media_type) = split_media_type("a:text/plain", |_| false);
        assert_eq!((name, media_type.unwrap().as_str()), ("a", "text/plain"));
        assert_eq!(split_media_type("a:b", |_| false), ("a:b", None));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert_eq!(
            draft(LEAST).choose_parts(&files(&[])),
            Err(SubmitError::NoPart)
        );
        let names: Vec<String> = (0..=limits::PARTS_MAX).map(|i| format!("{i}")).collect();
        let names: BTreeMap<String, ()> = names.into_iter().map(|name| (name, ())).collect();
        let refused = draft(LEAST).choose_parts(&names);
        assert_eq!(
            refused,
            Err(SubmitError::TooManyParts {
                parts: limits::PARTS_MAX + 1
            })
        );
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused() {
        for wrong in [
            "surprise = 1",
            "not-after = 'soon'",
            "act-by = '-'",
            "files = 'a'",
        ] {
            assert!(
                toml::from_str::<Draft>(&format!("{LEAST}{wrong}")).is_err(),
                "{wrong}"
            );
        }
        let typed = draft(&format!("{LEAST}not-after = '2030-01-01T00:00:00Z'"));
        assert!(typed.not_after.is_some() && typed.act_by.is_none());
        let typed = draft(&format!("{LEAST}act-by = '2030-01-01T00:00:00Z'"));
        assert!(typed.not_after.is_none() && typed.act_by.is_some());
    }
}
