//! Approvals that nobody gave, on both hosts: on the sender through requests that none of our commands wrote, on the
//! receiver from a sender that skips all of its own checks.

use std::fs;
use std::process::{Command, Stdio};

use valise_tests::attack::{Loot, SMALL_ORDER, Token, sign};
use valise_tests::harness::{Host, Role, Roster, Settings};

use crate::scene::{Scene, now};

/// Seeds of the officers' tokens.
const TOKENS: [u8; 3] = [1, 2, 3];

/// Enrols a token beside the software key of each officer.
fn enrol(scene: &Scene, version: u32, edits: &[(&str, &str)]) {
    let lines: Vec<(String, String)> = scene
        .world
        .roster
        .officers
        .iter()
        .zip(TOKENS)
        .map(|(officer, seed)| {
            let software = format!("{:?}", officer.public_line());
            let token = format!("{software}, {:?}", Token::new(seed).public_line());
            (software, token)
        })
        .collect();
    let mut all: Vec<(&str, &str)> = lines
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect();
    all.extend_from_slice(edits);
    scene.import(&scene.list(version, &all));
}

/// Tokens that sign with a fault that no officer's token has: the fault, the receiver's word for it, and the token.
fn hostile_tokens() -> Vec<(&'static str, &'static str, Token)> {
    let token = Token::new(1);
    let mut all = vec![
        (
            "a token that was not touched",
            "signature",
            token.with(|token| token.flags = 0),
        ),
        (
            "a token that verified a user and was not touched",
            "signature",
            token.with(|token| token.flags = 4),
        ),
        (
            "a signature for another namespace",
            "signature",
            token.with(|token| token.namespace = "trust-list@valise".into()),
        ),
        (
            "a signature for a file",
            "signature",
            token.with(|token| token.namespace = "file".into()),
        ),
        (
            "a signature over another hash",
            "malformed-approval",
            token.with(|token| token.hash = "sha256".into()),
        ),
        (
            "a filled reserved field",
            "malformed-approval",
            token.with(|token| token.reserved = b"r".to_vec()),
        ),
        (
            "a token made for the web",
            "malformed-approval",
            token.with(|token| token.application = "https://example.org".into()),
        ),
        (
            "bytes behind the signature",
            "malformed-approval",
            token.with(|token| token.behind = b"\0".to_vec()),
        ),
        (
            "the token's secret as a software key",
            "unknown-key",
            token.with(|token| token.hardware = false),
        ),
        (
            "the token's secret under another application",
            "unknown-key",
            token.with(|token| token.application = "ssh:other".into()),
        ),
        ("a token that nobody enrolled", "unknown-key", Token::new(9)),
    ];
    for (hardware, what) in [
        (true, "a token of small order"),
        (false, "a key of small order"),
    ] {
        for point in SMALL_ORDER {
            let weak = token.with(|token| {
                token.small_order = Some(point);
                token.hardware = hardware;
            });
            all.push((what, "malformed-approval", weak));
        }
    }
    all
}

