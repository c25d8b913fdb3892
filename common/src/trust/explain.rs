//! A trust list in plain words.

use super::TrustList;
use crate::units::UtcTime;

impl TrustList {
    /// Who may release what to whom, a sentence a line.
    pub fn explain(&self) -> Vec<String> {
        todo!()
    }

    /// What is allowed but probably not meant, a sentence a line: classifications that nobody can release at `now`,
    /// software keys, persons that run out.
    pub fn warnings(&self, now: UtcTime) -> Vec<String> {
        let _ = now;
        todo!()
    }
}

/// What changes from one list to the next, a sentence a line; empty if nothing but version and date does.
pub fn difference(old: &TrustList, new: &TrustList) -> Vec<String> {
    let _ = (old, new);
    todo!()
}
