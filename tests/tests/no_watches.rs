//! inotify is used up: commands poll for their answers, and a role reports which limit to raise.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World, remark};

/// The two limits; a user namespace has its own.
const LIMITS: [&str; 2] = ["max_inotify_instances", "max_inotify_watches"];

/// A program whose user has used up a limit.
fn without(limit: &str, world: &World, host: Host, words: &[String]) -> Command {
    let script = format!("echo 0 >/proc/sys/user/{limit} && exec \"$@\"");
    let mut command = Command::new("timeout");
    command
        .args([
            "-k",
            "5",
            "60",
            "unshare",
            "--user",
            "--map-root-user",
            "/bin/sh",
            "-c",
            &script,
            "sh",
        ])
        .arg(world.program(host))
        .args(words)
        .arg("--config")
        .arg(world.configuration(host))
        .stdin(Stdio::null());
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A user namespace of this kind has one user.
fn commissioned() -> World {
    let settings = Settings {
        one_user: true,
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

/// Returns whether this machine allows no user namespaces, and prints that.
fn is_skipped() -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "/bin/sh", "-c"])
        .arg("echo 0 >/proc/sys/user/max_inotify_watches")
        .output();
    let is_skipped = !tried.as_ref().is_ok_and(|tried| tried.status.success());
    if is_skipped {
        remark(&format!(
            "SKIPPED: no user namespace can be had here: {tried:?}"
        ));
    }
    is_skipped
}

#[test]
fn commands_get_their_answers_without_a_watch() {
    if is_skipped() {
        return;
    }
    let mut world = commissioned();
    world.start_roles().unwrap();
    let file = world.generate_file("cable.txt", 10, 1).unwrap();
    let submission = Submission::new("watch", &[file]);
    let succeeds = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for limit in LIMITS {
        let submitted = without(limit, &world, Host::Sender, &submission.arguments());
        let id = succeeds({ submitted }.output().unwrap());
        let shown = world.json(Host::Sender, &["show", &id]).unwrap();
        assert_eq!(shown["state"], "submitted");
        let accepted = without(limit, &world, Host::Receiver, &words(&["clock", "accept"]));
        assert!(succeeds({ accepted }.output().unwrap()).starts_with("now is"));
        for host in [Host::Sender, Host::Receiver] {
            let mut follow = without(limit, &world, host, &words(&["status", "--follow"]));
            let mut follower = follow.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
            let first = lines.next().map(Result::unwrap);
            follower.kill().unwrap();
            follower.wait().unwrap();
            assert!(
                first.is_some_and(|line| !line.is_empty()),
                "{limit} {host:?}"
            );
        }
    }
}

#[test]
fn a_role_that_can_watch_no_folder_ends_and_says_which_limit_to_raise() {
    if is_skipped() {
        return;
    }
    let world = commissioned();
    for limit in LIMITS {
        let shown = limit.replace("max_inotify", "fs.inotify.max_user");
        for role in Role::ALL {
            let ended = without(limit, &world, role.host(), &words(&[role.word()])).output();
            let ended = ended.unwrap();
            let told = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(3), "{role:?}: {told}");
            let last = told.lines().last().unwrap_or_default();
            assert!(last.contains(&shown), "{role:?}: {told}");
        }
    }
}
