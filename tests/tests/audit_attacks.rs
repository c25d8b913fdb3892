//! Changes that an attacker makes to an audit log, and what an auditor then sees. Real daemons wrote the logs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use valise_common::audit::{Chain, ChainState, CheckpointKey};
use valise_common::secret::Secret32;
use valise_tests::attack::{Loot, Thief, deliver, files_that_hold, remembered};
use valise_tests::harness::{Answer, Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(90);

/// The auditor's material from a world that ran: the output of init, and the logs.
struct Site {
    world: World,
    /// First keys and public keys, of all four logs.
    handout: PathBuf,
    /// The logs and checkpoints of all four roles, copied after everything was stopped.
    copies: PathBuf,
    /// The line of the checkpoint of gate that the auditor took away while gate ran, and the file.
    early_line: usize,
    early: PathBuf,
    /// Gate's log and key file, copied together with that checkpoint.
    then: PathBuf,
}

/// One world for all tests that only read copies of its logs.
fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| run_site().unwrap())
}

fn run_site() -> Result<Site, Box<dyn std::error::Error>> {
    // A static is never dropped: the next run cleans this place instead.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit_attacks");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let settings = Settings {
        keep: Some(folder),
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built()?, settings)?;
    world.start_roles()?;
    let send = |world: &mut World, number: u64| {
        let file = world.generate_file(&format!("{number}.bin"), 3_000, number)?;
        let submission = Submission::new("audited", &[file]);
        let id = world.send(&submission)?;
        world.await_released(&id, &submission, LIMIT)
    };
    send(&mut world, 1)?;
    // Their stop writes a checkpoint, which the auditor takes away.
    let sender = [Role::Gate, Role::Transmit];
    for role in sender {
        world.stop(role.word())?;
    }
    let then = world.folder().join("then");
    copy_audit(&world.state(Host::Sender), &then)?;
    let early = then.join("gate.checkpoints");
    let early_line = fs::read_to_string(then.join("gate.log"))?.lines().count();
    for role in sender {
        world.start_role(role)?;
    }
    for number in 2..4 {
        send(&mut world, number)?;
    }
    for role in Role::ALL {
        world.stop(role.word())?;
    }
    let copies = world.folder().join("copies");
    for host in [Host::Sender, Host::Receiver] {
        copy_audit(&world.state(host), &copies)?;
    }
    Ok(Site {
        handout: world.auditor_handout(),
        world,
        copies,
        early_line,
        early,
        then,
    })
}

fn copy_audit(state: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(state.join("audit"))? {
        let path = entry?.path();
        // These logs are short: the folders of their further files are empty.
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap()))?;
        }
    }
    Ok(())
}

/// A copy of gate's log that an attacker works on.
struct Attacked {
    folder: TempDir,
    lines: Vec<Vec<u8>>,
}

/// The things that the auditor uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    /// Only the log and the files beside it.
    Nothing,
    /// Also the first key.
    FirstKey,
    /// The public keys, and the checkpoint that was taken away early.
    HeldCheckpoint,
}

impl Attacked {
    fn gate() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["gate.log", "gate.checkpoints", "gate.verifier"] {
            fs::copy(site().copies.join(name), folder.path().join(name)).unwrap();
        }
        let lines = split(&fs::read(folder.path().join("gate.log")).unwrap());
        assert!(
            lines.len() > 20 && site().early_line > 6,
            "there is much to attack"
        );
        Self { folder, lines }
    }

    /// Without the files beside the log, so that only its own chain can show a change.
    fn alone() -> Self {
        let attacked = Self::gate();
        for name in ["gate.checkpoints", "gate.verifier"] {
            fs::remove_file(attacked.path(name)).unwrap();
        }
        attacked
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, with: With) -> (i32, Value, String) {
        fs::write(self.path("gate.log"), self.lines.concat()).unwrap();
        verify(&self.path("gate.log"), with)
    }

    /// Asserts that the first bad line is `line`, whatever the auditor uses.
    fn is_caught_at(&self, line: usize) {
        for with in [With::Nothing, With::FirstKey, With::HeldCheckpoint] {
            self.is_caught_at_with(line, with);
        }
    }

    /// With the first key the line itself is named. Without it, a line that does not follow is named with the one before.
    fn is_caught_at_with(&self, line: usize, with: With) {
        let (status, found, errors) = self.verify(with);
        assert_eq!(status, 1, "{errors}");
        assert_eq!(found["intact"], false);
        let fault = &found["logs"][0]["fault"];
        let line_u64 = u64::try_from(line).unwrap();
        let named = fault["line"].as_u64().unwrap()..=fault["line_last"].as_u64().unwrap();
        assert!(named.contains(&line_u64), "{line}: {found:#}");
        let width = named.end() - named.start();
        let width_max = u64::from(!matches!(with, With::FirstKey));
        assert!(width <= width_max, "{line}: {found:#}");
        assert!(errors.contains(&format!("line {line}")), "{errors}");
        assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    }
}

