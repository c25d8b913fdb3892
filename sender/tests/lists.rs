//! Trust lists, bundles and slots: what is refused, what is told, and what the audit log says of it.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;

use common::{CHANNEL, Host, List, Patience};

fn version(version: u32) -> List {
    List {
        version,
        ..List::default()
    }
}

#[test]
fn a_rollback_of_the_trust_list_is_refused_and_audited_with_and_without_gate() {
    let mut host = Host::commissioned(1);
    let old = host.signed_list(&version(1));
    host.import_list(&version(3));
    let older = host.signed_list(&version(2));
    let (old, older) = (old.to_str().unwrap(), older.to_str().unwrap());
    for path in [old, older] {
        let told = host.refused(1, &["trust", "import", path]);
        assert!(
            told.contains("version 3 is in force; raise the version"),
            "{told}"
        );
    }
    // The list in force itself does not rise either.
    let held = host.signed_list(&version(3));
    let told = host.refused(1, &["trust", "import", held.to_str().unwrap()]);
    assert!(told.contains("version 3 is in force already"), "{told}");
    // Another list under the version in force is no less a rollback.
    let other = List {
        extra: "[[category]]\nid = \"CRISIS\"\n".to_owned(),
        ..version(3)
    };
    let other = host.signed_text("other.toml", &host.list_text(&other));
    host.start_gate();
    let other = other.to_str().unwrap();
    host.refused(1, &["trust", "import", other]);
    let told = host.refused(1, &["trust", "import", held.to_str().unwrap()]);
    assert!(told.contains("version 3 is in force already"), "{told}");
    assert_eq!(host.json(&["trust", "show", "--json"])["version"], 3);
    host.stop_gate();
    let refused = host.audited("refused");
    assert_eq!(refused.len(), 5);
    for line in refused {
        assert_eq!(
            (line["request"].as_str(), line["reason"].as_str()),
            (Some("trust-import"), Some("trust-rollback"))
        );
    }
    assert_eq!(host.audited("trust-imported").len(), 2);
}

#[test]
fn a_signature_file_that_is_none_does_no_harm_beside_two_that_are() {
    let host = Host::commissioned(1);
    let path = host.signed_list(&version(2));
    let sig = |number: u8| path.with_added_extension(format!("{number}.sig"));
    fs::write(sig(3), "no signature").unwrap();
    fs::rename(sig(1), sig(4)).unwrap();
    fs::write(sig(1), [0xff; 10]).unwrap();
    host.ok(&["trust", "import", path.to_str().unwrap()]);
    // Beside one it is told.
    let path = host.signed_list(&version(3));
    fs::write(path.with_added_extension("2.sig"), "no signature").unwrap();
    let told = host.refused(1, &["trust", "import", path.to_str().unwrap()]);
    assert!(told.contains("signature 2 is refused"), "{told}");
    assert_eq!(host.json(&["trust", "show", "--json"])["version"], 2);
}

