//! Manifest ↔ text. Encoding and decoding stand together; each line has one form only.

use std::fmt::Write as _;
use std::str::{FromStr, Split};

use thiserror::Error;

use super::{FileName, FreeText, Manifest, MediaType, Part, TextError};
use crate::ids::{MailboxId, Sha256Digest, parse_decimal};
use crate::limits;
use crate::units::UtcTime;

const FIRST_LINE: &str = "VALISE-MANIFEST 1";
const LAST_LINE: &str = "end";
/// The value of an absent reference, and of an absent `act-by`.
const ABSENT: &str = "-";

/// What keeps to the other bounds fits a manifest: [`Manifest::encode`] need not measure it.
const _: () = {
    const CHAR_BYTES_MAX: usize = 4;
    const LINE_BYTES_MAX: usize = 32; // a field's name, colon, space and line feed
    const HASH_BYTES: usize = 7 + 64;
    const NUMBERS_BYTES_MAX: usize = 3 + 13; // 100 and 2^40
    let part = LINE_BYTES_MAX
        + NUMBERS_BYTES_MAX
        + limits::MEDIA_TYPE_BYTES_MAX
        + HASH_BYTES
        + limits::FILE_NAME_BYTES_MAX;
    let fields = 13 * LINE_BYTES_MAX
        + 2 * 32
        + 3 * 20
        + (1 + limits::CATEGORIES_MAX) * (limits::MARKING_BYTES_MAX + 1)
        + (1 + limits::MAILBOXES_MAX) * (limits::NAME_BYTES_MAX + 1)
        + (limits::REFERENCE_CHARS_MAX + limits::SUBJECT_CHARS_MAX) * CHAR_BYTES_MAX;
    assert!(fields + limits::PARTS_MAX * part <= limits::MANIFEST_BYTES_MAX);
};

/// Why a text is no manifest, or a manifest has no text. Content is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// More bytes than any manifest has.
    #[error(
        "the manifest has {bytes} bytes; {} are the most",
        limits::MANIFEST_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the manifest is not utf-8 text")]
    NotUtf8,
    /// A line is missing, out of order, or not what stands there in a manifest.
    #[error("line {line} of the manifest: expected `{expected}`")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// How the line begins.
        expected: &'static str,
    },
    /// The value of a field is not in its grammar.
    #[error("line {line} of the manifest: the value of `{field}` is malformed")]
    Value {
        /// Its number, from 1.
        line: usize,
        /// The field.
        field: &'static str,
    },
    /// A text may not stand in a manifest.
    #[error("{field} of the manifest: {error}")]
    Text {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: TextError,
    },
    /// Something stands behind `end`.
    #[error("something stands behind the last line of the manifest")]
    TrailingBytes,
    /// No mailbox, too many, or not unique and in byte order.
    #[error(
        "a cable is for 1 to {} mailboxes, unique and in byte order",
        limits::MAILBOXES_MAX
    )]
    Mailboxes,
    /// No part, or too many.
    #[error("a cable has 1 to {} parts, not {parts}", limits::PARTS_MAX)]
    Parts {
        /// How many it has.
        parts: usize,
    },
    /// The validity ends before it begins.
    #[error("`not-after` is not later than `created`")]
    Validity,
    /// The answer is due before the cable exists, or after its validity.
    #[error("`act-by` is not later than `created`, or is later than `not-after`")]
    ActBy,
    /// The parts together are larger than a package may be.
    #[error(
        "the parts have more than {} bytes together",
        limits::PACKAGE_BYTES_MAX
    )]
    BodyTooLarge,
    /// A second text for the same manifest.
    #[error("the manifest is not in its one canonical form")]
    NotCanonical,
    /// A reference that means "no reference".
    #[error("a reference of `-` means none; leave it out")]
    ReferenceMeansNone,
}

