//! Free text of a manifest: what a person writes, without anything that another person could not
//! see.

use std::fmt;

use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::limits;

/// Why a text may not stand in a manifest. The text itself is content and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing is left of it.
    #[error("the text is empty")]
    Empty,
    /// More characters than the field takes.
    #[error("the text has {chars} characters; {chars_max} are the most")]
    TooManyChars {
        /// Its length.
        chars: usize,
        /// The most that the field takes.
        chars_max: usize,
    },
    /// A file name of more bytes than a file system takes.
    #[error(
        "the file name has {bytes} bytes; {} are the most",
        limits::FILE_NAME_BYTES_MAX
    )]
    TooManyBytes {
        /// Its length.
        bytes: usize,
    },
    /// A control, invisible, unassigned or reordering character.
    #[error("character {position} is U+{code:04X}, a control, invisible or unassigned character")]
    Forbidden {
        /// Its place, from 1.
        position: usize,
        /// Its code point.
        code: u32,
    },
    /// Two texts that look the same would differ.
    #[error("the text is not in Unicode normalization form C")]
    NotNormalized,
    /// A file name that begins or ends with a space.
    #[error("a file name has no space at either end")]
    OuterSpace,
}

/// Reference or subject: visible characters and U+0020, in NFC, at least one.
///
/// `Debug` tells only its length: a subject is content and must not reach a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FreeText(String);

/// The name that the drafter's file had. It is shown, escaped; it is never used as a path.
///
/// `Debug` tells only its length: a file name is content and must not reach a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FreeText {
    /// Takes a text that is already as the manifest wants it.
    ///
    /// # Errors
    /// [`TextError`] for anything else.
    pub fn parse(text: &str, chars_max: usize) -> Result<Self, TextError> {
        check_chars(text)?;
        let chars = text.chars().count();
        if chars == 0 {
            return Err(TextError::Empty);
        }
        if chars > chars_max {
            return Err(TextError::TooManyChars { chars, chars_max });
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes a text as the manifest wants it out of what a person typed: normalizes to NFC, turns
    /// every other space into U+0020, and takes spaces off both ends. Other forbidden characters
    /// are refused, not removed: whoever typed one should know.
    ///
    /// # Errors
    /// [`TextError`] for what cannot be mended.
    pub fn normalize(text: &str, chars_max: usize) -> Result<Self, TextError> {
        let text: String = text.nfc().map(plain_space).collect();
        Self::parse(text.trim_matches(' '), chars_max)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Number of characters.
    pub fn chars_count(&self) -> usize {
        self.0.chars().count()
    }

    /// Returns the text for a terminal or a page: see [`FileName::escaped`].
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }
}

impl FileName {
    /// Takes a name that is already as the manifest wants it.
    ///
    /// # Errors
    /// [`TextError`] for anything else.
    pub fn parse(name: &str) -> Result<Self, TextError> {
        check_chars(name)?;
        if name.is_empty() {
            return Err(TextError::Empty);
        }
        if name.len() > limits::FILE_NAME_BYTES_MAX {
            return Err(TextError::TooManyBytes { bytes: name.len() });
        }
        if name.starts_with(' ') || name.ends_with(' ') {
            return Err(TextError::OuterSpace);
        }
        Ok(Self(name.to_owned()))
    }

    /// Makes a name as the manifest wants it out of a file's: as [`FreeText::normalize`], and other
    /// forbidden characters become `_`, since nobody typed them. A name of spaces alone becomes
    /// `_`.
    ///
    /// # Errors
    /// [`TextError::Empty`], and [`TextError::TooManyBytes`] for a name that normalization made too
    /// long.
    pub fn normalize(name: &str) -> Result<Self, TextError> {
        if name.is_empty() {
            return Err(TextError::Empty);
        }
        let visible = |c| if is_forbidden(c) { '_' } else { c };
        let name: String = name.nfc().map(plain_space).map(visible).collect();
        match name.trim_matches(' ') {
            "" => Self::parse("_"),
            trimmed => Self::parse(trimmed),
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name for a terminal or a page: backslashes are doubled, and letters that are written
    /// from right to left stand as `\u{…}`, because they would reorder what stands around them.
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }
}

impl fmt::Debug for FreeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeText({} characters)", self.chars_count())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileName({} bytes)", self.0.len())
    }
}

