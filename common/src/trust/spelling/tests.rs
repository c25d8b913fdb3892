#![allow(clippy::unwrap_used)]

use super::super::TrustList;
use super::super::sample::{self, changed};
use super::*;
use proptest::prelude::*;

/// What the sample holds, to be changed.
const HEAD: &str = "allow-software-keys = false";
const OFFICERS: &str = "officers = 3";
const MARKING: &str = "\"OPEN MARKING\"";
const CATEGORIES: &str = "categories = [\"LIMITE\", \"CRISIS\"]";

/// The fault of a list with one change, and its line.
#[track_caller]
fn fault_of(from: &str, to: &str) -> (usize, SpellingError) {
    match TrustList::parse(changed(from, to).as_bytes()) {
        Err(TrustError::Spelling { line, fault }) => (line, fault),
        result => panic!("{to:?}: {result:?}"),
    }
}

/// The fault of a list with one change, which must be in the line where the change begins.
#[track_caller]
fn fault(from: &str, to: &str) -> SpellingError {
    let (line, fault) = fault_of(from, to);
    let text = sample::text();
    let before = &text[..text.find(from).unwrap()];
    assert_eq!(line, before.matches('\n').count() + 1, "{to:?}");
    fault
}

#[test]
fn tabs_both_line_ends_and_visible_text_are_taken() {
    let list = sample::list();
    for (from, to) in [
        (
            HEAD,
            "allow-software-keys\t=\tfalse\t# Élysée, 日本語, 🦀\tמ",
        ),
        (HEAD, "'allow-software-keys' = false"),
        (
            HEAD,
            "# \\u0041 \"\"\" ''' a.b = { c = 2_0 } \"\nallow-software-keys = false",
        ),
        ("[[category]]", "\t[[category]] # [a.b]"),
        (OFFICERS, "officers=3"),
        (
            CATEGORIES,
            "categories = [ # both\n\t\"LIMITE\",\n\t'CRISIS',\n]",
        ),
        (MARKING, "'OPEN MARKING'"),
    ] {
        let parsed = TrustList::parse(changed(from, to).as_bytes());
        assert_eq!(parsed.as_ref(), Ok(&list), "{to:?}");
    }
    let ended = sample::text().replace('\n', "\r\n");
    assert_eq!(TrustList::parse(ended.as_bytes()), Ok(list));
    for (written, meant) in [
        ("\"Ἀπόρρητον # 2_0 {a.b}\"", "Ἀπόρρητον # 2_0 {a.b}"),
        ("'a\\u0041\"b'", "a\\u0041\"b"),
    ] {
        let list = TrustList::parse(changed(MARKING, written).as_bytes()).unwrap();
        assert_eq!(list.classifications()[0].marking.as_str(), meant);
    }
}

#[test]
fn what_cannot_be_seen_is_refused_wherever_it_is() {
    // Bidirectional, invisible, blank in other widths, private, unassigned, and controls.
    for c in [
        '\u{202e}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{200d}', '\u{feff}', '\u{ad}',
        '\u{3164}', '\u{fe0f}', '\u{a0}', '\u{2003}', '\u{3000}', '\u{2028}', '\u{85}', '\u{e000}',
        '\u{378}', '\0', '\u{7}', '\u{8}', '\u{b}', '\u{c}', '\u{1b}', '\u{7f}',
    ] {
        let code = u32::from(c);
        for (from, to, column) in [
            (HEAD, format!("allow-software-keys ={c}false"), 22),
            (HEAD, format!("{c}allow-software-keys = false"), 1),
            (HEAD, format!("allow-software-keys = false # é{c}"), 32),
            (MARKING, format!("\"OPEN é{c}\""), 18),
            (MARKING, format!("'OPEN é{c}'"), 18),
        ] {
            let expected = SpellingError::Character { column, code };
            assert_eq!(fault(from, &to), expected, "{to:?}");
        }
    }
}

