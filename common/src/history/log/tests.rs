#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::audit::{CheckpointVerifier, Evidence, notes, verify};
use crate::secret::Secret32;

const TIME: UtcTime = UtcTime::from_s(1_763_812_800);
const MONO: Mono = Mono(7_000_000);
const HOUR_US: u64 = 3_600_000_000;

struct World {
    folder: tempfile::TempDir,
    first_key: Secret32,
    log: Option<AuditLog>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, first_key) = AuditLog::create(folder.path(), "gate", "valise/01/gate").unwrap();
        Self {
            folder,
            first_key,
            log: Some(log),
        }
    }

    fn log(&mut self) -> &mut AuditLog {
        self.log.as_mut().unwrap()
    }

    fn commit(&mut self, count: u64) {
        for number in 0..count {
            self.log()
                .append(TIME, "sealed", &[("serial", json!(number))]);
        }
        self.log().commit().unwrap();
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("gate.{suffix}"))
    }

    fn reopen(&mut self) -> Result<Recovered, AuditLogError> {
        self.log = None;
        let (log, recovered) = AuditLog::open(self.folder.path(), "gate")?;
        self.log = Some(log);
        Ok(recovered)
    }

    fn lines(&self) -> u64 {
        let key = Secret32::new(*self.first_key.expose());
        let log: Vec<u8> = self
            .parts()
            .iter()
            .flat_map(|path| fs::read(path).unwrap())
            .collect();
        let verifier = fs::read_to_string(self.path("verifier")).unwrap();
        let verifier = CheckpointVerifier::parse(&verifier).unwrap();
        let file = fs::read_to_string(self.path("checkpoints")).unwrap();
        let checkpoints = notes(&file)
            .map(|note| verifier.verify(&note).unwrap())
            .collect();
        let evidence = Evidence {
            first_key: Some(key),
            checkpoints,
            key_state: None,
        };
        verify(&log[..], evidence).unwrap().state.next_seq
    }

    fn parts(&self) -> Vec<PathBuf> {
        let parts = parts(&self.path("log")).unwrap();
        parts.into_iter().map(|part| part.path).collect()
    }

    fn seqs_from(&self, seq: u64) -> Vec<u64> {
        let lines = self.log.as_ref().unwrap().lines_from(seq).unwrap();
        lines.map(|line| line.unwrap().seq).collect()
    }
}

const CLEAN: Recovered = Recovered {
    torn_bytes: 0,
    lines_forward: 0,
};

#[test]
fn a_log_goes_on_after_each_opening_and_verifies_under_the_first_key() {
    let mut world = World::new();
    assert_eq!(world.log().last_time(), None);
    assert_eq!(world.reopen().unwrap(), CLEAN);
    world.commit(3);
    assert_eq!(world.reopen().unwrap(), CLEAN);
    assert_eq!(world.log().next_seq(), 3);
    assert_eq!(world.log().last_time(), Some(TIME));
    world.commit(2);
    world.log().checkpoint(MONO).unwrap();
    assert_eq!(world.lines(), 5);
    assert_eq!(world.seqs_from(3), [3, 4]);
    assert!(world.seqs_from(5).is_empty());
}

#[test]
fn what_was_not_committed_has_not_happened() {
    let mut world = World::new();
    world.commit(1);
    world.log().append(TIME, "sealed", &[]);
    assert_eq!(world.log().next_seq(), 2);
    assert_eq!(world.seqs_from(0), [0]);
    assert_eq!(world.reopen().unwrap(), CLEAN);
    assert_eq!(world.log().next_seq(), 1);
}

#[test]
fn a_second_log_is_not_begun_over_the_first() {
    let mut world = World::new();
    world.commit(1);
    let again = AuditLog::create(world.folder.path(), "gate", "valise/01/gate");
    assert!(matches!(
        again,
        Err(AuditLogError::Io {
            doing: "create",
            ..
        })
    ));
    assert_eq!(world.reopen().unwrap(), CLEAN);
}

