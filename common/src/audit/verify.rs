//! A whole log, verified line by line against what an auditor holds.
//!
//! What each piece of evidence proves:
//!
//! | held | proves |
//! |---|---|
//! | nothing | that each line names the one before it: an edit by someone who did not recompute the lines after it |
//! | K_0 | every line is as it was written: later keys cannot make its MAC |
//! | a signed checkpoint | the lines up to the one that it names, and that they are still there |
//! | the host's key state | that the last line is the last that the host wrote; and the MACs of lines after it |

use std::io::{BufRead, Read as _};
use std::iter::Peekable;
use std::vec;

use thiserror::Error;

use super::line::{LineFault, Parts, has_form};
use super::{AuditRecord, Chain, ChainState, Checkpoint};
use crate::limits;
use crate::secret::Secret32;
use crate::units::UtcTime;

/// What a log is held against.
#[derive(Default)]
pub struct Evidence {
    /// K_0, which the auditor got when the log began.
    pub first_key: Option<Secret32>,
    /// Checkpoints of this log whose signatures were verified.
    pub checkpoints: Vec<Checkpoint>,
    /// Where the host's key file says that the chain stands, with the key of the next line.
    pub key_state: Option<Chain>,
}

/// What a verified log holds, and what of the evidence reached how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Where the chain ends; `next_seq` is the number of lines.
    pub state: ChainState,
    /// The first line's time.
    pub first: Option<UtcTime>,
    /// The last line's time.
    pub last: Option<UtcTime>,
    /// The number of the first line from which on every MAC was verified.
    pub macs_from: Option<u64>,
    /// Whether the host's key state was met on the way.
    pub is_key_state_met: bool,
    /// Bytes after the last LF: a line that is being written, or that a crash cut short. They are not part of the log.
    pub torn_bytes: usize,
}

/// The first fault of a log. Lines are counted from 1, as editors count.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A line is not what was written.
    #[error("line {line}: {fault}")]
    Line {
        /// The line.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// A line does not follow from the one before, for which nothing vouches.
    #[error(
        "line {last} does not follow from line {first}: one of the two was changed or put there, or lines between them are gone"
    )]
    Pair {
        /// The line before.
        first: u64,
        /// The line that does not follow from it.
        last: u64,
    },
    /// Lines fit each other, but not what vouches for the last of them.
    #[error(
        "line {last} is not the one that {witness} saw: lines {first} to {last} were rewritten, or some of them"
    )]
    Rewritten {
        /// The first line that nothing vouches for.
        first: u64,
        /// The line that the witness names.
        last: u64,
        /// Whose word it is.
        witness: Witness,
    },
    /// The log ends before a line that was there.
    #[error("line {first} is missing: {witness} saw line {last}, so the end of the log was cut")]
    Cut {
        /// The first line that is not there.
        first: u64,
        /// The line that the witness names.
        last: u64,
        /// Whose word it is.
        witness: Witness,
    },
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Read(#[from] std::io::Error),
}

impl AuditError {
    /// Returns the first bad line, or the first that may be bad; `None` when the log could not be read.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Line { line, .. } => Some(*line),
            Self::Pair { first, .. } | Self::Rewritten { first, .. } | Self::Cut { first, .. } => {
                Some(*first)
            }
            Self::Read(_) => None,
        }
    }

    /// Returns the last line that may be the first bad one.
    pub fn line_last(&self) -> Option<u64> {
        match self {
            Self::Pair { last, .. } | Self::Rewritten { last, .. } => Some(*last),
            other => other.line(),
        }
    }
}

/// What vouches for a line besides its MAC.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Witness {
    /// A signed checkpoint of this origin.
    #[error("the checkpoint of {0}")]
    Checkpoint(String),
    /// The host's key file.
    #[error("the host's key file")]
    KeyState,
}

/// Reads a log and verifies each line before it hands it out.
///
/// # Bounds
/// The memory of two of the longest lines ([`limits::AUDIT_LINE_BYTES_MAX`]), and the checkpoints.
pub struct Verifier<R> {
    log: R,
    state: ChainState,
    /// Goes beside `state` from the first line on whose key is known.
    macs: Option<Chain>,
    key_state: Option<Chain>,
    checkpoints: Peekable<vec::IntoIter<Checkpoint>>,
    /// How many lines something vouches for.
    vouched: u64,
    line: Vec<u8>,
    /// The line before it, for the last line's time.
    line_before: Vec<u8>,
    summary: Summary,
    is_over: bool,
}

