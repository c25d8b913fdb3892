//! On the link too, an act becomes visible only after its line of the audit log. The kernel ends each process at the
//! write of that line: the limit on its files' size is the length of the log.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use valise_common::history::log::AuditLog;
use valise_common::units::UtcTime;
use valise_common::wire::DatagramBytes;
use valise_tests::attack::{Loot, Thief, container_id, transmit};
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World, await_condition};

const LIMIT: Duration = Duration::from_secs(60);

/// More than any other file that a role writes in this test.
const LOG_BYTES: u64 = 64 << 10;

fn world() -> World {
    let settings = Settings {
        passes: 1,
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

fn log(world: &World, role: Role) -> PathBuf {
    let log = format!("audit/{}.log", role.word());
    world.state(role.host()).join(log)
}

fn lines(world: &World, role: Role, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(log(world, role)).unwrap();
    // The end may be an incomplete line.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["event"] == event)
        .collect()
}

/// Makes a role's log the largest of its files.
fn fill(world: &World, role: Role) {
    let folder = world.state(role.host()).join("audit");
    let (mut audit, _) = AuditLog::open(&folder, role.word()).unwrap();
    let time = UtcTime::from_s(1_700_000_000);
    while fs::metadata(log(world, role)).unwrap().len() < LOG_BYTES {
        for _ in 0..64 {
            audit.append(time, "nothing", &[("why", json!("to be large"))]);
        }
        audit.commit().unwrap();
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == role.word()) {
            world.give_to(role, &path).unwrap();
        }
    }
}

/// `prlimit` with the length of the log, as the role's user: changing the limits of others takes a capability.
fn prlimit(world: &World, role: Role) -> Command {
    let bytes = fs::metadata(log(world, role)).unwrap().len();
    let words = world.command_as(role, Path::new("/usr/bin/prlimit"));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(format!("--fsize={bytes}"));
    command
}

/// Sets the limit so that the kernel ends a running role when it writes its next line.
fn end_at_next_line(world: &World, role: Role) -> u32 {
    let pid = world.role_pid(role).unwrap();
    let status = prlimit(world, role)
        .args(["--pid", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    pid
}

fn await_end(world: &mut World, role: Role, pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    let is_over = || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        // The state follows the name in brackets.
        let state = stat.rsplit(") ").next().unwrap_or_default();
        Ok((state.is_empty() || state.starts_with('Z')).then_some(()))
    };
    await_condition("the end at the line", LIMIT, &[], is_over).unwrap();
    world.kill(role.word());
}

#[test]
fn no_datagram_of_a_session_leaves_before_its_line_is_durable() {
    let mut world = world();
    let link = UdpSocket::bind(world.receiver_address()).unwrap();
    fill(&world, Role::Transmit);
    let ended = prlimit(&world, Role::Transmit)
        .args(["timeout", "-k", "5", "60"])
        .arg(world.program(Host::Sender))
        .args(["transmit", "--config"])
        .arg(world.configuration(Host::Sender))
        .output()
        .unwrap();
    assert!(!ended.status.success());
    assert_ne!(ended.status.code(), Some(124), "it ran on: {ended:?}");
    assert!(lines(&world, Role::Transmit, "session").is_empty());
    link.set_nonblocking(true).unwrap();
    let nothing = link.recv(&mut [0; 2_048]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    // With room for the line, datagrams leave, and their session is the one in the log.
    world.start_role(Role::Transmit).unwrap();
    link.set_nonblocking(false).unwrap();
    link.set_read_timeout(Some(LIMIT)).unwrap();
    let mut datagram = [0; 2_048];
    link.recv(&mut datagram).unwrap();
    let session = hex::encode(&datagram[8..16]);
    let named = lines(&world, Role::Transmit, "session");
    assert_eq!(named.len(), 1);
    assert_eq!(named[0]["session"], session);
}

#[test]
fn officers_see_a_submission_and_an_approval_only_behind_their_lines() {
    let mut world = world();
    world.start_role(Role::Gate).unwrap();
    let pending = world.state(Host::Sender).join("pending");
    let folders = || -> Vec<PathBuf> {
        let entries = fs::read_dir(&pending).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    // Smaller than the log, so that no other file of gate reaches the limit before the line.
    let file = world.generate_file("cable.bin", 100, 1).unwrap();
    let submission = Submission::new("a cable", &[file]);
    let pid = end_at_next_line(&world, Role::Gate);
    assert!(world.submit(&submission).is_err(), "gate is gone");
    await_end(&mut world, Role::Gate, pid);
    assert!(lines(&world, Role::Gate, "submitted").is_empty());
    assert!(folders().is_empty(), "{:?}", folders());
    world.start_role(Role::Gate).unwrap();
    let id = world.submit(&submission).unwrap();
    let approvals = pending.join(&id).join("approvals");
    let pid = end_at_next_line(&world, Role::Gate);
    let officer = world.roster.officers[0].clone();
    assert!(world.approve(&id, &officer).is_err(), "gate is gone");
    await_end(&mut world, Role::Gate, pid);
    assert!(lines(&world, Role::Gate, "approved").is_empty());
    assert_eq!(fs::read_dir(&approvals).unwrap().count(), 0);
    // Its request is still there, and is now answered.
    world.start_role(Role::Gate).unwrap();
    world
        .await_alive(
            "the approval",
            LIMIT,
            std::slice::from_ref(&approvals),
            |_| Ok((fs::read_dir(&approvals).unwrap().count() == 1).then_some(())),
        )
        .unwrap();
    assert_eq!(lines(&world, Role::Gate, "approved").len(), 1);
}

#[test]
fn a_pass_is_shown_as_sent_only_behind_its_line() {
    let mut world = world();
    fill(&world, Role::Transmit);
    for role in [Role::Gate, Role::Transmit] {
        world.start_role(role).unwrap();
    }
    let pid = end_at_next_line(&world, Role::Transmit);
    let file = world.generate_file("cable.bin", 200_000, 1).unwrap();
    let id = world.send(&Submission::new("a cable", &[file])).unwrap();
    await_end(&mut world, Role::Transmit, pid);
    assert!(lines(&world, Role::Transmit, "transmitted").is_empty());
    let progress = world.state(Host::Sender).join("progress/1");
    if let Ok(text) = fs::read_to_string(&progress) {
        let progress: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(progress["passes_done"], 0, "{progress}");
    }
    assert!(lines(&world, Role::Gate, "transmitted").is_empty());
    world.start_role(Role::Transmit).unwrap();
    let view = world.state(Host::Sender).join("view");
    world
        .await_alive("transmission", LIMIT, &[view], |world| {
            let shown = world.json(Host::Sender, &["show", &id])?;
            Ok((shown["state"] == "transmitted").then_some(()))
        })
        .unwrap();
    assert_eq!(lines(&world, Role::Transmit, "transmitted").len(), 1);
}

#[test]
fn a_link_key_is_taken_as_used_only_behind_its_line() {
    let mut world = world();
    fill(&world, Role::Receive);
    world.start_role(Role::Receive).unwrap();
    let pid = end_at_next_line(&world, Role::Receive);
    let thief = Thief::of(&world).unwrap();
    let loot = Loot {
        manifest: b"none".to_vec(),
        approvals: vec![vec![7; 100]],
        body: vec![7; 100],
    };
    let container = thief.seal(1, &loot).unwrap();
    let (id, size) = (container_id(&container), DatagramBytes::new(1_472).unwrap());
    let datagrams = thief.datagrams(1, &container, id, size, |_, _, _| {});
    let first = &datagrams.unwrap()[..1];
    let to = world.receiver_address();
    transmit(first, to).unwrap();
    await_end(&mut world, Role::Receive, pid);
    assert!(lines(&world, Role::Receive, "link-key-in-use").is_empty());
    let used = world.state(Host::Receiver).join("assembly/link-keys");
    assert!(!used.exists());
    world.start_role(Role::Receive).unwrap();
    transmit(first, to).unwrap();
    let folder = used.parent().unwrap().to_owned();
    world
        .await_alive("the key in use", LIMIT, &[folder], |_| {
            Ok(used.exists().then_some(()))
        })
        .unwrap();
    assert_eq!(lines(&world, Role::Receive, "link-key-in-use").len(), 1);
}
