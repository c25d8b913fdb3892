#![allow(clippy::unwrap_used)]
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::history::log::AuditLog;
use crate::units::{Mono, UtcTime};

/// A log of gate of ten lines, with a checkpoint after its second line.
struct World {
    folder: tempfile::TempDir,
    first_key: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, first_key) =
            AuditLog::create(folder.path(), "gate", "valise/01/gate").unwrap();
        for number in 0..10 {
            log.append(
                UtcTime::from_s(1_800_000_000),
                "sealed",
                &[("serial", json!(number))],
            );
            log.commit().unwrap();
            if number == 1 {
                log.checkpoint(Mono(1)).unwrap();
            }
        }
        let first_key = first_key.to_hex().to_string();
        Self { folder, first_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> Place {
        Place::of_host(self.folder.path(), "gate")
    }

    /// Writes a file of the auditor.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The auditor's files with these first keys.
    fn keys(&self, text: &str) -> BroughtFiles {
        BroughtFiles {
            key: Some(self.write("keys", text)),
            ..BroughtFiles::default()
        }
    }

    /// The auditor's files with the checkpoints that are beside the log now.
    fn held(&self) -> BroughtFiles {
        let text = fs::read(self.path("gate.checkpoints")).unwrap();
        BroughtFiles {
            checkpoints: vec![self.write("held", text)],
            ..BroughtFiles::default()
        }
    }

    fn report(&self, files: &BroughtFiles) -> Report {
        let brought = Brought::read(files).unwrap();
        let check = Check::open(&self.host(), &brought).unwrap();
        check.report().unwrap()
    }
}

fn has(texts: &[String], part: &str) -> bool {
    texts.iter().any(|text| text.contains(part))
}

#[test]
fn a_first_key_counts_for_its_own_role_and_for_any_without_a_word() {
    let world = World::new();
    let (key, other) = (&world.first_key, "ab".repeat(32));
    for text in [
        format!("gate {key}\n"),
        format!("{key}\n"),
        format!("release {other}\ngate {key}\n"),
        format!("{{\"first_keys\":{{\"gate\":\"{key}\",\"transmit\":\"{other}\"}}}}"),
    ] {
        let report = world.report(&world.keys(&text));
        assert!(report.intact, "{text}: {report:?}");
        assert_eq!(report.macs_from_line, Some(1), "{text}");
        assert!(has(&report.proved, "under the first key"));
    }
    let report = world.report(&world.keys(&format!("release {other}\n")));
    assert!(has(&report.not_proved, "without the first key"));
}

#[test]
fn the_report_has_the_log_and_what_the_hosts_key_file_proves() {
    let world = World::new();
    let report = world.report(&BroughtFiles::default());
    assert!(report.intact, "{report:?}");
    let shown = world.path("gate.log").display().to_string();
    assert!(report.text().contains(&shown));
    assert!(has(&report.proved, "fit the host's key file"));
    assert!(!has(&report.proved, "that you hold"));
    assert!(!has(&report.not_proved, "may not read that"));
    assert!(has(&report.not_proved, "you brought no checkpoint"));
    assert!(report.text().starts_with("gate: intact, 10 lines"));
    assert!(has(&report.proved, "beside the log, the last at line"));
    assert!(has(&report.not_proved, "whose checkpoints they are"));
    let files = BroughtFiles {
        public_key: Some(world.path("gate.verifier")),
        ..BroughtFiles::default()
    };
    let report = world.report(&files);
    assert!(!has(&report.not_proved, "whose checkpoints they are"));
}

#[test]
fn a_checkpoint_that_is_held_proves_the_lines_before_it_and_no_cut_after_it() {
    let world = World::new();
    let report = world.report(&world.held());
    assert!(report.intact, "{report:?}");
    let line = report.held_checkpoint_line.unwrap();
    assert!(line < 10);
    assert!(has(&report.proved, "that you hold"));
    assert!(has(
        &report.not_proved,
        &format!("a cut tail behind line {line}")
    ));
    let (mut log, _) = AuditLog::open(world.folder.path(), "gate").unwrap();
    log.checkpoint(Mono(1)).unwrap();
    let report = world.report(&world.held());
    assert_eq!(report.held_checkpoint_line, Some(10));
    assert!(has(&report.not_proved, "what came behind line 10"));
    assert!(!has(&report.not_proved, "a cut tail"));
}

#[test]
fn half_a_checkpoint_at_the_end_is_no_fault_and_a_changed_one_is() {
    let world = World::new();
    let path = world.path("gate.checkpoints");
    let whole = fs::read_to_string(&path).unwrap();
    let torn = &whole[..whole.len() - 20];
    fs::write(&path, torn).unwrap();
    let report = world.report(&BroughtFiles::default());
    assert!(report.intact, "{report:?}");
    assert!(has(&report.not_proved, "half written"));
    let count = crate::audit::notes(&whole).count();
    fs::write(&path, format!("{torn}\n\n")).unwrap();
    let fault = world.report(&BroughtFiles::default()).fault.unwrap();
    assert!(
        fault.text.starts_with(&format!("checkpoint {count} in ")),
        "{fault:?}"
    );
}

#[test]
fn lines_before_a_change_are_told_only_if_there_are_some() {
    let world = World::new();
    // A copy without checkpoints and keys: only the hashes are left.
    let text = fs::read_to_string(world.path("gate.log")).unwrap();
    let check = |from: &str, to: &str| {
        let log = world.write("copy.log", text.replace(from, to));
        let place = Place::of_file(&log, Some("gate"));
        let check = Check::open(&place, &Brought::default()).unwrap();
        check.report().unwrap()
    };
    let late = check("\"serial\":7", "\"serial\":70");
    assert!(has(&late.not_proved, "lines 1 to 7"), "{late:?}");
    let first = check("\"serial\":0", "\"serial\":70");
    assert_eq!(first.fault.as_ref().and_then(|fault| fault.line), Some(1));
    assert!(
        !has(&first.not_proved, "which come before that"),
        "{first:?}"
    );
}

#[test]
fn a_log_that_is_not_there_is_a_fault_of_a_host_and_a_mistake_of_an_auditor() {
    let world = World::new();
    fs::remove_file(world.path("gate.log")).unwrap();
    assert!(!world.report(&BroughtFiles::default()).intact);
    let place = Place::of_file(&world.path("gate.log"), None);
    let missing = Check::open(&place, &Brought::default());
    assert!(matches!(missing, Err(CheckError::Usage(_))));
}

#[test]
fn what_is_not_text_and_what_may_not_be_read_has_its_reason() {
    let world = World::new();
    let files = BroughtFiles {
        key: Some(world.write("keys", [0xff, 0xfe])),
        ..BroughtFiles::default()
    };
    let refused = Brought::read(&files).err().unwrap();
    assert!(
        refused.to_string().contains("holds no first key"),
        "{refused}"
    );
    let closed = CheckError::open(&world.path("a"), &ErrorKind::PermissionDenied.into());
    assert!(
        closed.to_string().contains("as the log's owner"),
        "{closed}"
    );
}