impl Manifest {
    /// Returns the exact bytes that officers sign.
    ///
    /// # Errors
    /// [`ManifestError`] when a field holds what no manifest may.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Ok(self.text().into_bytes())
    }

    /// Reads a manifest. What it returns encodes to exactly `bytes` again.
    ///
    /// # Errors
    /// [`ManifestError`] for every deviation.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
        let manifest = Lines::new(text).manifest()?;
        manifest.check()?;
        // The grammar has one text for each manifest. Signatures cover the text and policy judges
        // the value, so the two are held together here even if a parser above should one day become
        // lax.
        if manifest.text() != text {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    fn text(&self) -> String {
        let to: Vec<&str> = self.to.iter().map(MailboxId::as_str).collect();
        let reference = self.reference.as_ref().map_or(ABSENT, FreeText::as_str);
        let act_by = self
            .act_by
            .map_or_else(|| ABSENT.to_owned(), |time| time.to_string());
        let mut text = format!(
            "{FIRST_LINE}\nchannel: {}\nmessage-id: {}\nlabel: {}\nprecedence: {}\nto: {}\n\
             drafter: {}\nreference: {reference}\nsubject: {}\ncreated: {}\nnot-after: {}\n\
             act-by: {act_by}\n",
            self.channel,
            self.message_id,
            self.label,
            self.precedence,
            to.join(" "),
            self.drafter,
            self.subject.as_str(),
            self.created,
            self.not_after,
        );
        for (number, part) in (1..).zip(&self.parts) {
            part.write_line(number, &mut text);
        }
        text.push_str(LAST_LINE);
        text.push('\n');
        text
    }

    /// What holds between the fields, and the lengths that their types leave open.
    fn check(&self) -> Result<(), ManifestError> {
        let in_order = self.to.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=limits::MAILBOXES_MAX).contains(&self.to.len()) || !in_order {
            return Err(ManifestError::Mailboxes);
        }
        if let Some(reference) = &self.reference {
            if reference.as_str() == ABSENT {
                return Err(ManifestError::ReferenceMeansNone);
            }
            check_chars("reference", reference, limits::REFERENCE_CHARS_MAX)?;
        }
        check_chars("subject", &self.subject, limits::SUBJECT_CHARS_MAX)?;
        if self.created >= self.not_after {
            return Err(ManifestError::Validity);
        }
        let in_time = |act_by| self.created < act_by && act_by <= self.not_after;
        if !self.act_by.is_none_or(in_time) {
            return Err(ManifestError::ActBy);
        }
        let parts = self.parts.len();
        if !(1..=limits::PARTS_MAX).contains(&parts) {
            return Err(ManifestError::Parts { parts });
        }
        if self.body_bytes() > limits::PACKAGE_BYTES_MAX {
            return Err(ManifestError::BodyTooLarge);
        }
        Ok(())
    }
}

fn check_chars(
    field: &'static str,
    text: &FreeText,
    chars_max: usize,
) -> Result<(), ManifestError> {
    let chars = text.chars_count();
    if chars > chars_max {
        let error = TextError::TooManyChars { chars, chars_max };
        return Err(ManifestError::Text { field, error });
    }
    Ok(())
}

impl Part {
    fn write_line(&self, number: usize, text: &mut String) {
        writeln!(
            text,
            "part: {number} {} {} sha256:{} {}",
            self.length,
            self.media_type,
            Sha256Digest::from_bytes(self.sha256),
            self.name.as_str(),
        )
        .expect("writing to a string succeeds");
    }

    /// Reads `1 4321 text/plain sha256:… cable.txt`; everything behind the fifth space of the line
    /// is the name.
    fn parse(number: usize, value: &str) -> Option<Result<Self, TextError>> {
        let mut words = value.splitn(5, ' ');
        if parse_decimal(words.next()?).ok()? != u64::try_from(number).ok()? {
            return None;
        }
        let length = parse_decimal(words.next()?).ok()?;
        let media_type: MediaType = words.next()?.parse().ok()?;
        let sha256: Sha256Digest = words.next()?.strip_prefix("sha256:")?.parse().ok()?;
        let name = words.next()?;
        Some(FileName::parse(name).map(|name| Part {
            length,
            media_type,
            sha256: *sha256.as_bytes(),
            name,
        }))
    }
}

