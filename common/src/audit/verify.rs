//! A whole log, verified line by line against what an auditor holds.
//!
//! What each piece of evidence proves:
//!
//! | held | proves |
//! |---|---|
//! | nothing | that each line names the one before it: an edit by someone who did not recompute the lines behind it |
//! | K_0 | every line is as it was written: later keys cannot make its MAC |
//! | a signed checkpoint | the lines up to the one that it names, and that they are still there |
//! | the host's key state | that the last line is the last that the host wrote; and the MACs of lines behind it |

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
    /// Bytes behind the last LF: a line that is being written, or that a crash cut short. They are no part of the log.
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
    /// The first bad line, or the first that may be bad; `None` when the log could not be read.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Line { line, .. } => Some(*line),
            Self::Rewritten { first, .. } | Self::Cut { first, .. } => Some(*first),
            Self::Read(_) => None,
        }
    }

    /// The last line that may be the first bad one.
    pub fn line_last(&self) -> Option<u64> {
        match self {
            Self::Rewritten { last, .. } => Some(*last),
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
    /// The last number that something vouched for, plus one.
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

    /// The next line that verifies, without its LF; `None` at the log's end, when all evidence was met.
    ///
    /// # Errors
    /// The first bad line. Nothing behind it is handed out.
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
            Err(LineFault::Prev) if self.vouched < self.state.next_seq => {
                return Err(self.blame(whole)?);
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

    /// Which of two lines was changed that do not fit, and of which neither has a MAC that can be verified: if the line
    /// behind them fits the second, the first.
    fn blame(&mut self, second: &[u8]) -> Result<AuditError, AuditError> {
        let number = self.state.next_seq;
        let mut third = Vec::new();
        let is_whole = read_line(&mut self.log, &mut third)?.is_ok() && third.pop().is_some();
        let named = Parts::split(&third).filter(|_| is_whole);
        let is_second_good =
            named.is_none_or(|parts| parts.prev == *blake3::hash(second).as_bytes());
        Ok(if is_second_good {
            let fault = LineFault::Changed;
            AuditError::Line {
                line: number,
                fault,
            }
        } else {
            let fault = LineFault::Prev;
            AuditError::Line {
                line: number + 1,
                fault,
            }
        })
    }

    fn meet_checkpoints(&mut self) -> Result<(), AuditError> {
        let state = self.state;
        let is_here = |checkpoint: &Checkpoint| checkpoint.seq + 1 == state.next_seq;
        while let Some(checkpoint) = self.checkpoints.next_if(is_here) {
            if checkpoint.head != state.head {
                return Err(self.rewritten(Witness::Checkpoint(checkpoint.origin)));
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

    fn rewritten(&self, witness: Witness) -> AuditError {
        let last = self.state.next_seq;
        // Where every MAC verified, it is that last line which the witness contradicts.
        let first = (self.vouched + 1).min(last);
        AuditError::Rewritten {
            first,
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
    fn every_change_is_found_at_its_line_with_and_without_the_first_key() {
        let good = lines(&log_of(6).0);
        for (evidence, edited_fault) in [
            (keyed as fn() -> Evidence, LineFault::Mac),
            (Evidence::default, LineFault::Changed),
        ] {
            let mut edited = good.clone();
            edit(&mut edited[2]);
            assert_eq!(
                fault(&edited.concat(), evidence()),
                Some((3, edited_fault)),
                "an edit"
            );
            let mut deleted = good.clone();
            deleted.remove(3);
            assert_eq!(
                fault(&deleted.concat(), evidence()),
                Some((4, number(3, 4))),
                "a deletion"
            );
            let mut swapped = good.clone();
            swapped.swap(1, 2);
            assert_eq!(
                fault(&swapped.concat(), evidence()),
                Some((2, number(1, 2))),
                "a swap"
            );
            let mut inserted = good.clone();
            inserted.insert(4, good[0].clone());
            assert_eq!(
                fault(&inserted.concat(), evidence()),
                Some((5, number(4, 0))),
                "an insertion"
            );
            let mut headless = good.clone();
            headless.remove(0);
            assert_eq!(
                fault(&headless.concat(), evidence()),
                Some((1, number(0, 1))),
                "a cut head"
            );
        }
    }

    #[test]
    fn of_two_lines_that_do_not_fit_the_next_one_tells_which_was_changed() {
        let good = lines(&log_of(6).0);
        let prev_edited = |at: usize| {
            let mut log = good.clone();
            let text = String::from_utf8(log[at].clone()).unwrap();
            let (before, after) = text.split_once("\"prev\":\"").unwrap();
            log[at] = format!("{before}\"prev\":\"{}{}", "0".repeat(64), &after[64..]).into();
            log.concat()
        };
        let none = Evidence::default;
        assert_eq!(fault(&prev_edited(3), none()), Some((4, LineFault::Prev)));
        assert_eq!(
            fault(&prev_edited(3), seen(&[3])),
            Some((4, LineFault::Prev)),
            "its line before is vouched for"
        );
        // Nobody vouches for the last line; the one before it is named.
        let mut edited = good.clone();
        edit(&mut edited[4]);
        assert_eq!(
            fault(&edited.concat(), none()),
            Some((5, LineFault::Changed))
        );
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
