//! `status` distinguishes a role that works from one that was never started, was killed, is stopped by a signal, or has
//! an invalid view.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use valise_tests::harness::{Host, Programs, Role, Settings, World, await_condition};

/// Three intervals, with reserve for a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

fn world() -> World {
    World::commission(Programs::built().unwrap(), Settings::default()).unwrap()
}

/// The codes of `status --check` on both hosts that concern a role, and the whole text.
fn codes(world: &World) -> (Vec<String>, String) {
    let mut codes = Vec::new();
    let mut text = String::new();
    for host in [Host::Sender, Host::Receiver] {
        let answer = world.run(host, &["status", "--check"]).unwrap();
        let is_alarm = |line: &&str| {
            let is_of = |role: Role| line.starts_with(&format!("{}-", role.word()));
            Role::ALL.into_iter().any(is_of)
        };
        let found = answer.output.lines().filter(is_alarm);
        let found: Vec<String> = found
            .map(|line| line.split(':').next().unwrap().to_owned())
            .collect();
        assert!(
            found.is_empty() || answer.status == 1,
            "{}: {}",
            answer.status,
            answer.output
        );
        codes.extend(found);
        text.push_str(&answer.output);
        text.push_str(&world.expect(host, &["status"]).unwrap());
    }
    codes.sort();
    (codes, text)
}

fn signal(world: &World, role: Role, signal: Signal) {
    let pid = world.role_pid(role).unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    if signal == Signal::SIGSTOP {
        await_stop(pid);
    }
}

/// Waits until every thread of a process has stopped: a thread may be in the middle of writing the view.
fn await_stop(pid: u32) {
    let is_stopped = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap();
        // The state follows the name in brackets.
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    let are_stopped = || {
        let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let is_over = tasks.all(|task| is_stopped(&task.unwrap().path()));
        Ok(is_over.then_some(()))
    };
    await_condition("the stop", LIMIT, &[], are_stopped).unwrap();
}

/// Makes the last signs of life of a role 95 seconds old, so that the test need not wait. Only for a role that is
/// stopped.
fn age(world: &World, role: Role) {
    let view = view_file(world, role);
    let lock = format!("{}.lock", role.word());
    let lock = world.state(role.host()).join(lock);
    let back = |stamp: &mut Value| {
        let us = stamp["mono_us"].as_u64().unwrap();
        stamp["mono_us"] = json!(us.saturating_sub(95_000_000));
    };
    let read =
        |path: &PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let (mut shown, mut taken) = (read(&view), read(&lock));
    back(&mut shown["written"]);
    back(&mut taken);
    fs::write(view, shown.to_string()).unwrap();
    // In place, because the lock is on this very file.
    fs::write(lock, taken.to_string()).unwrap();
}

fn view_file(world: &World, role: Role) -> PathBuf {
    let name = format!("view/{}.json", role.word());
    world.state(role.host()).join(name)
}

fn all(ending: &str) -> Vec<String> {
    let mut codes: Vec<String> = Role::ALL
        .into_iter()
        .map(|role| format!("{}-{ending}", role.word()))
        .collect();
    codes.sort();
    codes
}

/// Waits until every role has written its view again.
fn await_views(world: &mut World) {
    let written = |world: &World, role| world.view(role).unwrap()["written"].clone();
    for role in Role::ALL {
        let before = written(world, role);
        let folders = [view_file(world, role).parent().unwrap().to_owned()];
        world
            .await_alive("a new view", LIMIT, &folders, |world| {
                Ok((written(world, role) != before).then_some(()))
            })
            .unwrap();
    }
}

#[test]
fn a_role_that_is_stopped_by_a_signal_is_hung_until_it_goes_on() {
    let mut world = world();
    assert_eq!(codes(&world).0, all("not-running"), "never started");
    world.start_roles().unwrap();
    assert!(codes(&world).0.is_empty());
    for role in Role::ALL {
        signal(&world, role, Signal::SIGSTOP);
        age(&world, role);
    }
    let (found, text) = codes(&world);
    assert_eq!(found, all("hung"));
    for words in [
        "gate is hung; shown as of",
        match world.has_users() {
            true => "repair    release-hung: sudo systemctl restart valise-receiver-release",
            false => "repair    release-hung: valise-receiver run",
        },
        "receive is hung; shown as of",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The views of other commands may be just as old.
    for (host, role) in [(Host::Sender, "gate"), (Host::Receiver, "release")] {
        let answer = world.run(host, &["list"]).unwrap();
        let warning = format!("{role} is hung; shown as of");
        assert!(answer.errors.contains(&warning), "{}", answer.errors);
        assert_eq!(answer.status, 0);
    }
    for role in Role::ALL {
        signal(&world, role, Signal::SIGCONT);
    }
    await_views(&mut world);
    assert!(codes(&world).0.is_empty());
    for role in Role::ALL {
        world.kill(role.word());
    }
    let (found, text) = codes(&world);
    assert_eq!(found, all("not-running"));
    assert!(text.contains("not running; shown as of"), "{text}");
}

#[test]
fn a_neighbour_that_hangs_is_an_alarm_of_gate_and_of_release_until_it_goes_on() {
    let mut world = world();
    world.start_roles().unwrap();
    await_views(&mut world);
    for (role, watcher) in [(Role::Transmit, Role::Gate), (Role::Receive, Role::Release)] {
        signal(&world, role, Signal::SIGSTOP);
        age(&world, role);
        let word = format!("{}-hung", role.word());
        let folders = [view_file(&world, watcher).parent().unwrap().to_owned()];
        let stands = |world: &World| {
            let view = world.view(watcher).unwrap();
            let alarms = view["alarms"].as_array().unwrap().iter();
            alarms.clone().any(|alarm| alarm["alarm"] == word)
        };
        world
            .await_alive("the alarm", LIMIT, &folders, |world| {
                Ok(stands(world).then_some(()))
            })
            .unwrap();
        let log = format!("audit/{}.log", watcher.word());
        let log = fs::read_to_string(world.state(watcher.host()).join(log)).unwrap();
        assert!(log.contains(&format!("\"{word}\"")), "{log}");
        signal(&world, role, Signal::SIGCONT);
        world
            .await_alive("the end of the alarm", LIMIT, &folders, |world| {
                Ok((!stands(world)).then_some(()))
            })
            .unwrap();
    }
}

#[test]
fn an_idle_role_whose_clock_is_set_still_shows_signs_of_life() {
    let mut world = world();
    for host in [Host::Sender, Host::Receiver] {
        world.make_clock(host).unwrap();
    }
    world.start_roles().unwrap();
    for ahead_s in [-86_400, 7_200] {
        for host in [Host::Sender, Host::Receiver] {
            world.set_clock_ahead(host, ahead_s).unwrap();
        }
        await_views(&mut world);
        assert!(codes(&world).0.is_empty(), "{ahead_s} s ahead");
    }
}

#[test]
fn a_damaged_view_is_an_alarm_and_hides_nothing_else() {
    let world = world();
    for role in Role::ALL {
        fs::write(view_file(&world, role), b"{\"written\":").unwrap();
    }
    let (found, text) = codes(&world);
    let mut expected = all("not-running");
    expected.extend(all("view"));
    expected.sort();
    assert_eq!(found, expected);
    assert!(text.contains("view/transmit.json cannot be read"), "{text}");
    let answer = world.run(Host::Receiver, &["list"]).unwrap();
    assert_eq!(answer.status, 3, "{}", answer.errors);
    assert!(
        answer.errors.contains("view/receive.json"),
        "{}",
        answer.errors
    );
}
