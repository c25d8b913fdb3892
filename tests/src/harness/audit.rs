//! The audit logs of roles, read while the roles write.

use std::path::Path;

use serde_json::Value;

use super::error::{Context, HarnessError, Result};
use super::world::{Host, World};

impl World {
    /// Returns the faults of the audit logs: those of both hosts must verify, and agree on every serial.
    pub fn audit_faults(&self) -> Vec<String> {
        let log = self.state(Host::Sender).join("audit/gate.log");
        let (log, key) = (log.display().to_string(), self.auditor_handout());
        let key = key.display().to_string();
        let commands: [(Host, &[&str]); 3] = [
            (Host::Sender, &["audit", "verify"]),
            (Host::Receiver, &["audit", "verify"]),
            (Host::Receiver, &["audit", "reconcile", &log, "--key", &key]),
        ];
        let results = commands.map(|(host, words)| self.expect(host, words));
        let errors = results.into_iter().filter_map(Result::err);
        errors.map(|error| error.to_string()).collect()
    }
}

/// The lines of an audit log with this event. Its role may be writing a line after the last line end; that one does not
/// count.
///
/// # Errors
/// When the log cannot be read, or a whole line is not JSON.
pub fn audited(log: &Path, event: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log).context("read", log)?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| -> Result<Value> {
        let wrong = |error| HarnessError::Wrong(format!("{}: {error}: {line}", log.display()));
        serde_json::from_str(line).map_err(wrong)
    };
    let mut lines = whole.lines().map(parse).collect::<Result<Vec<Value>>>()?;
    lines.retain(|line| line["event"] == event);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_being_written_does_not_count_and_a_bad_one_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("gate.log");
        let of = |text: &str| {
            std::fs::write(&log, text).expect("written");
            audited(&log, "start").map(|lines| lines.len())
        };
        let line = "{\"event\":\"start\"}\n";
        let torn = format!("{line}{{\"event\":\"stop\"}}\n{line}{{\"event\":\"sta");
        assert_eq!(of(&torn).expect("read"), 2);
        assert_eq!(of("{\"ev").expect("read"), 0);
        assert!(of(&format!("nothing\n{line}")).is_err());
    }
}
