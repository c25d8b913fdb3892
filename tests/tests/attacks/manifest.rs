//! Cables that differ from what was signed, and manifests in a spelling other than the only valid one.

use sha2::{Digest, Sha256};
use valise_common::ids::MessageId;
use valise_common::manifest::{FileName, FreeText, Manifest};
use valise_tests::attack::Loot;

use crate::scene::{MARKER, Scene, now};

type Change<'a> = &'a dyn Fn(&mut Manifest);

#[test]
fn a_dishonest_sender_changes_what_the_officers_signed() {
    let mut scene = Scene::receiver();
    let signed = scene.manifest(1);
    let approvals = scene.honest(1).approvals;
    let changes: [(&str, Change); 14] = [
        ("the cable's id", &|m| {
            m.message_id = MessageId::from_bytes([2; 16])
        }),
        ("a category less", &|m| {
            m.label = "EU-RESTRICTED".parse().unwrap()
        }),
        ("a category more", &|m| {
            m.label = "EU-RESTRICTED CRISIS LIMITE".parse().unwrap()
        }),
        ("the precedence", &|m| {
            m.precedence = "FLASH".parse().unwrap()
        }),
        ("another mailbox", &|m| {
            m.to = vec!["rome-desk".parse().unwrap()]
        }),
        ("one mailbox more", &|m| {
            m.to.push("rome-desk".parse().unwrap())
        }),
        ("the reference", &|m| {
            m.reference = Some(FreeText::parse("PESC/1", 64).unwrap())
        }),
        ("the subject", &|m| {
            m.subject = FreeText::parse("Other", 120).unwrap()
        }),
        ("when it was made", &|m| m.created = now().plus_s(7)),
        ("how long it holds", &|m| {
            m.not_after = m.not_after.plus_s(1)
        }),
        ("when an answer is due", &|m| m.act_by = Some(m.not_after)),
        ("a media type", &|m| {
            m.parts[0].media_type = "application/pdf".parse().unwrap()
        }),
        ("a file name", &|m| {
            m.parts[0].name = FileName::parse("other.txt").unwrap()
        }),
        ("a part's hash", &|m| {
            m.parts[0].sha256 = Sha256::digest("other").into()
        }),
    ];
    let mut cases: Vec<(&str, &str, Loot)> = Vec::new();
    for (what, change) in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        let code = match what {
            // The body shows the fault before the approvals are checked.
            "a part's hash" => "part-hash",
            _ => "signature",
        };
        cases.push((what, code, scene.loot(&changed, approvals.clone())));
    }
    let body = |code: &'static str, what: &'static str, body: &[u8]| {
        let mut loot = scene.loot(&signed, approvals.clone());
        loot.body = body.to_vec();
        (what, code, loot)
    };
    let other = MARKER.replace("nobody", "NOBODY");
    cases.push(body("part-hash", "the body", other.as_bytes()));
    cases.push(body(
        "body-length",
        "a shorter body",
        &MARKER.as_bytes()[1..],
    ));
    cases.push(body(
        "body-length",
        "a longer body",
        format!("{MARKER}.").as_bytes(),
    ));
    let drafter = {
        let mut changed = signed.clone();
        changed.drafter = "o.three".parse().unwrap();
        (
            "the drafter",
            "role",
            scene.loot(&changed, approvals.clone()),
        )
    };
    cases.push(drafter);
    scene.assert_all_held(1, &cases);
    let honest = scene.loot(&signed, approvals);
    scene.assert_honest_arrives(60, &honest);
}

#[test]
fn officers_sign_a_manifest_that_is_not_in_its_one_spelling() {
    let mut scene = Scene::receiver();
    let text = String::from_utf8(scene.manifest(1).encode().unwrap()).unwrap();
    let subject = format!("subject: {MARKER}\n");
    let swapped = text
        .replace(&subject, "")
        .replace("reference: -\n", &format!("{subject}reference: -\n"));
    let part = text
        .lines()
        .find(|line| line.starts_with("part: "))
        .unwrap();
    let spellings = [
        (
            "decomposed letters",
            text.replace(&subject, "subject: Stra\u{65}\u{301}\n"),
        ),
        ("lines that end in CR LF", text.replace('\n', "\r\n")),
        ("a byte behind the end", format!("{text}\n")),
        ("text behind the end", format!("{text}part: 2\n")),
        ("no line feed at the end", text.trim_end().to_owned()),
        (
            "an unknown field",
            text.replace("reference: -\n", "reference: -\nbcc: rome-desk\n"),
        ),
        (
            "a field twice",
            text.replace(&subject, &format!("{subject}{subject}")),
        ),
        ("fields in another order", swapped),
        ("a field less", text.replace("reference: -\n", "")),
        (
            "another version",
            text.replace("VALISE-MANIFEST 1", "VALISE-MANIFEST 2"),
        ),
        ("a space more", text.replace("label: ", "label:  ")),
        (
            "capital hexadecimal",
            text.replace(&"01".repeat(16), &"0A".repeat(16)),
        ),
        ("a leading zero", text.replace("part: 1 ", "part: 01 ")),
        ("a plus sign", text.replace("part: 1 ", "part: +1 ")),
        (
            "a part twice",
            text.replace(part, &format!("{part}\n{part}")),
        ),
        ("no part", text.replace(&format!("{part}\n"), "")),
        (
            "mailboxes out of order",
            text.replace("to: paris-desk", "to: rome-desk paris-desk"),
        ),
        (
            "a mailbox twice",
            text.replace("to: paris-desk", "to: paris-desk paris-desk"),
        ),
        ("no mailbox", text.replace("to: paris-desk", "to: ")),
        (
            "a mailbox that is a path",
            text.replace("to: paris-desk", "to: ../paris-desk"),
        ),
        (
            "a hidden mailbox",
            text.replace("to: paris-desk", "to: .stage"),
        ),
        ("a local time", text.replacen("Z\n", "+00:00\n", 1)),
        ("an empty subject", text.replace(&subject, "subject: \n")),
        (
            "a subject of 121",
            text.replace(&subject, &format!("subject: {}\n", "x".repeat(121))),
        ),
        ("a byte order mark", format!("\u{feff}{text}")),
    ];
    let cases: Vec<(&str, &str, Loot)> = spellings
        .iter()
        .map(|(what, spelling)| {
            assert_ne!(spelling, &text, "{what}");
            (
                *what,
                "malformed-manifest",
                scene.signed_bytes(spelling.as_bytes()),
            )
        })
        .collect();
    scene.assert_all_held(1, &cases);
    let no_utf8 = scene.signed_bytes(b"VALISE-MANIFEST 1\n\xff\xfe\n");
    scene.assert_all_held(40, &[("no UTF-8", "malformed-manifest", no_utf8)]);
    let honest = scene.signed_bytes(text.as_bytes());
    scene.assert_honest_arrives(60, &honest);
}