impl<R: BufRead> Verifier<R> {
    /// Begins at a log's first byte.
    pub fn new(log: R, evidence: Evidence) -> Self {
        let mut checkpoints = evidence.checkpoints;
        checkpoints.sort_by_key(|checkpoint| checkpoint.seq);
        let macs = evidence.first_key.map(Chain::start);
        Self {
            log,
            state: ChainState::START,
            summary: Summary {
                state: ChainState::START,
                first: None,
                last: None,
                macs_from: macs.as_ref().map(|_| 0),
                is_key_state_met: false,
                torn_bytes: 0,
            },
            macs,
            key_state: evidence.key_state,
            checkpoints: checkpoints.into_iter().peekable(),
            vouched: 0,
            line: Vec::new(),
            line_before: Vec::new(),
            is_over: false,
        }
    }

    /// Returns how many lines something vouches for besides the hashes between them: their MACs, or a witness of the last.
    pub fn vouched(&self) -> u64 {
        self.vouched
    }

    /// Returns the next line that verifies, without its LF; `None` at the log's end, when all evidence was met.
    ///
    /// # Errors
    /// The first bad line. Nothing after it is handed out.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, AuditError> {
        if self.is_over {
            return Ok(None);
        }
        self.is_over = true;
        if self.state == ChainState::START {
            self.meet_key_state()?;
        }
        let line_number = self.state.next_seq + 1;
        let bad = |fault| AuditError::Line {
            line: line_number,
            fault,
        };
        std::mem::swap(&mut self.line, &mut self.line_before);
        let mut line = std::mem::take(&mut self.line);
        read_line(&mut self.log, &mut line)?.map_err(bad)?;
        let Some(whole) = line.strip_suffix(b"\n") else {
            self.summary.torn_bytes = line.len();
            return self.end().map(|()| None);
        };
        match self.check(whole) {
            Ok(()) => {}
            Err(LineFault::Prev | LineFault::Number { .. })
                if self.vouched < self.state.next_seq =>
            {
                return Err(AuditError::Pair {
                    first: line_number - 1,
                    last: line_number,
                });
            }
            Err(fault) => return Err(bad(fault)),
        }
        let time = || AuditRecord::parse(whole).map(|record| record.time);
        if self.state == ChainState::START {
            self.summary.first = time();
        }
        self.state.advance(whole);
        if self.macs.is_some() {
            self.vouched = self.state.next_seq;
        }
        self.meet_checkpoints()?;
        self.meet_key_state()?;
        line.pop();
        self.line = line;
        self.is_over = false;
        Ok(Some(&self.line))
    }

    /// Verifies what is left of the log.
    ///
    /// # Errors
    /// As [`Verifier::next_line`].
    pub fn finish(mut self) -> Result<Summary, AuditError> {
        while self.next_line()?.is_some() {}
        Ok(self.summary)
    }

    fn check(&mut self, line: &[u8]) -> Result<(), LineFault> {
        if let Some(macs) = &mut self.macs {
            return macs.follow(line);
        }
        let parts = Parts::split(line).ok_or(LineFault::Form)?;
        self.state.check(&parts)?;
        has_form(line).then_some(()).ok_or(LineFault::Form)
    }

    fn meet_checkpoints(&mut self) -> Result<(), AuditError> {
        let state = self.state;
        let is_here = |checkpoint: &Checkpoint| checkpoint.seq + 1 == state.next_seq;
        while let Some(checkpoint) = self.checkpoints.next_if(is_here) {
            if checkpoint.head != state.head {
                let witness = Witness::Checkpoint(checkpoint.origin);
                return Err(self.rewritten(witness));
            }
            self.vouched = state.next_seq;
        }
        Ok(())
    }

    fn meet_key_state(&mut self) -> Result<(), AuditError> {
        let is_here = |chain: &mut Chain| chain.state().next_seq == self.state.next_seq;
        if let Some(chain) = self.key_state.take_if(is_here) {
            if chain.state().head != self.state.head {
                return Err(self.rewritten(Witness::KeyState));
            }
            self.vouched = self.state.next_seq;
            self.summary.is_key_state_met = true;
            if self.macs.is_none() {
                self.summary.macs_from = Some(self.state.next_seq);
                self.macs = Some(chain);
            }
        }
        Ok(())
    }

    /// The last line is not the one that a witness saw.
    fn rewritten(&self, witness: Witness) -> AuditError {
        let last = self.state.next_seq;
        AuditError::Rewritten {
            // Where every MAC verified, it is that last line which the witness contradicts.
            first: (self.vouched + 1).min(last),
            last,
            witness,
        }
    }

    fn end(&mut self) -> Result<(), AuditError> {
        let first = self.state.next_seq + 1;
        if let Some(checkpoint) = self.checkpoints.next() {
            return Err(AuditError::Cut {
                first,
                last: checkpoint.seq + 1,
                witness: Witness::Checkpoint(checkpoint.origin),
            });
        }
        if let Some(chain) = self.key_state.take() {
            return Err(AuditError::Cut {
                first,
                last: chain.state().next_seq,
                witness: Witness::KeyState,
            });
        }
        self.summary.state = self.state;
        self.summary.last = AuditRecord::parse(&self.line_before).map(|record| record.time);
        Ok(())
    }
}