/// The lines of a manifest, taken one by one.
struct Lines<'a> {
    lines: Split<'a, char>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.split('\n'),
            number: 0,
        }
    }

    fn manifest(mut self) -> Result<Manifest, ManifestError> {
        if self.next() != Some(FIRST_LINE) {
            return Err(self.expected(FIRST_LINE));
        }
        let channel = self.parsed("channel: ")?;
        let message_id = self.parsed("message-id: ")?;
        let label = self.parsed("label: ")?;
        let precedence = self.parsed("precedence: ")?;
        let to = self.mailboxes()?;
        let drafter = self.parsed("drafter: ")?;
        let reference = match self.value("reference: ")? {
            ABSENT => None,
            text => Some(free_text("reference", text, limits::REFERENCE_CHARS_MAX)?),
        };
        let subject = free_text(
            "subject",
            self.value("subject: ")?,
            limits::SUBJECT_CHARS_MAX,
        )?;
        let created = self.parsed("created: ")?;
        let not_after = self.parsed("not-after: ")?;
        let act_by = self.act_by()?;
        let parts = self.parts()?;
        Ok(Manifest {
            channel,
            message_id,
            label,
            precedence,
            to,
            drafter,
            reference,
            subject,
            created,
            not_after,
            act_by,
            parts,
        })
    }

    fn next(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.lines.next()
    }

    fn expected(&self, expected: &'static str) -> ManifestError {
        ManifestError::Line {
            line: self.number,
            expected: expected.trim_end(),
        }
    }

    /// Returns the value after a field's name; `prefix` is the name with its colon and space.
    fn value(&mut self, prefix: &'static str) -> Result<&'a str, ManifestError> {
        self.next()
            .and_then(|line| line.strip_prefix(prefix))
            .ok_or_else(|| self.expected(prefix))
    }

    fn malformed(&self, prefix: &'static str) -> ManifestError {
        ManifestError::Value {
            line: self.number,
            field: prefix.trim_end_matches(": "),
        }
    }

    fn parsed<T: FromStr>(&mut self, prefix: &'static str) -> Result<T, ManifestError> {
        let value = self.value(prefix)?;
        value.parse().map_err(|_| self.malformed(prefix))
    }

    fn act_by(&mut self) -> Result<Option<UtcTime>, ManifestError> {
        const PREFIX: &str = "act-by: ";
        match self.value(PREFIX)? {
            ABSENT => Ok(None),
            time => time.parse().map(Some).map_err(|_| self.malformed(PREFIX)),
        }
    }

    fn mailboxes(&mut self) -> Result<Vec<MailboxId>, ManifestError> {
        const PREFIX: &str = "to: ";
        let value = self.value(PREFIX)?;
        // One more than allowed is enough to be refused.
        let words = value.split(' ').take(limits::MAILBOXES_MAX + 1);
        words
            .map(|word| word.parse().map_err(|_| self.malformed(PREFIX)))
            .collect()
    }

    /// Reads the parts and the last line, and checks that nothing follows.
    fn parts(&mut self) -> Result<Vec<Part>, ManifestError> {
        const PREFIX: &str = "part: ";
        let mut parts = Vec::new();
        loop {
            let line = self.next().ok_or_else(|| self.expected(LAST_LINE))?;
            if line == LAST_LINE {
                break;
            }
            if parts.len() == limits::PARTS_MAX {
                return Err(self.expected(LAST_LINE));
            }
            let value = line
                .strip_prefix(PREFIX)
                .ok_or_else(|| self.expected(PREFIX))?;
            let part = Part::parse(parts.len() + 1, value).ok_or(self.malformed(PREFIX))?;
            parts.push(part.map_err(|error| ManifestError::Text {
                field: "file name",
                error,
            })?);
        }
        // Behind the last line's LF stands the empty rest of the text.
        match (self.next(), self.next()) {
            (Some(""), None) => Ok(parts),
            (None, _) => Err(self.expected("end with a line feed")),
            _ => Err(ManifestError::TrailingBytes),
        }
    }
}

fn free_text(field: &'static str, text: &str, chars_max: usize) -> Result<FreeText, ManifestError> {
    FreeText::parse(text, chars_max).map_err(|error| ManifestError::Text { field, error })
}

#[cfg(test)]
mod tests;
