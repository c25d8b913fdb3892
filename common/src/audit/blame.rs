//! Which line is the first bad one, where a line does not fit the one before it and no MAC tells.
//!
//! The line before may have been changed, or the line itself, or a line was put there. A line that fits what stands behind it
//! is taken for the one that was written: for both to be changed, somebody must have recomputed hashes, and then stopped.
//! Where what stands behind is not what a witness saw, or fits neither, nothing decides, and both lines are named.

use std::io::{self, BufRead};

use super::ChainState;
use super::line::{LineFault, Parts, in_place};
use super::verify::{AuditError, read_line};

/// A line that does not fit the one before it, for which nothing vouches.
pub(super) struct Misfit<'a> {
    /// Where the chain stands before the line.
    pub(super) state: ChainState,
    /// The line before.
    pub(super) before: &'a [u8],
    /// The line.
    pub(super) line: &'a [u8],
    /// How it does not fit.
    pub(super) fault: LineFault,
    /// How many lines something vouches for.
    pub(super) vouched: u64,
    /// Where the chain stood behind later lines, by the word of checkpoints and of the host.
    pub(super) witnesses: &'a [ChainState],
}

/// What stands behind the line.
#[derive(Default)]
struct Behind {
    /// The next line's number and the hash that it names, unless a witness contradicts it or what follows from it.
    next: Option<(u64, [u8; 32])>,
    /// A line that follows from the line before: whatever stands between was put there.
    is_before_followed: bool,
}

impl Misfit<'_> {
    /// The first bad line. Reads the log to its end.
    pub(super) fn blame(&self, log: &mut impl BufRead) -> io::Result<AuditError> {
        let number = self.state.next_seq + 1;
        let at = |line, fault| AuditError::Line { line, fault };
        let Some(parts) = Parts::split(self.line) else {
            return Ok(at(number, self.fault));
        };
        let behind = self.look_behind(log)?;
        if behind.is_before_followed {
            return Ok(at(number, self.fault));
        }
        let named = self.seen(number).or(behind.next.map(|(_, named)| named));
        let is_named = |line: &[u8]| named == Some(*blake3::hash(line).as_bytes());
        let is_restored = |seq, prev: &[u8; 32]| {
            in_place(self.line, seq, prev).is_some_and(|line| is_named(&line))
        };
        let LineFault::Number { found, .. } = self.fault else {
            return Ok(if is_named(self.line) {
                at(number - 1, LineFault::Changed)
            } else if is_restored(parts.seq, &self.state.head) {
                // With the hash of the line before in it, it is the line that was written.
                at(number, self.fault)
            } else {
                AuditError::Pair {
                    first: number - 1,
                    last: number,
                }
            });
        };
        let hash = *blake3::hash(self.line).as_bytes();
        if found >= self.vouched
            && found < self.state.next_seq
            && behind.next == Some((found + 1, hash))
        {
            // The log goes on from this line: those since the one that has its number may be what was put there.
            let is_fork = Parts::split(self.before)
                .is_some_and(|before| before.seq == found && before.prev == parts.prev);
            return Ok(if is_fork {
                at(number - 1, LineFault::Inserted)
            } else {
                AuditError::Repeated {
                    first: found + 1,
                    last: number,
                }
            });
        }
        // Only its number was changed: what it names counts.
        let is_before_bad =
            parts.prev != self.state.head && is_restored(self.state.next_seq, &parts.prev);
        Ok(if is_before_bad {
            at(number - 1, LineFault::Changed)
        } else {
            at(number, self.fault)
        })
    }

    fn look_behind(&self, log: &mut impl BufRead) -> io::Result<Behind> {
        let mut behind = Behind::default();
        let mut chain = None;
        let mut is_next = true;
        let mut line = Vec::new();
        loop {
            let is_long = read_line(log, &mut line)?.is_err();
            if line.is_empty() {
                return Ok(behind);
            }
            let is_whole = line.pop() == Some(b'\n') && !is_long;
            // The highest number has no line behind it.
            let parts = Parts::split(&line).filter(|parts| is_whole && parts.seq < u64::MAX);
            if let Some(parts) = &parts {
                behind.is_before_followed |= self.state.check(parts).is_ok();
                if is_next {
                    behind.next = Some((parts.seq, parts.prev));
                    chain = Some(ChainState {
                        next_seq: parts.seq,
                        head: parts.prev,
                    });
                }
            }
            is_next = false;
            // What follows from the next line, up to the first witness.
            chain = chain.filter(|chain| parts.is_some_and(|parts| chain.check(&parts).is_ok()));
            if let Some(reached) = &mut chain {
                reached.advance(&line);
                if let Some(head) = self.seen(reached.next_seq) {
                    if head != reached.head {
                        behind.next = None;
                    }
                    chain = None;
                }
            }
        }
    }

    /// The hash of a line, counted from 1, by a witness's word.
    fn seen(&self, line: u64) -> Option<[u8; 32]> {
        let mut witnesses = self.witnesses.iter();
        witnesses
            .find(|state| state.next_seq == line)
            .map(|state| state.head)
    }
}
