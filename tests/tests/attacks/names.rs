//! Names, subjects and references that would escape, deceive or break something: from a drafter at gate, and from a
//! sender that does not check.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use valise_tests::attack::{Loot, files_that_hold};
use valise_tests::harness::{Host, Role, Settings};

use crate::scene::{MARKER, Scene};

/// Text that no reference, subject or file name may hold: its effect, and the text.
const HOSTILE: [(&str, &str); 12] = [
    ("an escape sequence", "\u{1b}]0;owned\u{7}"),
    ("a null", "a\0b"),
    ("a tabulator", "a\tb"),
    ("a carriage return", "a\rb"),
    ("a right-to-left override", "cable\u{202e}fdp.exe"),
    ("an isolate", "\u{2066}a\u{2069}"),
    ("a zero-width space", "a\u{200b}b"),
    ("a soft hyphen", "a\u{ad}b"),
    ("a hangul filler", "a\u{3164}b"),
    ("a line separator", "a\u{2028}b"),
    ("a no-break space", "a\u{a0}b"),
    ("a private character", "a\u{e000}b"),
];

#[test]
fn a_dishonest_sender_hides_something_in_a_subject_a_reference_or_a_name() {
    let mut scene = Scene::receiver();
    let text = String::from_utf8(scene.manifest(1).encode().unwrap()).unwrap();
    let subject = format!("subject: {MARKER}\n");
    let name = format!("{MARKER}.txt\n");
    let mut spellings: Vec<(&str, String)> = Vec::new();
    for (what, hostile) in HOSTILE {
        spellings.push((
            what,
            text.replace(&subject, &format!("subject: {hostile}\n")),
        ));
        spellings.push((what, text.replace(&name, &format!("{hostile}\n"))));
        spellings.push((
            what,
            text.replace("reference: -", &format!("reference: {hostile}")),
        ));
    }
    for (what, hostile) in [
        ("a name of 256 bytes", "n".repeat(256)),
        ("an empty name", String::new()),
        ("a space in front", " a.txt".to_owned()),
        ("a space behind", "a.txt ".to_owned()),
        ("a line feed", "a.txt\npart: 2 0 text/plain".to_owned()),
    ] {
        spellings.push((what, text.replace(&name, &format!("{hostile}\n"))));
    }
    let cases: Vec<(&str, &str, Loot)> = spellings
        .iter()
        .map(|(what, spelling)| {
            (
                *what,
                "malformed-manifest",
                scene.signed_bytes(spelling.as_bytes()),
            )
        })
        .collect();
    scene.assert_all_held(1, &cases);
    let honest = scene.honest(1);
    scene.assert_honest_arrives(60, &honest);
}

