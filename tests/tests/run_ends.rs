//! `run` ends by itself if one of its processes cannot work, and leaves nothing running. It waits for a port in use.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use valise_tests::harness::{Answer, Host, Programs, Role, Settings, World};

const LIMIT: Duration = Duration::from_secs(60);

fn world() -> World {
    let settings = Settings {
        one_user: true,
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

/// Asserts that it ended with 3, after one line that reports this; the line above has the cause.
fn assert_cannot_start(answer: &Answer, cause: &str) {
    assert_eq!(answer.status, 3, "{answer:?}");
    assert!(answer.errors.contains(cause), "{answer:?}");
    assert!(!answer.errors.contains("it is started again"), "{answer:?}");
    let last = answer.errors.lines().last().unwrap();
    assert!(last.ends_with("nothing is left running"), "{answer:?}");
}

#[test]
fn a_second_run_on_the_same_state_ends_and_leaves_the_first_alone() {
    let mut world = world();
    world.start().unwrap();
    let before = Role::ALL.map(|role| world.role_pid(role));
    for (host, cause) in [
        (Host::Sender, "already on this state folder"),
        (Host::Receiver, "stop it first"),
    ] {
        assert_cannot_start(&world.run(host, &["run"]).unwrap(), cause);
    }
    assert_eq!(Role::ALL.map(|role| world.role_pid(role)), before);
    let file = world.generate_file("cable.bin", 1_000, 1).unwrap();
    let submission = valise_tests::harness::Submission::new("after", &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
}

#[test]
fn a_host_without_init_is_told_of_once() {
    let programs = Programs::built().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("receiver.toml");
    let state = folder.path().join("state");
    let link = "kind = 'udp'\nlisten = '127.0.0.1:7000'";
    fs::write(&config, format!("state = {state:?}\n[link]\n{link}\n")).unwrap();
    for arguments in [
        &["run"][..],
        &["receive"],
        &["release"],
        &["list"],
        &["status"],
        &["gaps"],
        &["trust", "show"],
        &["clock", "accept"],
    ] {
        let output = Command::new(&programs.receiver)
            .args(arguments)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let expected = "this host is not commissioned: run valise-receiver init first";
        assert_eq!(told.matches(expected).count(), 1, "{arguments:?}: {told}");
        assert!(told.ends_with(&format!("{expected}\n")), "{told}");
    }
}

#[test]
fn a_receiver_whose_port_is_taken_says_so_and_listens_when_it_is_free() {
    let mut world = world();
    let taken = UdpSocket::bind(world.receiver_address()).unwrap();
    world.start().unwrap();
    let port = world.receiver_address().port().to_string();
    let alarm = |world: &World| {
        let answer = world.run(Host::Receiver, &["status", "--check"])?;
        let line = answer
            .output
            .lines()
            .find(|line| line.starts_with("link-port: "));
        Ok(line.map(|line| (answer.status, line.to_owned())))
    };
    let (status, line) = world
        .await_alive("the alarm of a port in use", LIMIT, &[], alarm)
        .unwrap();
    assert_eq!(status, 1);
    assert!(line.contains(&port) && line.contains("ss -ulpn"), "{line}");
    drop(taken);
    let file = world.generate_file("cable.bin", 1_000, 1).unwrap();
    let submission = valise_tests::harness::Submission::new("later", &[file]);
    let ended = |world: &World| Ok(alarm(world)?.is_none().then_some(()));
    world
        .await_alive("the end of the alarm", LIMIT, &[], ended)
        .unwrap();
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
}