#[test]
fn a_log_is_unused_up_to_the_line_of_an_init() {
    let mut world = World::new();
    let check = |world: &World| AuditLog::check_unused(world.folder.path(), "gate");
    assert!(check(&world).is_ok());
    world.log().append(TIME, "init", &[]);
    world.log().commit().unwrap();
    assert!(check(&world).is_ok());
    world.commit(1);
    let kind = |checked: io::Result<()>| checked.unwrap_err().kind();
    assert_eq!(kind(check(&world)), io::ErrorKind::AlreadyExists);
    world.commit(100);
    assert_eq!(kind(check(&world)), io::ErrorKind::AlreadyExists);
    fs::remove_file(world.path("log")).unwrap();
    assert!(check(&world).is_ok());
}

#[test]
fn a_creation_that_was_cut_short_is_done_again() {
    let world = World::new();
    fs::remove_file(world.path("log")).unwrap();
    let (mut log, first_key) =
        AuditLog::create(world.folder.path(), "gate", "valise/01/gate").unwrap();
    log.append(TIME, "start", &[]);
    log.commit().unwrap();
    let bytes = fs::read(world.path("log")).unwrap();
    let evidence = Evidence {
        first_key: Some(first_key),
        ..Evidence::default()
    };
    assert_eq!(verify(&bytes[..], evidence).unwrap().state.next_seq, 1);
}

#[test]
fn a_torn_tail_goes_aside() {
    for torn in [&b"{\"seq\":2,\"time\":\"2025"[..], b"\0\0\0\0\n{}\n", b"\n"] {
        let mut world = World::new();
        world.commit(2);
        let whole = fs::read(world.path("log")).unwrap();
        fs::write(world.path("log"), [&whole[..], torn].concat()).unwrap();
        let torn_bytes = torn.len() as u64;
        assert_eq!(
            world.reopen().unwrap(),
            Recovered {
                torn_bytes,
                lines_forward: 0
            }
        );
        assert_eq!(fs::read(world.path("log")).unwrap(), whole);
        assert_eq!(fs::read(world.path("torn-2")).unwrap(), torn);
        world.commit(1);
        assert_eq!(world.lines(), 3);
    }
}

#[test]
fn a_key_file_that_stands_behind_is_derived_forward() {
    let mut world = World::new();
    world.commit(2);
    let behind = fs::read(world.path("key")).unwrap();
    world.commit(3);
    let torn = [fs::read(world.path("log")).unwrap(), b"{".to_vec()].concat();
    fs::write(world.path("log"), torn).unwrap();
    fs::write(world.path("key"), behind).unwrap();
    assert_eq!(
        world.reopen().unwrap(),
        Recovered {
            torn_bytes: 1,
            lines_forward: 3
        }
    );
    assert_eq!(world.reopen().unwrap(), CLEAN);
    world.commit(1);
    assert_eq!(world.lines(), 6);
}

#[test]
fn a_log_goes_on_in_another_file_when_one_has_its_size_and_is_one_chain() {
    let mut world = World::new();
    world.reopen().unwrap();
    world.log().set_part_bytes(1_000);
    for _ in 0..5 {
        // Three lines are longer than 600 bytes.
        world.commit(3);
    }
    let folder = world.path("log").with_extension("");
    let names = ["00000000000000000006.log", "00000000000000000012.log"];
    let expected: Vec<_> = [world.path("log")]
        .into_iter()
        .chain(names.map(|name| folder.join(name)))
        .collect();
    assert_eq!(world.parts(), expected);
    world.log().checkpoint(MONO).unwrap();
    assert_eq!(world.lines(), 15);
    for seq in [0, 5, 6, 7, 11, 12, 14, 15, 99] {
        let expected: Vec<_> = (seq..15).collect();
        assert_eq!(world.seqs_from(seq), expected, "{seq}");
    }
    assert_eq!(world.reopen().unwrap(), CLEAN);
    assert_eq!(world.log().last_time(), Some(TIME));
    world.commit(1);
    assert_eq!(world.seqs_from(13), [13, 14, 15]);
    assert_eq!(world.lines(), 16);
    // A file in the middle is gone: its lines are not passed over.
    fs::remove_file(&expected[1]).unwrap();
    assert_eq!(world.reopen().unwrap(), CLEAN);
    let lines: Vec<_> = world.log().lines_from(3).unwrap().collect();
    assert_eq!(lines.len(), 4, "lines 3 to 5, and the fault");
    let mismatch = AuditLogError::Mismatch { line: 7 };
    let fault = lines.last().unwrap().as_ref().unwrap_err();
    assert_eq!(fault.to_string(), mismatch.to_string());
}

