//! The refusals of gate, through the command line that people use. Only gate runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use valise_tests::harness::{Answer, Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);

fn world() -> World {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_role(Role::Gate).unwrap();
    world
}

fn cable(world: &World) -> Submission {
    let file = world.cables().join("cable.txt");
    fs::write(&file, "text\n").unwrap();
    Submission::new("a cable", &[file])
}

fn approve(world: &World, id: &str, key: &valise_tests::harness::KeyPair) -> Answer {
    let key = key.private_file().display().to_string();
    let mut answer = world
        .run(Host::Sender, &["approve", id, "--key", &key, "--yes"])
        .unwrap();
    // Before it signs anything, a command shows the text; its last line is `end`.
    if let Some((shown, rest)) = answer.errors.split_once("\nend\n") {
        assert!(shown.starts_with("VALISE-MANIFEST 1\n"), "{shown}");
        answer.errors = rest.to_owned();
    }
    answer
}

/// Asserts a refusal: exit status 1, one line on standard error, and nothing on standard output.
fn assert_refused(answer: &Answer, word: &str) {
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.output.trim().is_empty(), "{answer:?}");
    assert_eq!(
        answer.errors.trim_end().lines().count(),
        1,
        "one line: {answer:?}"
    );
    assert!(
        answer.errors.contains(word),
        "{word:?} is not in {answer:?}"
    );
}

fn containers(world: &World) -> Vec<PathBuf> {
    let outbox = world.state(Host::Sender).join("outbox");
    let entries = fs::read_dir(outbox)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|e| e == "container"))
        .collect()
}

/// Sends a valid cable and waits until it is sealed: everything before it in the queue has been judged by then.
fn a_good_cable_is_sealed(world: &mut World) {
    let before = containers(world).len();
    let submission = cable(world);
    world.send(&submission).unwrap();
    let outbox = world.state(Host::Sender).join("outbox");
    world
        .await_alive("sealing", LIMIT, &[outbox], |world| {
            Ok((containers(world).len() > before).then_some(()))
        })
        .unwrap();
    assert_eq!(containers(world).len(), before + 1);
}

#[test]
fn one_approval_where_two_are_needed_seals_nothing() {
    let mut world = world();
    let id = world.submit(&cable(&world)).unwrap();
    let officer = world.roster.officers[0].clone();
    assert_eq!(approve(&world, &id, &officer).status, 0);
    a_good_cable_is_sealed(&mut world);
    assert_eq!(containers(&world).len(), 1, "only the good one");
    let list = world.json(Host::Sender, &["list"]).unwrap();
    let entry = list
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["id"] == id.as_str())
        .unwrap();
    assert_eq!(
        (&entry["approvals"], &entry["needed"]),
        (&1.into(), &2.into()),
        "{entry}"
    );
}

#[test]
fn the_drafters_own_approval_is_refused() {
    let world = world();
    let id = world.submit(&cable(&world)).unwrap();
    assert_refused(&approve(&world, &id, &world.roster.drafter), "drafter");
}

#[test]
fn one_person_with_two_keys_is_one_person() {
    let mut world = world();
    let id = world.submit(&cable(&world)).unwrap();
    let first = world.roster.officers[1].clone();
    let second = world.roster.second_key.clone();
    assert_eq!(approve(&world, &id, &first).status, 0);
    assert_refused(&approve(&world, &id, &second), "");
    a_good_cable_is_sealed(&mut world);
    assert_eq!(containers(&world).len(), 1, "only the good one");
}

#[test]
fn a_strangers_approval_is_refused() {
    let world = world();
    let id = world.submit(&cable(&world)).unwrap();
    assert_refused(&approve(&world, &id, &world.roster.stranger), "");
}

