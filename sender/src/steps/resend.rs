//! Serials that a request names → those that are sent again, and those that cannot be.

use std::collections::BTreeMap;
use std::fmt;

use valise_common::ids::Serial;
use valise_common::limits;
use valise_common::serial_set::SerialSet;

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

/// Outcome for the serials of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resending {
    /// The passes wanted in all from now on, of serials that need more than before.
    pub raised: BTreeMap<Serial, u8>,
    /// Serials that are sent again, whether or not they need more passes for it.
    pub queued: SerialSet,
    /// Serials without a container.
    pub not_retained: SerialSet,
    /// Serials whose container has been sent as often as it may.
    pub spent: SerialSet,
}

impl Resending {
    /// Decides what is sent again. `retained` are the containers, `more` are the passes of one resend.
    pub fn of(wanted: &SerialSet, retained: &[Retained], more: u8) -> Self {
        let (mut resending, mut found) = (Self::default(), SerialSet::new());
        for one in retained.iter().filter(|one| wanted.contains(one.serial)) {
            found.insert(one.serial);
            resending.take(one, more);
        }
        resending.not_retained = wanted.without(&found);
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
                return self.spent.insert(one.serial);
            }
            self.raised.insert(one.serial, raised);
        }
        self.queued.insert(one.serial);
    }

    /// Reads an answer. Lists that were cut are returned as far as they go; `raised` is not in an answer.
    pub fn parse(answer: &str) -> Self {
        let list = |start: &str| {
            let mut parts = answer.trim_end().split("; ");
            let list = parts.find_map(|part| part.strip_prefix(start));
            let list = list.map(|list| list.trim_end_matches(AND_MORE));
            list.and_then(|list| SerialSet::parse(list).ok())
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
        for (start, set) in [
            (QUEUED, &self.queued),
            (NOT_RETAINED, &self.not_retained),
            (SPENT, &self.spent),
        ] {
            if !set.is_empty() {
                let (listed, rest) = (listed(set), set.ranges().nth(LISTED_MAX));
                let more = if rest.is_some() { AND_MORE } else { "" };
                write!(f, "{separator}{start}{listed}{more}")?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// Returns the part of a set that a text lists.
fn listed(set: &SerialSet) -> SerialSet {
    let mut listed = SerialSet::new();
    let ranges = set.ranges().take(LISTED_MAX);
    ranges.for_each(|(first, last)| listed.insert_range(first, last));
    listed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn set(text: &str) -> SerialSet {
        SerialSet::parse(text).unwrap()
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
    fn what_is_retained_is_sent_and_the_rest_is_named() {
        let held = [2, 3, 5, 9].map(|serial| retained(serial, 2, 2));
        let resending = Resending::of(&set("1-5, 9, 20-22"), &held, 2);
        assert_eq!(resending.queued, set("2-3, 5, 9"));
        assert_eq!(resending.not_retained, set("1, 4, 20-22"));
        assert!(resending.spent.is_empty());
        assert_eq!(
            resending.raised.values().copied().collect::<Vec<_>>(),
            [4; 4]
        );
        assert_eq!(
            resending.to_string(),
            "queued again: 2-3,5,9; not retained, to be submitted again: 1,4,20-22"
        );
    }

    #[test]
    fn passes_that_are_owed_are_not_added_again_and_the_last_one_is_spent() {
        let more = 2;
        let all = set("1-4");
        let mut repeated = retained(4, 2, 0);
        repeated.is_repeated = true;
        let held = [
            retained(1, 4, 0),
            retained(2, limits::PASSES_MAX, limits::PASSES_MAX),
            retained(3, 2, 1),
            repeated,
        ];
        let resending = Resending::of(&all, &held, more);
        assert_eq!(resending.queued, set("1, 3-4"));
        assert_eq!(resending.spent, set("2"));
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
        let resending = Resending::of(&set("1-400"), &held, 2);
        let answer = resending.to_string();
        assert!(answer.len() < limits::ANSWER_BYTES_MAX);
        let read = Resending::parse(&answer);
        assert_eq!(read.queued, listed(&resending.queued));
        assert_eq!(read.not_retained, listed(&resending.not_retained));
        let short = Resending::of(&set("2, 4, 7"), &held, 2);
        let read = Resending::parse(&format!("{short}\n"));
        assert_eq!(
            (read.queued, read.not_retained),
            (short.queued, short.not_retained)
        );
    }
}
