//! How urgent a cable is. Queues are strict: while a FLASH waits, nothing below it leaves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The text is not one of the four precedences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("precedence is one of FLASH, IMMEDIATE, PRIORITY and ROUTINE")]
pub struct PrecedenceError;

/// Precedence of a cable, most urgent first.
///
/// # Source
/// ACP 121, the four basic precedences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Precedence {
    /// Before everything else.
    Flash,
    /// Before PRIORITY and ROUTINE.
    Immediate,
    /// Before ROUTINE.
    Priority,
    /// When nothing else waits.
    Routine,
}

impl Precedence {
    /// All of them, most urgent first.
    pub const ALL: [Precedence; 4] = [
        Precedence::Flash,
        Precedence::Immediate,
        Precedence::Priority,
        Precedence::Routine,
    ];

    /// 0 for FLASH to 3 for ROUTINE: the digit in an outbox file name.
    pub const fn index(self) -> u8 {
        match self {
            Precedence::Flash => 0,
            Precedence::Immediate => 1,
            Precedence::Priority => 2,
            Precedence::Routine => 3,
        }
    }

    /// Creates the precedence of an index, if there is one.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// As [`FromStr`], in any case: for what a person types.
    ///
    /// # Errors
    /// [`PrecedenceError`] for any other word.
    pub fn parse_relaxed(text: &str) -> Result<Self, PrecedenceError> {
        text.to_ascii_uppercase().parse()
    }

    /// Returns the word of the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Precedence::Flash => "FLASH",
            Precedence::Immediate => "IMMEDIATE",
            Precedence::Priority => "PRIORITY",
            Precedence::Routine => "ROUTINE",
        }
    }
}

impl fmt::Display for Precedence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Precedence {
    type Err = PrecedenceError;

    fn from_str(text: &str) -> Result<Self, PrecedenceError> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or(PrecedenceError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_and_indices_round_trip() {
        for one in Precedence::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
            assert_eq!(Precedence::from_index(one.index()), Some(one));
            assert_eq!(
                Precedence::parse_relaxed(&one.as_str().to_lowercase()),
                Ok(one)
            );
        }
        assert_eq!(Precedence::from_index(4), None);
        assert!("flash".parse::<Precedence>().is_err());
    }

    #[test]
    fn flash_sorts_before_routine() {
        assert!(Precedence::Flash < Precedence::Routine);
    }
}
