//! Serials that a request names → those that are sent again, and those that cannot be.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use valise_common::ids::Serial;
use valise_common::limits;

/// Serials, as ranges with both ends, in order and apart from each other.
pub type Ranges = Vec<(Serial, Serial)>;

/// Ranges that a text lists. An answer has a bound, and a person reads it.
const LISTED_MAX: usize = 50;

/// The beginnings of the parts of an answer.
const QUEUED: &str = "queued again: ";
const NOT_RETAINED: &str = "not retained, to be submitted again: ";
const SPENT: &str = "sent too often, to be submitted again: ";

/// The end of a list that is cut.
const AND_MORE: &str = " and more";

/// A container that is retained.
#[derive(Debug, Clone, Copy)]
pub struct Retained {
    /// Its serial.
    pub serial: Serial,
    /// Passes wanted in all.
    pub passes: u8,
    /// Passes made.
    pub passes_done: u8,
    /// The same request has had its effect on it before.
    pub is_repeated: bool,
}

/// What becomes of the serials of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resending {
    /// The passes wanted in all from now on, of serials that need more than before.
    pub raised: BTreeMap<Serial, u8>,
    /// Serials that are sent again, whether or not they need more passes for it.
    pub queued: Ranges,
    /// Serials without a container.
    pub not_retained: Ranges,
    /// Serials whose container has been sent as often as it may.
    pub spent: Ranges,
}

impl Resending {
    /// Decides what is sent again. `retained` are the containers within `wanted`, in the order of their serials; `more` are
    /// the passes of one resend.
    pub fn of(wanted: &Ranges, retained: &[Retained], more: u8) -> Self {
        let mut resending = Self::default();
        for &(first, last) in wanted {
            let mut next = Some(first);
            let within = |one: &&Retained| first <= one.serial && one.serial <= last;
            for one in retained.iter().filter(within) {
                if let Some((from, before)) = next.zip(Serial::new(one.serial.get() - 1))
                    && from < one.serial
                {
                    resending.not_retained.push((from, before));
                }
                next = one.serial.plus(1);
                resending.take(one, more);
            }
            if let Some(from) = next.filter(|from| *from <= last) {
                resending.not_retained.push((from, last));
            }
        }
        resending
    }

    fn take(&mut self, one: &Retained, more: u8) {
        if !one.is_repeated {
            // Whoever asks again while passes are owed to an earlier resend gets those: else a few users, or one, would use
            // up all that a container may have.
            let enough = one.passes_done.max(more).saturating_add(more);
            let raised = one.passes.saturating_add(more).min(enough);
            let raised = raised.max(one.passes);
            if raised > limits::PASSES_MAX {
                return add(&mut self.spent, one.serial);
            }
            self.raised.insert(one.serial, raised);
        }
        add(&mut self.queued, one.serial);
    }

    /// Reads an answer. Lists that were cut are returned as far as they go; `raised` is not in an answer.
    pub fn parse(answer: &str) -> Self {
        let list = |start: &str| {
            let mut parts = answer.trim_end().split("; ");
            let list = parts.find_map(|part| part.strip_prefix(start));
            let list = list.map(|list| list.trim_end_matches(AND_MORE));
            list.and_then(|list| parse_ranges(list).ok())
                .unwrap_or_default()
        };
        Self {
            raised: BTreeMap::new(),
            queued: list(QUEUED),
            not_retained: list(NOT_RETAINED),
            spent: list(SPENT),
        }
    }
}

impl fmt::Display for Resending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (start, ranges) in [
            (QUEUED, &self.queued),
            (NOT_RETAINED, &self.not_retained),
            (SPENT, &self.spent),
        ] {
            if !ranges.is_empty() {
                write!(f, "{separator}{start}{}", shown(ranges))?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// Adds a serial after all others.
fn add(ranges: &mut Ranges, serial: Serial) {
    match ranges.last_mut() {
        Some((_, last)) if last.plus(1) == Some(serial) => *last = serial,
        _ => ranges.push((serial, serial)),
    }
}

fn shown(ranges: &Ranges) -> String {
    let mut text = String::new();
    for (first, last) in ranges.iter().take(LISTED_MAX) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match first == last {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}-{last}"),
        };
    }
    if ranges.len() > LISTED_MAX {
        text.push_str(AND_MORE);
    }
    text
}

