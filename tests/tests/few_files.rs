//! Few files may be open: a cable of many parts still goes the whole way, and a role with too few files reports that at
//! once.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use valise_common::limits::PARTS_MAX;
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);

/// The words that start a program with this soft and hard limit of open files.
fn limited(soft: u64, hard: u64) -> Vec<String> {
    ["prlimit", &format!("--nofile={soft}:{hard}"), "--"]
        .map(str::to_owned)
        .to_vec()
}

fn commissioned() -> World {
    let settings = Settings {
        one_user: true,
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

fn of_parts(world: &World, count: usize) -> Submission {
    let files: Vec<_> = (0..count)
        .map(|number| {
            let name = format!("part-{count}-{number}.txt");
            world.generate_file(&name, 2_000, 7).unwrap()
        })
        .collect();
    Submission::new(&format!("{count} parts"), &files)
}

#[test]
fn a_cable_of_many_parts_goes_the_whole_way_with_256_open_files() {
    let mut world = commissioned();
    for host in [Host::Sender, Host::Receiver] {
        world.start_by(host, limited(256, 256));
    }
    world.start_roles().unwrap();
    for count in [60, PARTS_MAX] {
        let submission = of_parts(&world, count);
        let id = world.send(&submission).unwrap();
        world.await_released(&id, &submission, LIMIT).unwrap();
    }
    for role in Role::ALL {
        let pid = world.role_pid(role).unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let numbers: Vec<&str> = line.unwrap().split_whitespace().skip(3).collect();
        assert_eq!(numbers[..2], ["256", "256"], "{role:?}");
    }
}

#[test]
fn a_role_raises_its_own_limit_as_far_as_it_may() {
    let mut world = commissioned();
    for host in [Host::Sender, Host::Receiver] {
        world.start_by(host, limited(64, 300));
    }
    world.start_roles().unwrap();
    let submission = of_parts(&world, 60);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
}

#[test]
fn a_role_for_which_64_open_files_are_the_most_does_not_start_and_says_what_to_raise() {
    let world = commissioned();
    let mut launcher = limited(64, 64);
    // A role that starts in spite of the limit is ended by this, with another exit status.
    launcher.splice(0..0, ["timeout", "-k", "5", "60"].map(str::to_owned));
    let starts = Role::ALL.map(|role| (role.host(), role.word()));
    let runs = [Host::Sender, Host::Receiver].map(|host| (host, "run"));
    for (host, word) in starts.into_iter().chain(runs) {
        let ended = Command::new(&launcher[0])
            .args(&launcher[1..])
            .arg(world.program(host))
            .args([word, "--config"])
            .arg(world.configuration(host))
            .output()
            .unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{word}: {told}");
        for part in ["64", "256", "LimitNOFILE", "ulimit -n"] {
            assert!(told.contains(part), "{word}: {told}");
        }
    }
    // Commands need few files: they place the request, and report that no daemon runs.
    let file = world.generate_file("one.txt", 10, 1).unwrap();
    let waits = Command::new(&launcher[0])
        .args(&launcher[1..])
        .arg(world.program(Host::Sender))
        .args(Submission::new("one", &[file]).arguments())
        .arg("--config")
        .arg(world.configuration(Host::Sender))
        .output()
        .unwrap();
    assert_eq!(waits.status.code(), Some(3), "{waits:?}");
}