#[test]
fn a_kill_or_a_power_cut_around_the_beginning_of_a_file_loses_no_line() {
    for has_line in [false, true] {
        let mut world = World::new();
        world.reopen().unwrap();
        world.log().set_part_bytes(1);
        world.commit(2);
        let key_before = fs::read(world.path("key")).unwrap();
        world.commit(2);
        let [_, last] = world.parts().try_into().unwrap();
        // The key file was made durable before the file, and not since.
        fs::write(world.path("key"), key_before).unwrap();
        if !has_line {
            fs::write(&last, b"").unwrap();
        }
        let lines_forward = if has_line { 2 } else { 0 };
        let torn_bytes = 0;
        let found = world.reopen().unwrap();
        assert_eq!(
            found,
            Recovered {
                torn_bytes,
                lines_forward
            }
        );
        assert_eq!(world.log().last_time(), Some(TIME));
        world.commit(3);
        assert_eq!(
            world.parts().len(),
            2,
            "nothing is begun over an empty file"
        );
        assert_eq!(world.lines(), 5 + lines_forward);
    }
}

#[test]
fn a_file_that_is_not_where_the_key_stands_and_another_thing_in_the_folder_s_place_are_refused() {
    let mut world = World::new();
    world.reopen().unwrap();
    world.log().set_part_bytes(1);
    world.commit(2);
    world.commit(2);
    let [_, last] = world.parts().try_into().unwrap();
    let later = last.with_file_name("00000000000000000009.log");
    fs::write(&later, b"").unwrap();
    assert!(matches!(
        world.reopen(),
        Err(AuditLogError::Mismatch { line: 4 })
    ));
    fs::remove_file(&later).unwrap();
    // Not a name of ours.
    fs::write(last.with_file_name("9.log"), b"").unwrap();
    assert_eq!(world.reopen().unwrap(), CLEAN);
    let folder = last.parent().unwrap();
    let away = folder.with_extension("away");
    fs::rename(folder, &away).unwrap();
    std::os::unix::fs::symlink(&away, folder).unwrap();
    let refusal = world.reopen().unwrap_err().to_string();
    assert!(refusal.contains("move it away"), "{refusal}");
}

#[test]
fn a_cut_or_changed_log_is_not_opened() {
    let mut world = World::new();
    world.commit(3);
    let whole = fs::read(world.path("log")).unwrap();
    fs::write(world.path("log"), &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(
        world.reopen(),
        Err(AuditLogError::Mismatch { line: 3 })
    ));
    let mut changed = whole.clone();
    *changed.iter_mut().rev().nth(200).unwrap() ^= 1;
    fs::write(world.path("log"), changed).unwrap();
    assert!(matches!(
        world.reopen(),
        Err(AuditLogError::Mismatch { line: 3 })
    ));
    fs::write(world.path("log"), b"").unwrap();
    assert!(matches!(
        world.reopen(),
        Err(AuditLogError::Mismatch { line: 3 })
    ));
    fs::write(world.path("log"), &whole).unwrap();
    assert_eq!(world.reopen().unwrap(), CLEAN);
}

#[test]
fn a_damaged_or_open_key_file_is_refused() {
    let mut world = World::new();
    world.commit(1);
    let good = fs::read(world.path("key")).unwrap();
    for at in [0, 20, 60, 119] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(world.path("key"), bad).unwrap();
        assert!(matches!(world.reopen(), Err(AuditLogError::KeyFile { .. })));
    }
    fs::write(world.path("key"), &good[..119]).unwrap();
    assert!(matches!(world.reopen(), Err(AuditLogError::KeyFile { .. })));
    fs::write(world.path("key"), &good).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(world.reopen(), Err(AuditLogError::Io { .. })));
}

#[test]
fn the_key_file_never_holds_an_older_key() {
    let mut world = World::new();
    let first_key = *world.first_key.expose();
    let key_bytes = |world: &World| fs::read(world.path("key")).unwrap()[56..88].to_vec();
    assert_eq!(key_bytes(&world), first_key);
    world.commit(1);
    assert_eq!(
        key_bytes(&world),
        blake3::derive_key("valise v1 audit", &first_key)
    );
    let whole = fs::read(world.path("key")).unwrap();
    assert!(!whole.windows(32).any(|window| window == first_key));
}

