//! Somebody else fills the disk of a host to its last byte: every role continues, reports it, and loses nothing.
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use valise_common::os::durable::{RESERVE_BYTES, free_bytes};
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(120);

/// Room for the space that receive keeps free, and for some cables.
const DISK_BYTES: u64 = 200 << 20;

/// A pass takes about three seconds at the rate below.
const LARGE_BYTES: u64 = 8_000_000;

/// A user without any rights on this host.
const STRANGER: &str = "65534";

/// The kind of file system to which a host's state is moved.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    Ext4,
}

/// A small file system with the state of one host. Drop unmounts it.
struct Disk {
    root: PathBuf,
    state: PathBuf,
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl Disk {
    /// Moves the state of a host whose roles do not run to a file system of its own; `None` if mounting is refused.
    fn mount(world: &World, host: Host, kind: Kind) -> Option<Self> {
        let state = world.state(host);
        let root = state.with_file_name("disk");
        fs::create_dir(&root).unwrap();
        let (place, image) = (root.to_str().unwrap(), root.with_extension("img"));
        let mounted = match kind {
            Kind::Memory => {
                let options = format!("size={DISK_BYTES}");
                succeeds("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", place])
            }
            Kind::Ext4 => {
                fs::File::create(&image)
                    .unwrap()
                    .set_len(DISK_BYTES)
                    .unwrap();
                let image = image.to_str().unwrap();
                // Without blocks that only root may use.
                succeeds("mkfs.ext4", &["-q", "-m", "0", image])
                    && succeeds("mount", &["-o", "loop", image, place])
            }
        };
        if !mounted {
            return None;
        }
        let disk = Self { root, state };
        let inner = disk.root.join("state");
        let (from, to) = (disk.state.to_str().unwrap(), inner.to_str().unwrap());
        assert!(succeeds("cp", &["-a", from, to]));
        if !succeeds("mount", &["--bind", to, from]) {
            return None;
        }
        let others = disk.root.join("others");
        fs::create_dir(&others).unwrap();
        fs::set_permissions(&others, Permissions::from_mode(0o777)).unwrap();
        Some(disk)
    }

    /// Writes as another user until the disk is full.
    fn fill(&self) {
        let file = self.root.join("others/log");
        for block in ["1M", "4k", "512"] {
            let of = format!("of={}", file.display());
            let bs = format!("bs={block}");
            let user = format!("--reuid={STRANGER}");
            let dd = [
                "dd",
                "if=/dev/zero",
                &of,
                &bs,
                "oflag=append",
                "conv=notrunc",
            ];
            let arguments = [&[user.as_str(), "--clear-groups"][..], &dd].concat();
            assert!(
                !succeeds("setpriv", &arguments),
                "it ends when the disk is full"
            );
        }
    }