#[test]
fn a_list_that_a_typo_would_make_unsafe_is_refused_with_its_line() {
    let host = Host::commissioned(1);
    let text = host.list_text(&version(2));
    let line_of =
        |text: &str, mark: &str| 1 + text.lines().position(|line| line.contains(mark)).unwrap();
    let weak = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let officer2 = host.public("officer2");
    for (number, (from, to, mark)) in [
        ("officers = 2", "officers = 0", "officers = 0"),
        ("officers = 2", "officers = 1", "officers = 1"),
        ("officers = 2", "officers = 3", "officers = 3"),
        (
            "categories = [\"LIMITE\"]",
            "categories = [\"LIMIT\"]",
            "[\"LIMIT\"]",
        ),
        (
            "classification-max = \"EU-RESTRICTED\"",
            "classification-max = \"EU-RESTRICTD\"",
            "RESTRICTD",
        ),
        (officer2.as_str(), weak, weak),
        (
            officer2.as_str(),
            &host.public("officer1"),
            "keys = [\"ssh-ed25519",
        ),
        ("validity-days-max = 30", "validity-day-max = 30", "day-max"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        // A shared key is told where it stands for the second time.
        let line = if from == officer2 && to != weak {
            let id = changed.find("id = \"c.officer\"").unwrap();
            let before = changed[..id].lines().count();
            before + line_of(&changed[id..], mark)
        } else {
            line_of(&changed, mark)
        };
        let path = host.signed_text(&format!("unsafe-{number}.toml"), &changed);
        let path = path.to_str().unwrap();
        for command in ["check", "import"] {
            let told = host.refused(1, &["trust", command, path]);
            assert!(told.contains(&format!("line {line} of")), "{to}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }
    assert_eq!(host.json(&["trust", "show", "--json"])["version"], 1);
}

#[test]
fn trust_show_says_in_words_who_may_release_what_to_whom() {
    let host = Host::commissioned(1);
    let told = host.ok(&["trust", "show"]);
    let line = |words: &[&str]| {
        assert!(
            told.lines()
                .any(|line| words.iter().all(|word| line.contains(word))),
            "{words:?} in\n{told}"
        );
    };
    line(&["EU-RESTRICTED", "2 officers must approve", "30 days"]);
    line(&["paris-desk takes cables up to EU-RESTRICTED", "LIMITE"]);
    line(&["a.person drafts from 2020-01-01", "until 2090-01-01"]);
    line(&["b.officer approves"]);
    line(&["c.officer approves"]);
    line(&["warning: software keys may approve"]);
}

#[test]
fn what_is_for_another_channel_is_refused_and_audited() {
    let mut host = Host::running(1);
    let foreign = "ffffffffffffffffffffffffffffffff";
    host.make_bundle_of(foreign, 2, 2, 5, None);
    let told = host.refused(1, &["bundle", "import", "courier-2"]);
    assert!(told.contains(foreign) && told.contains(CHANNEL), "{told}");
    let text = host.list_text(&version(2)).replace(CHANNEL, foreign);
    let path = host.signed_text("foreign.toml", &text);
    let told = host.refused(1, &["trust", "import", path.to_str().unwrap()]);
    assert!(told.contains(foreign), "{told}");
    assert_eq!(host.json(&["bundle", "status", "--json"])["slots_total"], 1);
    // Transmit does not run, so the first bundle's key still waits for it.
    assert_eq!(
        fs::read_dir(host.state("keys/handover")).unwrap().count(),
        1
    );
    assert_eq!(fs::read_dir(host.state("keys/link")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(host.state("slots")).unwrap().count(), 1);
    for line in host.audited("refused") {
        assert_eq!(line["reason"], "foreign-channel");
    }
    assert_eq!(host.audited("refused").len(), 2);
    host.stop_gate();
}

#[test]
fn slots_that_run_low_are_an_alarm_at_a_fifth() {
    let mut host = Host::running(5);
    let alarm = |host: &Host| {
        let told = host.run(&["status", "--check"]);
        let told = String::from_utf8(told.stdout).unwrap();
        told.lines()
            .find(|line| line.starts_with("slots-"))
            .map(str::to_owned)
    };
    for left in (0..5).rev() {
        let id = host.submit("text", "routine");
        host.approve(&id, "officer1");
        host.approve(&id, "officer2");
        assert_eq!(
            host.json(&["bundle", "status", "--json"])["slots_left"],
            left
        );
        let patience = Patience::begin();
        match left {
            // A second may pass before gate looks; that none comes is known once the next one does.
            2.. => assert_eq!(alarm(&host), None),
            1 => loop {
                if let Some(told) = alarm(&host) {
                    assert!(told.starts_with("slots-low: slots left: 1 of 5"), "{told}");
                    break;
                }
                patience.wait();
            },
            _ => loop {
                if alarm(&host).is_some_and(|told| told.starts_with("slots-none: ")) {
                    break;
                }
                patience.wait();
            },
        }
    }
    let words: Vec<String> = host
        .audited("alarm")
        .iter()
        .map(|line| line["alarm"].as_str().unwrap().to_owned())
        // Transmit does not run here, which becomes an alarm after a while.
        .filter(|word| word.starts_with("slots-"))
        .collect();
    assert_eq!(words, ["slots-low", "slots-none"]);
    host.make_bundle(2, 6, 20, None);
    host.ok(&["bundle", "import", "courier-2"]);
    let patience = Patience::begin();
    while alarm(&host).is_some() {
        patience.wait();
    }
    host.stop_gate();
}
