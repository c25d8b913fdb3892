//! Gate is killed again and again; nothing that it accepted is lost, and nothing is sealed twice.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Host, Patience};

const CABLES: usize = 24;

fn hidden(host: &Host, name: &str, text: &str, file: (&str, &[u8])) -> (PathBuf, PathBuf) {
    let folder = host.state(&format!("requests/.{name}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("request.toml"), text).unwrap();
    fs::write(folder.join(file.0), file.1).unwrap();
    (folder, host.state(&format!("requests/{name}")))
}

fn answer(request: &std::path::Path) -> Option<String> {
    let refused = request.with_added_extension("refused");
    assert!(
        !refused.exists(),
        "{}",
        fs::read_to_string(refused).unwrap()
    );
    fs::read_to_string(request.with_added_extension("accepted"))
        .ok()
        .filter(|text| text.ends_with('\n'))
        .map(|text| text.trim().to_owned())
}

/// Starts gate and kills it after ever other stretches of its work, until every request is answered.
fn killed_until_answered(host: &mut Host, requests: &[PathBuf], step: usize) -> usize {
    let mut kills = 0;
    loop {
        host.begin_gate();
        // The stretch grows, so that each step of a batch is hit and the end is reached.
        for _ in 0..kills * step {
            std::thread::yield_now();
        }
        if requests.iter().all(|request| answer(request).is_some()) {
            host.stop_gate();
            return kills;
        }
        host.kill_gate();
        kills += 1;
    }
}

#[test]
fn a_gate_that_is_killed_anywhere_loses_nothing_and_seals_nothing_twice() {
    let mut host = Host::commissioned(CABLES as u32 + 3);
    let text = "request = 'submit'\nlabel = 'EU-RESTRICTED'\nto = ['paris-desk']\n\
                precedence = 'routine'\nsubject = 'S'\n";
    let mut requests = Vec::new();
    for number in 0..CABLES {
        let body = format!("cable number {number}");
        let (from, to) = hidden(
            &host,
            &format!("s{number:02}"),
            text,
            ("a.txt", body.as_bytes()),
        );
        fs::rename(from, &to).unwrap();
        requests.push(to);
    }
    let kills = killed_until_answered(&mut host, &requests, 400);
    println!("{kills} kills while submitting");
    let ids: BTreeSet<String> = requests
        .iter()
        .map(|request| answer(request).unwrap())
        .collect();
    assert_eq!(ids.len(), CABLES);
    assert_eq!(fs::read_dir(host.state("pending")).unwrap().count(), CABLES);

    let mut requests = Vec::new();
    for officer in ["officer1", "officer2"] {
        for id in &ids {
            let manifest = host.path(&format!("{id}.txt"));
            fs::copy(host.state(&format!("pending/{id}/manifest.txt")), &manifest).unwrap();
            let signature = host.path("signature");
            host.sign(officer, "cable-approval@valise", &manifest, &signature);
            let text = format!("request = 'approve'\nid = '{id}'\n");
            let bytes = fs::read(&signature).unwrap();
            requests.push(hidden(
                &host,
                &format!("{officer}-{id}"),
                &text,
                ("x.sig", &bytes),
            ));
        }
    }
    let visible: Vec<PathBuf> = requests.iter().map(|(_, to)| to.clone()).collect();
    for (from, to) in requests {
        fs::rename(from, to).unwrap();
    }
    let kills = killed_until_answered(&mut host, &visible, 400);
    println!("{kills} kills while approving and sealing");

    let listed = host.json(&["list", "--json"]);
    let serials: BTreeSet<u64> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|cable| cable["serial"].as_u64().unwrap())
        .collect();
    assert_eq!(serials, (1..=CABLES as u64).collect());
    let containers = host.outbox();
    assert_eq!(containers.len(), CABLES);
    let sealed: BTreeSet<String> = containers
        .iter()
        .map(|container| {
            assert!(container.with_extension("fec").exists());
            let manifest = String::from_utf8(host.open(container).manifest).unwrap();
            let id = manifest
                .lines()
                .find_map(|line| line.strip_prefix("message-id: "))
                .unwrap();
            id.to_owned()
        })
        .collect();
    assert_eq!(sealed, ids);
    assert_eq!(fs::read_dir(host.state("pending")).unwrap().count(), 0);
    for (number, secret) in host.secrets.iter().enumerate() {
        let left = host.state_holds(secret.psk.expose()).len();
        assert_eq!(left, usize::from(number >= CABLES), "slot {}", number + 1);
    }
    assert!(!host.state("aside").exists());
    assert_eq!(fs::read_dir(host.state("tmp/gate")).unwrap().count(), 0);
}

#[test]
fn a_container_that_was_not_moved_yet_is_moved_at_start_up() {
    let mut host = Host::running(2);
    let id = host.submit("text", "priority");
    host.approve(&id, "officer1");
    host.approve(&id, "officer2");
    host.stop_gate();
    let container = host.outbox().remove(0);
    fs::remove_file(container.with_extension("fec")).unwrap();
    fs::rename(&container, host.state("tmp/gate/sealed-1.container")).unwrap();
    fs::remove_file(host.state("register.db")).unwrap();
    host.start_gate();
    host.stop_gate();
    assert_eq!(host.outbox(), std::slice::from_ref(&container));
    assert!(container.with_extension("fec").exists());
    assert_eq!(host.cable(&id)["state"], "queued");
    host.open(&container);
}

#[test]
fn a_container_that_was_lost_before_its_slot_was_erased_is_made_again() {
    let mut host = Host::running(1);
    let id = host.submit("text", "priority");
    host.approve(&id, "officer1");
    let slots = host.state("slots/1.slots");
    let (pending, unused) = (
        host.state(&format!("pending/{id}")),
        fs::read(&slots).unwrap(),
    );
    let kept: Vec<(PathBuf, Vec<u8>)> = files_below(&pending)
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    let manifest = host.path("manifest.txt");
    fs::copy(pending.join("manifest.txt"), &manifest).unwrap();
    let signature = host.path("manifest.txt.sig");
    host.sign("officer2", "cable-approval@valise", &manifest, &signature);
    host.approve(&id, "officer2");
    host.stop_gate();
    // As a kill after the line "sealed" leaves it, with a disk that lost the container.
    let container = host.outbox().remove(0);
    fs::remove_file(container.with_extension("fec")).unwrap();
    fs::remove_file(&container).unwrap();
    fs::write(&slots, unused).unwrap();
    for (path, bytes) in &kept {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::copy(&signature, pending.join("approvals/c.officer.sig")).unwrap();
    host.start_gate();
    let patience = Patience::begin();
    while host.outbox().is_empty() {
        patience.wait();
    }
    host.await_empty("pending");
    host.stop_gate();
    assert_eq!(host.outbox(), std::slice::from_ref(&container));
    assert_eq!(host.cable(&id)["state"], "queued");
    host.open(&container);
    let psk = *host.secrets[0].psk.expose();
    assert!(host.state_holds(&psk).is_empty());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn a_container_that_gate_did_not_make_is_put_aside() {
    let mut host = Host::commissioned(2);
    fs::write(host.state("outbox/0-9-1900000000.container"), "forged").unwrap();
    host.start_gate();
    host.stop_gate();
    assert!(host.outbox().is_empty());
    assert!(host.state("aside/0-9-1900000000.container").exists());
    let told = host.run(&["status", "--check"]);
    assert!(String::from_utf8(told.stdout).unwrap().contains("aside"));
}

#[test]
fn a_copy_of_a_bundle_that_a_killed_gate_left_is_overwritten_before_it_is_deleted() {
    let mut host = Host::commissioned(2);
    let left = host.state("tmp/gate/request-0123456789abcdef");
    fs::create_dir(&left).unwrap();
    let bundle = host.path("courier-1/channel.bundle");
    fs::copy(&bundle, left.join("file-000")).unwrap();
    // An open file shows what becomes of the bytes when the name is gone.
    let mut shown = fs::File::open(left.join("file-000")).unwrap();
    host.start_gate();
    host.stop_gate();
    assert!(!left.exists());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut shown, &mut bytes).unwrap();
    assert_eq!(bytes.len(), fs::read(&bundle).unwrap().len());
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn the_slot_of_a_cable_that_ended_with_a_serial_is_erased_at_the_next_start() {
    let mut host = Host::commissioned(2);
    host.make_clock();
    host.start_gate();
    let slots = fs::read_dir(host.state("slots")).unwrap().next().unwrap();
    let slots = slots.unwrap().path();
    let unused = fs::read(&slots).unwrap();
    let id = host.submit("text", "routine");
    host.approve(&id, "officer1");
    host.approve(&id, "officer2");
    host.set_clock_ahead(40 * 86_400);
    let patience = Patience::begin();
    while host.audited("clock-leapt").is_empty() {
        patience.wait();
    }
    host.ok(&["clock", "accept"]);
    while host.cable(&id)["state"] != "expired" {
        patience.wait();
    }
    host.stop_gate();
    // As a gate that is killed between the line and the erasure leaves it.
    let [used, other] = [0, 1].map(|index| *host.secrets[index].psk.expose());
    assert!(host.state_holds(&used).is_empty());
    fs::write(&slots, unused).unwrap();
    assert_eq!(host.state_holds(&used).len(), 1);
    host.start_gate();
    host.stop_gate();
    assert!(host.state_holds(&used).is_empty());
    assert_eq!(host.state_holds(&other).len(), 1);
}

/// The files of a request, by name.
type Files = Vec<(String, Vec<u8>)>;

/// The files of a folder, as a request carries them.
fn files_of(folder: &std::path::Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// A host with one cable of each kind that a request may change, and the requests that do, each with the event that it
/// makes.
fn one_request_of_each_kind(host: &mut Host) -> Vec<(&'static str, String, Files)> {
    host.import_list(&common::List {
        version: 2,
        drafter_is_officer: true,
        ..common::List::default()
    });
    host.start_gate();
    let [queued, approved, rejected, withdrawn] =
        ["queued", "approved", "rejected", "withdrawn"].map(|text| host.submit(text, "routine"));
    host.approve(&queued, "officer1");
    host.approve(&queued, "officer2");
    host.ok(&["export", &approved, "reading"]);
    let signature = host.path("officer1.sig");
    host.sign(
        "officer1",
        "cable-approval@valise",
        &host.path("reading/manifest.txt"),
        &signature,
    );
    host.stop_gate();
    host.make_bundle(2, 9, 5, None);
    let list = host.signed_list(&common::List {
        version: 3,
        drafter_is_officer: true,
        ..common::List::default()
    });
    let list_files = ["", ".1.sig", ".2.sig"].map(|end| {
        let path = format!("{}{end}", list.display());
        (format!("trust.toml{end}"), fs::read(path).unwrap())
    });
    let submit = "request = 'submit'\nlabel = 'EU-RESTRICTED'\nto = ['paris-desk']\n\
                  precedence = 'flash'\nsubject = 'S'\n";
    let text_file = vec![("a.txt".to_owned(), b"text".to_vec())];
    let approval = vec![("x.sig".to_owned(), fs::read(&signature).unwrap())];
    let on = |word: &str, id: &str| format!("request = '{word}'\nid = '{id}'\n");
    vec![
        ("submitted", submit.to_owned(), text_file),
        ("approved", on("approve", &approved), approval),
        (
            "rejected",
            on("reject", &rejected) + "reason = 'wrong label'\n",
            vec![],
        ),
        ("withdrawn", on("withdraw", &withdrawn), vec![]),
        (
            "resent",
            "request = 'resend'\nserials = '1'\n".to_owned(),
            vec![],
        ),
        (
            "bundle-imported",
            "request = 'bundle-import'\n".to_owned(),
            files_of(&host.path("courier-2")),
        ),
        (
            "trust-imported",
            "request = 'trust-import'\n".to_owned(),
            list_files.into(),
        ),
        (
            "clock-accepted",
            "request = 'clock-accept'\n".to_owned(),
            vec![],
        ),
    ]
}

fn place(host: &Host, name: &str, text: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    host.place(name, text, &files)
}

#[test]
fn a_request_whose_answer_was_lost_gets_the_same_answer_and_has_no_second_effect() {
    let mut host = Host::commissioned(8);
    for (event, text, files) in one_request_of_each_kind(&mut host) {
        let before = host.audited(event).len();
        let request = place(&host, event, &text, &files);
        host.start_gate();
        let (accepted, first) = Host::await_answer(&request);
        assert!(accepted, "{event}: {first}");
        Host::await_gone(&request);
        host.kill_gate();
        // As a gate that was killed behind its act leaves it: no answer, and the request is still there.
        fs::remove_file(request.with_added_extension("accepted")).unwrap();
        let request = place(&host, event, &text, &files);
        host.start_gate();
        assert_eq!(Host::await_answer(&request), (true, first), "{event}");
        host.kill_gate();
        // To accept the clock twice is to accept it, and a resend that is placed anew is another one: that the same placing
        // sends once is for the test with real kills below. Every other act is done once.
        let effects = match event {
            "clock-accepted" | "resent" => 2,
            _ => 1,
        };
        assert_eq!(host.audited(event).len(), before + effects, "{event}");
    }
    host.start_gate();
    host.stop_gate();
    let listed = host.json(&["list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 5);
    assert_eq!(host.json(&["bundle", "status", "--json"])["slots_left"], 12);
}

#[test]
fn a_gate_that_is_killed_anywhere_does_each_kind_of_request_once() {
    let mut host = Host::commissioned(8);
    let kinds = one_request_of_each_kind(&mut host);
    let before: Vec<usize> = kinds
        .iter()
        .map(|(event, _, _)| host.audited(event).len())
        .collect();
    let requests: Vec<PathBuf> = kinds
        .iter()
        .map(|(event, text, files)| place(&host, event, text, files))
        .collect();
    let kills = killed_until_answered(&mut host, &requests, 400);
    println!("{kills} kills");
    for ((event, _, _), before) in kinds.iter().zip(before) {
        let effects = host.audited(event).len() - before;
        let is_clock = *event == "clock-accepted";
        assert!(
            effects == 1 || (is_clock && effects > 0),
            "{event}: {effects}"
        );
    }
    let listed = host.json(&["list", "--json"]);
    let queued = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|cable| cable["serial"] == 1)
        .unwrap();
    let id = queued["id"].as_str().unwrap().to_owned();
    assert_eq!(host.cable(&id)["passes"], 4, "two, and once two more");
    assert!(!host.state("aside").exists());
    assert_eq!(fs::read_dir(host.state("tmp/gate")).unwrap().count(), 0);
}

#[test]
fn what_has_its_line_and_not_yet_its_name_gets_it_at_the_next_start() {
    let mut host = Host::running(1);
    let id = host.submit("text", "routine");
    host.approve(&id, "officer1");
    host.kill_gate();
    let pending = host.state(&format!("pending/{id}"));
    let approval = "approvals/b.officer.sig";
    // As a kill between the line and the rename leaves it, the approval first, then the whole submission.
    let staged = host.state(&format!("tmp/gate/approval-{id}-b.officer"));
    fs::rename(pending.join(approval), &staged).unwrap();
    let await_there = |path: &Path| {
        let patience = Patience::begin();
        while !path.exists() {
            patience.wait();
        }
    };
    host.start_gate();
    await_there(&pending.join(approval));
    assert!(!staged.exists());
    host.kill_gate();
    fs::rename(&pending, host.state(&format!("tmp/gate/submission-{id}"))).unwrap();
    let foreign = host.state("tmp/gate/submission-0123456789abcdef0123456789abcdef");
    fs::create_dir(&foreign).unwrap();
    host.start_gate();
    await_there(&pending.join(approval));
    assert!(!foreign.exists(), "no line knows it");
    host.kill_gate();
    // And where somebody took the folder away, the only copy stays, and gate starts.
    fs::rename(pending.join(approval), &staged).unwrap();
    fs::rename(&pending, host.path("taken")).unwrap();
    host.start_gate();
    host.stop_gate();
    assert!(staged.exists());
    fs::rename(host.path("taken"), &pending).unwrap();
    host.start_gate();
    await_there(&pending.join(approval));
    host.approve(&id, "officer2");
    assert_eq!(host.cable(&id)["serial"], 1);
    host.stop_gate();
    assert_eq!(fs::read_dir(host.state("tmp/gate")).unwrap().count(), 0);
}

/// A submission of five parts.
fn place_five_parts(host: &Host, name: &str) -> PathBuf {
    let text = "request = 'submit'\nlabel = 'EU-RESTRICTED'\nto = ['paris-desk']\n\
                precedence = 'routine'\nsubject = 'S'\n";
    let parts: Vec<(String, Vec<u8>)> = (1..=5)
        .map(|number| (format!("{number}.txt"), vec![b'0' + number; 20_000]))
        .collect();
    place(host, name, text, &parts)
}

/// Starts gate, and stops it when it has judged whatever stands in `requests/`.
fn start_and_judge(host: &mut Host, probe: &str) {
    let probe = host.place(probe, "request = 'clock-accept'\n", &[]);
    host.start_gate();
    assert!(Host::await_answer(&probe).0);
    host.stop_gate();
}

#[test]
fn a_request_that_a_kill_leaves_while_it_is_deleted_is_never_judged_again() {
    let mut host = Host::commissioned(4);
    let mut requests = Vec::new();
    for round in 0..40_u32 {
        let request = place_five_parts(&host, &format!("five-{round}"));
        host.start_gate();
        let (accepted, id) = Host::await_answer(&request);
        assert!(accepted, "{id}");
        // The stretch grows, so that each step of the deletion is hit.
        for _ in 0..round * 40 {
            std::thread::yield_now();
        }
        host.kill_gate();
        requests.push((request, id));
    }
    host.start_gate();
    for (request, _) in &requests {
        Host::await_gone(request);
    }
    host.stop_gate();
    for (request, id) in &requests {
        assert_eq!(answer(request).as_ref(), Some(id), "answered once");
        let manifest =
            fs::read_to_string(host.state(&format!("pending/{id}/manifest.txt"))).unwrap();
        assert_eq!(manifest.matches("part: ").count(), 5);
    }
    assert_eq!(host.audited("submitted").len(), requests.len());
    assert_eq!(host.audited("refused").len(), 0);
    assert_eq!(
        fs::read_dir(host.state("pending")).unwrap().count(),
        requests.len()
    );
    assert_eq!(fs::read_dir(host.state("tmp/gate")).unwrap().count(), 0);
    let left = fs::read_dir(host.state("requests")).unwrap().count();
    assert_eq!(left, requests.len(), "answers alone");
}

#[test]
fn an_accepted_request_that_stands_there_changed_has_no_second_answer_and_no_new_line() {
    let mut host = Host::running(2);
    let request = place_five_parts(&host, "five");
    let (_, id) = Host::await_answer(&request);
    host.kill_gate();
    for (number, text) in [(1, "request = 'submit'\n"), (2, "nonsense"), (3, "")] {
        // As an earlier version left it, and as its author may make it: fewer parts, or another text.
        let _ = fs::remove_dir_all(&request);
        place_five_parts(&host, "five");
        fs::remove_file(request.join(format!("{number}.txt"))).unwrap();
        if !text.is_empty() {
            fs::write(request.join("request.toml"), text).unwrap();
        }
        for start in 0..2 {
            start_and_judge(&mut host, &format!("probe-{number}-{start}"));
        }
        assert_eq!(answer(&request).as_ref(), Some(&id));
        assert!(request.exists(), "somebody's only copy");
    }
    let is_told = |word: &str| host.audited(word).len();
    assert_eq!((is_told("submitted"), is_told("refused")), (1, 0));
    // Whole, it is the one that was answered.
    fs::remove_dir_all(&request).unwrap();
    place_five_parts(&host, "five");
    host.start_gate();
    Host::await_gone(&request);
    host.stop_gate();
    assert_eq!(answer(&request), Some(id));
    assert_eq!(host.audited("submitted").len(), 1);
}

#[test]
fn what_was_being_erased_when_gate_was_killed_is_overwritten_and_nothing_else_becomes_of_it() {
    let mut host = Host::running(2);
    host.kill_gate();
    let mut held = Vec::new();
    for place in [
        "tmp/gate/.erase-0123456789abcdef",
        "requests/.erase-0123456789abcdef",
    ] {
        let left = host.state(place);
        fs::create_dir(&left).unwrap();
        fs::write(left.join("request.toml"), "request = 'withdraw'\n").unwrap();
        fs::write(left.join("a.txt"), "plaintext").unwrap();
        held.push((fs::File::open(left.join("a.txt")).unwrap(), left));
    }
    host.start_gate();
    host.stop_gate();
    for (mut file, left) in held {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert_eq!((bytes, left.exists()), (vec![0; 9], false));
    }
    assert_eq!(host.audited("refused").len(), 0);
    let alarms = host.run(&["status", "--check"]).stdout;
    let alarms = String::from_utf8(alarms).unwrap();
    assert!(!alarms.contains("not-erased"), "{alarms}");
}