/// Verifies a whole log.
///
/// # Errors
/// The first bad line.
///
/// # Bounds
/// As [`Verifier`].
pub fn verify(log: impl BufRead, evidence: Evidence) -> Result<Summary, AuditError> {
    Verifier::new(log, evidence).finish()
}

/// Reads up to and with the next LF, or to the end. The inner error is a line of which the rest was not read.
fn read_line(
    log: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> Result<Result<(), LineFault>, std::io::Error> {
    line.clear();
    let most = u64::try_from(limits::AUDIT_LINE_BYTES_MAX).unwrap_or(u64::MAX);
    log.by_ref().take(most).read_until(b'\n', line)?;
    if line.len() == limits::AUDIT_LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Ok(Err(LineFault::Long));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TIME: UtcTime = UtcTime::from_s(1_763_812_800);

    fn key() -> Secret32 {
        Secret32::new([5; 32])
    }

    fn log_of(lines: u64) -> (Vec<u8>, Chain) {
        let mut chain = Chain::start(key());
        let mut log = Vec::new();
        for number in 0..lines {
            let seq = chain.append(&mut log, TIME, "sealed", &[("serial", json!(number + 1))]);
            assert_eq!(seq, number);
        }
        (log, chain)
    }

    fn keyed() -> Evidence {
        Evidence {
            first_key: Some(key()),
            ..Evidence::default()
        }
    }

    fn checkpoint_of(lines: u64) -> Checkpoint {
        Checkpoint {
            origin: "o".into(),
            seq: lines - 1,
            head: log_of(lines).1.state().head,
        }
    }

    fn seen(lines: &[u64]) -> Evidence {
        Evidence {
            checkpoints: lines.iter().map(|lines| checkpoint_of(*lines)).collect(),
            ..Evidence::default()
        }
    }

    fn state_after(lines: u64) -> Evidence {
        Evidence {
            key_state: Some(log_of(lines).1),
            ..Evidence::default()
        }
    }

    fn fault(log: &[u8], evidence: Evidence) -> Option<(u64, LineFault)> {
        match verify(log, evidence) {
            Err(AuditError::Line { line, fault }) => Some((line, fault)),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    /// The first line that may be the first bad one, and the last.
    fn span(log: &[u8], evidence: Evidence) -> (u64, u64) {
        let error = verify(log, evidence).unwrap_err();
        (error.line().unwrap(), error.line_last().unwrap())
    }

    fn lines(log: &[u8]) -> Vec<Vec<u8>> {
        log.split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn edit(line: &mut Vec<u8>) {
        let text = String::from_utf8(line.clone()).unwrap();
        *line = text.replace("sealed", "Sealed").into();
    }

    /// What a forger without any key does: every line anew from `from` on, with hashes that fit and MACs that do not.
    fn rewrite(lines: u64, from: u64) -> Vec<u8> {
        let mut chain = log_of(from).1;
        let mut log = log_of(from).0;
        chain = Chain::resume(chain.state(), Secret32::new([0; 32]));
        for number in from..lines {
            chain.append(&mut log, TIME, "sealed", &[("serial", json!(number + 100))]);
        }
        log
    }

    const fn number(expected: u64, found: u64) -> LineFault {
        LineFault::Number { expected, found }
    }

    #[test]
    fn an_untouched_log_verifies_in_full() {
        let empty = verify(&[][..], keyed()).unwrap();
        assert_eq!((empty.state, empty.first), (ChainState::START, None));
        let (log, chain) = log_of(5);
        let mut evidence = seen(&[5, 1, 3, 3]);
        evidence.first_key = Some(key());
        evidence.key_state = Some(log_of(4).1);
        let summary = verify(&log[..], evidence).unwrap();
        assert_eq!(summary.state, chain.state());
        assert_eq!((summary.first, summary.last), (Some(TIME), Some(TIME)));
        assert_eq!(
            (summary.macs_from, summary.is_key_state_met),
            (Some(0), true)
        );
        let bare = verify(&log[..], Evidence::default()).unwrap();
        assert_eq!((bare.macs_from, bare.torn_bytes), (None, 0));
    }

    #[test]
    fn every_change_is_found_at_its_line_and_without_the_first_key_with_the_line_before() {
        let good = lines(&log_of(6).0);
        let found = |log: &[Vec<u8>], line: u64, expected: LineFault, pair: (u64, u64)| {
            let log = log.concat();
            assert_eq!(fault(&log, keyed()), Some((line, expected)));
            assert_eq!(span(&log, Evidence::default()), pair, "line {line}");
        };
        let mut edited = good.clone();
        edit(&mut edited[2]);
        found(&edited, 3, LineFault::Mac, (3, 4));
        let mut deleted = good.clone();
        deleted.remove(3);
        found(&deleted, 4, number(3, 4), (3, 4));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        found(&swapped, 2, number(1, 2), (1, 2));
        let mut inserted = good.clone();
        inserted.insert(4, good[0].clone());
        found(&inserted, 5, number(4, 0), (4, 5));
        let mut headless = good.clone();
        headless.remove(0);
        found(&headless, 1, number(0, 1), (1, 1));
    }

    #[test]
    fn a_line_that_does_not_follow_is_named_alone_where_the_one_before_is_vouched_for() {
        let good = lines(&log_of(6).0);
        let prev_edited = |at: usize| {
            let mut log = good.clone();
            let text = String::from_utf8(log[at].clone()).unwrap();
            let (before, after) = text.split_once("\"prev\":\"").unwrap();
            log[at] = format!("{before}\"prev\":\"{}{}", "0".repeat(64), &after[64..]).into();
            log.concat()
        };
        for evidence in [Evidence::default(), seen(&[4]), state_after(6)] {
            assert_eq!(span(&prev_edited(3), evidence), (3, 4));
        }
        for evidence in [seen(&[3]), state_after(3), keyed()] {
            assert_eq!(fault(&prev_edited(3), evidence), Some((4, LineFault::Prev)),);
        }
        let mut edited = good.clone();
        edit(&mut edited[4]);
        for evidence in [Evidence::default(), seen(&[6]), state_after(6)] {
            assert_eq!(span(&edited.concat(), evidence), (5, 6));
        }
        for evidence in [seen(&[4, 5]), keyed()] {
            assert_eq!(span(&edited.concat(), evidence), (5, 5));
        }
    }

    /// What a change leaves of a line, one field each.
    fn changes(line: &[u8]) -> [Vec<u8>; 3] {
        let text = String::from_utf8(line.to_vec()).unwrap();
        let (before, after) = text.split_once("\"prev\":\"").unwrap();
        let (_, rest) = text.split_once(',').unwrap();
        [
            text.replace("sealed", "Sealed"),
            format!("{before}\"prev\":\"{}{}", "ab".repeat(32), &after[64..]),
            format!("{{\"seq\":77,{rest}"),
        ]
        .map(String::into_bytes)
    }

    #[test]
    fn one_changed_line_is_among_those_that_are_named_and_alone_with_the_first_key() {
        let good = lines(&log_of(7).0);
        let evidences: [fn() -> Evidence; 6] = [
            Evidence::default,
            keyed,
            || seen(&[7]),
            || seen(&[1, 3, 5]),
            || state_after(7),
            || state_after(4),
        ];
        for at in 0..7 {
            for (kind, changed) in changes(&good[at]).into_iter().enumerate() {
                for (which, evidence) in evidences.iter().enumerate() {
                    let mut log = good.clone();
                    log[at] = changed.clone();
                    let line = at as u64 + 1;
                    // No line follows the last one: only its MAC, and whoever saw it.
                    if (kind, line) == (0, 7) && matches!(which, 0 | 3) {
                        assert!(verify(&log.concat()[..], evidence()).is_ok());
                        continue;
                    }
                    let error = verify(&log.concat()[..], evidence()).unwrap_err();
                    let (from, to) = (error.line().unwrap(), error.line_last().unwrap());
                    let context = format!("line {line}, field {kind}, evidence {which}: {error}");
                    assert!((from..=to).contains(&line), "{context}");
                    let is_rewritten = matches!(error, AuditError::Rewritten { .. });
                    assert!(to - from <= 1 || is_rewritten, "{context}");
                    assert!(which != 1 || from == to, "{context}");
                }
            }
        }
    }

    #[test]
    fn of_two_changed_lines_the_first_is_named_or_among_those_that_are() {
        let good = lines(&log_of(7).0);
        let evidences: [fn() -> Evidence; 6] = [
            keyed,
            Evidence::default,
            || seen(&[7]),
            || seen(&[1, 3, 5]),
            || state_after(7),
            || state_after(4),
        ];
        let pairs = (0..7).flat_map(|first| (first + 1..7).map(move |second| (first, second)));
        for (first, second) in pairs {
            for (kind, one) in changes(&good[first]).into_iter().enumerate() {
                for (other_kind, other) in changes(&good[second]).into_iter().enumerate() {
                    let mut log = good.clone();
                    (log[first], log[second]) = (one.clone(), other);
                    for (which, evidence) in evidences.iter().enumerate() {
                        let line = first as u64 + 1;
                        let (from, to) = span(&log.concat(), evidence());
                        let context = format!(
                            "{line}, {kind}; {}, {other_kind}; {which}: {from} to {to}",
                            second + 1
                        );
                        assert!((from..=to).contains(&line), "{context}");
                        assert!(to - from <= 1 || kind == 0, "{context}");
                        assert!(which != 0 || from == to, "{context}");
                    }
                }
            }
        }
    }

    #[test]
    fn two_neighbours_that_were_changed_are_both_named() {
        let good = lines(&log_of(9).0);
        let mut log = good.clone();
        edit(&mut log[4]);
        edit(&mut log[5]);
        let log = log.concat();
        for evidence in [
            Evidence::default(),
            seen(&[4, 6]),
            seen(&[9]),
            state_after(9),
        ] {
            assert_eq!(span(&log, evidence), (5, 6));
        }
        for evidence in [keyed(), seen(&[4, 5])] {
            assert_eq!(span(&log, evidence), (5, 5));
        }
        assert_eq!(span(&log, state_after(5)), (1, 5));
    }

    #[test]
    fn a_line_that_was_put_there_is_found_where_the_next_one_does_not_follow() {
        let good = lines(&log_of(8).0);
        // Made without a key, with the number and the hash of its place.
        let forged = lines(&rewrite(6, 5))[5].clone();
        let mut log = good.clone();
        log.insert(5, forged.clone());
        for evidence in [Evidence::default(), seen(&[3, 8]), state_after(8)] {
            assert_eq!(span(&log.concat(), evidence), (6, 7));
        }
        assert_eq!(span(&log.concat(), keyed()), (6, 6));
        // Two of them fit each other: the first line that does not follow comes after them.
        let two = lines(&rewrite(7, 5))[5..].to_vec();
        let log: Vec<_> = [&good[..5], &two, &good[5..]].concat();
        assert_eq!(span(&log.concat(), Evidence::default()), (7, 8));
        assert_eq!(span(&log.concat(), keyed()), (6, 6));
        // Older lines once more.
        let log: Vec<_> = [&good[..5], &good[2..4], &good[5..]].concat();
        for evidence in [Evidence::default(), seen(&[4])] {
            assert_eq!(span(&log.concat(), evidence), (5, 6));
        }
        assert_eq!(span(&log.concat(), keyed()), (6, 6));
        // A line that does not fit its place.
        let mut log = good.clone();
        log.insert(5, changes(&good[5])[1].clone());
        assert_eq!(span(&log.concat(), Evidence::default()), (5, 6));
    }

    #[test]
    fn who_recomputes_hashes_behind_a_line_does_not_put_the_blame_on_the_one_before() {
        let good = lines(&log_of(8).0);
        let mut log = good[..4].to_vec();
        log.push(changes(&good[4])[1].clone());
        let mut state = ChainState::START;
        for line in &log {
            state.advance(line.strip_suffix(b"\n").unwrap());
        }
        let mut chain = Chain::resume(state, Secret32::new([0; 32]));
        let mut behind = Vec::new();
        for number in 5..8 {
            chain.append(
                &mut behind,
                TIME,
                "sealed",
                &[("serial", json!(number + 1))],
            );
        }
        let log = [log.concat(), behind].concat();
        for evidence in [seen(&[8]), seen(&[7]), seen(&[6]), state_after(8)] {
            assert_eq!(span(&log, evidence), (4, 5));
        }
        for evidence in [seen(&[4]), seen(&[4, 8]), state_after(4), keyed()] {
            assert_eq!(span(&log, evidence), (5, 5));
        }
    }

    #[test]
    fn a_rewriting_with_hashes_that_fit_is_found_by_whoever_saw_a_later_line() {
        let log = rewrite(8, 4);
        assert!(verify(&log[..], Evidence::default()).is_ok());
        assert_eq!(fault(&log, keyed()), Some((5, LineFault::Mac)));
        let rewritten = |evidence| match verify(&log[..], evidence) {
            Err(AuditError::Rewritten { first, last, .. }) => (first, last),
            other => panic!("{other:?}"),
        };
        assert_eq!(rewritten(seen(&[2, 6, 8])), (3, 6));
        assert_eq!(rewritten(state_after(8)), (1, 8));
        assert!(verify(&log[..], seen(&[2, 4])).is_ok(), "nothing saw it");
    }

    #[test]
    fn lines_behind_the_key_state_are_verified_with_its_key() {
        let (log, _) = log_of(6);
        let summary = verify(&log[..], state_after(4)).unwrap();
        assert_eq!(
            (summary.macs_from, summary.is_key_state_met),
            (Some(4), true)
        );
        let mut edited = lines(&log);
        edit(&mut edited[5]);
        assert_eq!(
            fault(&edited.concat(), state_after(4)),
            Some((6, LineFault::Mac))
        );
        let mut edited = lines(&log);
        edit(&mut edited[3]);
        assert!(matches!(
            verify(
                &edited.concat()[..lines(&log)[..4].concat().len()],
                state_after(4)
            ),
            Err(AuditError::Rewritten {
                first: 1,
                last: 4,
                ..
            })
        ));
    }

    #[test]
    fn a_cut_tail_is_found_as_far_as_somebody_saw_the_log() {
        let cut = lines(&log_of(6).0)[..4].concat();
        assert!(verify(&cut[..], keyed()).is_ok());
        assert!(verify(&cut[..], seen(&[4])).is_ok());
        for evidence in [seen(&[2, 6]), state_after(6)] {
            let error = verify(&cut[..], evidence).unwrap_err();
            assert!(matches!(error, AuditError::Cut { last: 6, .. }));
            assert_eq!((error.line(), error.line_last()), (Some(5), Some(5)));
        }
    }

    #[test]
    fn a_torn_tail_is_no_part_of_the_log_and_no_fault() {
        let (log, _) = log_of(6);
        let summary = verify(&log[..log.len() - 1], keyed()).unwrap();
        assert_eq!(summary.state.next_seq, 5);
        assert!(summary.torn_bytes > 100);
        // But a witness of that line says that it was there.
        let torn = &log[..log.len() - 1];
        assert!(matches!(
            verify(torn, seen(&[6])),
            Err(AuditError::Cut { first: 6, .. })
        ));
    }

    #[test]
    fn what_is_no_line_is_found_without_a_key_too() {
        let good = lines(&log_of(3).0);
        let hash = |line: &[u8]| blake3::hash(line.strip_suffix(b"\n").unwrap()).to_string();
        let body = |own: &str| {
            let prev = hash(&good[1]);
            let mac = "0".repeat(64);
            format!(
                "{{\"seq\":2,\"time\":\"{TIME}\",\"event\":\"x\"{own},\"prev\":\"{prev}\",\"mac\":\"{mac}\"}}\n"
            )
            .into_bytes()
        };
        let with = |third: Vec<u8>| [&good[..2].concat()[..], &third[..]].concat();
        assert_eq!(fault(&with(body("")), Evidence::default()), None);
        assert_eq!(
            fault(&with(body(",\"a\":{\"seq\":1}")), Evidence::default()),
            None
        );
        let mut not_utf8 = body(",\"a\":\"~\"");
        *not_utf8.iter_mut().find(|byte| **byte == b'~').unwrap() = 0xff;
        let mut nul = body(",\"a\":\"~\"");
        *nul.iter_mut().find(|byte| **byte == b'~').unwrap() = 0;
        for third in [
            body(",\"seq\":3"),
            body(",\"a\":1,\"a\":2"),
            body(",\"event\":\"y\""),
            body(",\"mac\":\"y\""),
            body(",\"a\":"),
            body(",\"a\":1e999"),
            body(",\"a\":\"\\ud800\""),
            body(&format!(",\"a\":{}1{}", "[".repeat(200), "]".repeat(200))),
            not_utf8,
            nul,
            vec![0; 300].into_iter().chain([b'\n']).collect(),
            b"\n".to_vec(),
        ] {
            let shown = String::from_utf8_lossy(&third).into_owned();
            assert_eq!(
                fault(&with(third), Evidence::default()),
                Some((3, LineFault::Form)),
                "{shown}"
            );
        }
        let huge = vec![b'x'; limits::AUDIT_LINE_BYTES_MAX + 9];
        assert_eq!(
            fault(&with(huge), Evidence::default()),
            Some((3, LineFault::Long))
        );
    }

    #[test]
    fn lines_are_handed_out_up_to_the_bad_one() {
        let mut bad = lines(&log_of(5).0);
        edit(&mut bad[3]);
        let bad = bad.concat();
        let mut verifier = Verifier::new(&bad[..], keyed());
        let mut count = 0;
        let error = loop {
            match verifier.next_line() {
                Ok(Some(line)) => {
                    assert_eq!(AuditRecord::parse(line).unwrap().seq, count);
                    count += 1;
                }
                Ok(None) => panic!("the bad line was passed"),
                Err(error) => break error,
            }
        };
        assert_eq!((count, error.line()), (3, Some(4)));
        assert!(verifier.next_line().unwrap().is_none(), "it is over");
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unnoticed(at: prop::sample::Index, bit in 0_u8..8) {
            let (mut log, chain) = log_of(3);
            let at = at.index(log.len());
            log[at] ^= 1 << bit;
            for key in [None, Some(key())] {
                let resumed = Chain::resume(chain.state(), Secret32::new(*chain.key().expose()));
                let evidence = Evidence { first_key: key, key_state: Some(resumed), ..Evidence::default() };
                prop_assert!(verify(&log[..], evidence).is_err());
            }
        }

        #[test]
        fn any_order_of_lines_is_judged_and_the_first_key_alone_knows_the_line(
            order in prop::collection::vec((0_usize..5, 0_usize..6), 0..9),
        ) {
            let good = lines(&log_of(5).0);
            let change = |(at, kind): &(usize, usize)| match changes(&good[*at]).get(*kind) {
                Some(changed) => changed.clone(),
                None => good[*at].clone(),
            };
            let log: Vec<Vec<u8>> = order.iter().map(change).collect();
            let bad = (0..=log.len()).find(|at| log.get(*at) != good.get(*at)).unwrap_or(5);
            for evidence in [Evidence::default(), seen(&[2]), seen(&[5]), state_after(3)] {
                if let Err(error) = verify(&log.concat()[..], evidence) {
                    let (first, last) = (error.line().unwrap(), error.line_last().unwrap());
                    prop_assert!((1..=log.len() as u64 + 1).contains(&first) && first <= last);
                    prop_assert!(last > bad as u64, "{error}: but line {} is the first", bad + 1);
                }
            }
            let mut evidence = seen(&[5]);
            evidence.first_key = Some(key());
            if bad < 5 {
                let error = verify(&log.concat()[..], evidence).unwrap_err();
                prop_assert_eq!((error.line(), error.line_last()), (Some(bad as u64 + 1), Some(bad as u64 + 1)));
            }
        }

        #[test]
        fn any_text_survives_a_line(event: String, value: String) {
            for evidence in [keyed(), Evidence::default()] {
                let mut log = Vec::new();
                Chain::start(key()).append(&mut log, TIME, &event, &[("reason", json!(value))]);
                prop_assert_eq!(fault(&log, evidence), None);
                let record = AuditRecord::parse(log.strip_suffix(b"\n").unwrap()).unwrap();
                prop_assert_eq!(&record.event, &event);
                prop_assert_eq!(record.fields["reason"].as_str(), Some(value.as_str()));
            }
        }

        #[test]
        fn any_bytes_are_read_to_their_end(log in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = verify(&log[..], Evidence::default());
        }
    }
}
