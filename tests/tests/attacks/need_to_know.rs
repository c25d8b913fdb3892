//! Persons who draft, read and approve cables outside their limits, on both hosts. The limits are those of the list in
//! force, whenever something was signed.

use valise_common::manifest::Manifest;
use valise_common::sshsig::Signature;
use valise_tests::attack::{Loot, sign};
use valise_tests::harness::{Host, KeyPair, Role, Roster, Settings};

use crate::scene::Scene;

const APPROVAL: &str = "cable-approval@valise";

/// Limits that do not cover a cable of EU-RESTRICTED LIMITE to `paris-desk`, and the kind of each.
const TOO_NARROW: [(&str, &str); 4] = [
    ("categories = [\"CRISIS\"]", "categories"),
    ("categories = []", "categories"),
    ("mailboxes = [\"rome-desk\"]", "mailboxes"),
    ("mailboxes = []", "mailboxes"),
];

/// Limits that just cover it.
const WIDE_ENOUGH: &str = "classification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\nmailboxes = [\"paris-desk\"]";

fn scene() -> Scene {
    Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    )
}

/// Puts a list in force in which a person has these limits.
fn limit(scene: &Scene, version: u32, person: &str, limits: &str) {
    let id = format!("id = \"{person}\"\n");
    let limited = format!("{id}{limits}\n");
    scene.import(&scene.list(version, &[(&id, &limited)]));
}

/// An approval that somebody made elsewhere, armoured.
fn approval(scene: &Scene, manifest: &[u8], key: &KeyPair) -> String {
    let raw = sign(&scene.world, APPROVAL, manifest, &[key]).unwrap();
    Signature::decode(&raw[0]).unwrap().to_armor()
}

fn signed_by(scene: &Scene, manifest: &Manifest, keys: &[&KeyPair]) -> Loot {
    let bytes = manifest.encode().unwrap();
    scene.loot(
        manifest,
        sign(&scene.world, APPROVAL, &bytes, keys).unwrap(),
    )
}

/// The state of a cable on the sender, and its number of approvals.
fn stands(scene: &Scene, id: &str) -> (String, u64) {
    let shown = scene.world.json(Host::Sender, &["show", id]).unwrap();
    let state = shown["state"].as_str().unwrap().to_owned();
    (state, shown["approvals"].as_u64().unwrap())
}

#[test]
fn an_officer_approves_outside_of_his_limits() {
    let mut scene = scene();
    let [one, two, three] = scene.world.roster.officers.clone();
    let id = scene.submit("a cable");
    scene.world.approve(&id, &one).unwrap();
    let bytes = scene.pending_manifest(&id);
    // Signed before there was a limit, brought after.
    let his = approval(&scene, &bytes, &two);
    let honest = scene.honest(1);
    let beside = signed_by(&scene, &scene.manifest(2), &[&one, &three, &two]);
    for (number, (limits, kind)) in (0..).zip(TOO_NARROW) {
        limit(&scene, 2 + number, Roster::OFFICERS[1], limits);
        let serial = 1 + 2 * u64::from(number);
        scene.assert_all_held(
            serial,
            &[
                (limits, "outside-limits", honest.clone()),
                (limits, "outside-limits", beside.clone()),
            ],
        );
        let reason = scene.approve_by_hand(&id, &his).unwrap_err();
        assert!(
            reason.contains(Roster::OFFICERS[1]) && reason.contains(kind),
            "{limits}: {reason}"
        );
        assert!(scene.outbox().is_empty(), "{limits}");
        assert_eq!(stands(&scene, &id), ("approved".to_owned(), 1), "{limits}");
    }
    // The same limits apply to the officer's other key.
    let second = approval(&scene, &bytes, &scene.world.roster.second_key);
    scene.approve_by_hand(&id, &second).unwrap_err();
    // Within the limits the officer approves, and the cable that was held only for them is released.
    limit(&scene, 20, Roster::OFFICERS[1], WIDE_ENOUGH);
    scene.approve_by_hand(&id, &his).unwrap();
    scene.await_sealed(1);
    let recheck = ["quarantine", "recheck", "1"];
    scene.world.expect(Host::Receiver, &recheck).unwrap();
    scene.await_state(1, "released");
}