#[test]
fn other_alphabets_are_for_strings_and_comments() {
    // A letter of another alphabet, digit and signs of another width.
    for (to, column) in [
        ("offi\u{441}ers = 3", 5),
        ("officers = ３", 12),
        ("officers ＝ 3", 10),
        ("officers = 3 ＃", 14),
    ] {
        match fault(OFFICERS, to) {
            SpellingError::Character { column: found, .. } => assert_eq!(found, column),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn a_carriage_return_alone_ends_no_line() {
    for to in [
        "officers = 2 #\rofficers = 3",
        "officers = 3 \r ",
        "officers\r= 3",
        "officers = 3\r\r",
    ] {
        assert_eq!(fault(OFFICERS, to), SpellingError::CarriageReturn, "{to:?}");
    }
    let at_the_end = format!("{}\r", sample::text());
    assert!(matches!(
        TrustList::parse(at_the_end.as_bytes()),
        Err(TrustError::Spelling {
            fault: SpellingError::CarriageReturn,
            ..
        })
    ));
}

#[test]
fn a_byte_order_mark_is_reported_as_one() {
    let text = format!("\u{feff}{}", sample::text());
    assert_eq!(
        TrustList::parse(text.as_bytes()),
        Err(TrustError::Spelling {
            line: 1,
            fault: SpellingError::ByteOrderMark
        })
    );
}

#[test]
fn a_number_is_decimal_digits_alone() {
    for number in [
        "2_0",
        "+3",
        "-3",
        "0x3",
        "0o3",
        "0b11",
        "3e0",
        "inf",
        "nan",
        "-0",
        "2026-01-01",
        "12:00:00",
    ] {
        let to = format!("officers = {number}");
        assert_eq!(fault(OFFICERS, &to), SpellingError::Value, "{number}");
        let to = format!("categories = [\n{number}, 3]");
        let (_, in_array) = fault_of(CATEGORIES, &to);
        assert_eq!(in_array, SpellingError::Value, "{number}");
    }
    assert_eq!(fault(OFFICERS, "officers = 3.0"), SpellingError::Dot);
    // The TOML reader refuses these.
    for number in ["03", "3 0"] {
        let text = changed(OFFICERS, &format!("officers = {number}"));
        assert!(TrustList::parse(text.as_bytes()).is_err(), "{number}");
    }
}

#[test]
fn a_string_is_one_line_without_escapes() {
    for (to, expected) in [
        ("\"OPEN\\u0020MARKING\"", SpellingError::Escape),
        ("\"OPEN \\x4dARKING\"", SpellingError::Escape),
        ("\"OPEN MARKING\\\"", SpellingError::Escape),
        ("\"OPEN \\\"MARKING\"", SpellingError::Escape),
        ("\"\"\"OPEN MARKING\"\"\"", SpellingError::MultiLineString),
        ("'''OPEN MARKING'''", SpellingError::MultiLineString),
        ("\"\"\"\nOPEN MARKING\"\"\"", SpellingError::MultiLineString),
        ("\"OPEN MARKING", SpellingError::OpenString),
        ("'OPEN MARKING", SpellingError::OpenString),
        ("\"OPEN MARKING'", SpellingError::OpenString),
    ] {
        assert_eq!(fault(MARKING, to), expected, "{to}");
    }
    let escaped = "\"allow-software-ke\\u0079s\" = false";
    assert_eq!(fault(HEAD, escaped), SpellingError::Escape);
}

#[test]
fn dotted_keys_and_inline_tables_are_refused() {
    for (from, to, expected) in [
        (HEAD, "limits.a = 1", SpellingError::Dot),
        (HEAD, "limits . \"a\" = 1", SpellingError::Dot),
        ("[[category]]", "[[category.more]]", SpellingError::Dot),
        ("[[category]]", "[category . more]", SpellingError::Dot),
        (HEAD, "person = [{}]", SpellingError::Brace),
        (OFFICERS, "officers = { count = 3 }", SpellingError::Brace),
    ] {
        assert_eq!(fault(from, to), expected, "{to}");
    }
}

#[test]
fn the_advice_has_the_place_and_no_content() {
    let text = changed(MARKING, "\"OPEN \u{202e}GNIKRAM\"");
    let told = TrustList::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("character 17 is U+202E"), "{told}");
    assert!(
        told.starts_with("line ") && !told.contains("GNIKRAM"),
        "{told}"
    );
}

/// Tells whether each string, number and key of a value is in the text as it is.
fn is_spelled(text: &str, value: &toml::Value) -> bool {
    match value {
        toml::Value::String(string) => ["\"", "'"]
            .iter()
            .any(|mark| text.contains(&format!("{mark}{string}{mark}"))),
        toml::Value::Integer(number) => text.contains(&number.to_string()),
        toml::Value::Boolean(_) => true,
        toml::Value::Array(items) => items.iter().all(|one| is_spelled(text, one)),
        toml::Value::Table(table) => table
            .iter()
            .all(|(key, one)| text.contains(key.as_str()) && is_spelled(text, one)),
        toml::Value::Float(_) | toml::Value::Datetime(_) => false,
    }
}

proptest! {
    #[test]
    fn what_passes_means_what_it_looks_like(
        at in any::<prop::sample::Index>(),
        with in "[\\\\\"'\\[\\]{}.=#_+\r\n \t0-9xub-]{1,6}",
    ) {
        let text = sample::text();
        let at = at.index(text.len());
        let text = format!("{}{with}{}", &text[..at], &text[at..]);
        if check(&text).is_ok() && let Ok(table) = toml::from_str::<toml::Table>(&text) {
            prop_assert!(is_spelled(&text, &toml::Value::Table(table)), "{}", text);
        }
    }

    #[test]
    fn checking_any_text_returns(text in "\\PC{0,60}|.{0,60}|[\\[\\]'\"#=\\\\ a\n\r]{0,40}") {
        let _ = check(&text);
    }
}
