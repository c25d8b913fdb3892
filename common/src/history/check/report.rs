//! What the verification of a log found: what is proved, what is not, and the first bad line.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Basis, KeyState};
use crate::audit::{AuditError, Summary};
use crate::units::{UtcTime, count_of};

/// What was found, as `audit verify` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose log it is, where that is known.
    pub role: Option<String>,
    /// Where it lies.
    pub log: String,
    /// Whether nothing speaks against it.
    pub intact: bool,
    /// The first fault.
    pub fault: Option<Fault>,
    /// Lines that verified.
    pub lines: Option<u64>,
    /// When the first of them was written.
    pub first: Option<UtcTime>,
    /// When the last of them was written.
    pub last: Option<UtcTime>,
    /// The line from which on every MAC was verified.
    pub macs_from_line: Option<u64>,
    /// The line of the last checkpoint that the auditor holds.
    pub held_checkpoint_line: Option<u64>,
    /// The line of the last checkpoint that lies beside the log.
    pub checkpoint_line: Option<u64>,
    /// What is proved, a sentence each.
    pub proved: Vec<String>,
    /// What is not, and what it would take.
    pub not_proved: Vec<String>,
}

/// The first fault of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The first bad line, from 1; nothing where the checkpoints are at fault.
    pub line: Option<u64>,
    /// The last line that may be the first bad one.
    pub line_last: Option<u64>,
    /// What is wrong.
    pub text: String,
}

impl Report {
    /// `vouched` lines have more for them than the hashes between them.
    pub(super) fn new(basis: Basis, ended: Result<Summary, AuditError>, vouched: u64) -> Self {
        let log = basis.place_log.display().to_string();
        let line_of = |seen: super::Seen| (seen.count > 0).then_some(seen.last_line);
        let mut report = Self {
            role: basis.role.clone(),
            log,
            intact: false,
            fault: None,
            lines: None,
            first: None,
            last: None,
            macs_from_line: None,
            held_checkpoint_line: line_of(basis.held),
            checkpoint_line: line_of(basis.beside),
            proved: Vec::new(),
            not_proved: Vec::new(),
        };
        match ended {
            Ok(summary) => {
                report.lines = Some(summary.state.next_seq);
                report.first = summary.first;
                report.last = summary.last;
                report.macs_from_line = summary
                    .macs_from
                    .map(|seq| seq + 1)
                    .filter(|line| *line <= summary.state.next_seq);
                report.tell_proved(&basis, &summary);
                report.tell_not_proved(&basis, &summary);
                report.fault = basis.fault.map(|text| Fault {
                    line: None,
                    line_last: None,
                    text,
                });
            }
            Err(error) => {
                report.tell_not_proved_before(&error, vouched);
                report.fault = Some(Fault {
                    line: error.line(),
                    line_last: error.line_last(),
                    text: error.to_string(),
                });
            }
        }
        report.intact = report.fault.is_none();
        report
    }

    fn tell_proved(&mut self, basis: &Basis, summary: &Summary) {
        let lines = summary.state.next_seq;
        let mut add = |text: String| self.proved.push(text);
        add(format!(
            "numbers, order and hashes of {} fit",
            count_of(lines, "line")
        ));
        match self.macs_from_line {
            Some(1) if basis.has_first_key => add(
                "every line is as it was written: all MACs verify under the first key".to_owned(),
            ),
            Some(line) => add(format!(
                "lines {line} to {lines} are as they were written: their MACs verify under the key in the host's key file"
            )),
            None => {}
        }
        let (held, beside) = (basis.held, basis.beside);
        if held.count > 0 {
            add(format!(
                "{} that you hold: nothing up to line {} was cut or rewritten since",
                count_of(held.count, "checkpoint"),
                held.last_line
            ));
        }
        if beside.count > 0 {
            add(format!(
                "{} beside the log, the last at line {}",
                count_of(beside.count, "checkpoint"),
                beside.last_line
            ));
        }
        if summary.is_key_state_met {
            add("the last lines fit the host's key file".to_owned());
        }
    }

    fn tell_not_proved(&mut self, basis: &Basis, summary: &Summary) {
        let lines = summary.state.next_seq;
        let mut add = |text: String| self.not_proved.push(text);
        if !basis.has_first_key {
            add("MACs: without the first key (--key FILE) lines that were rewritten with all hashes behind them show only \
                 against a checkpoint".to_owned());
        }
        match basis.held.last_line {
            0 => add(
                "a cut or rewritten tail: you brought no checkpoint (--checkpoint FILE), and what lies beside the log \
                 could have been changed with it"
                    .to_owned(),
            ),
            line if line < lines => add(format!(
                "a cut tail behind line {line}, the last of which you hold a checkpoint: had the log been longer than \
                 {lines} lines, that would not show"
            )),
            line => add(format!(
                "what came behind line {line}, the last of which you hold a checkpoint"
            )),
        }
        if !basis.has_own_public_key && basis.held.count + basis.beside.count > 0 {
            add("whose checkpoints they are: their public key lies beside the log too; bring the one that init printed \
                 (--public-key FILE)".to_owned());
        }
        if basis.key_state == KeyState::Unreadable {
            add(
                "that the log ends where the host's key file stands: this user may not read that"
                    .to_owned(),
            );
        }
        if summary.torn_bytes > 0 {
            add(format!(
                "{} bytes behind line {lines} are no whole line yet: one that is being written, or that a crash cut short; \
                 no tampering, and no part of the log",
                summary.torn_bytes
            ));
        }
        if basis.is_note_torn {
            add("the last checkpoint beside the log is half written".to_owned());
        }
    }

    /// Whoever recomputes the hashes behind a change as far as he likes shows only where he stopped.
    fn tell_not_proved_before(&mut self, error: &AuditError, vouched: u64) {
        if let Some(line) = error.line()
            && vouched + 1 < line
        {
            self.not_proved.push(format!(
                "lines {} to {}, which come before that: their hashes fit, but only the first key (--key FILE) or a checkpoint \
                 would show that they were not rewritten together with these",
                vouched + 1,
                line - 1
            ));
        }
    }

    /// Returns the report as text, lines for a terminal.
    pub fn text(&self) -> String {
        let name = self.role.as_deref().unwrap_or("log");
        let mut text = String::new();
        // Writing to a String cannot fail.
        match &self.fault {
            Some(fault) => {
                let _ = write!(text, "{name}: NOT INTACT ({})\n  {}", self.log, fault.text);
            }
            None => {
                let lines = self.lines.unwrap_or(0);
                let _ = write!(text, "{name}: intact, {}", count_of(lines, "line"));
                if let (Some(first), Some(last)) = (self.first, self.last) {
                    let _ = write!(text, " from {first} to {last}");
                }
                let _ = write!(text, " ({})", self.log);
            }
        }
        for one in &self.proved {
            let _ = write!(text, "\n  proved: {one}");
        }
        for one in &self.not_proved {
            let _ = write!(text, "\n  not proved: {one}");
        }
        text
    }

    /// Returns the fault in one line, with what to do; `None` for a log that is intact.
    pub fn refusal(&self) -> Option<String> {
        let fault = self.fault.as_ref()?;
        Some(format!(
            "{}: {}; keep the log, its checkpoints and its key file as they are, and call the auditor",
            self.log, fault.text
        ))
    }
}
