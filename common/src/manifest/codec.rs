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

    /// Returns the value behind a field's name; `prefix` is the name with its colon and space.
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

    /// Returns the parts, the last line, and nothing behind it.
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::label::Label;
    use crate::precedence::Precedence;
    use crate::testing::vector;
    use proptest::prelude::*;

    const SAMPLE: &str = "VALISE-MANIFEST 1\n\
        channel: 0123456789abcdef0123456789abcdef\n\
        message-id: 00112233445566778899aabbccddeeff\n\
        label: EU-RESTRICTED LIMITE\n\
        precedence: ROUTINE\n\
        to: paris-desk protocol\n\
        drafter: a.person\n\
        reference: PESC/2026/118\n\
        subject: Réunion du 3 décembre\n\
        created: 2026-11-22T21:53:18Z\n\
        not-after: 2026-12-22T00:00:00Z\n\
        act-by: 2026-11-30T12:00:00Z\n\
        part: 1 4321 text/plain sha256:\
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 cable.txt\n\
        part: 2 88012 application/pdf sha256:\
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 annex to  the cable.pdf\n\
        end\n";

    fn sample() -> Manifest {
        Manifest::decode(SAMPLE.as_bytes()).unwrap()
    }

    fn decode_with(line: &str, other: &str) -> Result<Manifest, ManifestError> {
        assert!(SAMPLE.contains(line), "{line}");
        Manifest::decode(SAMPLE.replacen(line, other, 1).as_bytes())
    }

    #[test]
    fn the_sample_of_the_formats_decodes_and_encodes_to_itself() {
        let manifest = sample();
        assert_eq!(manifest.encode().unwrap(), SAMPLE.as_bytes());
        assert_eq!(manifest.body_bytes(), 92_333);
        assert_eq!(manifest.parts[1].name.as_str(), "annex to  the cable.pdf");
        assert_eq!(manifest.to.len(), 2);
        assert_eq!(manifest.precedence, Precedence::Routine);
    }

    #[test]
    fn an_absent_reference_is_a_hyphen() {
        let manifest = decode_with("reference: PESC/2026/118", "reference: -").unwrap();
        assert_eq!(manifest.reference, None);
        let mut manifest = sample();
        manifest.reference = Some(FreeText::parse("-", 9).unwrap());
        assert_eq!(manifest.encode(), Err(ManifestError::ReferenceMeansNone));
    }

    #[test]
    fn a_deviation_is_refused_with_its_line() {
        for (line, other, number) in [
            ("VALISE-MANIFEST 1", "VALISE-MANIFEST 2", 1),
            ("VALISE-MANIFEST 1", "\u{feff}VALISE-MANIFEST 1", 1),
            ("VALISE-MANIFEST 1\n", "VALISE-MANIFEST 1\r\n", 1),
            ("channel: 0", "channel:  0", 2),
            ("channel: 0", "Channel: 0", 2),
            ("89abcdef\n", "89ABCDEF\n", 2),
            ("89abcdef\n", "89abcdef \n", 2),
            ("ddeeff\n", "ddeeff00\n", 3),
            ("EU-RESTRICTED LIMITE", "EU-RESTRICTED  LIMITE", 4),
            ("EU-RESTRICTED LIMITE", "EU-RESTRICTED LIMITE CRISIS", 4),
            ("EU-RESTRICTED LIMITE", "EU-RESTRICTED LIMITE LIMITE", 4),
            ("EU-RESTRICTED LIMITE", "eu-restricted", 4),
            ("ROUTINE", "routine", 5),
            ("ROUTINE\n", "ROUTINE\n\n", 6),
            ("to: paris-desk protocol", "to: ", 6),
            ("to: paris-desk protocol", "to: paris-desk protocol ", 6),
            ("to: paris-desk protocol", "to: ../inbox", 6),
            ("a.person", "A.Person", 7),
            ("21:53:18Z", "21:53:18+00:00", 10),
            ("21:53:18Z", "21:53:18.0Z", 10),
            ("2026-11-22T", "2026-11-32T", 10),
            ("act-by: 2026-11-30T12:00:00Z\n", "", 12),
            ("act-by: 2026-11-30T12:00:00Z", "act-by: ", 12),
            ("act-by: 2026-11-30T12:00:00Z", "act-by: none", 12),
            ("act-by: 2", "act-by:  2", 12),
            ("act-by: 2", "Act-by: 2", 12),
            ("11-30T12:00:00Z", "11-30T12:00:00+01:00", 12),
            ("11-30T12:00:00Z", "11-30T12:00:00Z ", 12),
            ("11-30T12:00:00Z", "11-30T12:00:00Z\nact-by: -", 13),
            ("part: 1 ", "part: 01 ", 13),
            ("part: 1 ", "part: 2 ", 13),
            ("part: 1 ", "part: 0 ", 13),
            ("4321", "04321", 13),
            ("4321", "+4321", 13),
            ("4321", "18446744073709551616", 13),
            ("text/plain", "text/plain;charset=utf-8", 13),
            ("sha256:e3", "sha256:E3", 13),
            ("sha256:e3", "sha512:e3", 13),
            (" cable.txt\n", "\n", 13),
            ("part: 2 ", "part: 3 ", 14),
            ("end\n", "", 15),
            ("end\n", "END\n", 15),
            ("end\n", "end \n", 15),
        ] {
            match decode_with(line, other) {
                Err(ManifestError::Line { line, .. } | ManifestError::Value { line, .. }) => {
                    assert_eq!(line, number, "{other:?}");
                }
                result => panic!("{other:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn nothing_may_stand_behind_the_end_and_its_line_feed_must() {
        for tail in ["\n", "x", "end\n", "\0"] {
            let text = format!("{SAMPLE}{tail}");
            assert_eq!(
                Manifest::decode(text.as_bytes()),
                Err(ManifestError::TrailingBytes)
            );
        }
        let cut = &SAMPLE[..SAMPLE.len() - 1];
        assert!(matches!(
            Manifest::decode(cut.as_bytes()),
            Err(ManifestError::Line { .. })
        ));
    }

    #[test]
    fn hostile_text_is_refused() {
        for (line, other) in [
            ("Réunion", "Re\u{301}union"),
            ("Réunion", "R\u{202e}éunion"),
            ("Réunion", "R\u{200b}éunion"),
            ("Réunion", "R\téunion"),
            ("Réunion", "R\u{a0}éunion"),
            ("Réunion du 3 décembre", ""),
            ("Réunion", &"é".repeat(121)),
            ("PESC/2026/118", &"a".repeat(65)),
            ("PESC/2026/118", ""),
            ("cable.txt", "cable\u{2066}.txt"),
            ("cable.txt", " cable.txt"),
            ("cable.txt", "cable.txt "),
            ("cable.txt", ""),
            ("cable.txt", &"a".repeat(256)),
        ] {
            assert!(
                matches!(decode_with(line, other), Err(ManifestError::Text { .. })),
                "{other:?}"
            );
        }
    }

    #[test]
    fn counts_order_and_times_are_bounded() {
        for to in ["protocol paris-desk", "protocol protocol"] {
            assert_eq!(
                decode_with("paris-desk protocol", to),
                Err(ManifestError::Mailboxes)
            );
        }
        let mailboxes = |count: usize| -> Vec<MailboxId> {
            (0..count)
                .map(|n| format!("m{n:03}").parse().unwrap())
                .collect()
        };
        for (count, accepted) in [
            (0, false),
            (1, true),
            (64, true),
            (65, false),
            (5000, false),
        ] {
            let mut manifest = sample();
            manifest.to = mailboxes(count);
            assert_eq!(manifest.encode().is_ok(), accepted, "{count}");
        }
        for (count, accepted) in [(0, false), (1, true), (100, true), (101, false)] {
            let mut manifest = sample();
            manifest.parts = vec![manifest.parts[0].clone(); count];
            assert_eq!(manifest.encode().is_ok(), accepted, "{count}");
            let text = manifest.text();
            assert_eq!(
                Manifest::decode(text.as_bytes()).is_ok(),
                accepted,
                "{count}"
            );
        }
        for not_after in ["2026-11-22T21:53:18Z", "2026-11-22T21:53:17Z"] {
            assert_eq!(
                decode_with("2026-12-22T00:00:00Z", not_after),
                Err(ManifestError::Validity)
            );
        }
        let brief = SAMPLE.replace("2026-11-30T12:00:00Z", "-");
        let brief = brief.replace("2026-12-22T00:00:00Z", "2026-11-22T21:53:19Z");
        assert!(Manifest::decode(brief.as_bytes()).is_ok());
        assert!(decode_with("88012", "1099511623455").is_ok());
        assert_eq!(
            decode_with("88012", "1099511623456"),
            Err(ManifestError::BodyTooLarge)
        );
        assert_eq!(
            decode_with("88012", "18446744073709551615"),
            Err(ManifestError::BodyTooLarge)
        );
    }

    #[test]
    fn an_answer_is_due_after_the_cable_was_made_and_before_it_expires() {
        assert_eq!(sample().act_by, "2026-11-30T12:00:00Z".parse().ok());
        assert_eq!(
            decode_with("2026-11-30T12:00:00Z", "-").unwrap().act_by,
            None
        );
        for (act_by, accepted) in [
            ("2026-11-22T21:53:17Z", false),
            ("2026-11-22T21:53:18Z", false),
            ("2026-11-22T21:53:19Z", true),
            ("2026-12-22T00:00:00Z", true),
            ("2026-12-22T00:00:01Z", false),
        ] {
            let decoded = decode_with("2026-11-30T12:00:00Z", act_by);
            let mut manifest = sample();
            manifest.act_by = Some(act_by.parse().unwrap());
            assert_eq!(manifest.encode().is_ok(), accepted, "{act_by}");
            match accepted {
                true => assert_eq!(decoded, Ok(manifest)),
                false => assert_eq!(decoded, Err(ManifestError::ActBy), "{act_by}"),
            }
        }
    }

    #[test]
    fn act_by_is_read_as_in_the_vectors() {
        let vector = vector("manifest-act-by");
        let ok = vector["ok"].as_array().unwrap();
        assert_eq!(ok.len(), 3);
        for text in ok {
            let text = text.as_str().unwrap();
            let manifest = Manifest::decode(text.as_bytes()).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("act-by: "));
            let act_by = manifest
                .act_by
                .map_or("-".to_owned(), |act_by| act_by.to_string());
            assert_eq!(line, Some(act_by.as_str()));
            assert_eq!(manifest.encode().unwrap(), text.as_bytes());
        }
        let bad = vector["bad"].as_array().unwrap();
        assert_eq!(bad.len(), 7);
        for one in bad {
            let text = one["manifest"].as_str().unwrap();
            assert!(
                Manifest::decode(text.as_bytes()).is_err(),
                "{}",
                one["fault"]
            );
        }
    }

    #[test]
    fn the_largest_manifest_fits() {
        let mut manifest = sample();
        let ids = |count: usize, bytes: usize| -> Vec<String> {
            (0..count).map(|n| format!("{n:0bytes$}")).collect()
        };
        let categories = ids(16, 32).iter().map(|id| id.parse().unwrap()).collect();
        manifest.label = Label::new("A".repeat(32).parse().unwrap(), categories).unwrap();
        manifest.precedence = Precedence::Immediate;
        manifest.to = ids(64, 64).iter().map(|id| id.parse().unwrap()).collect();
        manifest.drafter = "a".repeat(64).parse().unwrap();
        manifest.reference = Some(FreeText::parse(&"\u{1f980}".repeat(64), 64).unwrap());
        manifest.subject = FreeText::parse(&"\u{1f980}".repeat(120), 120).unwrap();
        let part = Part {
            length: limits::PACKAGE_BYTES_MAX / 100,
            media_type: format!("a/{}", "b".repeat(125)).parse().unwrap(),
            sha256: [0; 32],
            name: FileName::parse(&"a".repeat(255)).unwrap(),
        };
        manifest.parts = vec![part; 100];
        let bytes = manifest.encode().unwrap();
        assert!(bytes.len() <= limits::MANIFEST_BYTES_MAX, "{}", bytes.len());
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }

    #[test]
    fn what_no_manifest_may_hold_has_no_text() {
        let mut manifest = sample();
        manifest.subject = FreeText::parse(&"a".repeat(121), 200).unwrap();
        assert!(matches!(manifest.encode(), Err(ManifestError::Text { .. })));
        let mut manifest = sample();
        manifest.reference = Some(FreeText::parse(&"a".repeat(65), 200).unwrap());
        assert!(matches!(manifest.encode(), Err(ManifestError::Text { .. })));
        assert_eq!(Manifest::decode(b"\xff"), Err(ManifestError::NotUtf8));
        let bytes = limits::MANIFEST_BYTES_MAX + 1;
        assert_eq!(
            Manifest::decode(&vec![b'a'; bytes]),
            Err(ManifestError::TooLarge { bytes })
        );
    }

    prop_compose! {
        fn part()(
            length in 0..1u64 << 33,
            media_type in prop::sample::select(vec!["text/plain", "application/pdf", "x/y.z+w"]),
            sha256 in any::<[u8; 32]>(),
            name in "\\PC{1,60}|[ -~]{1,80}",
        ) -> Part {
            let media_type = media_type.parse().unwrap();
            Part { length, media_type, sha256, name: FileName::normalize(&name).unwrap() }
        }
    }

    prop_compose! {
        fn manifest()(
            channel in any::<[u8; 16]>(),
            message_id in any::<[u8; 16]>(),
            label in prop::collection::btree_set("[A-Z0-9-]{1,32}", 1..17),
            precedence in prop::sample::select(Precedence::ALL.to_vec()),
            to in prop::collection::btree_set("[a-z0-9][a-z0-9.-]{0,63}", 1..64),
            drafter in "[a-z0-9][a-z0-9.-]{0,63}",
            reference in prop::option::of("[A-Z]{1}[ -~]{0,40}"),
            subject in "[a-zA-Zéß本]{1}[ a-zA-Zéß本🦀]{0,119}",
            created in 0..200_000_000_000u64,
            validity in 1..50_000_000_000u64,
            due in prop::option::of(any::<prop::sample::Index>()),
            parts in prop::collection::vec(part(), 1..20),
        ) -> Manifest {
            let mut label = label.into_iter();
            let classification = label.next().unwrap().parse().unwrap();
            let categories = label.map(|id| id.parse().unwrap()).collect();
            Manifest {
                channel: crate::ids::ChannelId::from_bytes(channel),
                message_id: crate::ids::MessageId::from_bytes(message_id),
                label: Label::new(classification, categories).unwrap(),
                precedence,
                to: to.into_iter().map(|id| id.parse().unwrap()).collect(),
                drafter: drafter.parse().unwrap(),
                reference: reference.map(|text| FreeText::parse(&text, 64).unwrap()),
                subject: FreeText::parse(&subject, 120).unwrap(),
                created: UtcTime::from_s(created),
                not_after: UtcTime::from_s(created + validity),
                act_by: due.map(|due| {
                    let seconds = due.index(usize::try_from(validity).unwrap());
                    UtcTime::from_s(created + 1 + u64::try_from(seconds).unwrap())
                }),
                parts,
            }
        }
    }

    proptest! {
        #[test]
        fn decode_after_encode_is_identity(manifest in manifest()) {
            let bytes = manifest.encode().unwrap();
            prop_assert!(unicode_normalization::is_nfc(std::str::from_utf8(&bytes).unwrap()));
            prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        }

        #[test]
        fn decoding_any_bytes_returns(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        #[test]
        fn what_decodes_after_damage_encodes_to_the_same(
            at in any::<prop::sample::Index>(),
            with in prop::collection::vec(any::<u8>(), 0..4),
            gone in 0..4usize,
        ) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            let at = at.index(bytes.len());
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, with);
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode().unwrap(), bytes);
            }
        }
    }
}
