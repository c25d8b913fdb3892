//! What gate refuses, and that nothing is sealed by it.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use common::{Host, List, Patience};

#[test]
fn one_officer_the_drafter_or_a_stranger_never_seal_a_cable() {
    let mut host = Host::running(2);
    host.import_list(&List {
        version: 2,
        drafter_is_officer: true,
        ..List::default()
    });
    let id = host.submit("text", "routine");
    let own = host.refused(1, &["approve", &id, "--key", "drafter", "--yes"]);
    assert!(own.contains("drafted the cable"), "{own}");
    let stranger = host.refused(1, &["approve", &id, "--key", "stranger", "--yes"]);
    assert!(stranger.contains("not in the trust list"), "{stranger}");
    assert_eq!(host.approve(&id, "officer1"), "approved: 1 of 2");
    // The same approval again is answered as before; a second key of the same person is no second person.
    assert_eq!(host.approve(&id, "officer1"), "approved: 1 of 2");
    let twice = host.refused(1, &["approve", &id, "--key", "officer1b", "--yes"]);
    assert!(twice.contains("approved twice"), "{twice}");
    assert_eq!(host.cable(&id)["approvals"], 1);
    assert!(host.outbox().is_empty());
    host.stop_gate();
}

#[test]
fn a_signature_of_another_manifest_or_namespace_is_refused() {
    let host = Host::running(2);
    let (one, other) = (
        host.submit("one", "routine"),
        host.submit("other", "routine"),
    );
    host.ok(&["export", &one, "reading"]);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        host.path(path).metadata().unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(mode("reading"), 0o700);
    for file in ["manifest.txt", "part-001.txt", "SHA256SUMS"] {
        assert_eq!(mode(&format!("reading/{file}")), 0o600, "{file}");
    }
    let sums = fs::read_to_string(host.path("reading/SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 2);
    assert_eq!(
        fs::read_to_string(host.path("reading/part-001.txt")).unwrap(),
        "one"
    );
    let manifest = host.path("reading/manifest.txt");
    let signature = host.path("one.sig");
    host.sign("officer1", "cable-approval@valise", &manifest, &signature);
    let moved = host.refused(1, &["approve", &other, "--signature", "one.sig"]);
    assert!(moved.contains("does not verify"), "{moved}");
    assert_eq!(
        host.ok(&["approve", &one, "--signature", "one.sig"]),
        "approved: 1 of 2"
    );
    host.sign("officer2", "trust-list@valise", &manifest, &signature);
    let namespace = host.refused(1, &["approve", &one, "--signature", "one.sig"]);
    assert!(namespace.contains("another namespace"), "{namespace}");
    assert!(host.outbox().is_empty());
}

#[test]
fn what_policy_does_not_know_is_refused_with_its_name() {
    let host = Host::running(1);
    fs::write(host.path("a.txt"), "text").unwrap();
    fs::write(host.path("large.txt"), vec![b'x'; 67_108_865]).unwrap();
    let submit = |label: &str, to: &str, file: &str, more: &[&str]| {
        let mut arguments = vec![
            "submit",
            "--label",
            label,
            "--to",
            to,
            "--precedence",
            "routine",
        ];
        arguments.extend(["--subject", "S", file]);
        arguments.extend(more);
        host.refused(1, &arguments)
    };
    for (said, told) in [
        (submit("EU-SECRET", "paris-desk", "a.txt", &[]), "EU-SECRET"),
        (
            submit("EU-RESTRICTED CRISIS", "paris-desk", "a.txt", &[]),
            "CRISIS",
        ),
        (
            submit("EU-RESTRICTED", "rome-desk", "a.txt", &[]),
            "rome-desk",
        ),
        (
            submit("EU-RESTRICTED", "paris-desk", "a.txt:image/png", &[]),
            "image/png",
        ),
        (
            submit("EU-RESTRICTED", "paris-desk", "large.txt", &[]),
            "67108865 bytes",
        ),
        (
            submit(
                "EU-RESTRICTED",
                "paris-desk",
                "a.txt",
                &["--not-after", "2020-01-01T00:00:00Z"],
            ),
            "",
        ),
    ] {
        assert!(said.contains(told), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(host.json(&["list", "--json"]), serde_json::json!([]));
    assert_eq!(fs::read_dir(host.state("pending")).unwrap().count(), 0);
    host.await_empty("tmp/gate");
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_named() {
    let host = Host::running(1);
    let name = OsStr::from_bytes(b"wunsch\xe9.txt");
    fs::write(host.path("plain.txt"), "text").unwrap();
    fs::write(host.path("").join(name), "text").unwrap();
    let options =
        "--label EU-RESTRICTED --to paris-desk --precedence routine --subject S plain.txt";
    for (words, told) in [
        (
            format!("submit {options}"),
            "wunsch\\xe9.txt: the name is not UTF-8",
        ),
        // These take any name, and say what is wrong with the file.
        ("trust check".to_owned(), "wunsch"),
        ("trust import".to_owned(), "administrators' signatures"),
        ("bundle import".to_owned(), "wunsch"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let output = host.command(&words).arg(name).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && errors.contains(told),
            "{words:?}: {errors}"
        );
    }
    // A request that another program placed.
    let hidden = host.state("requests/.named");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("request.toml"), "request = \"submit\"\n").unwrap();
    fs::write(hidden.join(name), "text").unwrap();
    let request = host.state("requests/named");
    fs::rename(hidden, &request).unwrap();
    let (is_accepted, reason) = Host::await_answer(&request);
    assert!(
        !is_accepted && reason.contains("wunsch\\xe9.txt"),
        "{reason}"
    );
    let log = fs::read_to_string(host.state("audit/gate.log")).unwrap();
    assert!(!log.contains("wunsch"));
}

#[test]
fn a_withdrawn_or_rejected_cable_tells_why_and_is_gone() {
    let host = Host::running(2);
    let (one, two) = (host.submit("one", "routine"), host.submit("two", "routine"));
    host.ok(&["withdraw", &one]);
    assert_eq!(host.cable(&one)["state"], "withdrawn");
    let not_officer = host.refused(1, &["reject", &two, "--reason", "wrong label"]);
    assert!(not_officer.contains("not an officer"), "{not_officer}");
    host.import_list(&List {
        version: 2,
        drafter_is_officer: true,
        ..List::default()
    });
    host.ok(&["reject", &two, "--reason", "wrong label"]);
    assert_eq!(host.cable(&two)["reason"], "wrong label");
    assert_eq!(host.cable(&two)["rejected_by"], "a.person");
    let told = host.ok(&["show", &two]);
    assert!(
        told.contains("rejected   by a.person\nbecause    wrong label"),
        "{told}"
    );
    assert!(
        host.refused(1, &["approve", &two, "--key", "officer1", "--yes"])
            .contains("is rejected: its text was erased")
    );
    assert_eq!(fs::read_dir(host.state("pending")).unwrap().count(), 0);
}

#[test]
fn imports_are_refused_when_unsigned_altered_overlapping_or_older() {
    let mut host = Host::commissioned(2);
    let again = host.refused(1, &["bundle", "import", "courier-1"]);
    assert!(again.contains("bundle 1 is held already"), "{again}");
    assert_eq!(host.audited("bundle-imported").len(), 1);
    host.make_bundle(2, 2, 2, None);
    assert!(
        host.refused(1, &["bundle", "import", "courier-2"])
            .contains("held or used")
    );
    host.make_bundle(3, 3, 2, None);
    let bundle = host.path("courier-3/channel.bundle");
    let mut bytes = fs::read(&bundle).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&bundle, &bytes).unwrap();
    host.refused(1, &["bundle", "import", "courier-3"]);
    bytes[last] ^= 1;
    fs::write(&bundle, &bytes).unwrap();
    let second = host.path("courier-3/channel.bundle.statement.2.sig");
    let kept = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    host.refused(1, &["bundle", "import", "courier-3"]);
    fs::write(&second, kept).unwrap();
    host.ok(&["bundle", "import", "courier-3"]);
    assert_eq!(host.json(&["bundle", "status", "--json"])["slots_left"], 4);
    // Transmit does not run: the newest key waits for it, and no older one.
    assert_eq!(
        fs::read_dir(host.state("keys/handover")).unwrap().count(),
        1
    );

    let older = host.signed_list(&List {
        version: 0,
        ..List::default()
    });
    host.refused(1, &["trust", "import", older.to_str().unwrap()]);
    let unsigned = host.path("unsigned.toml");
    fs::write(
        &unsigned,
        host.list_text(&List {
            version: 2,
            ..List::default()
        }),
    )
    .unwrap();
    host.refused(1, &["trust", "import", unsigned.to_str().unwrap()]);
    assert!(
        host.ok(&["trust", "check", unsigned.to_str().unwrap()])
            .contains("not signed yet")
    );
    assert_eq!(host.json(&["trust", "show", "--json"])["version"], 1);
    let log = fs::read_to_string(host.state("audit/gate.log")).unwrap();
    assert!(
        log.contains("\"refused\"") && log.contains("overlap"),
        "{log}"
    );
}

#[test]
fn a_replaced_bundle_seals_nothing_more() {
    let mut host = Host::running(3);
    let psk = *host.secrets[1].psk.expose();
    host.make_bundle(2, 4, 2, Some(1));
    host.ok(&["bundle", "import", "courier-2"]);
    assert!(host.state_holds(&psk).is_empty());
    let id = host.submit("text", "routine");
    host.approve(&id, "officer1");
    assert_eq!(
        host.approve(&id, "officer2"),
        "approved: 2 of 2; sealed as serial 4"
    );
}

#[test]
fn without_slots_approved_cables_wait_for_a_bundle() {
    let mut host = Host::running(1);
    let ids = [host.submit("one", "routine"), host.submit("two", "flash")];
    for id in &ids {
        host.approve(id, "officer1");
    }
    host.approve(&ids[0], "officer2");
    let answer = host.approve(&ids[1], "officer2");
    assert!(answer.contains("no slot is left"), "{answer}");
    assert_eq!(host.cable(&ids[1])["state"], "approved");
    let alarms = host.run(&["status", "--check"]);
    assert_eq!(alarms.status.code(), Some(1));
    assert!(
        String::from_utf8(alarms.stdout)
            .unwrap()
            .contains("slots-none")
    );
    host.make_bundle(2, 2, 5, None);
    host.ok(&["bundle", "import", "courier-2"]);
    assert_eq!(host.cable(&ids[1])["serial"], 2);
    assert_eq!(host.outbox().len(), 2);
}

#[test]
fn usage_configuration_and_an_absent_daemon_have_their_statuses() {
    let host = Host::bare();
    host.refused(2, &["submit"]);
    host.refused(2, &["list"]);
    host.refused(2, &["gate"]);
    host.refused(2, &["init", "--administrator", "none.pub"]);
    host.refused(2, &["init", "--administrator", "admin1.pub"]);
    host.refused(
        2,
        &[
            "init",
            "--administrator",
            "admin1.pub",
            "--administrator",
            "admin1.pub",
        ],
    );
    let init = [
        "init",
        "--administrator",
        "admin1.pub",
        "--administrator",
        "admin2.pub",
    ];
    host.ok(&init);
    host.refused(1, &init);
    fs::write(host.path("cable.txt"), "text").unwrap();
    let submit = [
        "submit",
        "--label",
        "EU",
        "--to",
        "a",
        "--precedence",
        "flash",
        "--subject",
        "S",
        "cable.txt",
    ];
    let waits = host.refused(3, &submit);
    assert!(waits.contains("gate is not running"), "{waits}");
    let requests = host.state("requests").canonicalize().unwrap();
    let shown = waits.split_whitespace();
    let waiting = shown
        .filter_map(|word| fs::canonicalize(word).ok())
        .find(|path| path.parent() == Some(requests.as_path()))
        .unwrap_or_else(|| panic!("{waits}"));
    let name = waiting.file_name().unwrap().to_str().unwrap();
    assert!(
        waits.contains(&format!("{name}.accepted or {name}.refused")),
        "{waits}"
    );
    assert_eq!(host.json(&["list", "--json"]), serde_json::json!([]));
    host.ok(&["check-config"]);
    host.write_config("surprise = 1");
    assert!(host.refused(2, &["check-config"]).contains("surprise"));
}

#[test]
fn a_request_of_another_program_is_answered_and_a_refused_one_stays() {
    let host = Host::running(2);
    let place = |name: &str, text: &str, parts: &[(&str, &str)]| {
        let hidden = host.state(&format!("requests/.{name}"));
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("request.toml"), text).unwrap();
        for (part, bytes) in parts {
            fs::write(hidden.join(part), bytes).unwrap();
        }
        fs::rename(&hidden, host.state(&format!("requests/{name}"))).unwrap();
        let answers =
            ["accepted", "refused"].map(|word| host.state(&format!("requests/{name}.{word}")));
        let patience = Patience::begin();
        loop {
            for path in &answers {
                if let Ok(text) = fs::read_to_string(path)
                    && text.ends_with('\n')
                {
                    return (path.extension().unwrap().to_str().unwrap().to_owned(), text);
                }
            }
            patience.wait();
        }
    };
    let text = "request = 'submit'\nlabel = 'EU-RESTRICTED'\nto = ['paris-desk']\n\
                precedence = 'flash'\nsubject = 'S'\n";
    let (word, id) = place(
        "from-mail.1",
        text,
        &[("b.txt", "second"), ("a.txt", "first")],
    );
    assert_eq!(word, "accepted");
    let manifest = host.cable(id.trim())["manifest"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(manifest.contains("part: 1 5 text/plain"), "{manifest}");
    // The same request again gets the same answer, and no second cable.
    Host::await_gone(&host.state("requests/from-mail.1"));
    fs::remove_file(host.state("requests/from-mail.1.accepted")).unwrap();
    let again = place(
        "from-mail.1",
        text,
        &[("b.txt", "second"), ("a.txt", "first")],
    );
    assert_eq!(again, (word, id));
    assert_eq!(host.json(&["list", "--json"]).as_array().unwrap().len(), 1);

    let (word, reason) = place("from-mail.2", "request = 'submit'\n", &[("a.txt", "x")]);
    assert_eq!(word, "refused");
    assert!(reason.contains("missing field"), "{reason}");
    assert!(host.state("requests/from-mail.2/a.txt").exists());
}

#[test]
fn a_resend_that_is_placed_again_under_its_name_sends_again() {
    let mut host = Host::running(1);
    let id = host.submit("text", "routine");
    host.approve(&id, "officer1");
    host.approve(&id, "officer2");
    let mut passes = vec![host.cable(&id)["passes"].as_u64().unwrap()];
    for round in 0..3 {
        if round == 2 {
            // As transmit tells of passes that it has made.
            let progress = "{\"serial\":1,\"passes_done\":4,\"first_passes\":2,\"pass\":4,\"position\":0,\"block\":0}";
            fs::write(host.path("progress"), progress).unwrap();
            fs::rename(host.path("progress"), host.state("progress/1")).unwrap();
            let patience = Patience::begin();
            while host.cable(&id)["state"] != "transmitted" {
                patience.wait();
            }
        }
        let request = host.place("again", "request = 'resend'\nserials = '1'\n", &[]);
        let answer = Host::await_answer(&request);
        assert_eq!(answer, (true, "queued again: 1".to_owned()));
        Host::await_gone(&request);
        fs::remove_file(request.with_added_extension("accepted")).unwrap();
        passes.push(host.cable(&id)["passes"].as_u64().unwrap());
    }
    let told = host.ok(&["status"]);
    assert!(told.contains("serials   up to 1\n"), "{told}");
    assert_eq!(host.json(&["status", "--json"])["highest_serial"], 1);
    // One serial that is gone keeps no other from being sent.
    let told = host.ok(&["resend", "1-3"]);
    let wanted = "queued again: 1; not retained, to be submitted again: 2-3";
    assert_eq!(told, wanted);
    let shown = host.json(&["resend", "1-3", "--json"]);
    assert_eq!(shown["serials"], serde_json::json!([1]));
    assert_eq!(shown["not_retained"], serde_json::json!([[2, 3]]));
    let told = host.refused(1, &["resend", "2-3"]);
    assert!(
        told.contains("--state transmitted") && told.contains("--state retained"),
        "{told}"
    );
    // The second was owed the passes of the first still, which nobody had made.
    assert_eq!(passes, [2, 4, 4, 6]);
    host.stop_gate();
    assert_eq!(host.audited("resent").len(), 5);
}

#[test]
fn a_person_whom_the_list_does_not_count_neither_resends_nor_withdraws() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can place a request as another user");
        return;
    }
    let mut host = Host::commissioned(2);
    host.import_list(&List {
        version: 2,
        extra: "[[person]]\nid = \"gone.person\"\nroles = [\"drafter\"]\nkeys = []\n\
             valid-from = \"2020-01-01T00:00:00Z\"\nvalid-until = \"2090-01-01T00:00:00Z\"\n\
             revoked = \"2024-01-01T00:00:00Z\"\n"
            .to_owned(),
        ..List::default()
    });
    let config = fs::read_to_string(host.path("sender.toml")).unwrap();
    let persons = "[persons]\n1001 = 'gone.person'\n1002 = 'no.person'\n";
    fs::write(
        host.path("sender.toml"),
        config.replace("[persons]\n", persons),
    )
    .unwrap();
    host.start_gate();
    let sealed = host.submit("text", "routine");
    host.approve(&sealed, "officer1");
    host.approve(&sealed, "officer2");
    let waiting = host.submit("text", "routine");
    let resend = "request = 'resend'\nserials = '1'\n".to_owned();
    let withdraw = format!("request = 'withdraw'\nid = '{waiting}'\n");
    for uid in [1_001, 1_002] {
        for (number, text) in [&resend, &withdraw].into_iter().enumerate() {
            let request = host.place_as(uid, &format!("{uid}-{number}"), text, None);
            let (accepted, told) = Host::await_answer(&request);
            assert!(
                !accepted && told.contains("not on the trust list"),
                "{told}"
            );
        }
    }
    assert_eq!(host.cable(&sealed)["passes"], 2);
    assert_eq!(host.cable(&waiting)["state"], "submitted");
    host.stop_gate();
    assert!(host.audited("resent").is_empty() && host.audited("withdrawn").is_empty());
}

#[test]
fn an_approval_without_a_terminal_needs_yes_and_shows_what_is_signed() {
    let host = Host::running(1);
    let id = host.submit("text", "routine");
    let told = host.refused(2, &["approve", &id, "--key", "officer1"]);
    assert!(
        told.contains("--yes") && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(host.cable(&id)["approvals"], 0);
    let output = host.run(&["approve", &id, "--key", "officer1", "--yes"]);
    assert!(output.status.success());
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("subject: Draft conclusions"), "{shown}");
    assert!(!shown.contains("[y/N]"), "{shown}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "approved: 1 of 2\n"
    );
}

#[test]
fn nothing_is_signed_that_could_not_be_shown() {
    let host = Host::running(1);
    let id = host.submit("text", "routine");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = host
        .command(&["approve", &id, "--key", "officer1", "--yes"])
        .stderr(full)
        .status();
    assert_eq!(status.unwrap().code(), Some(3));
    assert_eq!(host.cable(&id)["approvals"], 0);
}

#[test]
fn a_person_at_a_terminal_is_asked_before_what_cannot_be_undone() {
    let host = Host::running(1);
    let id = host.submit("text", "routine");
    let reject = ["reject", &id, "--reason", "wrong"];
    let commands = [
        &["approve", &id, "--key", "officer1"][..],
        &["withdraw", &id],
        &reject,
        &["clock", "accept"],
    ];
    for words in commands {
        let (status, shown, told) = host.at_terminal(words, "n");
        assert_eq!(status, Some(1), "{words:?}: {shown}{told}");
        assert!(told.contains("nothing was changed"), "{words:?}: {told}");
    }
    assert_eq!(host.cable(&id)["state"], "submitted");
    assert!(host.audited("clock-accepted").is_empty());
    let (status, shown, told) = host.at_terminal(commands[0], "y");
    assert_eq!(status, Some(0), "{shown}{told}");
    assert!(shown.contains("subject: Draft conclusions"), "{shown}");
    let (status, shown, told) =
        host.at_terminal(&["approve", &id, "--key", "officer2", "--yes"], "n");
    assert_eq!(status, Some(0), "{shown}{told}");
    assert!(told.contains("subject: Draft conclusions"), "{told}");
    assert!(!shown.contains("[y/N]"), "{shown}");
    let other = host.submit("other", "routine");
    assert_eq!(host.at_terminal(&["withdraw", &other], "yes").0, Some(0));
    assert_eq!(host.cable(&other)["state"], "withdrawn");
}

#[test]
fn a_subject_is_read_from_a_file_or_from_standard_input_and_stays_out_of_the_list_of_processes() {
    let host = Host::running(2);
    fs::write(host.path("cable.txt"), "text").unwrap();
    let submit = |file: &str, input: &[u8]| {
        let options = format!(
            "submit --label EU-RESTRICTED --to paris-desk --precedence routine --subject-file {file} cable.txt"
        );
        let words: Vec<&str> = options.split(' ').collect();
        fs::write(host.path("input"), input).unwrap();
        let input = fs::File::open(host.path("input")).unwrap();
        let output = host.command(&words).stdin(input).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let id = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), id.trim().to_owned(), errors)
    };
    fs::write(host.path("subject"), "From a file\n").unwrap();
    for (file, input, subject) in [
        ("subject", &b""[..], "subject: From a file\n"),
        ("-", b"From the input", "subject: From the input\n"),
    ] {
        let (status, id, errors) = submit(file, input);
        assert_eq!(status, Some(0), "{errors}");
        let manifest = host.cable(&id)["manifest"].as_str().unwrap().to_owned();
        assert!(manifest.contains(subject), "{manifest}");
    }
    let long = "x".repeat(121);
    for input in [&b"two\nlines"[..], b"", b"\xff", long.as_bytes()] {
        let (status, _, errors) = submit("-", input);
        assert_eq!(status, Some(2), "{errors}");
        assert!(
            !errors.contains("xxx") && !errors.contains("lines\n"),
            "{errors}"
        );
    }
    assert_eq!(submit("absent", b"").0, Some(2));
}