#[test]
fn a_signature_moved_to_a_changed_manifest_is_refused() {
    let world = world();
    let signed = world.submit(&cable(&world)).unwrap();
    let other = world.submit(&cable(&world)).unwrap();
    let folder = world.folder().join("reading");
    let reading = folder.display().to_string();
    world
        .expect(Host::Sender, &["export", &signed, &reading])
        .unwrap();
    let manifest = folder.join("manifest.txt");
    world.roster.officers[0]
        .sign("cable-approval@valise", &[manifest])
        .unwrap();
    let signature = folder.join("manifest.txt.sig").display().to_string();
    let moved = world
        .run(
            Host::Sender,
            &["approve", &other, "--signature", &signature],
        )
        .unwrap();
    assert_refused(&moved, "");
    let right = world
        .run(
            Host::Sender,
            &["approve", &signed, "--signature", &signature],
        )
        .unwrap();
    assert_eq!(right.status, 0, "{right:?}");
}

#[test]
fn a_signature_under_another_namespace_is_refused() {
    let world = world();
    let id = world.submit(&cable(&world)).unwrap();
    let folder = world.folder().join("reading");
    let reading = folder.display().to_string();
    world
        .expect(Host::Sender, &["export", &id, &reading])
        .unwrap();
    let manifest = folder.join("manifest.txt");
    for namespace in ["trust-list@valise", "file", "cable-approval@valise2"] {
        world.roster.officers[0]
            .sign(namespace, std::slice::from_ref(&manifest))
            .unwrap();
        let signature = folder.join("manifest.txt.sig");
        let text = signature.display().to_string();
        let answer = world
            .run(Host::Sender, &["approve", &id, "--signature", &text])
            .unwrap();
        assert_refused(&answer, "");
        fs::remove_file(signature).unwrap();
    }
}

#[test]
fn what_the_trust_list_does_not_allow_is_refused_at_submission() {
    let world = world();
    let good = cable(&world);
    let with = |change: fn(&mut Submission)| {
        let mut submission = good.clone();
        change(&mut submission);
        world.run(Host::Sender, &submission.arguments()).unwrap()
    };
    assert_refused(&with(|cable| cable.to = vec!["nowhere".into()]), "nowhere");
    assert_refused(&with(|cable| cable.label = "EU-SECRET".into()), "EU-SECRET");
    assert_refused(
        &with(|cable| cable.label = "EU-RESTRICTED NOFORN".into()),
        "NOFORN",
    );
    // A mailbox that is not cleared for the classification, and one that is not cleared for the category.
    assert_refused(
        &with(|cable| cable.label = "EU-CONFIDENTIAL".into()),
        "paris-desk",
    );
    assert_refused(
        &with(|cable| {
            cable.label = "EU-RESTRICTED CRISIS".into();
            cable.to = vec!["rome-desk".into()];
        }),
        "rome-desk",
    );
    assert_refused(
        &with(|cable| cable.not_after = Some("2020-01-01T00:00:00Z".into())),
        "",
    );
    assert_refused(
        &with(|cable| cable.not_after = Some("2999-01-01T00:00:00Z".into())),
        "",
    );
    let foreign = world.cables().join("program.exe");
    fs::write(&foreign, "MZ").unwrap();
    let mut submission = good.clone();
    submission.files = vec![foreign.clone()];
    let mut arguments = submission.arguments();
    *arguments.last_mut().unwrap() = format!("{}:application/x-msdownload", foreign.display());
    assert_refused(
        &world.run(Host::Sender, &arguments).unwrap(),
        "application/x-msdownload",
    );
    assert!(
        world
            .json(Host::Sender, &["list"])
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| !matches!(
                entry["state"].as_str(),
                Some("submitted" | "approved" | "sealed")
            ))
    );
}