fn split(log: &[u8]) -> Vec<Vec<u8>> {
    log.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn verify(log: &Path, with: With) -> (i32, Value, String) {
    let log = log.display().to_string();
    let handout = site().handout.display().to_string();
    let early = site().early.display().to_string();
    let mut arguments = vec!["audit", "verify", &log, "--json"];
    match with {
        With::Nothing => {}
        With::FirstKey => arguments.extend(["--key", &handout]),
        With::HeldCheckpoint => {
            arguments.extend(["--public-key", &handout, "--checkpoint", &early]);
        }
    }
    let answer = offline(&arguments);
    let document = serde_json::from_str(&answer.output).unwrap_or(Value::Null);
    (answer.status, document, answer.errors)
}

/// Runs a command without a configuration, as on an auditor's machine.
fn offline(arguments: &[&str]) -> Answer {
    let program = Programs::built().unwrap().sender;
    let output = std::process::Command::new(program)
        .args(arguments)
        .args(["--config", "/nonexistent/sender.toml"])
        .output()
        .unwrap();
    Answer {
        status: output.status.code().unwrap_or(-1),
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

fn replace(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

/// The work of somebody who knows the format but no key: every line from `from` on is rewritten, with right hashes and
/// numbers.
fn relink(lines: &[Vec<u8>], from: usize) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = lines[..from].to_vec();
    for line in &lines[from..] {
        let text = String::from_utf8(line.clone()).unwrap();
        let (_, rest) = text.split_once(',').unwrap();
        let (body, tail) = rest.split_once(",\"prev\":\"").unwrap();
        let prev = match out.last() {
            Some(line) => blake3::hash(line.strip_suffix(b"\n").unwrap()).to_string(),
            None => "0".repeat(64),
        };
        let number = out.len();
        out.push(
            format!("{{\"seq\":{number},{body},\"prev\":\"{prev}{}", &tail[64..]).into_bytes(),
        );
    }
    out
}

#[test]
fn nobody_attacks_and_every_log_of_all_four_roles_verifies() {
    let site = site();
    let handout = site.handout.display().to_string();
    for role in ["gate", "transmit", "receive", "release"] {
        let log = site.copies.join(format!("{role}.log"));
        let (status, found, errors) = verify(&log, With::FirstKey);
        assert_eq!(status, 0, "{role}: {errors}");
        let found = &found["logs"][0];
        assert_eq!(found["macs_from_line"], 1, "{role}");
        // Its stop wrote the last checkpoint.
        assert_eq!(found["checkpoint_line"], found["lines"], "{role}");
    }
    for host in [Host::Sender, Host::Receiver] {
        let found = site
            .world
            .json(
                host,
                &[
                    "audit",
                    "verify",
                    "--key",
                    &handout,
                    "--public-key",
                    &handout,
                ],
            )
            .unwrap();
        assert_eq!(found["intact"], true);
        for log in found["logs"].as_array().unwrap() {
            let proved = log["proved"].to_string();
            assert!(proved.contains("host's key file"), "{proved}");
        }
    }
}

#[test]
fn each_role_signs_checkpoints_at_its_start_and_its_stop() {
    let copies = &site().copies;
    for role in ["gate", "transmit", "receive", "release"] {
        let log = fs::read_to_string(copies.join(format!("{role}.log"))).unwrap();
        let signed: Vec<usize> = fs::read_to_string(copies.join(format!("{role}.checkpoints")))
            .unwrap()
            .split("\n\n")
            .filter_map(|paragraph| paragraph.lines().nth(1)?.parse().ok())
            .collect();
        let events: Vec<(usize, String)> = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| line["event"].as_str().unwrap().to_owned())
            .enumerate()
            .collect();
        let of = |words: [&str; 2]| -> Vec<usize> {
            let is = |(_, event): &&(usize, String)| words.contains(&event.as_str());
            events.iter().filter(is).map(|(seq, _)| *seq).collect()
        };
        let (starts, stops) = (of(["start", "started"]), of(["stop", "stopped"]));
        assert_eq!(
            starts.len(),
            if matches!(role, "gate" | "transmit") {
                2
            } else {
                1
            }
        );
        assert_eq!(starts.len(), stops.len(), "{role}");
        for (start, stop) in starts.iter().zip(&stops) {
            assert!(
                signed.iter().any(|seq| (start..stop).contains(&seq)),
                "{role} signed none between its start at {start} and its stop at {stop}: {signed:?}"
            );
            assert!(signed.contains(stop), "{role}: {stop} of {signed:?}");
        }
    }
}

#[test]
fn an_attacker_edits_a_line() {
    for mut attacked in [Attacked::gate(), Attacked::alone()] {
        attacked.lines[4] = replace(&attacked.lines[4], "\"time\":\"20", "\"time\":\"21");
        attacked.is_caught_at_with(5, With::Nothing);
        attacked.is_caught_at_with(5, With::FirstKey);
    }
    let mut attacked = Attacked::gate();
    attacked.lines[4] = replace(&attacked.lines[4], "\"time\":\"20", "\"time\":\"21");
    attacked.is_caught_at(5);
}

#[test]
fn an_attacker_edits_a_line_and_every_hash_behind_it() {
    let mut attacked = Attacked::gate();
    attacked.lines[4] = replace(&attacked.lines[4], "\"time\":\"20", "\"time\":\"21");
    attacked.lines = relink(&attacked.lines, 5);
    attacked.is_caught_at_with(5, With::FirstKey);
    // Without the first key a checkpoint shows the change; the line is among those since the previous checkpoint.
    for with in [With::Nothing, With::HeldCheckpoint] {
        let (status, found, _) = attacked.verify(with);
        let fault = &found["logs"][0]["fault"];
        assert_eq!(status, 1);
        assert!(fault["line"].as_u64().unwrap() <= 5, "{fault}");
        assert!(fault["line_last"].as_u64().unwrap() >= 5, "{fault}");
    }
}

#[test]
fn an_attacker_edits_two_neighbouring_lines() {
    for mut attacked in [Attacked::gate(), Attacked::alone()] {
        for at in [4, 5] {
            attacked.lines[at] = replace(&attacked.lines[at], "\"time\":\"20", "\"time\":\"21");
        }
        attacked.is_caught_at_with(5, With::FirstKey);
        let (status, found, errors) = attacked.verify(With::Nothing);
        let fault = &found["logs"][0]["fault"];
        assert_eq!(
            (status, &fault["line"], &fault["line_last"]),
            (1, &json!(5), &json!(6))
        );
        assert!(
            errors.contains("line 6 does not follow from line 5"),
            "{errors}"
        );
        // If earlier lines had been rewritten too, with their hashes, only a checkpoint would show it.
        let not_proved = found["logs"][0]["not_proved"].to_string();
        let is_told = not_proved.contains("lines 1 to 4, which come before");
        let has_checkpoint = attacked.path("gate.checkpoints").exists();
        assert_eq!(is_told, !has_checkpoint, "{not_proved}");
    }
}

#[test]
fn an_attacker_changes_what_the_last_line_names() {
    let with_other_prev = |line: &[u8]| {
        let text = String::from_utf8(line.to_vec()).unwrap();
        let (before, after) = text.split_once("\"prev\":\"").unwrap();
        format!("{before}\"prev\":\"{}{}", "ab".repeat(32), &after[64..]).into_bytes()
    };
    // A checkpoint beside the log covers that line.
    let mut attacked = Attacked::gate();
    let last = attacked.lines.len();
    attacked.lines[last - 1] = with_other_prev(&attacked.lines[last - 1]);
    attacked.is_caught_at(last);
    // With only the log nobody can detect it.
    let mut alone = Attacked::alone();
    alone.lines = attacked.lines.clone();
    alone.is_caught_at_with(last, With::FirstKey);
    let (status, found, _) = alone.verify(With::Nothing);
    let fault = &found["logs"][0]["fault"];
    assert_eq!(
        (status, &fault["line"], &fault["line_last"]),
        (1, &json!(last - 1), &json!(last))
    );
    // On the host the key file shows it, even if the last checkpoint is older.
    let world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let audit = world.state(Host::Sender).join("audit");
    for name in ["gate.log", "gate.key", "gate.checkpoints", "gate.verifier"] {
        fs::copy(site().copies.join(name), audit.join(name)).unwrap();
    }
    fs::write(audit.join("gate.log"), attacked.lines.concat()).unwrap();
    fs::copy(&site().early, audit.join("gate.checkpoints")).unwrap();
    let answer = world.run(Host::Sender, &["audit", "verify"]).unwrap();
    assert_eq!(answer.status, 1);
    let named = format!("line {last} does not follow");
    assert!(answer.errors.contains(&named), "{}", answer.errors);
}

#[test]
fn an_attacker_deletes_a_line() {
    let mut attacked = Attacked::gate();
    attacked.lines.remove(7);
    attacked.is_caught_at(8);
    attacked.lines = relink(&attacked.lines, 7);
    attacked.is_caught_at_with(8, With::FirstKey);
    let mut attacked = Attacked::gate();
    attacked.lines.remove(0);
    attacked.is_caught_at(1);
}

#[test]
fn an_attacker_swaps_two_lines() {
    let mut attacked = Attacked::gate();
    attacked.lines.swap(5, 9);
    attacked.is_caught_at(6);
}

#[test]
fn an_attacker_inserts_a_line() {
    let mut attacked = Attacked::gate();
    let copy = attacked.lines[3].clone();
    attacked.lines.insert(6, copy);
    attacked.is_caught_at(7);
    attacked.lines = relink(&attacked.lines, 6);
    attacked.is_caught_at_with(7, With::FirstKey);
    // A line that fits its place: the true line after it does not follow.
    let mut attacked = Attacked::gate();
    let forged = [&attacked.lines[..6], &attacked.lines[3..4]].concat();
    let forged = relink(&forged, 6).remove(6);
    attacked.lines.insert(6, forged);
    attacked.is_caught_at(7);
}

#[test]
fn an_attacker_moves_a_line_from_the_other_roles_log() {
    let other = split(&fs::read(site().copies.join("transmit.log")).unwrap());
    let mut attacked = Attacked::gate();
    attacked.lines[2] = other[2].clone();
    attacked.is_caught_at(3);
    // The whole log: its own chain fits, and only the first key shows the change.
    for mut attacked in [Attacked::gate(), Attacked::alone()] {
        attacked.lines = other.clone();
        attacked.is_caught_at_with(1, With::FirstKey);
    }
}

#[test]
fn an_attacker_lets_a_number_jump() {
    let mut attacked = Attacked::gate();
    attacked.lines[8] = replace(&attacked.lines[8], "{\"seq\":8,", "{\"seq\":80,");
    attacked.is_caught_at(9);
    // With the hashes after it repaired, only the number shows it.
    let mut alone = Attacked::alone();
    alone.lines = relink(&attacked.lines, 9);
    alone.is_caught_at_with(9, With::Nothing);
}

#[test]
fn an_attacker_writes_what_is_no_line() {
    let nul_line = [vec![0; 400], b"\n".to_vec()].concat();
    let huge_line = [vec![b'x'; 3 << 20], b"\n".to_vec()].concat();
    for bad in [
        &nul_line[..],
        &huge_line,
        b"\n",
        b"{\"seq\":6}\n",
        b"\xff\xfe\n",
    ] {
        let mut attacked = Attacked::gate();
        attacked.lines[6] = bad.to_vec();
        attacked.is_caught_at(7);
        let mut attacked = Attacked::alone();
        attacked.lines[6] = bad.to_vec();
        attacked.is_caught_at_with(7, With::Nothing);
    }
    // A second event in one line, so that one reader might see the first and another the last. The chain fits.
    let mut attacked = Attacked::alone();
    let twice = replace(
        &attacked.lines[6],
        "\"event\":",
        "\"event\":\"nothing\",\"event\":",
    );
    attacked.lines[6] = twice;
    attacked.lines = relink(&attacked.lines, 7);
    attacked.is_caught_at_with(7, With::Nothing);
    // Inside a line that is otherwise unchanged.
    for byte in [0, 0xff, b'\r'] {
        let mut attacked = Attacked::gate();
        let at = attacked.lines[6]
            .iter()
            .position(|byte| *byte == b'T')
            .unwrap();
        attacked.lines[6][at] = byte;
        attacked.is_caught_at(7);
    }
}

#[test]
fn an_attacker_cuts_the_tail_behind_the_auditors_checkpoint_and_only_the_report_tells_its_reach() {
    let site = site();
    let attacked = {
        let mut attacked = Attacked::alone();
        attacked.lines.truncate(site.early_line + 2);
        attacked
    };
    let (status, found, errors) = attacked.verify(With::HeldCheckpoint);
    assert_eq!(status, 0, "{errors}");
    let found = &found["logs"][0];
    assert_eq!(found["held_checkpoint_line"], site.early_line);
    let not_proved = found["not_proved"].to_string();
    let reach = format!("a cut tail behind line {}", site.early_line);
    assert!(not_proved.contains(&reach), "{not_proved}");
    // The checkpoints beside the log cover more lines, unless somebody removes them.
    let mut attacked = Attacked::gate();
    attacked.lines.truncate(site.early_line + 2);
    attacked.is_caught_at(site.early_line + 3);
}

#[test]
fn an_attacker_cuts_the_tail_back_to_before_the_auditors_checkpoint() {
    let mut attacked = Attacked::alone();
    attacked.lines.truncate(site().early_line - 1);
    attacked.is_caught_at_with(site().early_line, With::HeldCheckpoint);
    // Also in the middle of a line.
    let mut attacked = Attacked::alone();
    attacked.lines.truncate(site().early_line);
    attacked.lines.last_mut().unwrap().truncate(40);
    attacked.is_caught_at_with(site().early_line, With::HeldCheckpoint);
}

#[test]
fn a_line_that_is_being_written_is_no_tampering() {
    let mut attacked = Attacked::alone();
    attacked.lines.last_mut().unwrap().truncate(40);
    let (status, found, errors) = attacked.verify(With::FirstKey);
    assert_eq!(status, 0, "{errors}");
    assert_eq!(found["logs"][0]["lines"], attacked.lines.len() - 1);
    let not_proved = found["logs"][0]["not_proved"].to_string();
    assert!(not_proved.contains("40 bytes"), "{not_proved}");
}

#[test]
fn half_a_line_that_a_crash_left_is_put_aside_and_told() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_roles().unwrap();
    for role in Role::ALL {
        world.kill(role.word());
    }
    for role in Role::ALL {
        let audit = world.state(role.host()).join("audit");
        let log = audit.join(format!("{}.log", role.word()));
        let whole = fs::read(&log).unwrap();
        fs::write(&log, [&whole[..], b"{\"seq\":99,\"ti"].concat()).unwrap();
        world.start_role(role).unwrap();
        // Release writes it after its first view, which makes it ready.
        world
            .await_alive(
                "the line about it",
                LIMIT,
                std::slice::from_ref(&audit),
                |_| {
                    let now = fs::read(&log).unwrap();
                    assert!(now.starts_with(&whole), "{role:?}");
                    let told = String::from_utf8_lossy(&now[whole.len()..]).into_owned();
                    let is_told = told.contains("\"torn_bytes\":13") || told.contains("audit-log");
                    Ok(is_told.then_some(()))
                },
            )
            .unwrap();
        let seq = split(&whole).len();
        let aside = fs::read(audit.join(format!("{}.torn-{seq}", role.word()))).unwrap();
        assert_eq!(aside, b"{\"seq\":99,\"ti", "{role:?}");
    }
    // While all of them run, nothing is locked.
    let handout = world.auditor_handout().display().to_string();
    for host in [Host::Sender, Host::Receiver] {
        let found = world
            .json(host, &["audit", "verify", "--key", &handout])
            .unwrap();
        assert_eq!(found["intact"], true, "{found:#}");
    }
}

#[test]
fn an_attacker_replays_an_older_log_with_its_older_checkpoints() {
    let site = site();
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held.checkpoints");
    fs::copy(site.copies.join("gate.checkpoints"), &held).unwrap();
    let older = site.then.join("gate.log");
    let (older, held) = (older.display().to_string(), held.display().to_string());
    let handout = site.handout.display().to_string();
    assert_eq!(
        offline(&["audit", "verify", &older]).status,
        0,
        "by itself it is whole"
    );
    let answer = offline(&[
        "audit",
        "verify",
        &older,
        "--public-key",
        &handout,
        "--checkpoint",
        &held,
    ]);
    assert_eq!(answer.status, 1);
    let missing = format!("line {} is missing", site.early_line + 1);
    assert!(answer.errors.contains(&missing), "{}", answer.errors);
}

#[test]
fn an_attacker_who_has_the_host_rewrites_everything_with_the_current_key() {
    let site = site();
    let state = site.world.state(Host::Sender).join("audit");
    // The thief finds the key of the next line, and the key that signs checkpoints.
    let key_file = fs::read(state.join("gate.key")).unwrap();
    let key = || Secret32::from_slice(&key_file[56..88]).unwrap();
    let signer = fs::read_to_string(state.join("gate.signer")).unwrap();
    let (seed, origin) = signer.trim_end().split_once('\n').unwrap();
    let signer = CheckpointKey::new(origin, &Secret32::from_hex(seed).unwrap()).unwrap();

    let attacked = Attacked::gate();
    let mut chain = Chain::start(key());
    let mut log = Vec::new();
    let mut checkpoints = String::new();
    for line in &attacked.lines {
        let line: serde_json::Map<String, Value> = serde_json::from_slice(line).unwrap();
        let time = line["time"].as_str().unwrap().parse().unwrap();
        chain.append(&mut log, time, "nothing-happened", &[]);
        checkpoints = format!("{checkpoints}{}\n", signer.sign(&chain.state()).unwrap());
    }
    fs::write(attacked.path("gate.checkpoints"), checkpoints).unwrap();
    let attacked = Attacked {
        lines: split(&log),
        ..attacked
    };
    assert_eq!(
        attacked.verify(With::Nothing).0,
        0,
        "the host alone cannot tell"
    );
    attacked.is_caught_at_with(1, With::FirstKey);
    let (status, found, _) = attacked.verify(With::HeldCheckpoint);
    assert_eq!(status, 1);
    assert!(
        found["logs"][0]["fault"]["line_last"].as_u64().unwrap() <= 7,
        "{found:#}"
    );
}

#[test]
fn an_attacker_who_took_the_host_at_some_time_rewrites_no_line_before_it() {
    let site = site();
    let key_file = fs::read(site.then.join("gate.key")).unwrap();
    let key = || Secret32::from_slice(&key_file[56..88]).unwrap();
    let then = usize::try_from(u64::from_be_bytes(key_file[8..16].try_into().unwrap())).unwrap();
    assert_eq!(
        then, site.early_line,
        "the key file stands behind the log's last line"
    );
    for from in 0..then {
        let mut attacked = Attacked::alone();
        attacked.lines.truncate(then);
        let before = match from {
            0 => ChainState::START,
            _ => {
                let line = attacked.lines[from - 1].strip_suffix(b"\n").unwrap();
                ChainState {
                    next_seq: u64::try_from(from).unwrap(),
                    head: *blake3::hash(line).as_bytes(),
                }
            }
        };
        let mut forged = Vec::new();
        let time = "2026-11-22T21:53:18Z".parse().unwrap();
        Chain::resume(before, key()).append(&mut forged, time, "forged", &[]);
        attacked.lines.truncate(from);
        attacked.lines.push(forged);
        attacked.is_caught_at_with(from + 1, With::FirstKey);
    }
    // From then on the host writes whatever the thief wants: checkpoints that are taken away protect against this.
    let mut attacked = Attacked::alone();
    attacked.lines.truncate(then);
    let state = ChainState {
        next_seq: u64::try_from(then).unwrap(),
        head: key_file[24..56].try_into().unwrap(),
    };
    let mut forged = Vec::new();
    let time = "2026-11-22T21:53:18Z".parse().unwrap();
    Chain::resume(state, key()).append(&mut forged, time, "forged", &[]);
    attacked.lines.push(forged);
    assert_eq!(attacked.verify(With::FirstKey).0, 0);
}

#[test]
fn an_attacker_takes_the_memory_of_every_role_and_finds_no_key_of_a_line_that_is_written() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_roles().unwrap();
    let file = world.generate_file("cable.bin", 3_000, 1).unwrap();
    let submission = Submission::new("audited", &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
    let handout = fs::read_to_string(world.auditor_handout()).unwrap();
    for role in Role::ALL {
        let line = format!("{}: ", role.word());
        let first = handout
            .lines()
            .find_map(|one| one.trim().strip_prefix(&line));
        let first = Secret32::from_hex(first.unwrap()).unwrap();
        let audit = world.state(role.host()).join("audit");
        let key_file = fs::read(audit.join(format!("{}.key", role.word()))).unwrap();
        let written = u64::from_be_bytes(key_file[8..16].try_into().unwrap());
        let mut keys = vec![first.expose().to_vec()];
        while keys.len() < usize::try_from(written).unwrap() {
            let next = blake3::derive_key("valise v1 audit", keys.last().unwrap());
            keys.push(next.to_vec());
        }
        // Some roles write many lines in a second: the first and the last are enough.
        let last = keys.len() - 1;
        // The second halves, because the allocator writes its lists over the beginning of freed memory.
        let needles =
            [0, last / 2, last].map(|seq| ("the key of a line", keys[seq][16..].to_vec()));
        let pid = world.role_pid(role).unwrap();
        if let Some(found) = remembered(pid, &needles) {
            assert!(found.is_empty(), "{role:?}: {found:#?}");
            let known = audit.display().to_string().into_bytes();
            let known = remembered(pid, &[("its folder", known)]).unwrap();
            assert!(!known.is_empty(), "the search finds");
        }
        for needle in [&keys[0], &keys[last]] {
            assert!(files_that_hold(&audit, needle).is_empty(), "{role:?}");
        }
    }
}

#[test]
fn an_attacker_replaces_the_checkpoint_file() {
    let good = fs::read_to_string(site().copies.join("gate.checkpoints")).unwrap();
    let other = fs::read_to_string(site().copies.join("transmit.checkpoints")).unwrap();
    let changed = good.replacen("\n0\n", "\n1\n", 1);
    for (bad, with) in [
        ("", With::Nothing),
        ("nothing to see\n", With::Nothing),
        (&*other, With::Nothing),
        (&*changed, With::Nothing),
        (&*other, With::HeldCheckpoint),
    ] {
        let attacked = Attacked::gate();
        fs::write(attacked.path("gate.checkpoints"), bad).unwrap();
        let (status, found, errors) = attacked.verify(with);
        assert_eq!(status, 1, "{bad:?}");
        assert_eq!(found["logs"][0]["fault"]["line"], Value::Null, "{found:#}");
        assert!(errors.contains("gate.checkpoints"), "{errors}");
    }
}

#[test]
fn an_attacker_puts_another_hosts_logs_in_the_place_of_a_hosts_own() {
    // Logs that verify by themselves, with their keys and checkpoints; only the auditor's copy shows that they are
    // others.
    let other = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let own = other.run(Host::Sender, &["audit", "verify"]).unwrap();
    assert_eq!(own.status, 0, "{}", own.errors);
    let held = site().early.display().to_string();
    let verify = || {
        let arguments = ["audit", "verify", "--checkpoint", &held];
        let answer = other.run(Host::Sender, &arguments).unwrap();
        let told = format!("{}{}", answer.output, answer.errors);
        assert_eq!(answer.status, 1, "{told}");
        told
    };
    assert!(verify().contains("checkpoint 1 in"));
    // The receiver's log also has another origin.
    let (from, to) = (other.state(Host::Receiver), other.state(Host::Sender));
    for extension in ["log", "key", "signer", "verifier", "checkpoints"] {
        let name = |role: &str| format!("audit/{role}.{extension}");
        fs::copy(from.join(name("release")), to.join(name("gate"))).unwrap();
    }
    assert!(verify().contains("is of the log"));
}

#[test]
fn an_attacker_forges_checkpoints_with_another_key() {
    let mut attacked = Attacked::gate();
    attacked.lines.truncate(5);
    let origin = "valise-sender/gate";
    let forger = CheckpointKey::new(origin, &Secret32::new([7; 32])).unwrap();
    let last = attacked.lines[4].strip_suffix(b"\n").unwrap();
    let note = forger.sign(&ChainState {
        next_seq: 5,
        head: *blake3::hash(last).as_bytes(),
    });
    fs::write(attacked.path("gate.checkpoints"), note.unwrap() + "\n").unwrap();
    // With its public key beside it, the log fits by itself.
    fs::write(attacked.path("gate.verifier"), forger.verifier_text()).unwrap();
    assert_eq!(attacked.verify(With::Nothing).0, 0);
    let (status, found, errors) = attacked.verify(With::HeldCheckpoint);
    assert_eq!(status, 1);
    assert_eq!(found["intact"], false);
    let missing = format!("line {} is missing", 6);
    assert!(
        errors.contains(&missing),
        "the held one reaches further: {errors}"
    );
    // With only the public key, the signature shows it.
    let (log, handout) = (
        attacked.path("gate.log").display().to_string(),
        site().handout.display().to_string(),
    );
    let answer = offline(&["audit", "verify", &log, "--public-key", &handout]);
    assert_eq!(answer.status, 1);
    assert!(
        answer.errors.contains("signature does not verify"),
        "{}",
        answer.errors
    );
}

#[test]
fn an_auditor_who_brings_the_wrong_thing_is_told_so() {
    let site = site();
    let log = site.copies.join("gate.log").display().to_string();
    let public_key = site.copies.join("gate.verifier").display().to_string();
    let absent = site.copies.join("absent").display().to_string();
    let handout = site.handout.display().to_string();
    for wrong in [
        vec!["audit", "verify", &absent],
        vec!["audit", "verify", &log, "--key", &absent],
        vec!["audit", "verify", &log, "--key", &public_key],
        vec!["audit", "verify", &log, "--public-key", &log],
        vec![
            "audit",
            "verify",
            &log,
            "--checkpoint",
            &handout,
            "--public-key",
            &log,
        ],
        vec!["audit", "verify", &log, "--role", "guard"],
        vec!["audit", "verify", "--role", "gate"],
        vec!["audit", "verify"],
    ] {
        let answer = offline(&wrong);
        assert_eq!(answer.status, 2, "{wrong:?}: {}", answer.errors);
    }
    // Each program verifies a copy of any role's log, if it is the log of that role.
    let answer = offline(&["audit", "verify", &log, "--role", "release"]);
    assert_eq!(answer.status, 1);
    assert!(
        answer.errors.contains("is of the log valise-sender/gate"),
        "{}",
        answer.errors
    );
    // With the first key of another log every line looks forged, and the message explains that.
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "ab".repeat(32)).unwrap();
    let key = key.display().to_string();
    let answer = offline(&["audit", "verify", &log, "--key", &key]);
    assert_eq!(answer.status, 1);
    assert!(
        answer.errors.contains("the log began with another key"),
        "{}",
        answer.errors
    );
}

