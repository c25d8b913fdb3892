//! Trust lists that the administrators did not make, on both hosts.

use std::fs;
use std::path::{Path, PathBuf};

use valise_tests::attack::sign;
use valise_tests::harness::{Host, KeyPair, Role, Settings};

use crate::scene::{Scene, now};

const HOSTS: [Host; 2] = [Host::Sender, Host::Receiver];
const NAMESPACE: &str = "trust-list@valise";

fn scene() -> Scene {
    Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    )
}

/// Writes a list into a folder of its own, signed by these keys in this namespace.
fn written(scene: &Scene, name: &str, text: &str, namespace: &str, keys: &[&KeyPair]) -> PathBuf {
    let folder = scene.world.folder().join(name);
    fs::create_dir(&folder).unwrap();
    let file = folder.join("trust.toml");
    fs::write(&file, text).unwrap();
    for (number, key) in (1..).zip(keys) {
        key.sign_as_administrator(namespace, &file, number).unwrap();
    }
    file
}

/// Asserts that both hosts refuse a list, with a reason in one line, and keep the list in force.
#[track_caller]
fn assert_refused(scene: &Scene, file: &Path, in_force: u64, what: &str) {
    for host in HOSTS {
        let arguments = ["trust", "import", &file.display().to_string()];
        let answer = scene.world.run(host, &arguments).unwrap();
        assert_eq!(answer.status, 1, "{what}: {answer:?}");
        assert_eq!(answer.errors.trim_end().lines().count(), 1, "{answer:?}");
        let shown = scene.world.json(host, &["trust", "show"]).unwrap();
        assert_eq!(shown["version"], in_force, "{what}: {shown}");
    }
}

#[test]
fn somebody_brings_a_list_that_two_administrators_did_not_sign() {
    let mut scene = scene();
    // It would enrol the stranger in place of an officer.
    let roster = &scene.world.roster;
    let his = roster.officers[0].public_line().to_owned();
    let text = scene.list(2, &[(&his, roster.stranger.public_line())]);
    let [one, two] = &roster.administrators;
    let cases: [(&str, &str, &[&KeyPair]); 6] = [
        ("unsigned", NAMESPACE, &[]),
        ("of-one", NAMESPACE, &[one]),
        ("of-one-twice", NAMESPACE, &[one, one]),
        ("of-one-and-a-stranger", NAMESPACE, &[one, &roster.stranger]),
        (
            "of-one-and-an-officer",
            NAMESPACE,
            &[one, &roster.officers[0]],
        ),
        ("signed-as-a-bundle", "bundle@valise", &[one, two]),
    ];
    let mut files: Vec<(&str, PathBuf)> = cases
        .iter()
        .map(|(name, namespace, keys)| (*name, written(&scene, name, &text, namespace, keys)))
        .collect();
    let altered = written(&scene, "altered", &text, NAMESPACE, &[one, two]);
    fs::write(&altered, text.replace("officers = 3", "officers = 2")).unwrap();
    files.push(("altered after it was signed", altered));
    for (what, file) in &files {
        assert_refused(&scene, file, 1, what);
    }
    for (role, event) in [(Role::Gate, "refused"), (Role::Release, "request-refused")] {
        assert_eq!(scene.audited(role, event).len(), files.len(), "{role:?}");
    }
    // The stranger's approval still does not count, and the officer's still does.
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let roster = &scene.world.roster;
    let keys = [&roster.stranger, &roster.officers[1]];
    let raw = sign(&scene.world, "cable-approval@valise", &bytes, &keys).unwrap();
    let cases = [("a stranger", "unknown-key", scene.loot(&manifest, raw))];
    scene.assert_all_held(1, &cases);
    let honest = scene.honest(2);
    scene.assert_honest_arrives(2, &honest);
}

#[test]
fn somebody_brings_back_a_list_in_which_a_revoked_officer_still_counted() {
    let mut scene = scene();
    let [one, two] = scene.world.roster.administrators.each_ref();
    let old = written(&scene, "old", &scene.list(1, &[]), NAMESPACE, &[one, two]);
    let officer = format!(
        "keys = [{:?}]\n",
        scene.world.roster.officers[0].public_line()
    );
    let revoked = format!("{officer}revoked = \"2026-01-01T00:00:00Z\"\n");
    scene.import(&scene.list(5, &[(&officer, &revoked)]));
    assert_refused(&scene, &old, 5, "a rollback");
    // An equal version with another text is a rollback too.
    let equal = scene.list(5, &[]);
    let [one, two] = scene.world.roster.administrators.each_ref();
    let equal = written(&scene, "equal", &equal, NAMESPACE, &[one, two]);
    assert_refused(&scene, &equal, 5, "an equal version");
    for (role, event) in [(Role::Gate, "refused"), (Role::Release, "request-refused")] {
        assert_eq!(scene.audited(role, event).len(), 2, "{role:?}");
    }
    // Nor after a restart, which reads the list in force from the disk.
    for role in [Role::Gate, Role::Release] {
        scene.world.kill(role.word());
        scene.world.start_role(role).unwrap();
    }
    assert_refused(&scene, &old, 5, "a rollback after a restart");
    let cases = [("a revoked officer", "revoked", scene.honest(1))];
    scene.assert_all_held(1, &cases);
    let id = scene.submit("a cable");
    let revoked = scene.world.roster.officers[0].clone();
    scene.world.approve(&id, &revoked).unwrap_err();
    assert!(scene.outbox().is_empty());
    // The others make a quorum.
    let [_, two, three] = scene.world.roster.officers.clone();
    for officer in [&two, &three] {
        scene.world.approve(&id, officer).unwrap();
    }
    scene.await_sealed(1);
    let manifest = scene.manifest(2);
    let bytes = manifest.encode().unwrap();
    let raw = sign(
        &scene.world,
        "cable-approval@valise",
        &bytes,
        &[&two, &three],
    );
    let honest = scene.loot(&manifest, raw.unwrap());
    scene.assert_honest_arrives(2, &honest);
}