#[test]
fn half_a_checkpoint_is_written_anew() {
    let mut world = World::new();
    world.commit(1_500);
    let whole = fs::read(world.path("checkpoints")).unwrap();
    let one = whole.len() / 2;
    for torn_bytes in [1, 20, 75, one / 2, one - 1] {
        let torn = &whole[..one + torn_bytes];
        fs::write(world.path("checkpoints"), torn).unwrap();
        world.reopen().unwrap();
        let left = fs::read(world.path("checkpoints")).unwrap();
        let notes: Vec<_> = notes(str::from_utf8(&left).unwrap()).collect();
        assert_eq!(notes.len(), 1, "{torn_bytes} bytes of the second");
    }
    fs::write(world.path("checkpoints"), &whole[..one - 9]).unwrap();
    world.reopen().unwrap();
    assert_eq!(fs::read(world.path("checkpoints")).unwrap(), b"");
    world.commit(1);
    assert_eq!(world.lines(), 1_501);
    let whole = fs::read(world.path("checkpoints")).unwrap();
    world.reopen().unwrap();
    assert_eq!(fs::read(world.path("checkpoints")).unwrap(), whole);
}

#[test]
fn checkpoints_fall_due_by_lines_and_by_time() {
    let mut world = World::new();
    let count =
        |world: &World| notes(&fs::read_to_string(world.path("checkpoints")).unwrap()).count();
    assert!(world.log().is_checkpoint_due(MONO), "just opened");
    world.commit(1);
    assert_eq!(count(&world), 1, "at start");
    world.commit(999);
    assert_eq!(count(&world), 1);
    world.commit(1);
    assert_eq!(count(&world), 2, "after 1,000 lines");
    world.commit(2_500);
    assert_eq!(count(&world), 4, "in the middle of one commit");
    world.log().checkpoint(MONO).unwrap();
    assert_eq!(count(&world), 5, "as a role does at its start");
    let later = MONO.plus_us(HOUR_US);
    assert!(!world.log().is_checkpoint_due(MONO.plus_us(HOUR_US - 1)));
    assert!(world.log().is_checkpoint_due(later));
    world.log().checkpoint(later).unwrap();
    assert_eq!(count(&world), 5, "no line since");
    world.log().append(TIME, "alarm", &[]);
    world.log().checkpoint(later).unwrap();
    assert_eq!(count(&world), 6, "after an hour");
    assert!(!world.log().is_checkpoint_due(later.plus_us(1)));
    world.log().append(TIME, "stop", &[]);
    world.log().checkpoint(later).unwrap();
    assert_eq!(count(&world), 7, "at stop");
    assert_eq!(world.lines(), 3_503);
}

#[test]
fn a_clock_that_is_set_back_puts_no_hourly_checkpoint_off() {
    let mut world = World::new();
    let count =
        |world: &World| notes(&fs::read_to_string(world.path("checkpoints")).unwrap()).count();
    let mut mono = MONO;
    world.log().append(TIME, "start", &[]);
    world.log().checkpoint(mono).unwrap();
    assert_eq!(count(&world), 1);
    // "Now" stands still at the last line's time until the clock has caught up; the hours pass.
    for hour in 1..=3 {
        world.log().append(TIME, "alarm", &[]);
        world.log().commit().unwrap();
        assert!(!world.log().is_checkpoint_due(mono.plus_us(HOUR_US / 2)));
        mono = mono.plus_us(HOUR_US);
        assert!(world.log().is_checkpoint_due(mono));
        world.log().checkpoint(mono).unwrap();
        assert_eq!(count(&world), 1 + hour);
    }
}

#[test]
fn lines_are_found_in_a_long_log() {
    let mut world = World::new();
    world.commit(3_000);
    for seq in [0, 1, 2, 400, 1_499, 1_500, 2_998, 2_999, 3_000, 9_999] {
        let expected: Vec<_> = (seq..3_000).collect();
        assert_eq!(world.seqs_from(seq), expected, "{seq}");
    }
    let bytes = fs::read(world.path("log")).unwrap();
    let mut bad = bytes.clone();
    bad[bytes.len() - 20] = b'\n';
    fs::write(world.path("log"), bad).unwrap();
    let lines: Vec<_> = world.log().lines_from(2_990).unwrap().collect();
    assert!(matches!(
        lines.last(),
        Some(Err(AuditLogError::Mismatch { line: 3_000 }))
    ));
}