/// The rows of `audit reconcile` by serial, its exit status and its messages.
fn reconcile(world: &World, sender: &Path, more: &[&str]) -> (i32, Vec<Value>, String) {
    let sender = sender.display().to_string();
    let mut arguments = vec!["audit", "reconcile", &sender, "--json"];
    arguments.extend(more);
    let answer = world.run(Host::Receiver, &arguments).unwrap();
    let rows = serde_json::from_str::<Value>(&answer.output).unwrap_or_default();
    let rows = rows.as_array().cloned().unwrap_or_default();
    (answer.status, rows, answer.errors)
}

/// A log with other events, as its host would have written it from the start: a thief of K_0 could make it.
fn rewritten(log: &Path, change: impl Fn(&mut serde_json::Map<String, Value>) -> bool) -> Vec<u8> {
    let mut chain = Chain::start(Secret32::new([1; 32]));
    let mut out = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        if !change(&mut fields) {
            continue;
        }
        let time = fields["time"].as_str().unwrap().parse().unwrap();
        let event = fields["event"].as_str().unwrap().to_owned();
        let own: Vec<(&str, Value)> = fields
            .iter()
            .filter(|(name, _)| !["seq", "time", "event", "prev", "mac"].contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        chain.append(&mut out, time, &event, &own);
    }
    out
}