/// The names below a folder, each relative to it.
fn names_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = names_below(&entry.path());
            found.extend(below.into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn a_sent_name_is_a_path_to_somewhere_else() {
    let mut scene = Scene::receiver();
    let outside = scene.world.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    let absolute = outside.join("absolute").display().to_string();
    let text = String::from_utf8(scene.manifest(1).encode().unwrap()).unwrap();
    let name = format!("{MARKER}.txt\n");
    let before = names_below(scene.world.folder());
    // Such names are text, which is shown. The test checks that they are not paths.
    let hostile = [
        "../../../../outside/relative",
        &absolute,
        "..",
        ".",
        "/",
        "-rf",
        "--help",
        "~/.ssh/authorized_keys",
        "$(touch owned)",
        "manifest.txt",
        "release.json",
        "SHA256SUMS",
        "CON",
        "a\\..\\b",
    ];
    for (serial, sent) in (1..).zip(hostile) {
        let id = format!("{serial:02x}").repeat(16);
        let spelling = text
            .replace(&name, &format!("{sent}\n"))
            .replace(&"01".repeat(16), &id);
        let loot = scene.signed_bytes(spelling.as_bytes());
        scene.assert_honest_arrives(serial, &loot);
    }
    let expected: BTreeSet<String> = [
        "SHA256SUMS",
        "approvals/o.one.sig",
        "approvals/o.two.sig",
        "manifest.txt",
        "part-001.txt",
        "release.json",
        "trust/trust.toml",
        "trust/trust.toml.1.sig",
        "trust/trust.toml.2.sig",
    ]
    .map(str::to_owned)
    .into();
    for released in scene.world.released().unwrap() {
        assert_eq!(names_below(&released.folder), expected, "{released:?}");
        let part = fs::read(released.folder.join("part-001.txt")).unwrap();
        assert_eq!(part, MARKER.as_bytes());
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Nothing else of any cable exists anywhere.
    scene.world.await_erased().unwrap();
    let bodies = files_that_hold(scene.world.folder(), MARKER.as_bytes());
    let elsewhere = bodies
        .iter()
        .filter(|path| !path.starts_with(scene.world.released_folder()));
    assert_eq!(elsewhere.count(), 0, "{bodies:?}");
    assert!(names_below(scene.world.folder()).len() > before.len());
}

#[test]
fn a_drafter_submits_names_that_deceive_who_reads_them() {
    let mut scene = Scene::with(Settings::default(), &[Role::Gate]);
    let request = |subject: &str, reference: &str| {
        format!(
            "request = \"submit\"\nlabel = \"EU-RESTRICTED\"\nto = [\"paris-desk\"]\n\
             precedence = \"routine\"\nsubject = {}\nreference = {}\n",
            serde_json::to_string(subject).unwrap(),
            serde_json::to_string(reference).unwrap()
        )
    };
    let mut refused = 0;
    for (what, hostile) in HOSTILE {
        // Another kind of space becomes a space; other invisible characters are refused.
        let is_space = hostile.contains('\u{a0}');
        for (subject, reference) in [(hostile, "-x"), ("a subject", hostile)] {
            let answer = scene.ask(
                Host::Sender,
                &request(subject, reference),
                &[("a.txt", b"text")],
            );
            assert_eq!(answer.is_ok(), is_space, "{what}: {answer:?}");
            refused += usize::from(answer.is_err());
        }
    }
    for subject in [String::new(), "x".repeat(121)] {
        let answer = scene.ask(Host::Sender, &request(&subject, "r"), &[("a.txt", b"text")]);
        answer.unwrap_err();
        refused += 1;
    }
    assert_eq!(scene.audited(Role::Gate, "refused").len(), refused);
    // In file names it becomes an underscore, so that the officer sees that a character was there.
    for (what, hostile) in HOSTILE {
        if hostile.contains('\0') {
            continue;
        }
        let id = scene
            .ask(
                Host::Sender,
                &request("a subject", "r"),
                &[(hostile, b"text")],
            )
            .expect(what);
        let manifest = String::from_utf8(scene.pending_manifest(&id)).unwrap();
        let part = manifest
            .lines()
            .find(|line| line.starts_with("part: "))
            .unwrap();
        for character in hostile
            .chars()
            .filter(|character| !character.is_ascii_graphic())
        {
            assert!(
                !manifest.contains(character) || character == '\n',
                "{what}: {part:?}"
            );
        }
        // The files for the officers have names of our own.
        let pending = names_below(&scene.state(Host::Sender, &format!("pending/{id}")));
        assert!(
            pending
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_graphic())),
            "{pending:?}"
        );
    }
    // A name that is not text is refused.
    let folder = scene.state(Host::Sender, "requests");
    let hidden = scene
        .world
        .write_request(Host::Sender, "no-utf8", &request("s", "r"), &[])
        .unwrap();
    let bad = folder
        .join(".no-utf8")
        .join(std::ffi::OsStr::from_bytes(b"\xff.txt"));
    fs::write(bad, "text").unwrap();
    hidden.reveal().unwrap();
    let reason = scene.await_answer(Host::Sender, "no-utf8").unwrap_err();
    assert!(reason.contains("UTF-8"), "{reason}");
    assert!(scene.outbox().is_empty());
    // An honest cable still arrives.
    let submission = scene.cable("a cable");
    scene.world.send(&submission).unwrap();
    scene.await_sealed(1);
}