fn check_chars(text: &str) -> Result<(), TextError> {
    if let Some((index, c)) = text.chars().enumerate().find(|(_, c)| is_forbidden(*c)) {
        return Err(TextError::Forbidden {
            position: index + 1,
            code: u32::from(c),
        });
    }
    if is_nfc(text) {
        Ok(())
    } else {
        Err(TextError::NotNormalized)
    }
}

fn plain_space(c: char) -> char {
    match c.general_category() {
        GeneralCategory::SpaceSeparator => ' ',
        _ => c,
    }
}

/// Returns whether a character may not be in free text: control, invisible, reordering, unassigned, or another space than U+0020.
pub(crate) fn is_forbidden(c: char) -> bool {
    use GeneralCategory as Category;
    if c == ' ' {
        return false;
    }
    matches!(
        c.general_category(),
        Category::Control
            | Category::Format
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
            | Category::SpaceSeparator
            | Category::LineSeparator
            | Category::ParagraphSeparator
    ) || in_ranges(DEFAULT_IGNORABLE, c)
}

/// Returns whether a letter is written from right to left.
pub(super) fn is_right_to_left(c: char) -> bool {
    in_ranges(RIGHT_TO_LEFT, c)
}

fn in_ranges(ranges: &[(char, char)], c: char) -> bool {
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// Default_Ignorable_Code_Point: characters that a display shows as nothing at all.
///
/// # Source
/// Unicode Character Database 16.0, `DerivedCoreProperties.txt`; the same since 14.0.
const DEFAULT_IGNORABLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Blocks whose letters are written from right to left.
///
/// # Source
/// Unicode Character Database, `extracted/DerivedBidiClass.txt`: the ranges whose default is R or
/// AL.
const RIGHT_TO_LEFT: &[(char, char)] = &[
    ('\u{590}', '\u{8ff}'),
    ('\u{fb1d}', '\u{fdff}'),
    ('\u{fe70}', '\u{feff}'),
    ('\u{10800}', '\u{10fff}'),
    ('\u{1e800}', '\u{1efff}'),
];

/// Makes one bounded line of any text, for an answer, an alarm or a log: line ends become spaces, and what a display would
/// hide or reorder becomes `\u{…}`. A text that was cut ends in `…`.
///
/// # Bounds
/// `bytes_max` bytes, however long the text is; at least the three of `…`.
pub(crate) fn one_line(text: &str, bytes_max: usize) -> String {
    const CUT: char = '…';
    let room = bytes_max.saturating_sub(CUT.len_utf8());
    let (mut line, mut fits) = (String::new(), 0);
    for c in text.trim_end_matches(['\n', '\r']).chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if is_forbidden(c) || in_ranges(RIGHT_TO_LEFT, c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
        if line.len() > bytes_max {
            line.truncate(fits);
            line.push(CUT);
            return line;
        }
        if line.len() <= room {
            fits = line.len();
        }
    }
    line
}

fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' {
            shown.push_str("\\\\");
        } else if is_right_to_left(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn forbidden(c: char) -> bool {
        FreeText::parse(&format!("a{c}b"), 120).is_err()
    }

    #[test]
    fn control_invisible_and_reordering_characters_are_refused() {
        for c in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2065}',
            '\u{2066}',
            '\u{2069}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{ffff}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0100}',
            '\u{10ffff}',
            '\u{378}',
        ] {
            assert!(forbidden(c), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn letters_marks_signs_and_pictures_are_taken() {
        for text in [
            "Résumé",
            "Ελληνικά",
            "Български",
            "日本語",
            "עברית",
            "a\u{20dd}",
            "50 % – §12 “x” €",
            "🦀",
        ] {
            assert_eq!(FreeText::parse(text, 120).unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_tables_are_sorted_and_apart() {
        for table in [DEFAULT_IGNORABLE, RIGHT_TO_LEFT] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn decomposed_text_is_mended_by_the_sender_and_refused_by_the_receiver() {
        assert_eq!(
            FreeText::parse("e\u{301}", 9),
            Err(TextError::NotNormalized)
        );
        assert_eq!(FreeText::normalize("e\u{301}", 9).unwrap().as_str(), "é");
        assert_eq!(FileName::normalize("e\u{301}").unwrap().as_str(), "é");
    }

    #[test]
    fn lengths_are_counted_in_characters_for_text_and_in_bytes_for_names() {
        assert!(FreeText::parse(&"é".repeat(120), 120).is_ok());
        assert_eq!(
            FreeText::parse(&"é".repeat(121), 120),
            Err(TextError::TooManyChars {
                chars: 121,
                chars_max: 120
            })
        );
        assert_eq!(FreeText::parse("", 120), Err(TextError::Empty));
        assert!(FileName::parse(&"a".repeat(255)).is_ok());
        assert_eq!(
            FileName::parse(&"é".repeat(128)),
            Err(TextError::TooManyBytes { bytes: 256 })
        );
    }

    #[test]
    fn a_file_name_loses_what_nobody_can_see() {
        for (given, kept) in [
            (" a\u{a0}b ", "a b"),
            ("a\u{202e}fdp.exe", "a_fdp.exe"),
            ("a\nb\tc", "a_b_c"),
            ("\u{2003}", "_"),
            ("../../etc/passwd", "../../etc/passwd"),
        ] {
            assert_eq!(FileName::normalize(given).unwrap().as_str(), kept);
        }
        assert_eq!(FileName::normalize(""), Err(TextError::Empty));
        for name in [" a", "a ", " "] {
            assert_eq!(FileName::parse(name), Err(TextError::OuterSpace));
        }
    }

    #[test]
    fn a_subject_is_not_changed_behind_its_writers_back() {
        assert_eq!(
            FreeText::normalize("\u{2003}a\u{a0}b ", 9)
                .unwrap()
                .as_str(),
            "a b"
        );
        assert_eq!(
            FreeText::normalize("a\u{202e}b", 9),
            Err(TextError::Forbidden {
                position: 2,
                code: 0x202e
            })
        );
    }

    #[test]
    fn shown_text_keeps_its_order_and_debug_shows_nothing() {
        let name = FileName::parse("a\\b אב.txt").unwrap();
        assert_eq!(name.escaped(), "a\\\\b \\u{5d0}\\u{5d1}.txt");
        assert_eq!(format!("{name:?}"), "FileName(12 bytes)");
        assert_eq!(
            format!("{:?}", FreeText::parse("é", 9).unwrap()),
            "FreeText(1 characters)"
        );
    }

    proptest! {
        #[test]
        fn what_was_normalized_parses(text in "\\PC{0,40}|.{0,40}") {
            if let Ok(done) = FreeText::normalize(&text, 80) {
                prop_assert_eq!(FreeText::parse(done.as_str(), 80), Ok(done.clone()));
                prop_assert_eq!(FreeText::normalize(done.as_str(), 80), Ok(done));
            }
            if let Ok(done) = FileName::normalize(&text) {
                prop_assert_eq!(FileName::parse(done.as_str()), Ok(done.clone()));
                prop_assert_eq!(FileName::normalize(done.as_str()), Ok(done));
            } else {
                prop_assert!(text.is_empty() || text.len() > 80);
            }
        }
    }

    #[test]
    fn one_line_is_bounded_and_shows_what_a_display_would_hide() {
        assert_eq!(one_line("a\nb\tc\n", 100), "a b c");
        assert_eq!(
            one_line("a\u{1b}[2J\u{202e}é", 100),
            "a\\u{1b}[2J\\u{202e}é"
        );
        assert_eq!(one_line("12345678", 8), "12345678");
        assert_eq!(one_line("123456789", 8), "12345…");
        assert_eq!(one_line("ééééé", 8), "éé…");
        // A character that is escaped is never cut in two.
        assert_eq!(one_line("12345678\u{1b}", 14), "12345678\\u{1b}");
        assert_eq!(one_line("12345678\u{1b}", 13), "12345678…");
    }

    proptest! {
        #[test]
        fn one_line_keeps_its_bound_for_any_text(text in "\\PC*|.*", bytes_max in 3_usize..60) {
            let line = one_line(&text, bytes_max);
            prop_assert!(line.len() <= bytes_max && !line.chars().any(char::is_control));
        }
    }
}
