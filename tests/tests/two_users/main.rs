//! Each role under a user of its own, as in production: the shipped users, folders and rights, the real programs.
//!
//! Only root can change its user. As any other user, the test prints that it is skipped.
#![allow(clippy::unwrap_used)]

mod answers;
mod need_to_know;
mod people;
mod rights;
mod site;
mod spools;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use people::Person as _;
use site::{LIMIT, Site, is_skipped};
use valise_tests::harness::Role;

#[test]
fn four_users_commission_send_renew_retire_and_restart() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();

    let first = site.send("first");
    site.await_released(&first, 1);
    site.fetch_as_reader(&first, 1);

    // A new bundle while all roles run: the key is handed over, the old one is retired, and the slots of the old bundle
    // are void.
    site.renew(2);
    site.await_used_link_key(2);
    assert!(
        site.taken_keys("sender") == ["2.key"],
        "{:?}",
        site.taken_keys("sender")
    );
    assert_eq!(site.taken_keys("receiver"), ["1.key", "2.key"]);
    site.run_ok("receiver", &site.operator, &["link-key", "retire", "1"]);
    site.await_taken_keys("receiver", &["2.key"]);
    let second = site.send("second");
    site.await_released(&second, 21);

    for role in Role::ALL {
        site.stop(role);
    }
    for role in Role::ALL {
        site.start(role);
    }
    site.await_health();
    assert_eq!(site.taken_keys("receiver"), ["2.key"]);
    let third = site.send("third");
    site.await_released(&third, 22);
    for host in ["sender", "receiver"] {
        site.run_ok(host, &site.root, &["audit", "verify"]);
    }
}

#[test]
fn a_link_key_that_was_retired_while_receive_was_down_is_erased_at_its_start() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();
    site.stop(Role::Receive);
    site.stop(Role::Transmit);
    site.renew(2);
    site.run_ok("receiver", &site.operator, &["link-key", "retire", "1"]);
    assert_eq!(
        site.taken_keys("receiver"),
        ["1.key"],
        "nobody but receive reaches it"
    );
    assert_eq!(site.given_keys("sender"), ["2.key"]);
    site.start(Role::Receive);
    site.start(Role::Transmit);
    site.await_taken_keys("receiver", &["2.key"]);
    site.await_taken_keys("sender", &["2.key"]);
    let handover = site.state("sender").join("keys/handover");
    site.await_some("an empty handover", &[handover], |site| {
        site.given_keys("sender").is_empty().then_some(())
    });
}

#[test]
fn a_waiting_request_is_its_drafters_and_gates_alone() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    let file = site.cable("waiting");
    let waits = site.submit(&site.drafter, &file, "waiting");
    assert_eq!(waits.status.code(), Some(3), "{waits:?}");
    let request = only_entry(&site.state("sender").join("requests"));
    for (reader, may) in [(&site.drafter, true), (&site.officers[0], false)] {
        let read = reader.run("/bin/cat", &[request.join("request.toml")]);
        assert_eq!(read.status.success(), may, "{read:?}");
    }
    site.start(Role::Gate);
    let accepted = request.with_extension("accepted");
    site.await_some(
        "the answer",
        &[request.parent().unwrap().to_owned()],
        |_| accepted.exists().then_some(()),
    );
    site.await_some(
        "the deletion",
        &[request.parent().unwrap().to_owned()],
        |_| (!request.exists()).then_some(()),
    );
    // The accepted cable is open to its officers, and still to nobody else.
    let id = fs::read_to_string(&accepted).unwrap();
    let part = site
        .state("sender")
        .join("pending")
        .join(id.trim())
        .join("part-001");
    for (reader, may) in [(&site.officers[0], true), (&site.drafter, false)] {
        let read = reader.run("/bin/cat", &[&part]);
        assert_eq!(read.status.success(), may, "{read:?}");
    }
}

#[test]
fn the_clock_is_accepted_by_operators_of_either_host_alone() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    site.start(Role::Gate);
    site.start(Role::Release);
    let accept = ["clock", "accept"];
    let accepted = |site: &Site, role: Role| site.audited(role, "clock-accepted").len();
    // On the isolated host only operators may place a request. Readers of a mailbox are not operators, and receive,
    // which is connected to the network, is not one either.
    for who in [&site.reader, &site.drafter, &site.role(Role::Receive)] {
        let refused = site.run("receiver", who, &accept);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        let requests = site.state("receiver").join("requests");
        let by_hand = who.run("/bin/mkdir", &[requests.join("by-hand")]);
        assert!(!by_hand.status.success(), "{by_hand:?}");
    }
    assert_eq!(accepted(&site, Role::Release), 0);
    site.run_ok("receiver", &site.operator, &accept);
    assert_eq!(accepted(&site, Role::Release), 1);
    let line = &site.audited(Role::Release, "clock-accepted")[0];
    assert_eq!(line["uid"], site.operator.uid);
    // On the sender drafters and officers place requests, but are not operators.
    for who in [&site.drafter, &site.officers[0]] {
        let refused = site.run("sender", who, &accept);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    assert_eq!(accepted(&site, Role::Gate), 0);
    site.run_ok("sender", &site.root, &accept);
    assert_eq!(accepted(&site, Role::Gate), 1);
}

