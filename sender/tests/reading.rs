//! What an officer reads before an approval, and that nothing in it can mislead them.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;

use common::Host;
use serde_json::Value;

/// Submits a text and a part that is not text.
fn submit_two(host: &Host, text: &[u8]) -> String {
    fs::write(host.path("cable.txt"), text).unwrap();
    fs::write(host.path("annex.bin"), [0_u8, 159, 146, 150]).unwrap();
    let options = "--label EU-RESTRICTED --to paris-desk --precedence routine --subject S";
    let mut words = vec!["submit"];
    words.extend(options.split_whitespace());
    words.extend(["cable.txt", "annex.bin"]);
    host.ok(&words)
}

#[test]
fn an_officer_reads_every_text_part_between_its_markings() {
    let host = Host::running(1);
    let id = submit_two(&host, "Résumé\r\nRESTREINT UE\nlast".as_bytes());
    let lines = host.ok(&["read", &id]);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], "RESTREINT UE");
    assert!(
        lines[1].starts_with("part 1 of 2: cable.txt, text/plain, 27 bytes, sha256:"),
        "{lines:?}"
    );
    // A text cannot write a marking of its own: each of its lines has a margin.
    assert_eq!(
        lines[2..6],
        ["| Résumé", "| RESTREINT UE", "| last", "RESTREINT UE"]
    );
    assert_eq!(lines[6], "RESTREINT UE");
    assert!(
        lines[7].starts_with("part 2 of 2: annex.bin, application/octet-stream, 4 bytes, sha256:"),
        "{lines:?}"
    );
    let how = format!("valise-sender read {id} 2 FILE.bin");
    assert!(lines[8].contains(&how), "{lines:?}");
    assert_eq!(lines[9..], ["RESTREINT UE"]);

    assert_eq!(host.ok(&["read", &id, "1"]).lines().count(), 6);
    let shown: Value = host.json(&["read", &id, "--json"]);
    assert_eq!(shown["marking"], "RESTREINT UE");
    assert_eq!(shown["parts"][0]["text"], "Résumé\r\nRESTREINT UE\nlast");
    assert_eq!(shown["parts"][1]["text"], Value::Null);
    assert_eq!(shown["parts"][1]["bytes"], 4);

    host.ok(&["read", &id, "2", "copied.bin"]);
    assert_eq!(
        fs::read(host.path("copied.bin")).unwrap(),
        [0, 159, 146, 150]
    );
    let mode = fs::metadata(host.path("copied.bin")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
    for (status, words) in [
        (2, ["read", &id, "2", "copied.bin"].as_slice()),
        (2, &["read", &id, "0"]),
        (2, &["read", &id, "101"]),
        (1, &["read", &id, "3"]),
    ] {
        host.refused(status, words);
    }
}

#[test]
fn a_text_can_neither_hide_nor_move_the_cursor() {
    let host = Host::running(1);
    let id = submit_two(
        &host,
        "ok\u{1b}[2J\u{9b}1A\rno\u{8}\u{202e}txt\u{200b}\t\u{7f}\n".as_bytes(),
    );
    let output = host.run(&["read", &id]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = r"| ok\u{1b}[2J\u{9b}1A\rno\u{8}\u{202e}txt\u{200b}\t\u{7f}";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    for words in [
        &["read", &id, "--json"][..],
        &["show", &id, "--json"],
        &["read", &id],
    ] {
        let output = host.ok(words);
        let harmless = |c: char| c == '\n' || (!c.is_control() && !"\u{202e}\u{200b}".contains(c));
        assert!(output.chars().all(harmless), "{output:?}");
    }
    let json = host.json(&["read", &id, "1", "--json"]);
    assert!(
        json["parts"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\u{202e}txt")
    );
}

#[test]
fn a_part_that_is_not_what_the_manifest_says_is_neither_shown_nor_copied() {
    let host = Host::running(1);
    let id = submit_two(&host, b"true text");
    let pending = host.state(&format!("pending/{id}"));
    for (number, part) in [("1", "part-001"), ("2", "part-002")] {
        let length = fs::metadata(pending.join(part)).unwrap().len();
        fs::write(pending.join(part), vec![b'x'; length.try_into().unwrap()]).unwrap();
        let told = host.refused(1, &["read", &id, number, "copied"]);
        assert!(told.contains("do not approve"), "{told}");
        assert!(!host.path("copied").exists());
    }
    let output = host.run(&["read", &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("| x"));
    host.refused(1, &["export", &id, "out"]);
}

#[test]
fn nothing_is_left_to_read_of_a_cable_that_was_sealed_or_ended() {
    let host = Host::running(1);
    let sealed = host.submit("text", "routine");
    host.approve(&sealed, "officer1");
    host.approve(&sealed, "officer2");
    let ended = host.submit("text", "routine");
    host.ok(&["withdraw", &ended]);
    for command in [&["read"][..], &["export"], &["approve"]] {
        for (id, word) in [(&sealed, "is sealed"), (&ended, "is withdrawn")] {
            let rest: &[&str] = match command[0] {
                "export" => &["out"],
                "approve" => &["--key", "officer1", "--yes"],
                _ => &[],
            };
            let told = host.refused(1, &[command, &[id.as_str()], rest].concat());
            assert!(told.contains(word) && told.lines().count() == 1, "{told}");
        }
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    let told = host.refused(1, &["read", unknown]);
    assert!(told.contains("valise-sender list"), "{told}");
}
