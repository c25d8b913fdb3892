//! Security keys of the real `ssh-keygen`, from their creation to the release, without any software keys. Keys that no
//! OpenSSH makes are in `approvals.rs`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use valise_tests::attack::sign;
use valise_tests::harness::{Asks, Host, KeyPair, Role, Roster, Settings, Tokens};

use crate::scene::{LIMIT, Scene};

/// A scene whose officers have only tokens, each of which asks for these proofs of presence.
fn scene_of(asks: [Asks; 3], edits: &[(&str, &str)]) -> (Scene, [KeyPair; 3]) {
    let scene = Scene::with(Settings::default(), &Role::ALL);
    let folder = scene.world.folder().join("tokens");
    fs::create_dir(&folder).unwrap();
    let tokens = Tokens::find(&folder).unwrap_or_else(|error| panic!("{error}"));
    let make = |(name, asks)| KeyPair::of_token(&tokens, &folder, name, asks).unwrap();
    let [one, two, three] = Roster::OFFICERS;
    let keys = [(one, asks[0]), (two, asks[1]), (three, asks[2])].map(make);
    let roster = &scene.world.roster;
    let second = format!(", {:?}", roster.second_key.public_line());
    let replaced: Vec<(&str, &str)> = roster
        .officers
        .iter()
        .zip(&keys)
        .map(|(officer, token)| (officer.public_line(), token.public_line()))
        .collect();
    let fixed = [
        (second.as_str(), ""),
        ("[\"drafter\", \"officer\"]", "[\"drafter\"]"),
        ("allow-software-keys = true", "allow-software-keys = false"),
    ];
    let text = scene.list(2, &[&replaced[..], &fixed, edits].concat());
    scene.import(&text);
    (scene, keys)
}

/// The refusal of an approval through `approve --key`.
fn refusal(scene: &Scene, id: &str, key: &KeyPair) -> String {
    let file = key.private_file().display().to_string();
    let words = ["approve", id, "--key", &file, "--yes"];
    let answer = scene
        .world
        .run_under(key.environment(), Host::Sender, &words)
        .unwrap();
    assert_eq!(answer.status, 1, "{answer:?}");
    answer.errors
}

#[test]
fn a_token_that_asks_for_no_touch_approves_nothing_and_touched_ones_release() {
    let asks = [Asks::Touch, Asks::Touch, Asks::Nothing];
    let (mut scene, [one, two, untouched]) = scene_of(asks, &[]);
    // On the isolated host, from a sender that does not check: any program can use such a token while it is plugged in.
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let raw = |scene: &Scene, keys: &[&KeyPair]| {
        sign(&scene.world, "cable-approval@valise", &bytes, keys).unwrap()
    };
    let cases = [
        (
            "an untouched token",
            "signature",
            scene.loot(&manifest, raw(&scene, &[&one, &untouched])),
        ),
        (
            "one beside a quorum",
            "signature",
            scene.loot(&manifest, raw(&scene, &[&one, &two, &untouched])),
        ),
    ];
    scene.assert_all_held(60, &cases);
    // At gate, through our own command.
    let cable = scene.cable("a cable");
    let id = scene.world.submit(&cable).unwrap();
    scene.world.approve(&id, &one).unwrap();
    let told = refusal(&scene, &id, &untouched);
    assert!(told.contains("without a touch"), "{told}");
    let software = scene.world.roster.officers[1].clone();
    refusal(&scene, &id, &software);
    assert!(scene.outbox().is_empty());
    assert!(scene.audited(Role::Gate, "sealing").is_empty());
    // Only a touch was missing.
    scene.world.approve(&id, &two).unwrap();
    let released = scene.world.await_released(&id, &cable, LIMIT).unwrap();
    for (person, key) in Roster::OFFICERS.iter().zip([&one, &two]) {
        assert_stock_openssh_verifies(&released[0].folder, person, key);
    }
}

#[test]
fn where_a_pin_is_asked_for_a_token_that_is_only_touched_approves_nothing() {
    let asks = [Asks::Pin, Asks::Pin, Asks::Touch];
    let edits = [("user-verification = false", "user-verification = true")];
    let (mut scene, [one, two, touched]) = scene_of(asks, &edits);
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let raw = sign(
        &scene.world,
        "cable-approval@valise",
        &bytes,
        &[&one, &touched],
    );
    let cases = [(
        "a touch alone",
        "not-user-verified",
        scene.loot(&manifest, raw.unwrap()),
    )];
    scene.assert_all_held(60, &cases);
    let cable = scene.cable("a cable");
    let id = scene.world.submit(&cable).unwrap();
    scene.world.approve(&id, &one).unwrap();
    let told = refusal(&scene, &id, &touched);
    assert!(told.contains("PIN"), "{told}");
    assert!(scene.outbox().is_empty());
    scene.world.approve(&id, &two).unwrap();
    scene.world.await_released(&id, &cable, LIMIT).unwrap();
}

#[test]
fn officers_sign_with_their_tokens_on_machines_of_their_own() {
    let asks = [Asks::Touch, Asks::Pin, Asks::Nothing];
    let (mut scene, [one, two, untouched]) = scene_of(asks, &[]);
    let cable = scene.cable("a cable");
    let id = scene.world.submit(&cable).unwrap();
    let brought = |scene: &Scene, name: &str, key: &KeyPair| {
        let folder = scene.world.folder().join(name);
        let words = ["export", &id, &folder.display().to_string()];
        scene.world.expect(Host::Sender, &words).unwrap();
        let checked = Command::new("sha256sum")
            .args(["--check", "--quiet", "SHA256SUMS"])
            .current_dir(&folder)
            .status();
        assert!(checked.unwrap().success());
        let manifest = folder.join("manifest.txt");
        key.sign("cable-approval@valise", std::slice::from_ref(&manifest))
            .unwrap();
        let signature = folder.join("manifest.txt.sig").display().to_string();
        let words = ["approve", &id, "--signature", &signature];
        scene.world.run(Host::Sender, &words).unwrap()
    };
    let refused = brought(&scene, "three", &untouched);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.errors.contains("without a touch"), "{refused:?}");
    assert_eq!(brought(&scene, "one", &one).status, 0);
    assert!(scene.outbox().is_empty());
    assert_eq!(brought(&scene, "two", &two).status, 0);
    let released = scene.world.await_released(&id, &cable, LIMIT).unwrap();
    for (person, key) in Roster::OFFICERS.iter().zip([&one, &two]) {
        assert_stock_openssh_verifies(&released[0].folder, person, key);
    }
}

/// Everybody who fetches a cable can check its approvals without our programs.
fn assert_stock_openssh_verifies(folder: &Path, person: &str, key: &KeyPair) {
    let allowed = key.private_file().with_file_name("allowed");
    fs::write(&allowed, format!("{person} {}\n", key.public_line())).unwrap();
    let status = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", person, "-n", "cable-approval@valise"])
        .arg("-f")
        .arg(&allowed)
        .arg("-s")
        .arg(folder.join(format!("approvals/{person}.sig")))
        .stdin(File::open(folder.join("manifest.txt")).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{person}");
}
