//! The entries that gate sends to the journal, read from a socket in its place: each audit event with fields of its
//! own.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);
const SUBJECT: &str = "Confidential-Subject";
const FILE: &str = "confidential-name.txt";
const SOCKET: &str = "/run/systemd/journal/socket";

type Entry = BTreeMap<String, String>;

/// Reads an entry of journald's native protocol: `NAME=value` lines, or a name, a length and a value.
fn parse(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let (length, rest) = bytes.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                let value = String::from_utf8(rest[..length].to_vec()).unwrap();
                bytes = &rest[length + 1..];
                (line, value)
            }
        };
        entry.insert(name.to_owned(), value);
    }
    entry
}

/// Runs the test below in a mount namespace of its own, so that nobody else sees the socket.
#[test]
fn every_audit_event_is_an_entry_of_the_journal_without_anything_confidential() {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && exec \"$0\" --ignored --exact inside --nocapture";
    command.args(["sh", "-c", script]);
    let output = command.arg(env::current_exe().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "needs a /run of its own: the test above runs it, with cargo test -p valise-tests --test journal"]
fn inside() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let journal = UnixDatagram::bind(SOCKET).unwrap();
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o777)).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let stat = nix::sys::stat::fstat(&theirs).unwrap();
    let program = world.command_as(Role::Gate, world.program(Host::Sender));
    let mut gate = Command::new(&program[0])
        .args(&program[1..])
        .arg("--config")
        .arg(world.configuration(Host::Sender))
        .arg("gate")
        .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
        .stderr(theirs)
        .spawn()
        .unwrap();
    // Entries are read at once, as by journald: gate waits a second for a journal that has no room, and then continues
    // without it.
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count) = journal.recv(&mut buffer)
            && sender.send(parse(&buffer[..count])).is_ok()
        {}
    });
    let mut entries = Vec::new();
    let mut until = |event: &str| loop {
        let entry = received.recv_timeout(LIMIT).unwrap();
        let is_it = entry
            .get("VALISE_EVENT")
            .is_some_and(|found| found == event);
        entries.push(entry.clone());
        if is_it {
            return entry;
        }
    };
    until("start");
    let file = world.generate_file(FILE, 5_000, 1).unwrap();
    let id = world.send(&Submission::new(SUBJECT, &[file])).unwrap();
    let sealed = until("sealed");
    assert_eq!(sealed["VALISE_ROLE"], "gate");
    assert_eq!(sealed["VALISE_SERIAL"], "1");
    assert_eq!(sealed["SYSLOG_IDENTIFIER"], "valise");
    kill(
        Pid::from_raw(gate.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    until("stop");
    assert!(gate.wait().unwrap().success());
    // Each line of the audit log is an entry.
    let log = fs::read_to_string(world.state(Host::Sender).join("audit/gate.log")).unwrap();
    let of_id = |entry: &&Entry| entry.get("VALISE_ID") == Some(&id);
    assert!(entries.iter().filter(of_id).count() >= 3, "{entries:?}");
    for line in log.lines().skip_while(|line| !line.contains("\"start\"")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let seq = line["seq"].to_string();
        let is_there = entries
            .iter()
            .any(|entry| entry.get("VALISE_SEQ") == Some(&seq));
        assert!(is_there, "{line} is not in the journal");
    }
    let text = format!("{entries:?}");
    for word in [SUBJECT, FILE, "confidential"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    assert!(Path::new(SOCKET).exists());
    world.stop_host(Host::Sender).unwrap();
}
