//! The possible cases, from a clean run of each role, and those that fit the time.

use std::collections::BTreeMap;

use super::case::{Case, Fault, Phase, faults_of};
use super::options::Options;
use super::strace::Span;
use crate::harness::Role;
use crate::wire::Prng;

/// The calls of a role in a clean run, and their numbers.
pub type Profile = BTreeMap<(Role, Phase), BTreeMap<String, Span>>;

/// Cases, in the order in which they run.
#[derive(Debug)]
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
    /// Every occurrence that a full sweep has.
    pub possible: u64,
    /// One in so many occurrences is taken, and at least one of each call and fault.
    pub step: u64,
}

impl Plan {
    /// Chooses at most about `affordable` cases, spread evenly over all occurrences.
    pub fn choose(profile: &Profile, options: &Options, affordable: u64) -> Self {
        let rows = rows(profile, options);
        let possible: u64 = rows.iter().map(Row::count).sum();
        let step = match options.full {
            true => 1,
            false => smallest_step(&rows, affordable),
        };
        let mut prng = Prng::new(options.seed);
        let mut ordered = Vec::new();
        for row in rows {
            let start = prng.below(step.min(row.count()));
            let mut offset = start;
            while offset < row.count() {
                ordered.push((prng.bits(), row.case(offset)));
                offset += step;
            }
        }
        // In random order, so that a sweep that runs out of time has left out some of each.
        ordered.sort();
        let cases = ordered.into_iter().map(|(_, case)| case).collect();
        Self {
            cases,
            possible,
            step,
        }
    }
}

/// The occurrences of one call under one fault.
struct Row {
    role: Role,
    phase: Phase,
    fault: Fault,
    call: String,
    span: Span,
}

impl Row {
    fn count(&self) -> u64 {
        u64::from(self.span.last - self.span.first) + 1
    }

    fn case(&self, offset: u64) -> Case {
        Case {
            role: self.role,
            fault: self.fault,
            phase: self.phase,
            call: self.call.clone(),
            at: self.span.first + u32::try_from(offset).unwrap_or(0),
        }
    }
}

fn rows(profile: &Profile, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for ((role, phase), calls) in profile {
        for (call, span) in calls {
            let faults = faults_of(call).iter();
            for fault in faults.filter(|fault| options.takes(*role, *phase, **fault, call)) {
                rows.push(Row {
                    role: *role,
                    phase: *phase,
                    fault: *fault,
                    call: call.clone(),
                    span: *span,
                });
            }
        }
    }
    rows
}

fn smallest_step(rows: &[Row], affordable: u64) -> u64 {
    let cases = |step: u64| {
        rows.iter()
            .map(|row| row.count().div_ceil(step))
            .sum::<u64>()
    };
    let longest = rows.iter().map(Row::count).max().unwrap_or(1);
    let mut step = 1;
    while step < longest && cases(step) > affordable {
        step += 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(words: &[&str], affordable: u64) -> Plan {
        let span = |first, last| Span { first, last };
        let calls = [
            ("fsync".to_owned(), span(5, 104)),
            ("rmdir".to_owned(), span(1, 1)),
        ];
        let profile = [((Role::Gate, Phase::Start), calls.into())].into();
        let words = [&["valise-sweep"], words].concat();
        let options = Options::try_parse_from(words).expect("a command line");
        Plan::choose(&profile, &options, affordable)
    }

    #[test]
    fn a_full_plan_has_every_occurrence_once() {
        let mut full = plan(&["--full"], 0).cases;
        // Of fsync under three faults, and of rmdir under two.
        assert_eq!(full.len(), 302);
        full.sort();
        full.dedup();
        assert_eq!(full.len(), 302);
        assert!(
            full.iter()
                .all(|case| case.call != "fsync" || (5..=104).contains(&case.at))
        );
    }

    #[test]
    fn a_short_plan_fits_and_has_each_fault_of_each_call() {
        let short = plan(&[], 20);
        assert!(
            short.cases.len() <= 20 && short.step > 1,
            "{}",
            short.cases.len()
        );
        for (call, fault) in [("fsync", Fault::NoSpace), ("rmdir", Fault::Io)] {
            assert!(
                short
                    .cases
                    .iter()
                    .any(|case| case.call == call && case.fault == fault)
            );
        }
        assert_ne!(plan(&["--seed", "2"], 20).cases, short.cases);
        assert_eq!(plan(&["--fault", "ENOSPC"], 20).possible, 100);
    }
}
