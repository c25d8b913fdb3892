//! Real cables through the real programs, from submission to release.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use valise_common::units::UtcTime;
use valise_tests::harness::{Host, Line, Programs, Role, Settings, Submission, World};
use valise_tests::wire::LineConditions;

const LIMIT: Duration = Duration::from_secs(90);

fn world(settings: Settings) -> World {
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    world.start().unwrap();
    world
}

fn bad_line(seed: u64) -> Line {
    Line::Wire {
        conditions: LineConditions {
            loss: "5%".parse().unwrap(),
            burst: Duration::from_millis(4),
            reorder: "2%".parse().unwrap(),
            duplicate: "1%".parse().unwrap(),
            corrupt: "0.5%".parse().unwrap(),
            ..LineConditions::CLEAN
        },
        seed,
    }
}

#[test]
fn a_small_cable_crosses_a_clean_link() {
    let mut world = world(Settings::default());
    let file = world.cables().join("cable.txt");
    fs::write(&file, "PARIS TO ROME\nNothing new.\n").unwrap();
    let submission = Submission::new("Nothing new", &[file]);
    let id = world.send(&submission).unwrap();
    let released = world.await_released(&id, &submission, LIMIT).unwrap();
    assert_eq!(released[0].serial, 1);

    // The files beside it are enough for a reader to check it without any of our programs.
    let folder = &released[0].folder;
    let manifest = fs::read_to_string(folder.join("manifest.txt")).unwrap();
    assert!(manifest.starts_with("VALISE-MANIFEST 1\n"));
    assert!(manifest.contains(&format!("message-id: {id}\n")));
    assert!(manifest.contains("drafter: d.drafter\n"));
    let allowed = world.folder().join("allowed_signers");
    let officer = &world.roster.officers[0];
    fs::write(&allowed, format!("o.one {}\n", officer.public_line())).unwrap();
    let check = format!(
        "ssh-keygen -Y verify -f {} -I o.one -n cable-approval@valise -s {} < {}",
        allowed.display(),
        folder.join("approvals/o.one.sig").display(),
        folder.join("manifest.txt").display()
    );
    assert!(
        Command::new("sh")
            .args(["-c", &check])
            .output()
            .unwrap()
            .status
            .success()
    );

    // Both hosts report the same about it.
    let sent = world.json(Host::Sender, &["list"]).unwrap();
    assert_eq!(sent[0]["id"], id);
    assert_eq!(sent[0]["serial"], 1);
    let world = &mut world;
    world
        .await_alive("the receiver's list", LIMIT, &[], |world| {
            let received = world.json(Host::Receiver, &["list"])?;
            Ok((received[0]["state"] == "released").then_some(()))
        })
        .unwrap();
    let received = world.json(Host::Receiver, &["list"]).unwrap();
    assert_eq!(
        (&received[0]["serial"], &received[0]["message_id"]),
        (&1.into(), &id.into())
    );
}