#[test]
fn a_dishonest_sender_forwards_approvals_that_nobody_gave() {
    let mut scene = Scene::receiver();
    enrol(&scene, 2, &[]);
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let good = Token::new(2).sign(&bytes);
    let mut cases: Vec<(&str, &str, Loot)> = hostile_tokens()
        .into_iter()
        .map(|(case, code, token)| {
            let approvals = vec![good.clone(), token.sign(&bytes)];
            (case, code, scene.loot(&manifest, approvals))
        })
        .collect();
    // An approval that does not count refuses the cable even beside a full quorum.
    let full = [good.clone(), Token::new(1).sign(&bytes)];
    let beside = |raw: Vec<u8>| scene.loot(&manifest, [full.to_vec(), vec![raw]].concat());
    let officer_two = &scene.world.roster.officers[1];
    let software = sign(
        &scene.world,
        "cable-approval@valise",
        &bytes,
        &[officer_two],
    )
    .unwrap();
    cases.extend([
        (
            "an untouched token beside a quorum",
            "signature",
            beside(Token::new(3).with(|token| token.flags = 0).sign(&bytes)),
        ),
        (
            "a person's other key beside a quorum",
            "repeated-approval",
            beside(software[0].clone()),
        ),
        (
            "the same approval again beside a quorum",
            "repeated-approval",
            beside(good.clone()),
        ),
        (
            "a signature of another manifest beside a quorum",
            "signature",
            beside(Token::new(3).sign(&scene.manifest(2).encode().unwrap())),
        ),
        (
            "one token where two are needed",
            "quorum",
            scene.loot(&manifest, vec![good.clone()]),
        ),
    ]);
    scene.assert_all_held(1, &cases);
    // The same manifest with the missing approvals is released: nothing else was wrong.
    let honest = scene.loot(&manifest, full.to_vec());
    scene.assert_honest_arrives(60, &honest);
    // The folder's approvals are in the form that stock OpenSSH accepts, so the forger signs as tokens do.
    let folder = scene.world.released().unwrap()[0].folder.clone();
    let allowed = scene.world.folder().join("allowed");
    let line = format!("o.two {}\n", Token::new(2).public_line());
    fs::write(&allowed, line).unwrap();
    let status = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "o.two", "-n", "cable-approval@valise"])
        .arg("-f")
        .arg(&allowed)
        .arg("-s")
        .arg(folder.join("approvals/o.two.sig"))
        .stdin(fs::File::open(folder.join("manifest.txt")).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn somebody_brings_the_gate_approvals_that_nobody_gave() {
    let mut scene = Scene::with(Settings::default(), &[Role::Gate]);
    enrol(&scene, 2, &[]);
    let id = scene.submit("a cable");
    let other = scene.submit("another cable");
    let bytes = scene.pending_manifest(&id);
    let good = Token::new(2);
    scene
        .approve_by_hand(&id, &good.sign_armoured(&bytes))
        .unwrap();
    for (case, code, token) in hostile_tokens() {
        let answer = scene.approve_by_hand(&id, &token.sign_armoured(&bytes));
        let reason = answer.expect_err(case);
        let wanted = match code {
            "malformed-approval" => "a signature file: ",
            "unknown-key" => "an approval is of a key that is not in the trust list",
            _ => "approval refused: ",
        };
        assert!(reason.starts_with(wanted), "{case}: {reason}");
    }
    let moved = Token::new(1).sign_armoured(&scene.pending_manifest(&other));
    let moved = scene.approve_by_hand(&id, &moved).unwrap_err();
    assert!(moved.contains("does not verify"), "{moved}");
    // The counter of a token rises, so a second signature of one person differs. It still counts only once.
    let again = good.with(|token| token.flags = 5).sign_armoured(&bytes);
    let again = scene.approve_by_hand(&id, &again).unwrap_err();
    assert!(again.contains("o.two"), "{again}");
    assert!(scene.outbox().is_empty(), "sealed");
    assert!(
        scene.audited(Role::Gate, "sealing").is_empty(),
        "a serial was spent"
    );
    let audited = scene.audited(Role::Gate, "refused");
    assert_eq!(audited.len(), hostile_tokens().len() + 2, "{audited:?}");
    // Only an honest second officer was missing.
    let honest = Token::new(1).sign_armoured(&bytes);
    scene.approve_by_hand(&id, &honest).unwrap();
    scene.await_sealed(1);
    assert_eq!(scene.audited(Role::Gate, "sealing").len(), 1);
}

#[test]
fn a_thief_touches_a_stolen_token_without_knowing_its_pin() {
    let mut scene = Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    );
    enrol(
        &scene,
        2,
        &[("user-verification = false", "user-verification = true")],
    );
    let touched = Token::new(1);
    let verified = Token::new(2).with(|token| token.flags = 5);
    // On the isolated host, from a sender that does not check.
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let officer = &scene.world.roster.officers[0];
    let software = sign(&scene.world, "cable-approval@valise", &bytes, &[officer]).unwrap();
    let with = |raw: Vec<u8>| scene.loot(&manifest, vec![verified.sign(&bytes), raw]);
    let pin = touched.with(|token| token.flags = 5);
    let cases = [
        (
            "a touch alone",
            "not-user-verified",
            with(touched.sign(&bytes)),
        ),
        (
            "a software key",
            "not-user-verified",
            with(software[0].clone()),
        ),
        (
            "a PIN and no touch",
            "signature",
            with(touched.with(|token| token.flags = 4).sign(&bytes)),
        ),
    ];
    let honest = with(pin.sign(&bytes));
    scene.assert_all_held(1, &cases);
    scene.assert_honest_arrives(4, &honest);
    // At gate.
    let id = scene.submit("a cable");
    let bytes = scene.pending_manifest(&id);
    scene
        .approve_by_hand(&id, &verified.sign_armoured(&bytes))
        .unwrap();
    let reason = scene
        .approve_by_hand(&id, &touched.sign_armoured(&bytes))
        .unwrap_err();
    assert!(reason.contains("PIN"), "{reason}");
    assert!(scene.outbox().is_empty());
    scene
        .approve_by_hand(&id, &pin.sign_armoured(&bytes))
        .unwrap();
    scene.await_sealed(1);
}

