//! A set of serials, kept as ranges: serials are issued without holes, so that a million of them are a few ranges.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::Serial;

/// A set of serials.
///
/// # Bounds
/// One entry for each run of neighbouring serials; an insertion looks at two neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerialSet {
    /// First serial → last serial of each run; runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl SerialSet {
    /// Returns the empty set.
    pub fn new() -> SerialSet {
        SerialSet::default()
    }

    /// Reads `41-43,50`: serials and ranges with both ends, in any order.
    ///
    /// # Errors
    /// A sentence with what is wrong.
    pub fn parse(text: &str) -> Result<SerialSet, String> {
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
        let mut set = SerialSet::new();
        for range in text.split(',') {
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (parse(first)?, parse(last)?),
                None => (parse(range)?, parse(range)?),
            };
            if last < first {
                return Err(format!("the range {first}-{last} runs backwards"));
            }
            set.insert_range(first, last);
        }
        Ok(set)
    }

    /// Returns whether `serial` is a member.
    pub fn contains(&self, serial: Serial) -> bool {
        let serial = serial.get();
        self.runs
            .range(..=serial)
            .next_back()
            .is_some_and(|(_, last)| *last >= serial)
    }

    /// Adds one serial.
    pub fn insert(&mut self, serial: Serial) {
        self.insert_range(serial, serial);
    }

    /// Adds `first..=last`; a range that is upside down is empty.
    pub fn insert_range(&mut self, first: Serial, last: Serial) {
        let (mut first, mut last) = (first.get(), last.get());
        if first > last {
            return;
        }
        if let Some((run_first, run_last)) = self.runs.range(..=first).next_back()
            && run_last.saturating_add(1) >= first
        {
            first = *run_first;
            last = last.max(*run_last);
        }
        while let Some((run_first, run_last)) = self
            .runs
            .range(first..=last.saturating_add(1))
            .next()
            .map(|(f, l)| (*f, *l))
        {
            self.runs.remove(&run_first);
            last = last.max(run_last);
        }
        self.runs.insert(first, last);
    }

    /// Takes one serial out.
    pub fn remove(&mut self, serial: Serial) {
        let serial = serial.get();
        let Some((first, last)) = self
            .runs
            .range(..=serial)
            .next_back()
            .map(|(f, l)| (*f, *l))
        else {
            return;
        };
        if last < serial {
            return;
        }
        self.runs.remove(&first);
        if first < serial {
            self.runs.insert(first, serial.saturating_sub(1));
        }
        if serial < last {
            self.runs.insert(serial.saturating_add(1), last);
        }
    }

    /// Takes `first..=last` out.
    pub fn remove_range(&mut self, first: Serial, last: Serial) {
        let mut gone = SerialSet::new();
        gone.insert_range(first, last);
        *self = self.without(&gone);
    }

    /// Returns the runs in ascending order, as first and last serial.
    pub fn ranges(&self) -> impl Iterator<Item = (Serial, Serial)> + '_ {
        self.runs
            .iter()
            .filter_map(|(first, last)| Some((Serial::new(*first)?, Serial::new(*last)?)))
    }

    /// Returns the members that `other` lacks.
    pub fn without(&self, other: &SerialSet) -> SerialSet {
        let mut rest = SerialSet::new();
        for (first, last) in &self.runs {
            let mut start = *first;
            // The run that began before this one may reach into it.
            let before = other.runs.range(..*first).next_back();
            let inside = other.runs.range(*first..=*last);
            let mut open = true;
            for (gone_first, gone_last) in before.into_iter().chain(inside) {
                if *gone_last < start {
                    continue;
                }
                if *gone_first > start {
                    rest.runs.insert(start, gone_first.saturating_sub(1));
                }
                if *gone_last >= *last {
                    open = false;
                    break;
                }
                start = gone_last.saturating_add(1);
            }
            if open {
                rest.runs.insert(start, *last);
            }
        }
        rest
    }

    /// Returns the number of serials.
    pub fn serial_count(&self) -> u64 {
        self.runs
            .iter()
            .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
            .fold(0, u64::saturating_add)
    }

    /// Returns the greatest member.
    pub fn last(&self) -> Option<Serial> {
        self.runs
            .values()
            .next_back()
            .and_then(|last| Serial::new(*last))
    }

    /// Returns whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns every member in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Serial> + '_ {
        self.runs
            .iter()
            .flat_map(|(first, last)| (*first..=*last).filter_map(Serial::new))
    }
}

/// As a person writes it, and as [`SerialSet::parse`] reads it: `41-43,50`.
impl fmt::Display for SerialSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.runs.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;
    use std::collections::BTreeSet;

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    #[test]
    fn neighbours_become_one_run() {
        let mut set = SerialSet::new();
        for value in [5, 3, 4, 9, 1] {
            set.insert(serial(value));
        }
        assert_eq!(set.to_string(), "1,3-5,9");
        set.insert_range(serial(2), serial(20));
        assert_eq!(set.to_string(), "1-20");
        set.remove(serial(7));
        assert_eq!(set.to_string(), "1-6,8-20");
        assert_eq!(set.serial_count(), 19);
    }

    #[test]
    fn agrees_with_a_plain_set_whatever_is_done_to_it() {
        let mut state = 7u64;
        let mut next = |bound: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % bound + 1
        };
        for _ in 0..200 {
            let (mut ours, mut plain) = (SerialSet::new(), BTreeSet::new());
            let (mut ours_other, mut plain_other) = (SerialSet::new(), BTreeSet::new());
            for _ in 0..20 {
                let first = next(60);
                let last = first + next(5) - 1;
                ours.insert_range(serial(first), serial(last));
                plain.extend(first..=last);
                let gone = next(60);
                ours.remove(serial(gone));
                plain.remove(&gone);
                let (first, length) = (next(60), next(4));
                if next(2) == 1 {
                    ours_other.insert_range(serial(first), serial(first + length));
                    plain_other.extend(first..=first + length);
                }
            }
            assert_eq!(
                ours.iter().map(Serial::get).collect::<Vec<_>>(),
                Vec::from_iter(plain.clone())
            );
            let rest: Vec<u64> = ours.without(&ours_other).iter().map(Serial::get).collect();
            assert_eq!(
                rest,
                plain.difference(&plain_other).copied().collect::<Vec<_>>()
            );
            for value in 1..=70 {
                assert_eq!(ours.contains(serial(value)), plain.contains(&value));
            }
        }
    }

    #[test]
    fn the_last_serials_do_not_overflow() {
        let mut set = SerialSet::new();
        let top = (1u64 << 63) - 1;
        set.insert_range(serial(top - 1), serial(top));
        set.insert(serial(top));
        assert_eq!(set.serial_count(), 2);
        set.remove(serial(top));
        assert_eq!(set.last(), Serial::new(top - 1));
    }

    #[test]
    fn ranges_are_read_with_both_ends() {
        let read = |text: &str| SerialSet::parse(text).unwrap().to_string();
        assert_eq!(read("41-43, 50"), "41-43,50");
        assert_eq!(read("50, 41-43, 42-45, 43"), "41-45,50");
        for wrong in ["", "0", "3-1", "1-", "x", "1,,2", "V1-ABCD"] {
            assert!(SerialSet::parse(wrong).is_err(), "{wrong}");
        }
        for code in ["V1-ABCD", "ABCD-EF"] {
            let told = SerialSet::parse(code).unwrap_err();
            assert!(told.contains("takes serials only"), "{told}");
        }
    }
}