#[test]
fn operators_of_the_isolated_side_see_every_cable_and_no_reader_of_a_mailbox_does() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();
    let id = site.send("seen");
    site.await_released(&id, 1);
    site.await_state(1, "released");
    let looks: [&[&str]; 8] = [
        &["list"],
        &["list", "--state", "released"],
        &["show", "1"],
        &["gaps"],
        &["quarantine", "list"],
        &["bundle", "status"],
        &["trust", "show"],
        &["status"],
    ];
    for runs in [true, false] {
        if !runs {
            site.stop(Role::Release);
        }
        for words in looks {
            site.run_ok("receiver", &site.operator, words);
        }
        let list = site.run_ok("receiver", &site.operator, &["list", "--json"]);
        assert!(list.contains(&id), "{list}");
        for words in [
            &["list"][..],
            &["show", "1"],
            &["gaps"],
            &["quarantine", "list"],
        ] {
            for who in [&site.reader, &site.drafter] {
                let refused = site.run("receiver", who, words);
                assert_eq!(refused.status.code(), Some(3), "{words:?}: {refused:?}");
                assert!(refused.stdout.is_empty(), "{words:?}: {refused:?}");
            }
        }
    }
    // Reading gives no right to write, and leaves no file.
    let register = site.state("receiver").join("register.db");
    let write = format!("echo x >>{}", register.display());
    let written = site.operator.run("/bin/sh", &["-c", &write]);
    assert!(!written.status.success(), "{written:?}");
    let state = site.state("receiver");
    assert!(of_user(&state, site.operator.uid).is_empty());
    site.start(Role::Release);
    site.await_health();
}

#[test]
fn each_role_writes_its_own_view_and_cannot_touch_the_others_log() {
    if is_skipped() {
        return;
    }
    let mut site = Site::running();
    for (host, role, other) in [
        ("sender", Role::Transmit, Role::Gate),
        ("sender", Role::Gate, Role::Transmit),
        ("receiver", Role::Receive, Role::Release),
        ("receiver", Role::Release, Role::Receive),
    ] {
        let view = site.state(host).join("view");
        let [own, others] = [role, other].map(|role| view.join(format!("{}.json", role.word())));
        let log = site.state(host).join(format!("audit/{}.log", other.word()));
        let who = site.role(role);
        let forged = site
            .state(host)
            .join("tmp")
            .join(role.word())
            .join("forged");
        site.await_some("both views", std::slice::from_ref(&view), |_| {
            (own.exists() && others.exists()).then_some(())
        });
        let copied = who.run("/bin/cp", &[&own, &forged]);
        assert!(copied.status.success(), "{copied:?}");
        let mut forbidden = vec![
            ("/bin/mv", vec![&forged, &log]),
            ("/bin/mv", vec![&log, &forged]),
            ("/bin/rm", vec![&log]),
            ("/bin/cat", vec![&log]),
        ];
        // The inner role owns the folder of the views. None of its decisions depends on the other's view.
        if matches!(role, Role::Transmit | Role::Receive) {
            forbidden.extend([
                ("/bin/mv", vec![&forged, &others]),
                ("/bin/mv", vec![&others, &forged]),
                ("/bin/rm", vec![&others]),
            ]);
        }
        for (program, arguments) in forbidden {
            let tried = who.run(program, &arguments);
            assert!(!tried.status.success(), "{program} {arguments:?}");
        }
        // It replaces its own view by a rename, again and again.
        let written = |view: &Path| fs::metadata(view).ok().map(|found| found.ino());
        let before = written(&own);
        site.await_some("a new view", &[view], |_| {
            (written(&own) != before).then_some(())
        });
        assert!(who.run("/bin/rm", &[&forged]).status.success());
    }
    site.await_health();
}

/// The only folder in a folder.
fn only_entry(folder: &Path) -> std::path::PathBuf {
    let mut entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let entry = entries.next().unwrap();
    assert!(entries.next().is_none() && fs::metadata(&entry).unwrap().is_dir());
    entry
}

/// Every file below a folder that belongs to root: no daemon could continue with it.
fn of_root(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = files_whose(folder, |metadata| {
        metadata.uid() == 0 || metadata.gid() == 0
    });
    // Both roles write into these, and neither can remove the other's files.
    let shared = ["audit", "metrics"].map(|name| folder.join(name));
    found.retain(|path| !shared.contains(path));
    found
}

/// Every file below a folder that belongs to a user.
fn of_user(folder: &Path, uid: u32) -> Vec<std::path::PathBuf> {
    files_whose(folder, |metadata| metadata.uid() == uid)
}

fn files_whose(
    folder: &Path,
    is: impl Fn(&fs::Metadata) -> bool + Copy,
) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(files_whose(&path, is));
        }
        if is(&metadata) {
            found.push(path);
        }
    }
    found
}

const _: () = assert!(LIMIT.as_secs() <= 60);