#[test]
fn what_was_sealed_and_released_reconciles() {
    let site = site();
    let handout = site.handout.display().to_string();
    let more = ["--key", &handout, "--public-key", &handout];
    let (status, rows, errors) = reconcile(&site.world, &site.copies.join("gate.log"), &more);
    assert_eq!(status, 0, "{errors}");
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row["state"], "released");
        assert_eq!(row["sealed"], row["received"]);
        assert_eq!(row["problem"], Value::Null);
    }
    // The same offline, with both logs copied.
    let output = std::process::Command::new(Programs::built().unwrap().receiver)
        .args(["audit", "reconcile"])
        .arg(site.copies.join("gate.log"))
        .arg("--receiver")
        .arg(site.copies.join("release.log"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("3 serials: 3 released"), "{text}");
}

#[test]
fn a_serial_that_was_released_and_never_sealed_is_named() {
    let site = site();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("sender.log");
    let is_kept = |fields: &mut serde_json::Map<String, Value>| {
        !(fields["event"] == "sealed" && fields["serial"] == 2)
    };
    fs::write(&log, rewritten(&site.copies.join("gate.log"), is_kept)).unwrap();
    let (status, rows, errors) = reconcile(&site.world, &log, &[]);
    assert_eq!(status, 1);
    assert!(
        errors.contains("released without having been sealed: 2 "),
        "{errors}"
    );
    let states: Vec<&Value> = rows.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["released", "released-unsealed", "released"]);
}