#[test]
fn a_cable_that_expires_while_it_waits_is_never_sealed() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.make_clock(Host::Sender).unwrap();
    world.start_role(Role::Gate).unwrap();
    let mut submission = cable(&world);
    // However long the commands take, it expires when the clock is moved, and not before.
    let soon = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let soon = soon
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let soon = valise_common::units::UtcTime::from_s(soon);
    submission.not_after = Some(soon.to_string());
    let id = world.submit(&submission).unwrap();
    let officers = world.roster.officers.clone();
    assert_eq!(approve(&world, &id, &officers[0]).status, 0);
    world.set_clock_ahead(Host::Sender, 3_700).unwrap();
    assert_refused(&approve(&world, &id, &officers[1]), "");
    let state = world.state(Host::Sender).join("view");
    world
        .await_alive("its expiry", LIMIT, &[state], |world| {
            let list = world.json(Host::Sender, &["list"])?;
            let mut entries = list.as_array().unwrap().iter();
            let entry = entries.find(|entry| entry["id"] == id.as_str()).unwrap();
            Ok((entry["state"] == "expired").then_some(()))
        })
        .unwrap();
    assert_refused(&approve(&world, &id, &officers[1]), "");
    assert!(containers(&world).is_empty());
}

#[test]
fn rejected_and_withdrawn_cables_are_never_sealed() {
    let mut world = world();
    let [rejected, withdrawn] = [(); 2].map(|()| world.submit(&cable(&world)).unwrap());
    let reason = "wrong mailbox";
    world
        .expect(Host::Sender, &["reject", &rejected, "--reason", reason])
        .unwrap();
    world
        .expect(Host::Sender, &["withdraw", &withdrawn])
        .unwrap();
    let officers = world.roster.officers.clone();
    for id in [&rejected, &withdrawn] {
        assert_refused(&approve(&world, id, &officers[0]), "");
    }
    assert!(
        world
            .expect(Host::Sender, &["show", &rejected])
            .unwrap()
            .contains(reason)
    );
    a_good_cable_is_sealed(&mut world);
}

#[test]
fn a_refused_submission_stays_where_its_author_put_it() {
    let mut world = world();
    let file = world.cables().join("cable.txt");
    fs::write(&file, "text\n").unwrap();
    let text = "request = \"submit\"\nlabel = \"EU-RESTRICTED\"\nto = [\"nowhere\"]\n\
                precedence = \"routine\"\nsubject = \"s\"\n";
    let files = [("cable.txt".to_owned(), file)];
    let request = world
        .write_request(Host::Sender, "to-nowhere", text, &files)
        .unwrap();
    request.reveal().unwrap();
    let requests = world.state(Host::Sender).join("requests");
    let answer = requests.join("to-nowhere.refused");
    world
        .await_alive("the answer", LIMIT, std::slice::from_ref(&requests), |_| {
            Ok(answer.exists().then_some(()))
        })
        .unwrap();
    assert!(fs::read_to_string(&answer).unwrap().contains("nowhere"));
    assert_eq!(
        fs::read_to_string(requests.join("to-nowhere/cable.txt")).unwrap(),
        "text\n"
    );
}

#[test]
fn wrong_usage_and_an_absent_daemon_have_statuses_of_their_own() {
    let mut world = world();
    for wrong in [
        &["submit", "--to", "paris-desk"][..],
        &["approve", "not-an-id", "--key", "/nowhere"],
        &["no-such-command"],
    ] {
        let answer = world.run(Host::Sender, wrong).unwrap();
        assert_eq!(answer.status, 2, "{wrong:?}: {answer:?}");
    }
    fs::write(
        world.configuration(Host::Sender).with_extension("bad"),
        "state = 1\n",
    )
    .unwrap();
    world.stop("gate").unwrap();
    let answer = world.run(Host::Sender, &cable(&world).arguments()).unwrap();
    assert_eq!(answer.status, 3, "{answer:?}");
    // The request waits, and the next gate takes it.
    world.start_role(Role::Gate).unwrap();
    world
        .await_alive("the waiting submission", LIMIT, &[], |world| {
            let list = world.json(Host::Sender, &["list"])?;
            Ok((list.as_array().unwrap().len() == 1).then_some(()))
        })
        .unwrap();
}
