//! Audit logs that continue in further files. Roles write them behind their fences and are killed meanwhile. The files
//! are verified as one log, in place and as a copy.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use valise_common::history::log::parts;
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);
/// The smallest size that the configuration allows.
const FILES: &str = "[audit]\nfile_bytes = \"4 KiB\"\n";
const ROLES: [Role; 4] = [Role::Gate, Role::Transmit, Role::Receive, Role::Release];

/// The files of a role's log.
fn files(world: &World, role: Role) -> Vec<PathBuf> {
    let log = format!("audit/{}.log", role.word());
    let files = parts(&world.state(role.host()).join(log)).unwrap();
    files.into_iter().map(|part| part.path).collect()
}

/// Sends a cable and waits for its release.
fn cable(world: &mut World, number: u64) {
    let file = world.generate_file("part.bin", 2_000, number).unwrap();
    let submission = Submission::new("a cable", &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
}

/// Verifies the logs of a host with the first keys; returns the numbers of their lines.
fn verify(world: &World, host: Host) -> Vec<u64> {
    let handout = world.auditor_handout().display().to_string();
    let found = world.json(host, &["audit", "verify", "--key", &handout]);
    let found = found.unwrap();
    assert_eq!(found["intact"], true, "{found}");
    let logs = found["logs"].as_array().unwrap();
    logs.iter()
        .map(|log| log["lines"].as_u64().unwrap())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_log_in_several_files_is_written_behind_the_fences_outlives_kills_and_verifies_as_one() {
    let settings = Settings {
        sender_extra: FILES.to_owned(),
        receiver_extra: FILES.to_owned(),
        passes: 1,
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    world.start().unwrap();
    // Each role in turn is killed and started again, until each has begun further files. Receive writes lines only when
    // it starts, so it is restarted every time.
    for number in 0..40 {
        for role in [ROLES[number % ROLES.len()], Role::Receive] {
            world.kill(role.word());
            world.start_role(role).unwrap();
        }
        cable(&mut world, u64::try_from(number).unwrap());
        let lag = ROLES.iter().map(|role| files(&world, *role).len()).min();
        if number >= 12 && lag >= Some(2) {
            break;
        }
    }
    for role in ROLES {
        let count = files(&world, role).len();
        assert!(count >= 2, "{role:?} has {count} files");
    }
    // The daemons still work; then they are stopped.
    verify(&world, Host::Sender);
    verify(&world, Host::Receiver);
    world.stop_host(Host::Sender).unwrap();
    world.stop_host(Host::Receiver).unwrap();
    let before = verify(&world, Host::Sender);

    // A copy, as an auditor takes it, and both logs compared with each other.
    let away = world.folder().join("copies");
    copy(&world.state(Host::Sender).join("audit"), &away);
    let log = away.join("gate.log").display().to_string();
    let handout = world.auditor_handout().display().to_string();
    let arguments = ["audit", "verify", &log, "--key", &handout];
    let found: Value = world.json(Host::Receiver, &arguments).unwrap();
    assert_eq!(found["logs"][0]["lines"], before[0], "{found}");
    let arguments = ["audit", "reconcile", &log, "--key", &handout];
    let compared = world.run(Host::Receiver, &arguments).unwrap();
    assert_eq!(compared.status, 0, "{}", compared.errors);

    // If only the first file is there, the checkpoints beside it show that lines are missing.
    fs::rename(away.join("gate"), away.join("gate.away")).unwrap();
    let alone = world
        .run(Host::Receiver, &["audit", "verify", &log])
        .unwrap();
    assert_eq!(alone.status, 1);
    assert!(alone.errors.contains("is missing"), "{}", alone.errors);

    // A log without one of its middle files shows it too, and its line is reported.
    let gone = &files(&world, Role::Gate)[1];
    let number: u64 = gone.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(gone).unwrap();
    let cut = world.run(Host::Sender, &["audit", "verify"]).unwrap();
    assert_eq!(cut.status, 1);
    let line = format!("line {}", number + 1);
    assert!(cut.errors.contains(&line), "{line}: {}", cut.errors);
}