#[test]
fn the_time_by_which_an_answer_is_due_is_shown_on_both_hosts() {
    let mut world = world(Settings::default());
    let file = world.cables().join("cable.txt");
    fs::write(&file, "Silence is consent.\n").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = UtcTime::from_s(now.unwrap().as_secs());
    let act_by = now.plus_s(3_600).to_string();
    let mut submission = Submission::new("Silence procedure", &[file]);
    for wrong in [now, now.plus_s(40 * 86_400)] {
        submission.act_by = Some(wrong.to_string());
        let answer = world.run(Host::Sender, &submission.arguments()).unwrap();
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(answer.errors.contains("act-by"), "{answer:?}");
    }
    submission.act_by = Some(act_by.clone());
    let id = world.submit(&submission).unwrap();
    let line = format!("act-by: {act_by}\n");
    let due = format!("act by {act_by}");
    let list = world.expect(Host::Sender, &["list"]).unwrap();
    assert!(list.contains(&due), "{list}");
    let shown = world.expect(Host::Sender, &["show", &id]).unwrap();
    assert!(
        shown.contains(&format!("act by     {act_by}")) && shown.contains(&line),
        "{shown}"
    );
    let reading = world.folder().join("reading");
    let export = ["export", &id, &reading.display().to_string()];
    world.expect(Host::Sender, &export).unwrap();
    let manifest = fs::read_to_string(reading.join("manifest.txt")).unwrap();
    assert!(manifest.contains(&line), "{manifest}");
    for officer in &world.roster.officers[..2] {
        world.approve(&id, officer).unwrap();
    }
    let released = world.await_released(&id, &submission, LIMIT).unwrap();
    world.await_state(1, "released", LIMIT).unwrap();
    let record = fs::read(released[0].folder.join("release.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["act_by"], act_by);
    let sent = world.json(Host::Sender, &["show", &id]).unwrap();
    assert_eq!(sent["act_by"], act_by);
    let received = world.json(Host::Receiver, &["show", "1"]).unwrap();
    assert_eq!(received["act_by"], act_by);
    let shown = world.expect(Host::Receiver, &["show", "1"]).unwrap();
    assert!(
        shown.contains(&format!("act-by        {act_by}")),
        "{shown}"
    );
}

#[test]
fn each_role_is_a_user_without_rights_where_root_starts_it() {
    let world = world(Settings::default());
    if !world.has_users() {
        return;
    }
    let of_role = |role| {
        let pid = world.role_pid(role).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        // receive starts with CAP_NET_ADMIN, and drops it when its socket is set up.
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(field) {
            assert_eq!(u64::from_str_radix(&capabilities, 16), Ok(0), "{status}");
        }
        (field("Uid:"), field("Gid:"))
    };
    let users = Role::ALL.map(of_role);
    let distinct: BTreeSet<&String> = users.iter().map(|(uid, _)| uid).collect();
    assert_eq!(distinct.len(), 4, "{users:?}");
    for (role, (uid, gid)) in Role::ALL.iter().zip(&users) {
        assert!(
            !uid.starts_with("0\t") && !gid.starts_with("0\t"),
            "{users:?}"
        );
        // A role on the link makes files only for the inner role, and both have the same group. The inner role gives
        // files to others.
        let is_own = matches!(role, Role::Gate | Role::Release);
        assert_eq!(uid == gid, is_own, "{users:?}");
    }
}

#[test]
fn several_cables_cross_a_line_that_loses_reorders_duplicates_and_corrupts() {
    let settings = Settings {
        line: bad_line(11),
        interleave: "20 ms".into(),
        ..Settings::default()
    };
    let mut world = world(settings);
    let sizes = [1, 4_096, 100_000, 1_500_000, 6_000_000];
    let mut sent = Vec::new();
    for (seed, size) in (1..).zip(sizes) {
        let file = world
            .generate_file(&format!("cable-{size}.bin"), size, seed)
            .unwrap();
        let submission = Submission::new(&format!("{size} bytes"), &[file]);
        sent.push((world.send(&submission).unwrap(), submission));
    }
    for (id, submission) in &sent {
        world.await_released(id, submission, LIMIT).unwrap();
    }
    assert_eq!(
        world.released().unwrap().len(),
        sizes.len(),
        "each exactly once"
    );
    world.stop("wire").unwrap();
    let wire = world.wire_statistics();
    assert!(
        wire.lost > 100 && wire.reordered > 50,
        "the line was bad: {wire:?}"
    );
    assert!(
        wire.duplicated > 50 && wire.corrupted > 20,
        "the line was bad: {wire:?}"
    );
}

#[test]
fn a_cable_of_several_parts_reaches_each_of_its_mailboxes() {
    let mut world = world(Settings::default());
    let text = world.cables().join("cable.txt");
    fs::write(&text, "See annex.\n").unwrap();
    let annex = world
        .generate_file("annex to the cable.pdf", 70_000, 1)
        .unwrap();
    let empty = world.cables().join("empty.bin");
    fs::write(&empty, "").unwrap();
    let mut submission = Submission::new("Équipe, Straße, σύνοδος", &[text, annex, empty]);
    submission.to = vec!["rome-desk".into(), "paris-desk".into()];
    let id = world.send(&submission).unwrap();
    let released = world.await_released(&id, &submission, LIMIT).unwrap();
    assert_eq!(released.len(), 2);
    let parts = released[0].parts().unwrap();
    let names: Vec<_> = parts.iter().map(|part| part.file_name().unwrap()).collect();
    assert_eq!(names, ["part-001.txt", "part-002.pdf", "part-003.bin"]);
}

#[test]
fn a_flash_cable_overtakes_a_routine_one_that_is_on_the_link() {
    let settings = Settings {
        rate: "20 Mbit/s".into(),
        ..Settings::default()
    };
    let mut world = world(settings);
    // At 20 Mbit/s and two passes, this one needs more than ten seconds.
    let large = world.generate_file("large.bin", 12_000_000, 1).unwrap();
    let routine = Submission::new("large", &[large]);
    let routine_id = world.send(&routine).unwrap();
    let view = world.state(Host::Receiver).join("view");
    world
        .await_alive("the routine cable on the link", LIMIT, &[view], |world| {
            let view = world.view(Role::Receive).unwrap_or_default();
            Ok(view["assembling"]
                .as_array()
                .is_some_and(|sets| !sets.is_empty())
                .then_some(()))
        })
        .unwrap();
    let small = world.generate_file("small.bin", 4_096, 2).unwrap();
    let mut flash = Submission::new("urgent", &[small]);
    flash.precedence = "flash".into();
    // However long the commands take, the routine cable is not finished meanwhile.
    let transmit = world.role_pid(Role::Transmit).unwrap();
    let transmit = Pid::from_raw(transmit.try_into().unwrap());
    kill(transmit, Signal::SIGSTOP).unwrap();
    let flash_id = world.send(&flash).unwrap();
    kill(transmit, Signal::SIGCONT).unwrap();
    world.await_released(&flash_id, &flash, LIMIT).unwrap();
    let released = world.released().unwrap();
    assert_eq!(released.len(), 1, "the routine cable is still on its way");
    world.await_released(&routine_id, &routine, LIMIT).unwrap();
}

#[test]
fn other_programs_submit_by_a_folder() {
    let mut world = world(Settings::default());
    let file = world.generate_file("by-hand.bin", 10_000, 1).unwrap();
    let submission = Submission::new("by hand", &[file]);
    let (ids, approvals) = world
        .prepare_many(std::slice::from_ref(&submission), "by-hand")
        .unwrap();
    for approval in &approvals {
        approval.reveal().unwrap();
    }
    world.await_released(&ids[0], &submission, LIMIT).unwrap();
}

#[test]
fn approvals_made_elsewhere_are_taken() {
    let mut world = world(Settings::default());
    let file = world.generate_file("cable.bin", 5_000, 1).unwrap();
    let submission = Submission::new("signed elsewhere", std::slice::from_ref(&file));
    let id = world.submit(&submission).unwrap();
    let folder = world.folder().join("reading");
    let folder_text = folder.display().to_string();
    world
        .expect(Host::Sender, &["export", &id, &folder_text])
        .unwrap();
    // An officer checks the text with tools that are not ours.
    let sums = format!("cd {folder_text} && sha256sum --check --quiet SHA256SUMS");
    assert!(
        Command::new("sh")
            .args(["-c", &sums])
            .output()
            .unwrap()
            .status
            .success()
    );
    for officer in &world.roster.officers[..2] {
        let manifest = folder.join("manifest.txt");
        officer.sign("cable-approval@valise", &[manifest]).unwrap();
        let signature = folder.join("manifest.txt.sig").display().to_string();
        world
            .expect(Host::Sender, &["approve", &id, "--signature", &signature])
            .unwrap();
        fs::remove_file(&signature).unwrap();
    }
    world.await_released(&id, &submission, LIMIT).unwrap();
}

#[test]
fn the_sender_keeps_nothing_that_opens_or_shows_what_it_sealed() {
    let mut world = world(Settings::default());
    let marker = "marker-4f1c9d-in-plain-text";
    let file = world.cables().join("cable.txt");
    fs::write(&file, format!("{marker}\n").repeat(1000)).unwrap();
    let submission = Submission::new("marked", &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
    let thief = valise_tests::attack::Thief::of(&world).unwrap();
    let used = thief.bundle().slots[0].psk.expose();
    let unused = thief.bundle().slots[1].psk.expose();
    let sender = world.state(Host::Sender);
    let holds = |needle: &[u8]| find_in(&sender, needle);
    let gone = || Ok((holds(marker.as_bytes()).is_empty() && holds(used).is_empty()).then_some(()));
    valise_tests::harness::await_condition("erasure", LIMIT, &[sender.join("pending")], gone)
        .unwrap();
    assert!(!holds(unused).is_empty(), "the search finds what is there");
}

/// The files below a folder that contain some bytes.
fn find_in(folder: &std::path::Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find_in(&path, needle));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
        {
            found.push(path);
        }
    }
    found
}
