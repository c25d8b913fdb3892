//! The spelling of a list: administrators sign what an editor shows them, so the file must mean what it looks like.
//!
//! A line can be judged by itself, because no string continues on the next one. Whatever TOML allows and this page
//! refuses is a second spelling of something, or looks like something else.

use thiserror::Error;

use super::TrustError;
use crate::manifest::is_forbidden;

/// What a list may not be spelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpellingError {
    /// The file begins with U+FEFF.
    #[error("the file begins with a byte-order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// A carriage return that no line feed follows.
    #[error("a carriage return without a line feed; end lines with LF or CR LF")]
    CarriageReturn,
    /// A control, invisible or reordering character, or outside of strings and comments one that is not ASCII.
    #[error(
        "character {column} is U+{code:04X}; use tabs and U+0020 to U+007E, and other visible characters only in strings \
         and comments"
    )]
    Character {
        /// Its place in the line, from 1.
        column: usize,
        /// Its code point.
        code: u32,
    },
    /// A backslash in a string with double quotes.
    #[error("a backslash in a string; write every character as itself")]
    Escape,
    /// Three quotation marks.
    #[error("three quotation marks; write each string on one line, between single marks")]
    MultiLineString,
    /// No second quotation mark.
    #[error("a string does not end on its line; close it with its quotation mark")]
    OpenString,
    /// `a.b = 1`, `[a.b]`, or a number with a fraction.
    #[error("a dot outside of a string; write no dotted keys, and whole numbers only")]
    Dot,
    /// `{ a = 1 }`.
    #[error("a brace outside of a string; write a table in double brackets, a key a line")]
    Brace,
    /// `2_0`, `+2`, `0x2`, a date, or an infinity.
    #[error(
        "a value that is neither a string, true, false, a list of these, nor decimal digits alone"
    )]
    Value,
}

/// Checks every line of a list.
///
/// # Errors
/// [`TrustError::Spelling`], with the first line that is wrong.
pub(super) fn check(text: &str) -> Result<(), TrustError> {
    let at = |line, fault| TrustError::Spelling { line, fault };
    if text.starts_with('\u{feff}') {
        return Err(at(1, SpellingError::ByteOrderMark));
    }
    let mut depth = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let line = match line.strip_suffix('\n') {
            Some(ended) => ended.strip_suffix('\r').unwrap_or(ended),
            None => line,
        };
        depth = check_line(line, depth).map_err(|fault| at(number, fault))?;
    }
    Ok(())
}

/// What a bare word of a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Header,
    Value,
}

/// Checks a line that begins inside of `depth` arrays. Returns inside of how many the next one begins.
fn check_line(line: &str, mut depth: usize) -> Result<usize, SpellingError> {
    let mut place = match depth {
        0 if line.trim_start_matches([' ', '\t']).starts_with('[') => Place::Header,
        0 => Place::Key,
        _ => Place::Value,
    };
    let mut at = 0;
    while let Some(first) = line[at..].chars().next() {
        let rest = &line[at..];
        let length = match first {
            '#' => rest.len(),
            '"' | '\'' => string_bytes(rest, first)?,
            '.' => return Err(SpellingError::Dot),
            '{' | '}' => return Err(SpellingError::Brace),
            c if is_bare(c) => rest.find(|c| !is_bare(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let token = &rest[..length];
        let is_text = matches!(first, '#' | '"' | '\'');
        let is_wrong = |c: char| match is_text {
            true => c != '\t' && is_forbidden(c),
            false => !matches!(c, '\t' | ' '..='~'),
        };
        if let Some((offset, c)) = token.char_indices().find(|(_, c)| is_wrong(*c)) {
            return Err(forbidden(&line[..at + offset], c));
        }
        match (first, place) {
            ('=', Place::Key) => place = Place::Value,
            ('[', Place::Value) => depth += 1,
            (']', Place::Value) => depth = depth.saturating_sub(1),
            (c, Place::Value) if is_bare(c) && !is_value(token) => {
                return Err(SpellingError::Value);
            }
            _ => {}
        }
        at += length;
    }
    Ok(depth)
}

/// Returns the bytes of the string, quotation marks included, that `rest` begins with.
fn string_bytes(rest: &str, mark: char) -> Result<usize, SpellingError> {
    if rest.chars().take_while(|c| *c == mark).count() >= 3 {
        return Err(SpellingError::MultiLineString);
    }
    let behind = &rest[1..];
    let end = behind.find(mark).ok_or(SpellingError::OpenString)?;
    // Between single marks a backslash is a character like any other.
    if mark == '"' && behind[..end].contains('\\') {
        return Err(SpellingError::Escape);
    }
    Ok(end + 2)
}

fn forbidden(before: &str, c: char) -> SpellingError {
    if c == '\r' {
        return SpellingError::CarriageReturn;
    }
    SpellingError::Character {
        column: before.chars().count() + 1,
        code: u32::from(c),
    }
}

/// Returns whether a key, a number, a truth value or a date may hold the character. The dot is apart.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | ':')
}

fn is_value(word: &str) -> bool {
    word == "true" || word == "false" || word.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