#[test]
fn as_json_an_answer_has_fields_and_no_sentence() {
    let mut host = Host::running(2);
    let id = host.submit("text", "routine");
    let approve = ["approve", &id, "--key", "officer1", "--yes", "--json"];
    let approved = host.json(&approve);
    assert_eq!(approved["id"], id.as_str());
    assert_eq!(approved["state"], "approved");
    assert_eq!(
        (&approved["approvals"], &approved["needed"]),
        (&1.into(), &2.into())
    );
    host.approve(&id, "officer2");
    let resent = host.json(&["resend", "1", "--json"]);
    let none = serde_json::json!([]);
    let wanted =
        serde_json::json!({ "serials": [1], "not_retained": none, "sent_too_often": none });
    assert_eq!(resent, wanted);
    let other = host.submit("other", "routine");
    assert_eq!(
        host.json(&["withdraw", &other, "--json"])["state"],
        "withdrawn"
    );
    let list = host.signed_list(&List {
        version: 2,
        drafter_is_officer: true,
        ..List::default()
    });
    let imported = host.json(&["trust", "import", list.to_str().unwrap(), "--json"]);
    assert_eq!(imported["version"], 2);
    let other = host.submit("other", "routine");
    let rejected = host.json(&["reject", &other, "--reason", "why", "--json"]);
    assert_eq!(
        (&rejected["state"], &rejected["reason"]),
        (&"rejected".into(), &"why".into())
    );
    host.make_bundle(2, 3, 4, None);
    let bundle = host.json(&["bundle", "import", "courier-2", "--json"]);
    assert_eq!(
        (&bundle["bundle"], &bundle["first_serial"]),
        (&2.into(), &3.into())
    );
    host.refused(2, &["reject", &other, "--reason", &"x".repeat(501)]);
}

