//! Files at rest that a disk damaged: the report, and the cable that still arrives.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);

fn world() -> World {
    World::commission(Programs::built().unwrap(), Settings::default()).unwrap()
}

/// Flips one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Waits for an alarm of a host with this text, and returns its line.
fn await_alarm(world: &mut World, host: Host, words: &str) -> String {
    let view = world.state(host).join("view");
    world
        .await_alive(words, LIMIT, &[view], |world| {
            let answer = world.run(host, &["status", "--check"])?;
            let lines = format!("{}{}", answer.output, answer.errors);
            let line = lines.lines().find(|line| line.contains(words));
            Ok(line.map(str::to_owned))
        })
        .unwrap()
}

#[test]
fn a_container_that_was_damaged_after_it_arrived_is_released_when_it_is_sent_again() {
    let mut world = world();
    for role in [Role::Gate, Role::Transmit, Role::Receive] {
        world.start_role(role).unwrap();
    }
    // A container of one block and one of several, because receive handles them differently.
    let cables = [2_000, 3_000_000].map(|bytes| {
        let file = world
            .generate_file(&format!("{bytes}.bin"), bytes, bytes)
            .unwrap();
        let submission = Submission::new("damaged", &[file]);
        (world.send(&submission).unwrap(), submission)
    });
    let inbox = world.state(Host::Receiver).join("inbox");
    let found = world.await_alive(
        "two containers",
        LIMIT,
        std::slice::from_ref(&inbox),
        |_| {
            let entries = fs::read_dir(&inbox)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let containers: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
            Ok((containers.len() == 2).then_some(containers))
        },
    );
    // Otherwise the rest of its passes would bring it again at once.
    world.stop("transmit").unwrap();
    found.unwrap().iter().for_each(|path| damage(path));
    world.start_role(Role::Release).unwrap();
    let alarm = await_alarm(&mut world, Host::Receiver, "disk: 1-2.");
    assert!(
        alarm.starts_with("damaged") && alarm.contains("valise-sender resend 1-2"),
        "{alarm}"
    );
    let damaged = world.state(Host::Receiver).join("damaged");
    let taken_back = world.await_alive("taken back", LIMIT, std::slice::from_ref(&damaged), |_| {
        Ok((fs::read_dir(&damaged).unwrap().count() == 0).then_some(()))
    });
    taken_back.unwrap();
    world.start_role(Role::Transmit).unwrap();
    world.expect(Host::Sender, &["resend", "1-2"]).unwrap();
    for (id, submission) in &cables {
        world.await_released(id, submission, LIMIT).unwrap();
    }
    assert_eq!(world.released().unwrap().len(), 2, "each once");
}
