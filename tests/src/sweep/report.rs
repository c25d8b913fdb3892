//! The results of a sweep, for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::case::{Case, Fault};
use crate::harness::Role;

/// The outcome of one case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// Whether the fault happened: the call was made often enough, on an object that can fail in this way.
    pub is_reached: bool,
    /// Whether the role ended.
    pub has_ended: bool,
    /// Each promise that did not hold.
    pub violations: Vec<String>,
    /// The time that it took.
    pub took: Duration,
}

impl Outcome {
    /// Returns a line for each violation, with the command that repeats the case.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for violation in &self.violations {
            let line = violation.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "VIOLATION {line}: {}", self.case);
        }
        text
    }
}

/// A whole sweep.
#[derive(Debug)]
pub struct Report {
    /// The outcome of each case.
    pub outcomes: Vec<Outcome>,
    /// Every occurrence that a full sweep would have broken.
    pub possible: u64,
    /// Planned cases for which there was no time.
    pub left_out: usize,
    /// The time that the cases took.
    pub took: Duration,
}

#[derive(Default)]
struct Row {
    cases: usize,
    missed: usize,
    survived: usize,
    ended: usize,
    violations: usize,
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        self.cases += 1;
        self.missed += usize::from(!outcome.is_reached);
        self.survived += usize::from(outcome.is_reached && !outcome.has_ended);
        self.ended += usize::from(outcome.is_reached && outcome.has_ended);
        self.violations += usize::from(!outcome.violations.is_empty());
    }

    fn line(&self, name: &str) -> String {
        let Self {
            cases,
            missed,
            survived,
            ended,
            violations,
        } = self;
        format!("{name:<40} {cases:>6} {missed:>11} {survived:>9} {ended:>6} {violations:>10}\n")
    }
}

impl Report {
    /// Returns whether every promise held in every case.
    pub fn is_clean(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| outcome.violations.is_empty())
    }

    /// Returns the table, its sums, and every violation.
    pub fn table(&self) -> String {
        let mut rows: BTreeMap<(Role, Fault, &str), Row> = BTreeMap::new();
        let mut roles: BTreeMap<(Role, Fault), Row> = BTreeMap::new();
        let mut all = Row::default();
        for outcome in &self.outcomes {
            let Case {
                role, fault, call, ..
            } = &outcome.case;
            rows.entry((*role, *fault, call)).or_default().add(outcome);
            roles.entry((*role, *fault)).or_default().add(outcome);
            all.add(outcome);
        }
        let head = "role, fault, call                         cases    no fault  survived  ended violations\n";
        let mut text = head.to_owned();
        for ((role, fault, call), row) in &rows {
            let name = format!("{} {} {call}", role.word(), fault.word());
            text.push_str(&row.line(&name));
        }
        text.push('\n');
        for ((role, fault), row) in &roles {
            text.push_str(&row.line(&format!("{} {}", role.word(), fault.word())));
        }
        text.push_str(&all.line("all"));
        let total: Duration = self.outcomes.iter().map(|outcome| outcome.took).sum();
        let count = self.outcomes.len().max(1);
        let _ = writeln!(
            text,
            "\n{} of {} occurrences broken in {} s, {:.1} s a case; {} planned cases left out",
            self.outcomes.len(),
            self.possible,
            self.took.as_secs(),
            total.as_secs_f64() / f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
            self.left_out,
        );
        for outcome in &self.outcomes {
            text.push_str(&outcome.lines());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Phase;
    use super::*;

    #[test]
    fn a_violation_is_one_line_that_ends_with_the_command_that_repeats_it() {
        let case = Case {
            role: Role::Gate,
            fault: Fault::Io,
            phase: Phase::Start,
            call: "fsync".to_owned(),
            at: 17,
        };
        let outcome = Outcome {
            case,
            is_reached: true,
            has_ended: true,
            violations: vec!["it is\nlost".to_owned()],
            took: Duration::from_secs(1),
        };
        let command = "valise-sweep --role gate --phase start --fault EIO --call fsync --at 17";
        assert_eq!(
            outcome.lines(),
            format!("VIOLATION it is lost: {command}\n")
        );
        let report = Report {
            outcomes: vec![outcome],
            possible: 9,
            left_out: 0,
            took: Duration::from_secs(1),
        };
        assert!(!report.is_clean());
        assert!(report.table().contains("1 of 9 occurrences"));
        assert!(report.table().contains(command));
    }
}
