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
mod tests;
