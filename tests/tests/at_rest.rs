//! Every file at rest on both hosts is damaged in turn: a bit is flipped at its beginning or in its middle, or it is
//! cut to nothing or in half. No role panics. Each works on or ends with a reason, and messages with a file's name
//! contain no key.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use valise_tests::harness::{
    HarnessError, Host, Programs, Role, Settings, Submission, World, await_condition,
};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    FirstBit,
    MiddleBit,
    Empty,
    Half,
}

const ALL: &[Damage] = &[
    Damage::FirstBit,
    Damage::MiddleBit,
    Damage::Empty,
    Damage::Half,
];
/// The kinds of damage that show at once even if only a part of a file is read or checked.
const COARSE: &[Damage] = &[Damage::FirstBit, Damage::Empty, Damage::Half];
const CUT: &[Damage] = &[Damage::Empty, Damage::Half];

impl Damage {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        match self {
            Damage::FirstBit => bytes[0] ^= 1,
            Damage::MiddleBit => bytes[middle] ^= 1,
            Damage::Empty => bytes.clear(),
            Damage::Half => bytes.truncate(middle),
        }
        bytes
    }
}

/// The way in which a role shows that a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// The role works on, under this alarm.
    Alarm(&'static str),
    /// The role ends with status 3 and this text.
    Ends(&'static str),
    /// The role works on, and its log has this text.
    Logs(&'static str),
}

/// Beginning and end of a path below the state folder, the role that reads it, the kinds of damage that show, and how.
/// The role works on after other damage of the file: that cannot be distinguished from content, or a later reader
/// compares it with a hash.
type Row = (&'static str, &'static str, Role, &'static [Damage], Shows);

const SENDER: &[Row] = {
    use Role::{Gate, Transmit};
    use Shows::{Alarm, Ends, Logs};
    const REWRITTEN: Shows = Logs("");
    &[
        ("host.toml", "", Gate, ALL, Ends("host.toml is damaged")),
        ("slots/", ".slots", Gate, CUT, Alarm("slots-damaged")),
        ("trust/", "", Gate, ALL, Alarm("trust-damaged")),
        (
            "register.db",
            "register.db",
            Gate,
            COARSE,
            Alarm("register-rebuilt"),
        ),
        ("keys/link/", ".key", Transmit, ALL, Alarm("link-key")),
        ("outbox/", ".fec", Transmit, ALL, Alarm("container")),
        (
            "outbox/3-3-",
            ".container",
            Transmit,
            ALL,
            Alarm("container"),
        ),
        (
            "outbox/beacon",
            "",
            Transmit,
            ALL,
            Logs("a file of the outbox is left out"),
        ),
        (
            "progress/",
            "",
            Transmit,
            ALL,
            Logs("a damaged progress file is ignored"),
        ),
        ("audit/gate.key", "", Gate, ALL, Ends("gate.key is damaged")),
        ("audit/gate.signer", "", Gate, ALL, Ends("gate.signer")),
        ("audit/gate.verifier", "", Gate, ALL, Ends("gate.verifier")),
        (
            "audit/gate.log",
            "",
            Gate,
            CUT,
            Ends("does not match its key file"),
        ),
        (
            "audit/transmit.key",
            "",
            Transmit,
            ALL,
            Ends("transmit.key is damaged"),
        ),
        (
            "audit/transmit.signer",
            "",
            Transmit,
            ALL,
            Ends("transmit.signer"),
        ),
        (
            "audit/transmit.verifier",
            "",
            Transmit,
            ALL,
            Ends("transmit.verifier"),
        ),
        (
            "audit/transmit.log",
            "",
            Transmit,
            CUT,
            Ends("does not match its key file"),
        ),
        ("audit/transmit.", "", Transmit, &[], REWRITTEN),
        ("audit/gate.", "", Gate, &[], REWRITTEN),
        ("view/transmit", "", Transmit, &[], REWRITTEN),
        ("transmit.lock", "", Transmit, &[], REWRITTEN),
        // A waiting cable is checked when an officer approves it: sender/tests/damaged.rs.
        ("pending/", "", Gate, &[], REWRITTEN),
        ("", "", Gate, &[], REWRITTEN),
    ]
};

const RECEIVER: &[Row] = {
    use Role::{Receive, Release};
    use Shows::{Alarm, Ends, Logs};
    const REWRITTEN: Shows = Logs("");
    &[
        ("host.toml", "", Release, ALL, Ends("host.toml is damaged")),
        ("slots/", ".slots", Release, CUT, Alarm("slots-damaged")),
        ("trust/", "", Release, ALL, Alarm("trust-damaged")),
        (
            "register.db",
            "register.db",
            Release,
            COARSE,
            Alarm("register-rebuilt"),
        ),
        ("inbox/", ".container", Release, ALL, Alarm("damaged")),
        ("inbox/beacon", "", Release, ALL, Alarm("beacon")),
        // release raises the alarm as its own.
        (
            "keys/link/",
            ".key",
            Receive,
            ALL,
            Logs("keys/link/1.key: "),
        ),
        (
            "assembly/completed",
            "",
            Receive,
            &[Damage::FirstBit],
            Logs("lines that cannot be read"),
        ),
        (
            "assembly/link-keys",
            "",
            Receive,
            &[Damage::FirstBit, Damage::MiddleBit, Damage::Half],
            Logs("first use are damaged"),
        ),
        // A set is compared with the container's hash when it is complete.
        ("assembly/", "", Receive, &[], REWRITTEN),
        (
            "audit/release.key",
            "",
            Release,
            ALL,
            Ends("release.key is damaged"),
        ),
        (
            "audit/release.signer",
            "",
            Release,
            ALL,
            Ends("release.signer"),
        ),
        (
            "audit/release.verifier",
            "",
            Release,
            ALL,
            Ends("release.verifier"),
        ),
        (
            "audit/release.log",
            "",
            Release,
            CUT,
            Ends("does not match its key file"),
        ),
        (
            "audit/receive.key",
            "",
            Receive,
            ALL,
            Ends("receive.key is damaged"),
        ),
        (
            "audit/receive.signer",
            "",
            Receive,
            ALL,
            Ends("receive.signer"),
        ),
        (
            "audit/receive.verifier",
            "",
            Receive,
            ALL,
            Ends("receive.verifier"),
        ),
        (
            "audit/receive.log",
            "",
            Receive,
            CUT,
            Ends("does not match its key file"),
        ),
        ("audit/receive.", "", Receive, &[], REWRITTEN),
        ("view/receive", "", Receive, &[], REWRITTEN),
        ("receive.lock", "", Receive, &[], REWRITTEN),
        ("", "", Release, &[], REWRITTEN),
    ]
};

/// Both hosts at rest, in the middle of their work: one cable is released, one waits in the inbox, one is on the link,
/// and one waits for its second officer.
fn world() -> World {
    let settings = Settings {
        rate: "8 Mbit/s".to_owned(),
        slots: 16,
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    for role in Role::ALL {
        world.start_role(role).unwrap();
    }
    let small = world.generate_file("small.bin", 2_000, 1).unwrap();
    let large = world.generate_file("large.bin", 3_000_000, 2).unwrap();
    let first = Submission::new("first", std::slice::from_ref(&small));
    let id = world.send(&first).unwrap();
    world.await_released(&id, &first, LIMIT).unwrap();
    world.stop("release").unwrap();
    let second = Submission::new("second", std::slice::from_ref(&small));
    let second = world.send(&second).unwrap();
    let (inbox, assembly) = ["inbox", "assembly"]
        .map(|name| world.state(Host::Receiver).join(name))
        .into();
    await_name(&mut world, &inbox, "2-");
    // Both passes must be over: a pass that is left would change its state as soon as transmit runs again.
    let view = world.state(Host::Sender).join("view");
    let transmitted = world.await_alive("the passes of the second", LIMIT, &[view], |world| {
        let shown = world.json(Host::Sender, &["show", &second])?;
        Ok((shown["state"] == "transmitted").then_some(()))
    });
    transmitted.unwrap();
    world.send(&Submission::new("third", &[large])).unwrap();
    await_name(&mut world, &assembly, "3-");
    world.stop("receive").unwrap();
    world.stop("transmit").unwrap();
    let id = world.submit(&Submission::new("fourth", &[small])).unwrap();
    let officer = world.roster.officers[0].clone();
    world.approve(&id, &officer).unwrap();
    world.stop("gate").unwrap();
    world
}

fn await_name(world: &mut World, folder: &Path, begins: &str) {
    let watched = [folder.to_owned()];
    let found = world.await_alive(begins, LIMIT, &watched, |_| {
        let mut names = fs::read_dir(folder).unwrap();
        let is_there = names.any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().starts_with(begins)
        });
        Ok(is_there.then_some(()))
    });
    found.unwrap();
}

fn files(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(root, &entry.path(), found);
        } else if kind.is_file() && entry.metadata().unwrap().len() > 0 {
            found.push(entry.path().strip_prefix(root).unwrap().to_owned());
        }
    }
    found.sort();
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn log_path(world: &World, role: Role) -> PathBuf {
    let name = format!("{}.log", role.word());
    world.folder().join("log").join(name)
}

fn alarms(world: &World, host: Host) -> String {
    let answer = world.run(host, &["status", "--check"]).unwrap();
    answer.output + &answer.errors
}

/// Keys as they are in files: long words of hexadecimal digits.
fn secrets(state: &Path) -> Vec<String> {
    let mut all = Vec::new();
    files(state, state, &mut all);
    let is_secret = |path: &&PathBuf| {
        path.starts_with("keys") || path.extension().is_some_and(|ext| ext == "signer")
    };
    let texts = all
        .iter()
        .filter(is_secret)
        .map(|path| fs::read_to_string(state.join(path)).unwrap());
    let words = texts.flat_map(|text| {
        let words = text.split(|c: char| !c.is_ascii_hexdigit());
        words
            .filter(|word| word.len() == 64)
            .map(|word| word[..24].to_owned())
            .collect::<Vec<_>>()
    });
    words.collect()
}

fn damage_all(host: Host, rows: &[Row]) {
    let mut world = world();
    let state = world.state(host);
    let whole = state.with_file_name("whole");
    copy(&state, &whole);
    let mut all = Vec::new();
    files(&whole, &whole, &mut all);
    let keys = secrets(&whole);
    assert!(keys.len() >= 3, "a link key and two signers");
    let mut faults = Vec::new();
    for file in &all {
        let name = file.to_str().unwrap();
        if name.starts_with("released/") {
            // Files for readers; no role reads them.
            continue;
        }
        let row = rows
            .iter()
            .find(|(begins, ends, ..)| name.starts_with(begins) && name.ends_with(ends));
        let (_, _, role, shown, shows) = *row.unwrap();
        for damage in ALL {
            copy(&whole, &state);
            let bytes = fs::read(state.join(file)).unwrap();
            // Into the same file, so that its owner and mode stay.
            fs::write(state.join(file), damage.of(&bytes)).unwrap();
            let _ = fs::remove_file(log_path(&world, role));
            let must = shown.contains(damage);
            if let Err(fault) = show(&mut world, host, role, (shows, must), &keys) {
                faults.push(format!("{name}, {damage:?}: {fault}"));
            }
            world.kill(role.word());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Starts a role on the damaged state, and returns the differences from what is expected.
fn show(
    world: &mut World,
    host: Host,
    role: Role,
    (shows, must): (Shows, bool),
    keys: &[String],
) -> Result<(), String> {
    let started = world.start_role(role);
    let said = || fs::read_to_string(log_path(world, role)).unwrap_or_default();
    let result = match (shows, &started) {
        (Shows::Ends(words), Err(HarnessError::Ended { status, log, .. })) => {
            let is_right = status.contains("exit status: 3") && log.contains(words);
            is_right
                .then_some(())
                .ok_or_else(|| format!("{status}: {log}"))
        }
        (Shows::Ends(_), Ok(())) if must => Err("it works on".to_owned()),
        (_, Err(error)) => Err(error.to_string()),
        (Shows::Logs(words), Ok(())) if must => {
            let found = await_condition(words, LIMIT, &[], || {
                Ok(said().contains(words).then_some(()))
            });
            found.map_err(|error| format!("{error}: {}", said()))
        }
        (Shows::Alarm(word), Ok(())) if must => {
            let begins = format!("{word}: ");
            let found = await_condition(word, LIMIT, &[], || {
                let alarms = alarms(world, host);
                Ok(alarms
                    .lines()
                    .any(|line| line.starts_with(&begins))
                    .then_some(()))
            });
            found.map_err(|error| format!("{error}: {}", alarms(world, host)))
        }
        (_, Ok(())) => Ok(()),
    };
    let shown = said() + &alarms(world, host);
    if shown.contains("panicked") {
        return Err(shown);
    }
    if keys.iter().any(|key| shown.contains(key.as_str())) {
        return Err(format!("a key is shown: {shown}"));
    }
    result
}

#[test]
fn whatever_the_disk_changes_on_the_sender_is_named() {
    damage_all(Host::Sender, SENDER);
}

#[test]
fn whatever_the_disk_changes_on_the_receiver_is_named() {
    damage_all(Host::Receiver, RECEIVER);
}

#[test]
fn a_damaged_register_and_trust_list_lose_nothing_on_either_host() {
    let mut world = world();
    for host in [Host::Receiver, Host::Sender] {
        let state = world.state(host);
        let older = fs::read_to_string(state.join("trust/trust.toml")).unwrap();
        let newer = world.trust_list(2).unwrap();
        world.import_trust_list(host, &newer).unwrap();
        let before = world.json(host, &["list"]).unwrap();
        for file in ["register.db", "trust/trust.toml"] {
            let bytes = fs::read(state.join(file)).unwrap();
            fs::write(state.join(file), Damage::Half.of(&bytes)).unwrap();
        }
        for role in Role::ALL.into_iter().filter(|role| role.host() == host) {
            world.start_role(role).unwrap();
        }
        let after = world.json(host, &["list"]).unwrap();
        for entry in before.as_array().unwrap() {
            // A serial that had arrived and was not judged has another state now.
            let is_judged = host == Host::Sender || entry["state"] == "released";
            assert!(
                !is_judged || after.as_array().unwrap().contains(entry),
                "{after}"
            );
        }
        for word in ["trust-damaged: ", "register-rebuilt: "] {
            assert!(alarms(&world, host).contains(word), "{host:?} {word}");
        }
        let refused = world.import_trust_list(host, &older).unwrap_err();
        assert!(refused.to_string().contains("version"), "{refused}");
        world.import_trust_list(host, &newer).unwrap();
        let ended = await_condition("the alarm's end", LIMIT, &[], || {
            let stands = alarms(&world, host).contains("trust-damaged: ");
            Ok((!stands).then_some(()))
        });
        ended.unwrap();
    }
    world.await_state(2, "released", LIMIT).unwrap();
    world.await_state(3, "released", LIMIT).unwrap();
}