#[test]
fn an_administrator_is_enrolled_as_an_officer_with_the_same_key() {
    let mut scene = scene();
    let [one, two] = scene.world.roster.administrators.each_ref();
    let officer = scene.world.roster.officers[2].public_line().to_owned();
    let text = scene.list(2, &[(&officer, one.public_line())]);
    let file = written(&scene, "both", &text, NAMESPACE, &[one, two]);
    assert_refused(&scene, &file, 1, "one key for both");
    let honest = scene.honest(1);
    scene.assert_honest_arrives(1, &honest);
}

#[test]
fn somebody_brings_the_list_of_another_channel() {
    let mut scene = scene();
    let channel = scene.world.courier.channel().unwrap();
    let foreign = scene.list(2, &[(&channel, "ffffffffffffffffffffffffffffffff")]);
    let [one, two] = scene.world.roster.administrators.each_ref();
    let foreign = written(&scene, "foreign", &foreign, NAMESPACE, &[one, two]);
    assert_refused(&scene, &foreign, 1, "another channel");
    let honest = scene.honest(1);
    scene.assert_honest_arrives(1, &honest);
}

#[test]
fn somebody_brings_a_list_of_the_future_to_move_the_time_of_both_hosts() {
    let mut scene = scene();
    let text = scene.list(2, &[]);
    let issued = text
        .lines()
        .find(|line| line.starts_with("issued = "))
        .unwrap();
    let future = format!("issued = \"{}\"", now().plus_s(3_600));
    let text = text.replace(issued, &future);
    let [one, two] = scene.world.roster.administrators.each_ref();
    let ahead = written(&scene, "ahead", &text, NAMESPACE, &[one, two]);
    assert_refused(&scene, &ahead, 1, "a list of the future");
    for (role, event) in [(Role::Gate, "refused"), (Role::Release, "request-refused")] {
        assert_eq!(scene.audited(role, event).len(), 1, "{role:?}");
        assert!(scene.audited(role, "alarm").is_empty(), "{role:?}");
    }
    // The time is unchanged: on both hosts a cable that expires in ten minutes has not expired yet.
    let mut manifest = scene.manifest(1);
    manifest.not_after = now().plus_s(600);
    let honest = scene.signed_bytes(&manifest.encode().unwrap());
    scene.assert_honest_arrives(1, &honest);
    let id = scene.submit("a cable");
    for officer in scene.two_officers().map(Clone::clone) {
        scene.world.approve(&id, &officer).unwrap();
    }
    scene.await_sealed(1);
}

#[test]
fn a_cable_held_for_its_officer_is_released_once_a_newer_list_knows_him() {
    let mut scene = scene();
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let roster = &scene.world.roster;
    let keys = [&roster.officers[1], &roster.stranger];
    let raw = sign(&scene.world, "cable-approval@valise", &bytes, &keys).unwrap();
    let cases = [("a newcomer", "unknown-key", scene.loot(&manifest, raw))];
    scene.assert_all_held(1, &cases);
    let recheck = |scene: &Scene| {
        let arguments = ["quarantine", "recheck", "1"];
        scene.world.run(Host::Receiver, &arguments).unwrap()
    };
    let answer = recheck(&scene);
    assert_ne!(answer.status, 0, "still held: {answer:?}");
    scene.assert_nothing_visible();
    // The newer list has the officer in place of the third officer.
    let roster = &scene.world.roster;
    let third = roster.officers[2].public_line().to_owned();
    scene.import(&scene.list(2, &[(&third, roster.stranger.public_line())]));
    assert_eq!(recheck(&scene).status, 0);
    scene.await_state(1, "released");
    assert_eq!(scene.world.released().unwrap().len(), 1);
    // A released cable cannot be released again.
    assert_ne!(recheck(&scene).status, 0);
    assert_eq!(scene.world.released().unwrap().len(), 1);
}