    fn give_back(&self) {
        fs::remove_file(self.root.join("others/log")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for place in [&self.state, &self.root] {
            let _ = succeeds("umount", &["-l", place.to_str().unwrap()]);
        }
    }
}

fn reserve(world: &World, role: Role) -> u64 {
    let file = format!("audit/{}.reserve", role.word());
    fs::metadata(world.state(role.host()).join(file)).map_or(0, |file| file.len())
}

/// Waits until a role has written its view again.
fn await_view(world: &mut World, role: Role) {
    let before = world.view(role).unwrap()["written"].clone();
    let folders = [world.state(role.host()).join("view")];
    world
        .await_alive(
            &format!("a view of {}", role.word()),
            LIMIT,
            &folders,
            |world| {
                let written = world.view(role).map(|view| view["written"].clone());
                Ok(written.filter(|written| *written != before).map(drop))
            },
        )
        .unwrap();
}

/// Waits until the alarm reports that almost nothing is free.
fn await_alarm(world: &mut World, host: Host) -> String {
    world
        .await_alive("the alarm disk", LIMIT, &[], |world| {
            let answer = world.run(host, &["status", "--check"])?;
            let mut lines = answer.output.lines();
            let text = lines.find_map(|line| line.strip_prefix("disk: "));
            let unit = text.and_then(|text| text.split(' ').nth(1));
            let is_told = unit.is_some_and(|unit| unit != "MiB") && answer.status == 1;
            Ok(text.filter(|_| is_told).map(str::to_owned))
        })
        .unwrap()
}

/// Prepares a request as another program would, to be made visible later.
fn prepare_request(world: &World, name: &str) -> PathBuf {
    let requests = world.state(Host::Sender).join("requests");
    let hidden = requests.join(format!(".{name}"));
    fs::create_dir(&hidden).unwrap();
    let text = "request = \"submit\"\nlabel = \"EU-RESTRICTED LIMITE\"\nto = [\"paris-desk\"]\n\
                precedence = \"routine\"\nsubject = \"prepared\"\n";
    fs::write(hidden.join("request.toml"), text).unwrap();
    fs::write(hidden.join("cable.txt"), "text\n").unwrap();
    requests.join(name)
}

fn show_request(request: &Path) {
    let name = request.file_name().unwrap().to_str().unwrap();
    fs::rename(request.with_file_name(format!(".{name}")), request).unwrap();
}

fn await_refusal(world: &mut World, request: &Path) -> String {
    let answer = request.with_extension("refused");
    let folders = [request.parent().unwrap().to_owned()];
    world
        .await_alive("a refusal", LIMIT, &folders, |_| {
            let text = fs::read_to_string(&answer).unwrap_or_default();
            Ok(text.ends_with('\n').then_some(text))
        })
        .unwrap()
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

/// The state of a cable on the sender.
fn await_transmitted(world: &mut World, id: &str) {
    world
        .await_alive("the end of its passes", LIMIT, &[], |world| {
            let shown = world.json(Host::Sender, &["show", id])?;
            Ok((shown["state"] == "transmitted").then_some(()))
        })
        .unwrap();
}

fn small(world: &World, name: &str, seed: u64) -> Submission {
    let file = world.generate_file(name, 30_000, seed).unwrap();
    Submission::new(name, &[file])
}

/// Both logs verify, and agree on every serial.
fn audit(world: &World) {
    for host in [Host::Sender, Host::Receiver] {
        world.expect(host, &["audit", "verify"]).unwrap();
    }
    let log = world.state(Host::Sender).join("audit/gate.log");
    let key = world.auditor_handout().display().to_string();
    let arguments = ["audit", "reconcile", log.to_str().unwrap(), "--key", &key];
    world.expect(Host::Receiver, &arguments).unwrap();
}

fn a_full_disk(kind: Kind) {
    let settings = Settings {
        rate: "30 Mbit/s".into(),
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    let disks = [Host::Sender, Host::Receiver].map(|host| Disk::mount(&world, host, kind));
    let [Some(sender), Some(receiver)] = disks else {
        eprintln!("this machine lets nobody mount a file system of kind {kind:?}: not tested");
        return;
    };
    world.start_roles().unwrap();
    for role in Role::ALL {
        assert_eq!(reserve(&world, role), RESERVE_BYTES, "{}", role.word());
    }
    let before = small(&world, "before", 2);
    let before_id = world.send(&before).unwrap();
    world.await_released(&before_id, &before, LIMIT).unwrap();
    let request = prepare_request(&world, "prepared");

    let (large_id, large) = in_mid_transfer(&mut world);
    sender.fill();
    receiver.fill();
    for host in [Host::Sender, Host::Receiver] {
        let alarm = await_alarm(&mut world, host);
        assert!(alarm.contains("free on the disk of"), "{alarm}");
        assert!(alarm.contains("make room"), "{alarm}");
    }
    // The request is answered, if it finds room at all.
    show_request(&request);
    let refusal = await_refusal(&mut world, &request);
    assert!(
        refusal.contains("system failure: the disk is nearly full"),
        "{refusal}"
    );
    let asked = world.run(Host::Sender, &before.arguments()).unwrap();
    assert_eq!(asked.status, 3, "{}", asked.errors);
    await_transmitted(&mut world, &large_id);
    // Each role is killed in turn, and starts on a disk without a free byte.
    for role in Role::ALL {
        await_view(&mut world, role);
        world.kill(role.word());
        for disk in [&sender, &receiver] {
            disk.fill();
        }
        world.start_role(role).unwrap();
    }
    for role in Role::ALL {
        await_view(&mut world, role);
        let held = reserve(&world, role);
        assert!(held > 0, "{} has used up its reserve", role.word());
    }
    for host in [Host::Sender, Host::Receiver] {
        let alarm = await_alarm(&mut world, host);
        assert!(alarm.contains("make room"), "{alarm}");
    }

    sender.give_back();
    receiver.give_back();
    world
        .await_alive("the reserves", LIMIT, &[], |world| {
            let is_full = |role| reserve(world, role) == RESERVE_BYTES;
            Ok(Role::ALL.into_iter().all(is_full).then_some(()))
        })
        .unwrap();
    world
        .await_alive("the end of the sender's alarm", LIMIT, &[], |world| {
            let answer = world.run(Host::Sender, &["status", "--check"])?;
            Ok((!answer.output.contains("disk:")).then_some(()))
        })
        .unwrap();
    // Cables that came while there was no room are missing, and are reported as missing.
    if world.released().unwrap().len() < 2 {
        world.expect(Host::Sender, &["resend", "2"]).unwrap();
    }
    world.await_released(&large_id, &large, LIMIT).unwrap();
    let after = small(&world, "after", 3);
    let after_id = world.send(&after).unwrap();
    world.await_released(&after_id, &after, LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 3, "each exactly once");
    assert!(free_bytes(&sender.root).unwrap() > RESERVE_BYTES);
    audit(&world);
}

#[test]
fn a_full_disk_stops_no_role_and_loses_nothing() {
    a_full_disk(Kind::Ext4);
}

#[test]
fn a_full_file_system_in_memory_stops_no_role_and_loses_nothing() {
    a_full_disk(Kind::Memory);
}