#[test]
fn another_container_than_was_sealed_is_named() {
    let site = site();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("sender.log");
    let swap = |fields: &mut serde_json::Map<String, Value>| {
        if fields["event"] == "sealed" && fields["serial"] == 3 {
            fields["container"] = Value::from("cd".repeat(32));
        }
        true
    };
    fs::write(&log, rewritten(&site.copies.join("gate.log"), swap)).unwrap();
    let (status, rows, errors) = reconcile(&site.world, &log, &[]);
    assert_eq!(status, 1);
    assert!(
        errors.contains("another container was received than was sealed: 3 "),
        "{errors}"
    );
    assert_eq!(rows[2]["problem"], "container-differs");
    assert_eq!(rows[1]["problem"], Value::Null);
}

#[test]
fn a_serial_that_was_sent_and_never_came_is_missing() {
    let site = site();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("release.log");
    let is_kept = |fields: &mut serde_json::Map<String, Value>| {
        fields.get("serial").is_none_or(|serial| serial != 2)
    };
    fs::write(&log, rewritten(&site.copies.join("release.log"), is_kept)).unwrap();
    let log = log.display().to_string();
    let gate = site.copies.join("gate.log");
    let (status, rows, errors) = reconcile(&site.world, &gate, &["--receiver", &log]);
    assert_eq!(status, 0, "{errors}");
    let states: Vec<&Value> = rows.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["released", "missing", "released"]);
    let (_, rows, _) = reconcile(
        &site.world,
        &gate,
        &["--receiver", &log, "--state", "missing"],
    );
    assert_eq!(rows.len(), 1);
}

