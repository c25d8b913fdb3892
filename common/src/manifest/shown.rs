//! Text that somebody else wrote, as a terminal can show it: nothing in it moves the cursor, changes the order of what is
//! beside it, or stays unseen.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::text::{is_forbidden, is_right_to_left};

/// Returns the lines of a part's text, escaped. A line ends in LF or CR LF.
///
/// Backslashes are doubled. Control, bidirectional, invisible and unassigned characters, and letters that are written from
/// right to left, become escapes; so do bytes that are not UTF-8 (`\xff`). Every other kind of space becomes U+0020.
pub fn shown_lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let ended = line.strip_suffix(b"\n");
        let line = match ended {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        };
        escape_bytes(line)
    })
}

/// Returns the name of a file, or a path, on one line: as it is if it is plain text, otherwise escaped as a line of a part is.
pub fn shown_name(name: &OsStr) -> String {
    match name.to_str() {
        Some(text) if !text.contains(is_hidden) => text.to_owned(),
        _ => escape_bytes(name.as_encoded_bytes()),
    }
}

fn escape_bytes(line: &[u8]) -> String {
    let mut shown = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                ' ' => shown.push(c),
                c if c.general_category() == GeneralCategory::SpaceSeparator => shown.push(' '),
                c if is_hidden(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing into a string cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Returns a text of several lines with every character escaped that could mislead its reader: for output that is not a
/// part's text, and so needs no escape for a backslash.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let misleads = |c: char| c != '\n' && is_forbidden(c);
    if !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if misleads(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns a JSON document that means the same, with every hidden character of its strings escaped as `\uXXXX`.
pub(crate) fn printable_json(document: &str) -> Cow<'_, str> {
    // Between its strings a document holds nothing but ASCII and line ends.
    let hides = |c: char| c != '\n' && is_hidden(c);
    if !document.contains(hides) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if hides(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(c: char) -> bool {
    is_forbidden(c) || is_right_to_left(c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        shown_lines(text.as_bytes()).collect()
    }

    #[test]
    fn ordinary_text_is_shown_as_it_is() {
        for text in ["Résumé – §12 “x” €", "Ελληνικά", "日本語", "🦀", ""] {
            assert_eq!(lines(&format!("{text}\n")), [text]);
        }
        assert!(lines("").is_empty());
        assert_eq!(lines("a\r\nb\n\nc"), ["a", "b", "", "c"]);
        assert_eq!(lines("50\u{a0}%\u{202f}»"), ["50 % »"]);
    }

    #[test]
    fn what_hides_or_moves_the_cursor_becomes_an_escape() {
        for (text, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("sold\rbought", "sold\\rbought"),
            ("a\r", "a\\r"),
            ("a\tb", "a\\tb"),
            ("a\u{8}b", "a\\u{8}b"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("\u{e0041}", "\\u{e0041}"),
            ("אב", "\\u{5d0}\\u{5d1}"),
            ("\\u{1b}", "\\\\u{1b}"),
        ] {
            assert_eq!(lines(text), [shown]);
        }
        let bytes: Vec<String> = shown_lines(b"a\xff\xe9\n\xc3").collect();
        assert_eq!(bytes, ["a\\xff\\xe9", "\\xc3"]);
    }

    #[test]
    fn output_keeps_its_lines_and_loses_what_misleads() {
        assert_eq!(printable("a\\b\nאב"), "a\\b\nאב");
        assert_eq!(
            printable("a\u{1b}[0m\tb\u{202e}"),
            "a\\u{1b}[0m\\tb\\u{202e}"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_is_hidden(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            for line in shown_lines(&bytes).chain(shown_lines(text.as_bytes())) {
                prop_assert!(!line.contains(is_hidden));
            }
            prop_assert!(!printable(&text).contains(|c| c != '\n' && is_forbidden(c)));
        }

        #[test]
        fn a_json_document_keeps_its_meaning(text in "\\PC{0,40}|.{0,40}") {
            let document = serde_json::to_string_pretty(&serde_json::json!({ "text": text })).unwrap();
            let shown = printable_json(&document);
            prop_assert!(!shown.contains(|c| c != '\n' && is_hidden(c)));
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(&read["text"], &text);
        }
    }
}
