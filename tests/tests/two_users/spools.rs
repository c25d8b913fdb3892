//! Each role can read the files that another hands to it, and the roles on the network cannot read plaintext.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use valise_tests::harness::{Role, Submission, User};

use super::people::Person as _;
use super::site::{Site, is_skipped};

/// Sizes on both sides of each threshold: no block, one block of `receive`, several; and from 4 MiB on `gate` and
/// `release` copy and open a file with a second thread.
const SIZES: [usize; 6] = [0, 1, 100_000, 1_000_000, 1_400_000, 6_000_000];

/// A text that no role on the network may find anywhere in the state.
const SECRET: &str = "the-plaintext-of-a-cable";

#[test]
fn each_size_crosses_every_spool_and_no_role_on_the_network_reads_plaintext() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();
    site.stop(Role::Transmit);
    site.stop(Role::Release);
    let submissions = SIZES.map(|size| submission(&site, size));
    let waiting = submissions
        .each_ref()
        .map(|submission| site.run_ok("sender", &site.drafter, &submission.arguments()));
    assert_reads_no_plaintext(&site, Role::Transmit, "sender");
    for id in &waiting {
        site.approve(id);
    }
    // One spool after the other: first from gate to transmit, then from receive to release.
    let (outbox, inbox) = (
        site.state("sender").join("outbox"),
        site.state("receiver").join("inbox"),
    );
    await_containers(&mut site, &outbox);
    assert_reads_all(&site.role(Role::Transmit), &outbox);
    site.start(Role::Transmit);
    await_containers(&mut site, &inbox);
    assert_reads_all(&site.role(Role::Release), &inbox);
    site.start(Role::Release);
    for (id, serial) in waiting.iter().zip(1..) {
        site.await_released(id, serial);
        // In each of its mailboxes, not only in the first.
        site.await_state(serial, "released");
    }
    for (submission, serial) in submissions.iter().zip(1..) {
        site.assert_released_as_sent(submission, serial);
    }
    let progress = site.state("sender").join("progress");
    site.await_some(
        "six serials' progress",
        std::slice::from_ref(&progress),
        |_| (fs::read_dir(&progress).unwrap().count() == SIZES.len()).then_some(()),
    );
    assert_reads_all(&site.role(Role::Gate), &progress);
    assert_reads_no_plaintext(&site, Role::Receive, "receiver");
    // A mailbox without a group in the configuration is closed to every group.
    let closed = site.state("receiver").join("released/rome-desk");
    let of_release = site.role(Role::Release);
    for path in [closed.clone(), only_entry_of(&closed, 1)] {
        let found = fs::metadata(&path).unwrap();
        let rights = (
            found.uid(),
            found.gid(),
            found.permissions().mode() & 0o7777,
        );
        assert_eq!(
            rights,
            (of_release.uid, of_release.gid, 0o700),
            "{}",
            path.display()
        );
    }
    let moved = site.role(Role::Receive).run("/bin/ls", &[&closed]);
    assert!(!moved.status.success(), "{moved:?}");
}

#[test]
fn a_cable_that_release_may_not_read_is_named_and_released_once_it_may() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();
    site.stop(Role::Release);
    let id = site.send("closed");
    let inbox = site.state("receiver").join("inbox");
    let container = site.await_some("a container", std::slice::from_ref(&inbox), |_| {
        containers(&inbox).pop()
    });
    let receive = site.role(Role::Receive);
    // Nobody else is in the group with receive's own name.
    let own_group = receive.uid;
    std::os::unix::fs::chown(&container, None, Some(own_group)).unwrap();
    site.start(Role::Release);
    let view = site.state("receiver").join("view");
    let status = site.await_some("the alarm", &[view], |site| {
        let check = site.run("receiver", &site.operator, &["status", "--check"]);
        let text = String::from_utf8_lossy(&check.stdout).into_owned()
            + &String::from_utf8_lossy(&check.stderr);
        text.contains("unreadable").then_some(text)
    });
    let rights = format!("user {} and group {own_group}, mode 0640", receive.uid);
    for part in [container.to_str().unwrap(), &rights, "chown --reference="] {
        assert!(status.contains(part), "{status}");
    }
    assert!(!status.contains("resend"), "{status}");
    site.await_state(1, "complete");
    // The text of the alarm is enough for the repair, and the alarm ends with its cause.
    let advice = format!(
        "chown --reference={} {}",
        inbox.display(),
        container.display()
    );
    let mended = std::process::Command::new("/bin/sh")
        .args(["-c", &advice])
        .status();
    assert!(mended.unwrap().success());
    site.stop(Role::Release);
    site.start(Role::Release);
    site.await_released(&id, 1);
    site.await_health();
}

fn submission(site: &Site, size: usize) -> Submission {
    let line = format!("{SECRET} of {size} bytes\n");
    let text: Vec<u8> = line.bytes().cycle().take(size).collect();
    let subject = format!("{SECRET}-{size}");
    let file = site.cable_of(&subject, &text);
    let mut submission = Submission::new(&subject, &[file]);
    submission.to.push("rome-desk".to_owned());
    submission
}

fn containers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "container")
        })
        .collect()
}

fn await_containers(site: &mut Site, folder: &Path) {
    site.await_some("six containers", &[folder.to_owned()], |_| {
        (containers(folder).len() == SIZES.len()).then_some(())
    });
}

/// Asserts that the next role can read every file of a spool.
fn assert_reads_all(reader: &User, folder: &Path) {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let read = reader.run("/bin/cat", &[&path]);
            assert!(
                read.status.success(),
                "{}: {:?}",
                path.display(),
                read.status
            );
            count += 1;
        }
    }
    assert!(count >= SIZES.len(), "{}: {count} files", folder.display());
}

/// Searches everything that a role can reach in its host's state, and asserts that no plaintext is there.
fn assert_reads_no_plaintext(site: &Site, role: Role, host: &str) {
    let state = site.state(host);
    let search = |who: &User| {
        let found = who.run(
            "/bin/grep",
            &["-rls".as_ref(), SECRET.as_ref(), state.as_path()],
        );
        String::from_utf8(found.stdout).unwrap()
    };
    assert_eq!(search(&site.role(role)), "");
    // The plaintext exists, and the host's other role has it.
    let beside = match role {
        Role::Transmit => Role::Gate,
        _ => Role::Release,
    };
    assert_ne!(search(&site.role(beside)), "");
}

fn only_entry_of(mailbox: &Path, serial: u64) -> PathBuf {
    let mut entries = fs::read_dir(mailbox)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{serial}-"))
    };
    entries.find(is).unwrap()
}