#[test]
fn what_is_not_proved_of_a_log_without_true_macs_is_told_beside_the_json_too() {
    let site = site();
    let mut attacked = Attacked::alone();
    let made_up = |line: &Vec<u8>| {
        let text = String::from_utf8(line.clone()).unwrap();
        let (body, _) = text.split_once(",\"mac\":\"").unwrap();
        format!("{body},\"mac\":\"{}\"}}\n", "11".repeat(32)).into_bytes()
    };
    attacked.lines = relink(&attacked.lines.iter().map(made_up).collect::<Vec<_>>(), 0);
    let log = attacked.path("gate.log");
    fs::write(&log, attacked.lines.concat()).unwrap();
    // Numbers and hashes fit: without the first key nobody can refuse the log.
    let (status, rows, errors) = reconcile(&site.world, &log, &[]);
    assert_eq!((status, rows.len()), (0, 3), "{errors}");
    for role in ["gate", "release"] {
        let told = format!("valise-receiver: warning: {role}: not proved: MACs: ");
        assert!(errors.contains(&told), "{errors}");
    }
    let handout = site.handout.display().to_string();
    let (status, _, errors) = reconcile(&site.world, &log, &["--key", &handout]);
    assert_eq!(status, 1);
    assert!(
        errors.contains("line 1: its mac does not verify"),
        "{errors}"
    );
    let (_, _, errors) = reconcile(
        &site.world,
        &site.copies.join("gate.log"),
        &["--key", &handout],
    );
    assert!(!errors.contains("MACs"), "{errors}");
}