#[test]
fn somebody_brings_back_a_list_in_which_an_officer_had_no_limit() {
    let mut scene = scene();
    let [one, two] = scene.world.roster.administrators.each_ref();
    let old = written(&scene, "old", &scene.list(1, &[]), NAMESPACE, &[one, two]);
    let officer = "id = \"o.one\"\n";
    let limited = format!("{officer}mailboxes = [\"rome-desk\"]\n");
    scene.import(&scene.list(5, &[(officer, &limited)]));
    let [one, two] = scene.world.roster.administrators.each_ref();
    let equal = written(&scene, "equal", &scene.list(5, &[]), NAMESPACE, &[one, two]);
    // A limit without a definition would not be a limit: such a list is refused, whatever its version.
    let misspelt = format!("{officer}mailboxes = [\"rome-desc\"]\n");
    let misspelt = scene.list(6, &[(officer, &misspelt)]);
    let misspelt = written(&scene, "misspelt", &misspelt, NAMESPACE, &[one, two]);
    for (file, what) in [
        (&old, "a rollback"),
        (&equal, "an equal version"),
        (&misspelt, "an unknown id"),
    ] {
        assert_refused(&scene, file, 5, what);
    }
    for role in [Role::Gate, Role::Release] {
        scene.world.kill(role.word());
        scene.world.start_role(role).unwrap();
    }
    assert_refused(&scene, &old, 5, "a rollback after a restart");
    let cases = [("a limited officer", "outside-limits", scene.honest(1))];
    scene.assert_all_held(1, &cases);
    let id = scene.submit("a cable");
    let limited = scene.world.roster.officers[0].clone();
    scene.world.approve(&id, &limited).unwrap_err();
    assert!(scene.outbox().is_empty());
}

#[test]
fn administrators_sign_a_list_that_means_something_else_than_it_shows() {
    let mut scene = scene();
    let list = |from: &str, to: &str| scene.list(2, &[(from, to)]);
    let (three, marking) = ("officers = 3", "\"RESTREINT UE/EU RESTRICTED\"");
    let head = "allow-software-keys = true";
    let texts = [
        // The key was in force in an earlier version.
        (
            "a number with a mark in it",
            list("validity-days-max = 30", "validity-days-max = 3_0"),
        ),
        (
            "a comment that runs backwards",
            list(three, "officers = 3 # \u{202e}2 = sreciffo"),
        ),
        (
            "a marking that runs backwards",
            list(marking, "\"\u{202e}TERCES\u{202c}\""),
        ),
        (
            "blanks of another width",
            list(three, "officers\u{a0}=\u{2003}3"),
        ),
        (
            "an invisible character in a comment",
            list(head, "allow-software-keys = true # no\u{200b}thing"),
        ),
        (
            "a letter of another alphabet",
            list(three, "\u{43e}fficers = 3"),
        ),
        ("a sign and a base", list(three, "officers = 0x3")),
        (
            "an escape in a value",
            list("id = \"o.one\"", "id = \"o.\\u006fne\""),
        ),
        (
            "an escape in a key",
            list(head, "\"allow-software-ke\\u0079s\" = true"),
        ),
        (
            "a string on several lines",
            list(marking, "\"\"\"\nRESTREINT UE/EU RESTRICTED\"\"\""),
        ),
        (
            "a dotted key",
            list(
                "[[category]]\nid = \"LIMITE\"",
                "[[category]]\n\"i\".d = \"LIMITE\"",
            ),
        ),
        (
            "a table on one line",
            list("[[category]]\nid = \"LIMITE\"\n", "")
                .replace(head, &format!("{head}\ncategory = [{{ id = \"LIMITE\" }}]"))
                .replace("[[category]]\nid = \"CRISIS\"\n", "")
                .replace("\"LIMITE\", \"CRISIS\"", "\"LIMITE\""),
        ),
        (
            "a byte-order mark",
            format!("\u{feff}{}", scene.list(2, &[])),
        ),
        (
            "a line that an editor shows as two",
            list(three, "officers = 3 #\rofficers = 2"),
        ),
    ];
    let [one, two] = scene.world.roster.administrators.each_ref();
    for (number, (what, text)) in (0..).zip(&texts) {
        let name = format!("list-{number}");
        let file = written(&scene, &name, text, NAMESPACE, &[one, two]);
        assert_refused(&scene, &file, 1, what);
        for host in HOSTS {
            let check = ["trust", "check", &file.display().to_string()];
            let answer = scene.world.run(host, &check).unwrap();
            assert_eq!(answer.status, 1, "{what}: {answer:?}");
            assert!(answer.errors.contains("line "), "{what}: {answer:?}");
        }
    }
    // The same list in its only valid spelling is in force at once.
    scene.import(&scene.list(2, &[]));
    let honest = scene.honest(1);
    scene.assert_honest_arrives(1, &honest);
}