#[test]
fn an_administrator_is_deceived_into_enrolling_a_key_that_anybody_can_sign_for() {
    let scene = Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    );
    let software = format!("{:?}", scene.world.roster.officers[0].public_line());
    for point in SMALL_ORDER {
        for hardware in [true, false] {
            let weak = Token::new(1).with(|token| {
                token.small_order = Some(point);
                token.hardware = hardware;
            });
            let enrolled = format!("{software}, {:?}", weak.public_line());
            let text = scene.list(2, &[(&software, &enrolled)]);
            let line = text.lines().position(|line| line.contains(&enrolled));
            let line = format!("line {}", line.unwrap() + 1);
            for host in [Host::Sender, Host::Receiver] {
                let error = scene.world.import_trust_list(host, &text).unwrap_err();
                let error = error.to_string();
                assert!(
                    error.contains("weak") && error.contains(&line),
                    "{line}: {error}"
                );
            }
        }
    }
    // The previous list is in force.
    for host in [Host::Sender, Host::Receiver] {
        let shown = scene.world.json(host, &["trust", "show"]).unwrap();
        assert_eq!(shown["version"], 1, "{shown}");
    }
    let mut scene = scene;
    let honest = scene.honest(1);
    scene.assert_honest_arrives(1, &honest);
}

/// A fault of the second officer in the trust list, and the reason for which a cable of this officer is then held.
fn unfit_officers() -> Vec<(&'static str, &'static str, String)> {
    let day_s = 86_400;
    let valid = |from_s: u64, until: &str| {
        format!(
            "valid-from = \"{}\"\nvalid-until = {until}",
            valise_common::units::UtcTime::from_s(from_s)
        )
    };
    let at = |time: valise_common::units::UtcTime| format!("\"{time}\"");
    let past = now().as_s() - 30 * day_s;
    vec![
        (
            "an officer who was revoked after he signed",
            "revoked",
            format!(
                "{}\nrevoked = {}",
                valid(past, &at(now().plus_s(300 * day_s))),
                at(now())
            ),
        ),
        (
            "an officer whose time is over",
            "not-valid",
            valid(past, &at(now())),
        ),
        (
            "an officer whose time has not begun",
            "not-valid",
            valid(now().as_s() + day_s, &at(now().plus_s(300 * day_s))),
        ),
    ]
}

