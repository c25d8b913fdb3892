//! Each process is killed in mid-transfer, as by a power failure, and started again.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use valise_common::os::lock::HostLock;
use valise_tests::harness::{
    HarnessError, Host, Line, Programs, Role, Settings, Submission, World,
};
use valise_tests::wire::LineConditions;

const LIMIT: Duration = Duration::from_secs(120);
/// A pass takes about three seconds at the rate below.
const LARGE_BYTES: u64 = 8_000_000;

fn world() -> World {
    let conditions = LineConditions {
        loss: "1%".parse().unwrap(),
        ..LineConditions::CLEAN
    };
    let settings = Settings {
        rate: "30 Mbit/s".into(),
        line: Line::Wire {
            conditions,
            seed: 3,
        },
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    world.start_roles().unwrap();
    world
}

/// Sends a large cable and waits until a fifth of it has arrived.
fn in_mid_transfer(world: &mut World) -> (String, Submission) {
    let file = world.generate_file("large.bin", LARGE_BYTES, 1).unwrap();
    let submission = Submission::new("large", &[file]);
    let id = world.send(&submission).unwrap();
    let view = world.state(Host::Receiver).join("view");
    world
        .await_alive("a fifth of the cable", LIMIT, &[view], |world| {
            let view = world.view(Role::Receive).unwrap_or_default();
            let set = &view["assembling"][0];
            let have = set["have_symbols"].as_u64().unwrap_or(0);
            let need = set["need_symbols"].as_u64().unwrap_or(u64::MAX);
            Ok((have > need / 5).then_some(()))
        })
        .unwrap();
    (id, submission)
}

/// Asserts that the earlier cable and a later one arrive, each once.
fn both_arrive(world: &mut World, before: &(String, Submission)) {
    let file = world.generate_file("after.bin", 20_000, 2).unwrap();
    let after = Submission::new("after", &[file]);
    let after_id = world.send(&after).unwrap();
    world.await_released(&before.0, &before.1, LIMIT).unwrap();
    world.await_released(&after_id, &after, LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 2, "each exactly once");
}

#[test]
fn transmit_killed_in_mid_transfer_goes_on_where_it_stood() {
    let mut world = world();
    let cable = in_mid_transfer(&mut world);
    world.kill("transmit");
    world.start_role(Role::Transmit).unwrap();
    both_arrive(&mut world, &cable);
}

#[test]
fn receive_killed_in_mid_transfer_keeps_what_it_has() {
    let mut world = world();
    let cable = in_mid_transfer(&mut world);
    world.kill("receive");
    world.start_role(Role::Receive).unwrap();
    both_arrive(&mut world, &cable);
}

#[test]
fn gate_killed_in_mid_transfer_loses_nothing_that_it_accepted() {
    let mut world = world();
    let cable = in_mid_transfer(&mut world);
    let file = world.generate_file("pending.bin", 50_000, 3).unwrap();
    let pending = Submission::new("pending", &[file]);
    let id = world.submit(&pending).unwrap();
    world
        .approve(&id, &world.roster.officers[0].clone())
        .unwrap();
    world.kill("gate");
    world.start_role(Role::Gate).unwrap();
    world
        .approve(&id, &world.roster.officers[1].clone())
        .unwrap();
    world.await_released(&id, &pending, LIMIT).unwrap();
    world.await_released(&cable.0, &cable.1, LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 2);
}

#[test]
fn release_killed_again_and_again_releases_each_cable_once() {
    let mut world = world();
    let mut sent = Vec::new();
    for number in 0..6 {
        let file = world
            .generate_file(&format!("cable-{number}.bin"), 300_000, number)
            .unwrap();
        let submission = Submission::new(&format!("cable {number}"), &[file]);
        sent.push((world.send(&submission).unwrap(), submission));
    }
    let inbox = world.state(Host::Receiver).join("inbox");
    let released = world.released_folder().join("paris-desk");
    // Killed whenever a new file has appeared in its input or its output.
    for wanted in 1..=6 {
        let folders = [inbox.clone(), released.clone()];
        world
            .await_alive("the next cable", LIMIT, &folders, |world| {
                let waiting = fs::read_dir(&inbox).map_or(0, Iterator::count);
                let done = world.released()?.len();
                Ok((done >= wanted || waiting > 1).then_some(()))
            })
            .unwrap();
        world.kill("release");
        world.start_role(Role::Release).unwrap();
    }
    for (id, submission) in &sent {
        world.await_released(id, submission, LIMIT).unwrap();
    }
    assert_eq!(world.released().unwrap().len(), 6, "each exactly once");
}

#[test]
fn gate_killed_while_it_seals_seals_each_cable_once() {
    let mut world = world();
    let file = world.generate_file("cable.bin", 30_000, 1).unwrap();
    let submissions: Vec<Submission> = (0..8)
        .map(|number| Submission::new(&format!("cable {number}"), std::slice::from_ref(&file)))
        .collect();
    let (ids, approvals) = world.prepare_many(&submissions, "sealing").unwrap();
    let outbox = world.state(Host::Sender).join("outbox");
    for approval in &approvals {
        approval.reveal().unwrap();
    }
    // As soon as the first container is there, the others are on their way.
    let containers = || {
        let names = fs::read_dir(&outbox).into_iter().flatten().flatten();
        names
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "container"))
            .count()
    };
    world
        .await_alive(
            "the first container",
            LIMIT,
            std::slice::from_ref(&outbox),
            |_| Ok((containers() > 0).then_some(())),
        )
        .unwrap();
    world.kill("gate");
    world.start_role(Role::Gate).unwrap();
    for (id, submission) in ids.iter().zip(&submissions) {
        world.await_released(id, submission, LIMIT).unwrap();
    }
    let mut serials: Vec<u64> = world
        .released()
        .unwrap()
        .iter()
        .map(|released| released.serial)
        .collect();
    serials.sort_unstable();
    assert_eq!(
        serials,
        (1..=8).collect::<Vec<_>>(),
        "no serial twice, none skipped"
    );
}

#[test]
fn run_ends_every_role_of_a_host_when_one_dies() {
    let settings = Settings {
        one_user: true,
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    for role in Role::ALL {
        world.start().unwrap();
        let pid = world.role_pid(role).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let ended = world.await_alive("the end of run", LIMIT, &[], |_| Ok(None::<()>));
        let Err(HarnessError::Ended { status, log, .. }) = ended else {
            panic!("{role:?}: {ended:?}");
        };
        assert!(status.contains("exit status: 3"), "{role:?}: {status}");
        let told = format!("{} ended (signal: 9", role.word());
        assert!(log.contains(&told), "{role:?}: {log}");
        assert!(log.trim_end().ends_with("nothing is left running"), "{log}");
        for other in Role::ALL
            .into_iter()
            .filter(|other| other.host() == role.host())
        {
            let lock = world
                .state(role.host())
                .join(format!("{}.lock", other.word()));
            assert!(!HostLock::is_held(&lock).unwrap(), "{other:?}");
        }
        for host in [Host::Sender, Host::Receiver] {
            world.stop_host(host).unwrap();
        }
        world.stop("wire").unwrap();
    }
    world.start().unwrap();
    let file = world.generate_file("cable.bin", 30_000, 1).unwrap();
    let submission = Submission::new("after", &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
}