#[test]
fn a_log_that_was_tampered_with_is_not_reconciled() {
    let mut attacked = Attacked::alone();
    attacked.lines[4] = replace(&attacked.lines[4], "\"time\":\"20", "\"time\":\"21");
    let log = attacked.path("gate.log");
    fs::write(&log, attacked.lines.concat()).unwrap();
    let (status, rows, errors) = reconcile(&site().world, &log, &[]);
    assert_eq!((status, rows.len()), (1, 0));
    assert!(errors.contains("line 5"), "{errors}");
    assert!(errors.contains("nothing was compared"), "{errors}");
}

#[test]
fn a_thief_of_the_couriers_bundle_who_seals_a_cable_himself_shows_in_no_line_of_the_sender() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let thief = Thief::of(&world).unwrap();
    world.start_role(Role::Release).unwrap();
    // The thief's invention opens, and is held.
    let loot = Loot {
        manifest: b"VALISE-MANIFEST 1\n".to_vec(),
        approvals: vec![b"no signature".to_vec()],
        body: Vec::new(),
    };
    let container = thief.seal(1, &loot).unwrap();
    deliver(&world, 1, &container).unwrap();
    let view = world.state(Host::Receiver).join("view");
    world
        .await_alive("the decision", LIMIT, &[view], |world| {
            let rows = world.json(Host::Receiver, &["list"])?;
            let state = rows[0]["state"].as_str().unwrap_or_default().to_owned();
            Ok(matches!(&*state, "released" | "quarantined").then_some(()))
        })
        .unwrap();
    // The daemon continues meanwhile: nothing is locked.
    let (status, rows, errors) = reconcile(
        &world,
        &world.state(Host::Sender).join("audit/gate.log"),
        &[],
    );
    assert_eq!(status, 1, "{errors}");
    assert_eq!(rows[0]["problem"], "unsealed");
    assert!(
        errors.contains("without having been sealed: 1 "),
        "{errors}"
    );
}