/// Reads `41-43,50`: serials and ranges with both ends, in any order. Ranges that overlap or touch are returned as one, so that a
/// long text costs no more than the serials in it.
///
/// # Errors
/// A sentence with what is wrong.
pub fn parse_ranges(text: &str) -> Result<Ranges, String> {
    if text.contains(|letter: char| letter.is_ascii_alphabetic()) {
        return Err(
            "this version takes serials only, such as 41-43,50, and no gap code; the receiver's gaps names them"
                .to_owned(),
        );
    }
    let parse = |text: &str| {
        text.trim().parse::<Serial>().map_err(|_| {
            "serials and ranges of them, with commas between them, such as 41-43,50".to_owned()
        })
    };
    let mut ranges = Vec::new();
    for range in text.split(',') {
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (parse(first)?, parse(last)?),
            None => (parse(range)?, parse(range)?),
        };
        if last < first {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        ranges.push((first, last));
    }
    ranges.sort_unstable();
    let mut merged = Ranges::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first.get() <= end.get().saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn ranges(text: &str) -> Ranges {
        parse_ranges(text).unwrap()
    }

    fn retained(serial: u64, passes: u8, passes_done: u8) -> Retained {
        Retained {
            serial: Serial::new(serial).unwrap(),
            passes,
            passes_done,
            is_repeated: false,
        }
    }

    #[test]
    fn ranges_are_read_with_both_ends() {
        let serial = |number| Serial::new(number).unwrap();
        assert_eq!(
            parse_ranges("41-43, 50").unwrap(),
            [(serial(41), serial(43)), (serial(50), serial(50))]
        );
        assert_eq!(
            parse_ranges("50, 41-43, 42-45, 43").unwrap(),
            [(serial(41), serial(45)), (serial(50), serial(50))]
        );
        for wrong in ["", "0", "3-1", "1-", "x", "1,,2", "V1-ABCD"] {
            assert!(parse_ranges(wrong).is_err(), "{wrong}");
        }
        for code in ["V1-ABCD", "ABCD-EF"] {
            let told = parse_ranges(code).unwrap_err();
            assert!(told.contains("takes serials only"), "{told}");
        }
    }

    #[test]
    fn what_is_retained_is_sent_and_the_rest_is_named() {
        let held = [2, 3, 5, 9].map(|serial| retained(serial, 2, 2));
        let resending = Resending::of(&ranges("1-5, 9, 20-22"), &held, 2);
        assert_eq!(resending.queued, ranges("2-3, 5, 9"));
        assert_eq!(resending.not_retained, ranges("1, 4, 20-22"));
        assert!(resending.spent.is_empty());
        assert_eq!(
            resending.raised.values().copied().collect::<Vec<_>>(),
            [4; 4]
        );
        assert_eq!(
            resending.to_string(),
            "queued again: 2-3, 5, 9; not retained, to be submitted again: 1, 4, 20-22"
        );
    }

    #[test]
    fn passes_that_are_owed_are_not_added_again_and_the_last_one_is_spent() {
        let more = 2;
        let all = ranges("1-4");
        let mut repeated = retained(4, 2, 0);
        repeated.is_repeated = true;
        let held = [
            retained(1, 4, 0),
            retained(2, limits::PASSES_MAX, limits::PASSES_MAX),
            retained(3, 2, 1),
            repeated,
        ];
        let resending = Resending::of(&all, &held, more);
        assert_eq!(resending.queued, ranges("1, 3-4"));
        assert_eq!(resending.spent, ranges("2"));
        let raised: Vec<(u64, u8)> = resending
            .raised
            .iter()
            .map(|(serial, passes)| (serial.get(), *passes))
            .collect();
        assert_eq!(raised, [(1, 4), (3, 4)]);
    }

    #[test]
    fn an_answer_reads_back_and_a_long_one_as_far_as_it_goes() {
        let held: Vec<Retained> = (1..=200).map(|n| retained(2 * n, 2, 2)).collect();
        let resending = Resending::of(&ranges("1-400"), &held, 2);
        let answer = resending.to_string();
        assert!(answer.len() < limits::ANSWER_BYTES_MAX);
        let read = Resending::parse(&answer);
        assert_eq!(read.queued[..], resending.queued[..LISTED_MAX]);
        assert_eq!(read.not_retained[..], resending.not_retained[..LISTED_MAX]);
        let short = Resending::of(&ranges("2, 4, 7"), &held, 2);
        let read = Resending::parse(&format!("{short}\n"));
        assert_eq!(
            (read.queued, read.not_retained),
            (short.queued, short.not_retained)
        );
    }
}
