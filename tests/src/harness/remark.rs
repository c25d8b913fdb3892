//! Lines that a person who runs the tests must read even if they pass.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Writes a line to standard error, once for each process. The test harness does not capture it.
pub fn remark(line: &str) {
    let mut told = TOLD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if told.insert(line.to_owned()) {
        // If standard error is closed, there is no place to report that.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
