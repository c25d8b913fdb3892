//! The data that stay on a disk at the end, and the use of media that lack some features. Each test mounts a file
//! system of its own, which needs root.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use valise_common::bundle::Bundle;
use valise_common::os::durable::erase;
use valise_tests::attack::{contains, files_that_hold};
use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World, remark};

const LIMIT: Duration = Duration::from_secs(120);

/// A file system that is mounted for a test.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// Mounts by a command, to which the mount point is appended; `None` if that is not possible.
    fn by(words: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(folder.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(Self { folder }),
            other => {
                remark(&format!(
                    "SKIPPED: {words:?} cannot be mounted here: {other:?}"
                ));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

fn world_in(parent: &Path, slots: u32, one_user: bool) -> World {
    let settings = Settings {
        one_user,
        parent: Some(parent.to_owned()),
        slots,
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

/// Takes the released cables as a reader does, and destroys the content of the mailbox.
fn take_all(world: &World) {
    for cable in world.released().unwrap() {
        assert_eq!(erase(&cable.folder).unwrap(), 0);
    }
}

/// Sends twenty cables of every size and kind of end, with one marker in all of their secret parts.
fn send_twenty(world: &mut World, files: &Path, marker: &str) {
    let mut sent = Vec::new();
    for number in 0..20_usize {
        let (parts, repeated) = match number {
            0 => (1, 250_000),
            1 => (30, 40),
            2 => (3, 30_000),
            _ => (2, number * 7),
        };
        let paths: Vec<PathBuf> = (0..parts)
            .map(|part| {
                let path = files.join(format!("{marker} name {number} {part}.txt"));
                fs::write(&path, format!("{marker} body\n").repeat(repeated)).unwrap();
                path
            })
            .collect();
        let mut submission = Submission::new(&format!("{marker} subject {number}"), &paths);
        if number % 5 == 2 {
            submission.to.push("rome-desk".to_owned());
        }
        sent.push((world.send(&submission).unwrap(), submission));
    }
    for (id, submission) in &sent {
        world.await_released(id, submission, LIMIT).unwrap();
    }
    // And cables that never leave: one that is refused, one that is withdrawn.
    let path = files.join(format!("{marker} other.txt"));
    fs::write(&path, format!("{marker} body\n").repeat(100)).unwrap();
    let mut submission = Submission::new(&format!("{marker} subject"), &[path]);
    let id = world.submit(&submission).unwrap();
    world.expect(Host::Sender, &["withdraw", &id]).unwrap();
    submission.to = vec!["no-such-desk".to_owned()];
    assert!(world.submit(&submission).is_err());
}

/// The places of some bytes on a disk that is not mounted.
fn places_of(image: &Path, needle: &[u8]) -> Vec<u64> {
    let file = File::open(image).unwrap();
    let length = file.metadata().unwrap().len();
    let mut found = Vec::new();
    let mut chunk = vec![0; (1 << 20) + needle.len()];
    let mut offset = 0;
    while offset < length {
        let count = file.read_at(&mut chunk, offset).unwrap();
        if contains(&chunk[..count], needle) {
            found.push(offset);
        }
        offset += 1 << 20;
    }
    found
}

#[test]
fn after_twenty_cables_the_raw_disk_holds_no_word_of_them_and_no_key() {
    let files = tempfile::tempdir().unwrap();
    let image = files.path().join("disk.img");
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    let image_text = image.display().to_string();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&image)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        remark("SKIPPED: mkfs.ext4 is not here");
        return;
    }
    let Some(mounted) = Mounted::by(&["mount", "-o", "loop", &image_text]) else {
        return;
    };
    let random: [u8; 8] = valise_common::os::entropy::bytes().unwrap();
    let marker = format!("MARK-{}", hex::encode(random));
    let mut world = world_in(mounted.path(), 20, false);
    let bundle = fs::read(world.courier.bundle_file()).unwrap();
    let bundle = Bundle::decode(&bundle).unwrap();
    erase(world.courier.folder()).unwrap();
    world.start().unwrap();
    send_twenty(&mut world, files.path(), &marker);
    // The search finds the bytes while they are there.
    assert!(!files_that_hold(&world.released_folder(), marker.as_bytes()).is_empty());
    take_all(&world);
    for host in [Host::Sender, Host::Receiver] {
        world.stop_host(host).unwrap();
        let found = files_that_hold(&world.state(host), marker.as_bytes());
        assert!(found.is_empty(), "{found:?}");
    }
    Command::new("sync").status().unwrap();
    assert_eq!(
        places_of(&image, marker.as_bytes()),
        [0; 0],
        "body, subject or name"
    );
    for (number, slot) in bundle.slots.iter().enumerate() {
        assert_eq!(places_of(&image, slot.psk.expose()), [0; 0], "PSK {number}");
    }
}

/// bindfs has no `RENAME_NOREPLACE`, like most media that a courier carries.
fn bindfs(below: &Path) -> Option<Mounted> {
    Mounted::by(&["bindfs", &below.display().to_string()])
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bundle_is_made_on_a_medium_that_cannot_rename_without_replacing() {
    let below = tempfile::tempdir().unwrap();
    let Some(medium) = bindfs(below.path()) else {
        return;
    };
    let world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let out = medium.path().join("courier");
    let words = [
        "bundle",
        "create",
        "--slots",
        "40",
        "--out",
        out.to_str().unwrap(),
    ];
    world.expect(Host::Receiver, &words).unwrap();
    let files = ["channel.bundle", "channel.bundle.statement"];
    assert_eq!(names_in(&out), files);
    let bundle = Bundle::decode(&fs::read(out.join(files[0])).unwrap()).unwrap();
    assert_eq!(bundle.slots.len(), 40);
    let courier = world.state(Host::Receiver).join("courier");
    assert!(names_in(&courier).is_empty(), "the daemon's copy is erased");
}

#[test]
fn both_hosts_work_on_a_file_system_that_cannot_rename_without_replacing() {
    let below = tempfile::tempdir().unwrap();
    let Some(medium) = bindfs(below.path()) else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    // It has no access control lists either, which give a request to gate.
    let mut world = world_in(medium.path(), 4, true);
    world.start_roles().unwrap();
    let path = files.path().join("a.txt");
    fs::write(&path, "text\n").unwrap();
    let submission = Submission::new("S", &[path]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
    let text = world.trust_list(2).unwrap();
    for (host, role) in [(Host::Sender, Role::Gate), (Host::Receiver, Role::Release)] {
        world.import_trust_list(host, &text).unwrap();
        world.stop(role.word()).unwrap();
        world.start_role(role).unwrap();
        let shown = world.json(host, &["trust", "show"]).unwrap();
        assert_eq!(shown["version"], 2, "{shown}");
    }
}

#[test]
fn a_bundle_that_a_full_medium_cannot_take_leaves_nothing_on_it() {
    let Some(medium) = Mounted::by(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]) else {
        return;
    };
    let world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let out = medium.path().join("courier");
    let words = [
        "bundle",
        "create",
        "--slots",
        "400",
        "--out",
        out.to_str().unwrap(),
    ];
    let answer = world.run(Host::Receiver, &words).unwrap();
    assert_eq!(answer.status, 3, "{answer:?}");
    assert!(answer.errors.contains("nothing of them in"), "{answer:?}");
    assert!(names_in(&out).is_empty());
    let kept = world.state(Host::Receiver).join("courier/2");
    assert_eq!(names_in(&kept).len(), 2);
}

#[test]
fn an_init_that_fails_anywhere_leaves_nothing_and_works_when_there_is_room() {
    let keys = tempfile::tempdir().unwrap();
    let world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    for host in [Host::Sender, Host::Receiver] {
        let Some(medium) = Mounted::by(&["mount", "-t", "tmpfs", "-o", "nr_inodes=4", "tmpfs"])
        else {
            return;
        };
        let state = medium.path().join("state");
        let text = fs::read_to_string(world.configuration(host)).unwrap();
        let text = text.replace(
            &world.state(host).display().to_string(),
            &state.display().to_string(),
        );
        let configuration = keys.path().join("host.toml");
        fs::write(&configuration, text).unwrap();
        let mut failures = 0;
        for inodes in 5.. {
            assert!(inodes < 200);
            let options = format!("remount,nr_inodes={inodes}");
            let mut mount = Command::new("mount");
            mount.args(["-o", &options]).arg(medium.path());
            assert!(mount.status().unwrap().success());
            let output = Command::new(world.program(host))
                .arg("init")
                .args(world.roster.administrator_arguments())
                .arg("--config")
                .arg(&configuration)
                .output()
                .unwrap();
            if output.status.success() {
                break;
            }
            failures += 1;
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{told}");
            assert!(!state.join("host.toml").exists());
            if state.join("audit").exists() {
                assert_eq!(names_in(&state.join("audit")), [""; 0], "{told}");
            }
        }
        assert!(failures > 20, "{failures}");
        assert!(state.join("host.toml").exists());
    }
}
