//! The chain: lines, their hashes and their MACs.

use std::io::BufRead;

use serde_json::Value;
use thiserror::Error;

use crate::secret::Secret32;
use crate::units::UtcTime;

/// An event's own fields, in the order in which they stand in the line.
pub type Fields<'a> = &'a [(&'a str, Value)];

/// One line of a log, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its number, from 0.
    pub seq: u64,
    /// When it was written.
    pub time: UtcTime,
    /// What happened.
    pub event: String,
    /// The event's fields.
    pub fields: serde_json::Map<String, Value>,
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainState {
    /// The number of the next line.
    pub next_seq: u64,
    /// BLAKE3 of the last line; zeros before the first.
    pub head: [u8; 32],
}

/// Makes the next lines of a log.
pub struct Chain {
    state: ChainState,
    key: Secret32,
}

impl Chain {
    /// Begins a log under K_0, which the caller hands to the auditor and then forgets.
    pub fn start(key: Secret32) -> Self {
        Self {
            state: ChainState {
                next_seq: 0,
                head: [0; 32],
            },
            key,
        }
    }

    /// Goes on where a log stood. `key` is K of the next line.
    pub fn resume(state: ChainState, key: Secret32) -> Self {
        Self { state, key }
    }

    /// Where the chain stands.
    pub fn state(&self) -> ChainState {
        self.state
    }

    /// The key of the next line.
    pub fn key(&self) -> &Secret32 {
        &self.key
    }

    /// Makes the next line, LF included, appends it to `lines` and evolves the key. Returns the line's number.
    ///
    /// # Bounds
    /// `fields` must not use the names seq, time, event, prev and mac: that is our own bug and panics.
    pub fn append(
        &mut self,
        lines: &mut Vec<u8>,
        time: UtcTime,
        event: &str,
        fields: Fields<'_>,
    ) -> u64 {
        let _ = (lines, time, event, fields);
        todo!()
    }
}

/// What a verified log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Lines.
    pub lines: u64,
    /// Where the chain ends.
    pub state: ChainState,
    /// The first line's time.
    pub first: Option<UtcTime>,
    /// The last line's time.
    pub last: Option<UtcTime>,
}

/// The first fault of a log.
#[derive(Debug, Error)]
#[error("line {line}: {cause}")]
pub struct AuditError {
    /// The line, from 1, as editors count.
    pub line: u64,
    /// What is wrong with it.
    pub cause: String,
}

/// Verifies a log line by line.
pub struct Verifier {
    chain: Chain,
}

impl Verifier {
    /// Verifies from the first line, under the auditor's K_0.
    pub fn new(key: Secret32) -> Self {
        Self {
            chain: Chain::start(key),
        }
    }

    /// Verifies the next line, given without its LF.
    ///
    /// # Errors
    /// What is wrong with it; the verifier is then of no further use.
    pub fn line(&mut self, line: &[u8]) -> Result<AuditRecord, AuditError> {
        let _ = (line, &self.chain);
        todo!()
    }
}

/// Verifies a whole log.
///
/// # Errors
/// The first bad line.
pub fn verify(log: impl BufRead, key: Secret32) -> Result<Summary, AuditError> {
    let _ = (log, key);
    todo!()
}