#[test]
fn an_officer_approves_who_no_longer_counts_or_does_not_yet() {
    let mut scene = Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    );
    let id = scene.submit("a cable");
    let bytes = scene.pending_manifest(&id);
    let [one, two] = scene.two_officers().map(Clone::clone);
    scene.world.approve(&id, &one).unwrap();
    let approval = |scene: &Scene, key: &valise_tests::harness::KeyPair| {
        let raw = sign(&scene.world, "cable-approval@valise", &bytes, &[key]).unwrap();
        let signature = valise_common::sshsig::Signature::decode(&raw[0]).unwrap();
        signature.to_armor()
    };
    let his = approval(&scene, &two);
    // Signed while the officer counted, brought when they no longer do.
    let honest = scene.honest(1);
    let keys = format!(
        "keys = {:?}\n",
        [
            two.public_line(),
            scene.world.roster.second_key.public_line()
        ]
    );
    for (number, (case, code, validity)) in (2..).zip(unfit_officers()) {
        let text = scene.list(number, &[]);
        // The two lines after the keys hold the times of validity.
        let (before, behind) = text.split_once(&keys).expect("his keys");
        let rest = behind.splitn(3, '\n').nth(2).unwrap();
        scene.import(&format!("{before}{keys}{validity}\n{rest}"));
        let serial = u64::from(number) - 1;
        scene.assert_all_held(serial, &[(case, code, honest.clone())]);
        let reason = scene.approve_by_hand(&id, &his).unwrap_err();
        assert!(reason.contains(Roster::OFFICERS[1]), "{case}: {reason}");
        assert!(scene.outbox().is_empty(), "{case}");
    }
    // An officer who counts completes the quorum.
    let three = scene.world.roster.officers[2].clone();
    let his = approval(&scene, &three);
    scene.approve_by_hand(&id, &his).unwrap();
    scene.await_sealed(1);
    let manifest = scene.manifest(2);
    let bytes = manifest.encode().unwrap();
    let approvals = sign(
        &scene.world,
        "cable-approval@valise",
        &bytes,
        &[&one, &three],
    );
    let honest = scene.loot(&manifest, approvals.unwrap());
    scene.assert_honest_arrives(10, &honest);
}

#[test]
fn one_persons_key_is_given_to_another_to_make_two_of_one() {
    let mut scene = Scene::with(
        Settings::default(),
        &[Role::Receive, Role::Release, Role::Gate],
    );
    let [one, two, _] = scene.world.roster.officers.clone();
    let theirs = format!("keys = [{:?}]", one.public_line());
    let taken = format!("keys = [{:?}, {:?}]", one.public_line(), two.public_line());
    let text = scene.list(2, &[(&theirs, &taken)]);
    for host in [Host::Sender, Host::Receiver] {
        let error = scene.world.import_trust_list(host, &text).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("line "), "{error}");
    }
    // The same secret in the form of a token is the same key.
    let token = Token::new(1);
    let plain = token.with(|token| token.hardware = false);
    let twice = [
        (
            format!("keys = [{:?}]", one.public_line()),
            format!("keys = [{:?}]", token.public_line()),
        ),
        (
            format!("keys = [{:?}", two.public_line()),
            format!("keys = [{:?}", plain.public_line()),
        ),
    ];
    let edits = twice.each_ref().map(|(a, b)| (a.as_str(), b.as_str()));
    let text = scene.list(2, &edits);
    for host in [Host::Sender, Host::Receiver] {
        scene.world.import_trust_list(host, &text).unwrap_err();
        let shown = scene.world.json(host, &["trust", "show"]).unwrap();
        assert_eq!(shown["version"], 1);
    }
    // Under the list in force, the one person still counts as one.
    let manifest = scene.manifest(1);
    let bytes = manifest.encode().unwrap();
    let raw = sign(
        &scene.world,
        "cable-approval@valise",
        &bytes,
        &[&two, &scene.world.roster.second_key],
    )
    .unwrap();
    let cases = [(
        "one person's two keys",
        "repeated-approval",
        scene.loot(&manifest, raw),
    )];
    scene.assert_all_held(1, &cases);
    let honest = scene.honest(2);
    scene.assert_honest_arrives(2, &honest);
}