#[test]
fn an_officer_approves_above_his_classification() {
    let mut scene = scene();
    let [one, two, three] = scene.world.roster.officers.clone();
    let mut manifest = scene.manifest(1);
    manifest.label = "EU-CONFIDENTIAL LIMITE".parse().unwrap();
    manifest.to = vec!["rome-desk".parse().unwrap()];
    let high = signed_by(&scene, &manifest, &[&one, &two, &three]);
    let max = |id: &str| format!("classification-max = \"{id}\"");
    limit(&scene, 2, Roster::OFFICERS[2], &max("EU-RESTRICTED"));
    scene.assert_all_held(1, &[("above his limit", "outside-limits", high.clone())]);
    // The officer counts at the limit, and below it.
    let low = signed_by(&scene, &scene.manifest(2), &[&one, &three]);
    scene.assert_honest_arrives(2, &low);
    limit(&scene, 3, Roster::OFFICERS[2], &max("EU-CONFIDENTIAL"));
    let again = {
        manifest.message_id = scene.manifest(3).message_id;
        signed_by(&scene, &manifest, &[&one, &two, &three])
    };
    scene.assert_honest_arrives(3, &again);
}

#[test]
fn an_approval_is_stored_before_its_officer_is_limited() {
    let mut scene = scene();
    let [one, two, three] = scene.world.roster.officers.clone();
    let id = scene.submit("a cable");
    scene.world.approve(&id, &one).unwrap();
    limit(&scene, 2, Roster::OFFICERS[0], TOO_NARROW[2].0);
    // The second approval completes the number, but the first no longer counts.
    scene.world.approve(&id, &two).unwrap();
    scene.world.approve(&id, &three).unwrap();
    assert!(scene.outbox().is_empty());
    assert_eq!(stands(&scene, &id).0, "approved");
    let shown = scene.world.json(Host::Sender, &["show", &id]).unwrap();
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.contains(Roster::OFFICERS[0]), "{reason}");
    // Not after a restart either.
    scene.world.kill(Role::Gate.word());
    scene.world.start_role(Role::Gate).unwrap();
    assert!(scene.outbox().is_empty());
    let held = [("signed before", "outside-limits", scene.honest(1))];
    scene.assert_all_held(1, &held);
    // A list that widens the limit releases the cable.
    limit(&scene, 3, Roster::OFFICERS[0], WIDE_ENOUGH);
    scene.await_sealed(1);
}

#[test]
fn a_drafter_submits_outside_of_his_limits() {
    let mut scene = scene();
    let waiting = scene.submit("submitted before");
    let drafted = scene.honest(1);
    for (number, (limits, kind)) in (0..).zip(TOO_NARROW) {
        limit(&scene, 2 + number, Roster::DRAFTER, limits);
        let arguments = scene.cable("a cable").arguments();
        let answer = scene.world.run(Host::Sender, &arguments).unwrap();
        assert_eq!(answer.status, 1, "{limits}: {answer:?}");
        assert!(
            answer.errors.contains(Roster::DRAFTER) && answer.errors.contains(kind),
            "{answer:?}"
        );
        let serial = 1 + u64::from(number);
        scene.assert_all_held(serial, &[(limits, "outside-limits", drafted.clone())]);
    }
    let listed = scene.world.json(Host::Sender, &["list"]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    // Cables that the drafter submitted before are not approved either.
    let one = scene.world.roster.officers[0].clone();
    scene.world.approve(&waiting, &one).unwrap_err();
    limit(&scene, 20, Roster::DRAFTER, WIDE_ENOUGH);
    scene.world.approve(&waiting, &one).unwrap();
    scene.submit("within his limits");
    scene.assert_honest_arrives(10, &drafted);
}

#[test]
fn somebody_reads_what_he_need_not_know_of() {
    let scene = scene();
    let id = scene.submit("a cable");
    let folder = scene.world.folder().join("reading").display().to_string();
    let part = scene.world.folder().join("part").display().to_string();
    let key = scene.world.roster.drafter.private_file();
    let key = key.display().to_string();
    let reading: [&[&str]; 4] = [
        &["read", &id],
        &["read", &id, "1", &part],
        &["export", &id, &folder],
        &["approve", &id, "--key", &key, "--yes"],
    ];
    for (number, (limits, _)) in (0..).zip(TOO_NARROW) {
        // The user who runs the commands here is the drafter.
        limit(&scene, 2 + number, Roster::DRAFTER, limits);
        for arguments in reading {
            let answer = scene.world.run(Host::Sender, arguments).unwrap();
            assert_eq!(answer.status, 1, "{arguments:?}: {answer:?}");
            assert!(answer.errors.contains("limits"), "{answer:?}");
            assert!(!answer.output.contains(crate::scene::MARKER), "{answer:?}");
        }
        let shown = scene.world.expect(Host::Sender, &["show", &id]).unwrap();
        assert!(!shown.contains("VALISE-MANIFEST"), "{shown}");
        for left in [&folder, &part] {
            assert!(!std::path::Path::new(left).exists(), "{left}");
        }
    }
    limit(&scene, 20, Roster::DRAFTER, WIDE_ENOUGH);
    let read = scene.world.expect(Host::Sender, &["read", &id]).unwrap();
    assert!(read.contains(crate::scene::MARKER), "{read}");
}
