//! A serial line between the two hosts: pseudo-terminals, the real programs, and each role as its own user.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use serde_json::Value;
use valise_common::units::Percent;
use valise_tests::harness::{Host, Line, Programs, Role, Settings, Submission, World, remark};
use valise_tests::wire::{LineConditions, Prng, Pty};

const LIMIT: Duration = Duration::from_secs(60);
const PORTS: [(Host, Role); 2] = [
    (Host::Sender, Role::Transmit),
    (Host::Receiver, Role::Receive),
];

fn commission(settings: Settings) -> World {
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

fn share(text: &str) -> Percent {
    text.parse().unwrap()
}

/// Settings with one pass and no repair: every lost datagram makes the cable missing.
fn without_repair(baud: u32, line: Line) -> Settings {
    Settings {
        passes: 1,
        repair: "0 %".to_owned(),
        line,
        ..Settings::serial(baud)
    }
}

fn submission(world: &World, name: &str, bytes: u64) -> Submission {
    let file = world
        .generate_file(&format!("{name}.bin"), bytes, 7)
        .unwrap();
    Submission::new(name, &[file])
}

/// Sends a generated cable and waits until it is released.
fn arrives(world: &mut World, name: &str, bytes: u64) {
    let submission = submission(world, name, bytes);
    let id = world.send(&submission).unwrap();
    is_released(world, &id, &submission);
}

fn is_released(world: &mut World, id: &str, submission: &Submission) {
    let limit = world
        .settings()
        .time_limit(1, submission.body_bytes().unwrap());
    world.await_released(id, submission, limit).unwrap();
}

/// Waits until receive has begun to collect a cable.
fn await_collecting(world: &mut World) {
    let view = world.state(Host::Receiver).join("view");
    let begun = |world: &World| {
        let view = world.view(Role::Receive).unwrap_or_default();
        view["assembling"][0]["have_symbols"].as_u64() > Some(0)
    };
    let waited = world.await_alive("the first symbols", LIMIT, &[view], |world| {
        Ok(begun(world).then_some(()))
    });
    waited.unwrap();
}

/// The line of `status --check` that reports the link of a host as down.
fn link_down(world: &World, host: Host) -> Option<String> {
    let answer = world.run(host, &["status", "--check"]).unwrap();
    let mut lines = answer.output.lines();
    let line = lines.find(|line| line.starts_with("link-down: "))?;
    assert_eq!(answer.status, 1, "{line}");
    Some(line.to_owned())
}

/// Waits for the alarm of a port, which has the name of its device and the fault.
fn await_alarm(world: &mut World, (host, role): (Host, Role), fault: &str) {
    let device = world.device(role).display().to_string();
    let what = format!("the alarm of {} that its port {fault}", role.word());
    world
        .await_alive(&what, LIMIT, &[], |world| {
            let line = link_down(world, host).unwrap_or_default();
            Ok((line.contains(&device) && line.contains(fault)).then_some(()))
        })
        .unwrap();
}

fn await_no_alarm(world: &mut World) {
    let what = "the end of both alarms";
    let quiet = |world: &World| {
        PORTS
            .iter()
            .all(|(host, _)| link_down(world, *host).is_none())
    };
    world
        .await_alive(what, LIMIT, &[], |world| Ok(quiet(world).then_some(())))
        .unwrap();
}

/// The state of a cable on the sender.
fn state_on_sender(world: &World, id: &str) -> String {
    let list = world.json(Host::Sender, &["list"]).unwrap();
    let mut cables = list.as_array().unwrap().iter();
    let cable = cables.find(|cable| cable["id"] == id).unwrap();
    cable["state"].as_str().unwrap().to_owned()
}

/// Waits for the end of all passes, and asserts that a cable was released once.
fn is_alone_after_the_last_pass(world: &mut World, id: &str, limit: Duration) {
    world
        .await_alive("the last pass", limit, &[], |world| {
            let state = state_on_sender(world, id);
            let under_way = matches!(state.as_str(), "sealed" | "queued" | "transmitting");
            Ok((!under_way).then_some(()))
        })
        .unwrap();
    assert_eq!(world.released().unwrap().len(), 1);
}

/// A thread that carries the output of transmit unchanged to receive, and keeps a copy.
struct Tap {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl Tap {
    fn start(near: Pty, far: Pty) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut tape = Vec::new();
            let mut buffer = [0; 4_096];
            loop {
                let more = near.await_bytes(Duration::from_millis(100)).unwrap();
                if !more && stopped.load(Ordering::Relaxed) {
                    return tape;
                }
                let length = near.read(&mut buffer).unwrap();
                tape.extend_from_slice(&buffer[..length]);
                far.write_all(&buffer[..length], LIMIT).unwrap();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends when nothing more comes, and returns all received bytes.
    fn end(mut self) -> Vec<u8> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The access mode of each descriptor with which a process has its port open.
fn access_modes(world: &World, role: Role) -> Vec<u32> {
    let device = fs::canonicalize(world.device(role)).unwrap();
    let process = format!("/proc/{}", world.role_pid(role).unwrap());
    let mut modes = Vec::new();
    for entry in fs::read_dir(format!("{process}/fd")).unwrap() {
        let entry = entry.unwrap();
        if !fs::read_link(entry.path()).is_ok_and(|file| file == device) {
            continue;
        }
        let number = entry.file_name().into_string().unwrap();
        let info = fs::read_to_string(format!("{process}/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        modes.push(flags & 3);
    }
    modes
}

#[test]
fn a_cable_arrives_over_a_bad_line_and_each_host_has_its_port_open_one_way() {
    const WRITE_ONLY: u32 = 1;
    const READ_ONLY: u32 = 0;
    let conditions = LineConditions {
        loss: share("0.05%"),
        burst: Duration::from_millis(1),
        duplicate: share("0.02%"),
        corrupt: share("0.02%"),
        ..LineConditions::CLEAN
    };
    let mut world = commission(Settings {
        line: Line::Wire {
            conditions,
            seed: 1,
        },
        ..Settings::serial(115_200)
    });
    world.start().unwrap();
    await_no_alarm(&mut world);
    arrives(&mut world, "bad-line", 8_000);
    assert_eq!(access_modes(&world, Role::Transmit), [WRITE_ONLY]);
    assert_eq!(access_modes(&world, Role::Receive), [READ_ONLY]);
    world.stop("wire").unwrap();
    let wire = world.wire_statistics();
    assert!(
        wire.lost > 0 && wire.duplicated + wire.corrupted > 0,
        "the line was bad: {wire:?}"
    );
}

#[test]
fn bytes_of_every_value_pass_and_receive_counts_each() {
    let mut world = commission(without_repair(115_200, Line::Tapped));
    let near = world.open_port(Role::Transmit).unwrap();
    let far = world.open_port(Role::Receive).unwrap();
    let tap = Tap::start(near, far);
    world.start().unwrap();
    arrives(&mut world, "every-byte", 20_000);
    world.stop_host(Host::Sender).unwrap();
    let tape = tap.end();
    let carried = u64::try_from(tape.len()).unwrap();
    let view = world.state(Host::Receiver).join("view");
    world
        .await_alive("receive's count of all bytes", LIMIT, &[view], |world| {
            let view = world.view(Role::Receive).unwrap_or_default();
            Ok((view["line"]["bytes"] == carried).then_some(()))
        })
        .unwrap();
    for value in 0..=u8::MAX {
        assert!(tape.contains(&value), "{value:#04x} was not tried");
    }
    let view = world.view(Role::Receive).unwrap();
    for reason in ["frame-cobs", "frame-length", "frame-crc"] {
        assert_eq!(view["counters"][reason].as_u64().unwrap_or(0), 0, "{view}");
    }
    assert_eq!(view["line"]["discarded_bytes"], 0, "{view}");
    assert_eq!(view["line"]["baud"], 115_200, "{view}");
}

#[test]
fn a_device_that_comes_late_is_an_alarm_until_then_and_ends_no_role() {
    let mut world = commission(without_repair(115_200, Line::Tapped));
    world.start().unwrap();
    let pids = PORTS.map(|(_, role)| world.role_pid(role).unwrap());
    for port in PORTS {
        await_alarm(&mut world, port, "is not there");
    }
    let submission = submission(&world, "early", 3_000);
    let id = world.send(&submission).unwrap();
    // The near end alone is not the line.
    let near = world.open_port(Role::Transmit).unwrap();
    let what = "the end of transmit's alarm";
    world
        .await_alive(what, LIMIT, &[], |world| {
            Ok(link_down(world, Host::Sender).is_none().then_some(()))
        })
        .unwrap();
    await_alarm(&mut world, PORTS[1], "is not there");
    let far = world.open_port(Role::Receive).unwrap();
    let _tap = Tap::start(near, far);
    await_no_alarm(&mut world);
    is_released(&mut world, &id, &submission);
    let after = PORTS.map(|(_, role)| world.role_pid(role).unwrap());
    assert_eq!(pids, after);
}

#[test]
fn a_line_unplugged_in_the_middle_of_a_cable_brings_it_once_when_it_is_back() {
    let mut world = commission(Settings::serial(115_200));
    world.start().unwrap();
    let submission = submission(&world, "interrupted", 40_000);
    let id = world.send(&submission).unwrap();
    await_collecting(&mut world);
    world.unplug().unwrap();
    for port in PORTS {
        await_alarm(&mut world, port, "");
    }
    assert_ne!(state_on_sender(&world, &id), "transmitted");
    assert!(world.released().unwrap().is_empty());
    world.plug_in().unwrap();
    await_no_alarm(&mut world);
    let limit = world.settings().time_limit(1, 40_000);
    world.await_released(&id, &submission, limit).unwrap();
    is_alone_after_the_last_pass(&mut world, &id, limit);
}

#[test]
fn both_roles_killed_in_the_middle_of_a_cable_find_their_ports_again() {
    let mut world = commission(Settings::serial(115_200));
    world.start_roles().unwrap();
    let submission = submission(&world, "killed", 40_000);
    let id = world.send(&submission).unwrap();
    await_collecting(&mut world);
    for role in [Role::Transmit, Role::Receive] {
        world.kill(role.word());
        world.start_role(role).unwrap();
    }
    let limit = world.settings().time_limit(1, 40_000);
    world.await_released(&id, &submission, limit).unwrap();
    is_alone_after_the_last_pass(&mut world, &id, limit);
    await_no_alarm(&mut world);
}

#[test]
fn what_was_on_the_line_when_transmit_ended_is_sent_again() {
    // A frame takes 0.6 s, and a lost one is not repaired.
    let mut world = commission(Settings {
        passes: 1,
        repair: "0 %".to_owned(),
        ..Settings::serial(9_600)
    });
    world.start().unwrap();
    let submission = submission(&world, "restarted", 2_048);
    let id = world.send(&submission).unwrap();
    for _ in 0..2 {
        await_collecting(&mut world);
        world.stop("transmit").unwrap();
        world.start_role(Role::Transmit).unwrap();
        world.kill("transmit");
        world.start_role(Role::Transmit).unwrap();
    }
    is_released(&mut world, &id, &submission);
}

/// Opens a slave as any program would.
fn hold(device: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(device)
        .unwrap()
}

#[test]
fn a_device_that_another_program_holds_is_an_alarm_until_it_lets_go() {
    let mut world = commission(without_repair(115_200, Line::Tapped));
    let near = world.open_port(Role::Transmit).unwrap();
    let far = world.open_port(Role::Receive).unwrap();
    let exclusive = hold(&world.device(Role::Transmit));
    rustix::termios::ioctl_tiocexcl(&exclusive).unwrap();
    let locked = hold(&world.device(Role::Receive));
    let locked = Flock::lock(locked, FlockArg::LockExclusiveNonblock).unwrap();
    world.start().unwrap();
    // Exclusive use does not stop root.
    let held = match world.has_users() || !geteuid().is_root() {
        true => &PORTS[..],
        false => {
            remark("SKIPPED: root opens a device that another program has for itself");
            &PORTS[1..]
        }
    };
    for port in held {
        await_alarm(&mut world, *port, "is in use by another program");
    }
    drop(locked);
    drop(exclusive);
    near.end_exclusive_use().unwrap();
    await_no_alarm(&mut world);
    let _tap = Tap::start(near, far);
    arrives(&mut world, "held", 3_000);
}

#[test]
fn what_a_port_holds_from_before_loses_no_frame_that_follows() {
    let mut world = commission(without_repair(115_200, Line::Tapped));
    let near = world.open_port(Role::Transmit).unwrap();
    let far = world.open_port(Role::Receive).unwrap();
    let mut garbage = vec![0; 3_000];
    Prng::new(5).fill(&mut garbage);
    // And an incomplete frame at the end.
    garbage.push(0);
    garbage.extend([0xff; 200]);
    far.write_all(&garbage, LIMIT).unwrap();
    world.start().unwrap();
    let tap = Tap::start(near, far);
    arrives(&mut world, "after-garbage", 3_000);
    let folder = world.state(Host::Receiver).join("view");
    let discarded = world.await_alive("the garbage in the view", LIMIT, &[folder], |world| {
        let view = world.view(Role::Receive).unwrap_or_default();
        let discarded = view["line"]["discarded_bytes"].as_u64();
        Ok(discarded.filter(|bytes| *bytes >= 3_100))
    });
    // All of it except its zeros, and no byte of a frame.
    assert!(discarded.unwrap() <= 3_200);
    world.stop_host(Host::Sender).unwrap();
    assert!(!tap.end().is_empty());
}

#[test]
fn flash_overtakes_a_long_routine_cable_on_a_slow_line() {
    let mut world = commission(without_repair(9_600, Line::Direct));
    world.start().unwrap();
    // Takes twenty seconds on the line.
    let long = submission(&world, "long", 12_000);
    let long_id = world.send(&long).unwrap();
    await_collecting(&mut world);
    let mut flash = submission(&world, "flash", 400);
    flash.precedence = "flash".to_owned();
    let flash_id = world.send(&flash).unwrap();
    is_released(&mut world, &flash_id, &flash);
    let released = world.released().unwrap();
    assert!(released.iter().all(|cable| cable.message_id != long_id));
    is_released(&mut world, &long_id, &long);
}

/// A line that loses or changes one byte in a thousand; with every second seed in bursts.
fn very_bad_line(seed: u64) -> Line {
    let burst = match seed.is_multiple_of(2) {
        true => Duration::ZERO,
        false => Duration::from_millis(4),
    };
    Line::Wire {
        conditions: LineConditions {
            loss: share("0.05%"),
            burst,
            duplicate: share("0.025%"),
            corrupt: share("0.025%"),
            ..LineConditions::CLEAN
        },
        seed,
    }
}

#[test]
#[ignore = "takes minutes: run cargo test -p valise-tests --test serial -- --ignored"]
fn of_fifty_cables_over_fifty_very_bad_lines_all_arrive() {
    const SEEDS: u64 = 50;
    // The line is slow, so several worlds run at the same time.
    const WORLDS_AT_ONCE: usize = 10;
    let next = AtomicU64::new(0);
    let one_by_one = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let mut world = commission(Settings {
                datagram_bytes: 200,
                line: very_bad_line(seed),
                ..Settings::serial(9_600)
            });
            world.start().unwrap();
            let submission = submission(&world, &format!("seed-{seed}"), 2_048);
            let id = world.send(&submission).unwrap();
            let limit = world.settings().time_limit(1, 2_048);
            let released = world.await_released(&id, &submission, limit);
            assert!(released.is_ok(), "seed {seed}: {released:?}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORLDS_AT_ONCE {
            scope.spawn(one_by_one);
        }
    });
}

#[test]
#[ignore = "takes minutes: run cargo test -p valise-tests --test serial -- --ignored"]
fn a_megabyte_arrives_over_a_bad_line() {
    let conditions = LineConditions {
        loss: share("0.005%"),
        duplicate: share("0.0025%"),
        corrupt: share("0.0025%"),
        ..LineConditions::CLEAN
    };
    let mut world = commission(Settings {
        line: Line::Wire {
            conditions,
            seed: 1,
        },
        ..Settings::serial(115_200)
    });
    world.start().unwrap();
    arrives(&mut world, "megabyte", 1_000_000);
}

/// The memory of a process that is in RAM, in bytes.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1_024
}

#[test]
#[ignore = "takes minutes: run cargo test -p valise-tests --test serial -- --ignored"]
fn a_gigabyte_without_an_end_of_a_frame_costs_receive_no_memory() {
    const MEBIBYTE: usize = 1 << 20;
    const NOISE_MEBIBYTES: u64 = 1_024;
    let mut world = commission(Settings {
        line: Line::Tapped,
        ..Settings::serial(115_200)
    });
    let near = world.open_port(Role::Transmit).unwrap();
    let far = world.open_port(Role::Receive).unwrap();
    world.start().unwrap();
    let pid = world.role_pid(Role::Receive).unwrap();
    let mut noise = vec![0; MEBIBYTE];
    let mut prng = Prng::new(6);
    let mut send = |count: u64| {
        for _ in 0..count {
            prng.fill(&mut noise);
            noise
                .iter_mut()
                .for_each(|byte| *byte |= u8::from(*byte == 0));
            far.write_all(&noise, LIMIT).unwrap();
        }
    };
    // Memory that is allocated only once is allocated by now.
    send(16);
    let before = resident_bytes(pid);
    send(NOISE_MEBIBYTES);
    let after = resident_bytes(pid);
    assert!(
        after <= before + 256 * 1_024,
        "from {before} to {after} bytes"
    );
    let _tap = Tap::start(near, far);
    arrives(&mut world, "after-noise", 3_000);
    let view: Value = world.view(Role::Receive).unwrap();
    let bytes = view["line"]["bytes"].as_u64().unwrap();
    assert!(bytes > NOISE_MEBIBYTES << 20, "{view}");
    assert_eq!(world.role_pid(Role::Receive), Some(pid));
}