#[test]
fn a_configuration_with_unknown_users_or_a_path_that_means_nothing_does_not_pass() {
    let host = Host::bare();
    host.ok(&["check-config"]);
    let text = fs::read_to_string(host.path("sender.toml")).unwrap();
    let state = format!("{:?}", host.path("state").display().to_string());
    for (from, to, told) in [
        (
            "[persons]\n",
            "[persons]\nnobody-known = 'b.officer'\n",
            "nobody-known",
        ),
        (&state, "''", "state"),
        (&state, "'~/valise'", "the whole path"),
    ] {
        fs::write(host.path("sender.toml"), text.replace(from, to)).unwrap();
        let refused = host.refused(2, &["check-config"]);
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn the_reason_of_ssh_keygen_is_reported_whole() {
    let host = Host::running(1);
    let id = host.submit("text", "routine");
    let key = host.path("officer1");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let output = host.run(&["approve", &id, "--key", "officer1", "--yes"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let told = told.lines().last().unwrap();
    assert!(
        told.contains("Permissions 0644") && told.contains("too open"),
        "{told}"
    );
    assert!(!told.contains("@@"), "{told}");
}

#[test]
fn a_host_without_init_says_so_in_the_same_words_everywhere() {
    let host = Host::bare();
    fs::write(host.path("cable.txt"), "text").unwrap();
    let id = "0123456789abcdef0123456789abcdef";
    let submit = [
        "submit",
        "--label",
        "EU-RESTRICTED",
        "--to",
        "paris-desk",
        "--precedence",
        "routine",
        "--subject",
        "Draft conclusions",
        "cable.txt",
    ];
    let commands: [&[&str]; 14] = [
        &["run"],
        &["gate"],
        &["transmit"],
        &["list"],
        &["show", id],
        &["status"],
        &["bundle", "status"],
        &submit,
        &["export", id, "out"],
        &["approve", id, "--key", "officer1"],
        &["withdraw", id],
        &["resend", "1"],
        &["trust", "show"],
        &["clock", "accept"],
    ];
    let every_command_says_so = || {
        for arguments in commands {
            assert_eq!(
                host.refused(2, arguments),
                "valise-sender: this host is not commissioned: run valise-sender init first\n",
                "{arguments:?}"
            );
        }
    };
    every_command_says_so();
    // As `systemd-tmpfiles` makes it before.
    let state = valise_common::host::folders::SenderState::new(host.path("state"));
    state.create_all().unwrap();
    every_command_says_so();
}

#[test]
fn a_serial_device_that_is_missing_is_told_by_check_config() {
    let host = Host::commissioned(1);
    let text = fs::read_to_string(host.path("sender.toml")).unwrap();
    let serial = text.replace(
        "kind = 'udp'\nto = '127.0.0.1:9'",
        "kind = 'serial'\ndevice = '/dev/absent'",
    );
    assert_ne!(serial, text);
    fs::write(host.path("sender.toml"), serial).unwrap();
    let told = host.ok(&["check-config"]);
    assert!(
        told.contains("warning: /dev/absent (link.device)"),
        "{told}"
    );
}

#[test]
fn a_file_that_changes_while_submit_reads_it_is_refused() {
    let host = Host::running(1);
    let file = fs::File::create(host.path("cable.txt")).unwrap();
    // It costs nothing and takes long: the command is still at it when the file is cut.
    file.set_len(32 << 30).unwrap();
    let mut command = host.command(&submit_of("cable.txt"));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let patience = Patience::begin();
    while !host.is_being_copied() {
        assert!(child.try_wait().unwrap().is_none(), "submit has ended");
        patience.wait();
    }
    file.set_len(48 << 20).unwrap();
    let told = child.wait_with_output().unwrap();
    let reason = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.status.code(), Some(1), "{reason}");
    assert!(
        reason.contains("cable.txt: the file changed while it was read"),
        "{reason}"
    );
    assert_eq!(fs::read_dir(host.state("requests")).unwrap().count(), 0);
    // Left alone, it is taken.
    host.ok(&submit_of("cable.txt"));
}

fn submit_of(file: &str) -> [&str; 10] {
    let label = [
        "submit",
        "--label",
        "EU-RESTRICTED LIMITE",
        "--to",
        "paris-desk",
    ];
    let rest = ["--precedence", "routine", "--subject", "S", file];
    std::array::from_fn(|index| *label.iter().chain(&rest).nth(index).unwrap())
}
