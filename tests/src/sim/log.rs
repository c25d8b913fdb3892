//! The events of a run, one line each, in virtual time.

use std::fmt::Display;

/// The log of a run. Two runs of one seed have the same.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Log {
    lines: Vec<String>,
    /// Broken promises, in the order in which they were seen.
    violations: Vec<String>,
}

impl Log {
    /// Adds an event.
    pub fn add(&mut self, at_us: u64, what: impl Display) {
        let (seconds, rest_us) = (at_us / 1_000_000, at_us % 1_000_000);
        self.lines
            .push(format!("{seconds:>4}.{:03} {what}", rest_us / 1_000));
    }

    /// Adds a broken promise.
    pub fn violation(&mut self, at_us: u64, what: impl Display) {
        let what = what.to_string();
        self.add(at_us, format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// The lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns the broken promises.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}
