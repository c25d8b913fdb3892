//! The files that are installed beside the programs are valid.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use valise_common::alarm::Alarm;
use valise_common::config::{ReceiverConfig, SenderConfig};
use valise_common::role::Role;
use valise_common::trust::TrustList;
use valise_tests::attack::Token;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The example with every commented default in effect: `# key = value` becomes `key = value`.
fn with_defaults(text: &str) -> String {
    let is_default = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ")
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    text.lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_default(rest) || rest.starts_with('[') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_configurations_are_valid_as_they_stand() {
    let text = fs::read_to_string(root().join("config/sender.toml")).unwrap();
    SenderConfig::parse(&text).unwrap();
    let text = fs::read_to_string(root().join("config/receiver.toml")).unwrap();
    ReceiverConfig::parse(&text).unwrap();
}

#[test]
fn what_the_examples_call_a_default_is_the_default() {
    let text = fs::read_to_string(root().join("config/sender.toml")).unwrap();
    let explicit = SenderConfig::parse(&with_defaults(&text)).unwrap();
    let least =
        "state = \"/var/lib/valise-sender\"\n[link]\nkind = \"udp\"\nto = \"192.0.2.2:7000\"\n";
    let least = SenderConfig::parse(least).unwrap();
    assert_eq!(explicit.link.rate, least.link.rate);
    assert_eq!(explicit.link.baud, least.link.baud);
    assert_eq!(explicit.link.socket_buffer, least.link.socket_buffer);
    assert_eq!(explicit.datagram_bytes(), least.datagram_bytes());
    assert_eq!(format!("{:?}", explicit.fec), format!("{:?}", least.fec));
    assert_eq!(
        format!("{:?}", explicit.limits),
        format!("{:?}", least.limits)
    );
    assert_eq!(
        format!("{:?}", explicit.retain),
        format!("{:?}", least.retain)
    );
    assert_eq!(explicit.alarm.slots_low, least.alarm.slots_low);
    assert_eq!(explicit.sandbox.required, least.sandbox.required);
    assert_eq!(explicit.log.level, least.log.level);

    let text = fs::read_to_string(root().join("config/receiver.toml")).unwrap();
    let explicit = ReceiverConfig::parse(&with_defaults(&text)).unwrap();
    let least = "state = \"/var/lib/valise-receiver\"\n[link]\nkind = \"udp\"\nlisten = \"192.0.2.2:7000\"\n";
    let least = ReceiverConfig::parse(least).unwrap();
    assert_eq!(explicit.link.socket_buffer, least.link.socket_buffer);
    assert_eq!(
        format!("{:?}", explicit.memory),
        format!("{:?}", least.memory)
    );
    assert_eq!(
        format!("{:?}", explicit.spool),
        format!("{:?}", least.spool)
    );
    assert_eq!(explicit.sandbox.required, least.sandbox.required);
    assert_eq!(
        format!("{:?}", explicit.release),
        format!("{:?}", least.release)
    );
}

#[test]
fn every_key_of_a_configuration_is_explained() {
    // The keys are taken from the source, so that a new one cannot be forgotten in the examples.
    let sources = ["common/src/config.rs", "common/src/config/tables.rs"]
        .map(|file| fs::read_to_string(root().join(file)).unwrap());
    let fields = sources
        .iter()
        .flat_map(|source| source.split("#[cfg(test)]").next().unwrap().lines());
    let examples = ["config/sender.toml", "config/receiver.toml"]
        .map(|file| fs::read_to_string(root().join(file)).unwrap());
    let mut keys = 0;
    for line in fields {
        let Some(field) = line.strip_prefix("    pub ") else {
            continue;
        };
        let Some((key, _)) = field.split_once(": ") else {
            continue;
        };
        if key.starts_with("fn ") {
            continue;
        }
        keys += 1;
        let explained = |text: &String| {
            text.contains(&format!("{key} = ")) || text.contains(&format!("[{key}]"))
        };
        assert!(
            examples.iter().any(explained),
            "{key} is in no example configuration"
        );
    }
    assert!(
        keys > 20,
        "only {keys} keys were found: the search is broken"
    );
}

/// The keys that a page documents, by table. The keys before the first table are under the empty name.
fn keys_of_page(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/man").join(page)).unwrap();
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(".Ss ") {
            let name = title.trim_matches(['[', ']']);
            table = match title {
                "Before the first table" => Some(String::new()),
                _ => title.starts_with('[').then(|| name.to_owned()),
            };
        } else if line.starts_with(".Sh ") {
            table = None;
        }
        if let Some(table) = &table {
            let keys = tables.entry(table.clone()).or_default();
            let item = line.strip_prefix(".It ").unwrap_or_default();
            let words = item.split_whitespace();
            keys.extend(
                words
                    .filter(|word| !matches!(*word, "Ic" | ","))
                    .map(str::to_owned),
            );
        }
    }
    tables
}

/// The keys that a parser accepts, from its message about an unknown one.
fn keys_of_parser(message: &str) -> BTreeSet<String> {
    let (_, expected) = message.split_once("expected").unwrap();
    named(expected).into_iter().map(str::to_owned).collect()
}

#[test]
fn each_page_of_a_file_documents_the_keys_that_its_parser_takes_and_no_others() {
    type Refuse = fn(&str) -> String;
    let sender: Refuse = |text| SenderConfig::parse(text).unwrap_err().to_string();
    let receiver: Refuse = |text| ReceiverConfig::parse(text).unwrap_err().to_string();
    let trust: Refuse = |text| TrustList::parse(text.as_bytes()).unwrap_err().to_string();
    for (page, refuse, double) in [
        ("valise-sender.toml.5", sender, false),
        ("valise-receiver.toml.5", receiver, false),
        ("valise-trust.toml.5", trust, true),
    ] {
        let mut tables = keys_of_page(page);
        let names: Vec<String> = tables
            .keys()
            .filter(|name| !name.is_empty())
            .cloned()
            .collect();
        for name in &names {
            let title = match double {
                true => format!("[[{name}]]"),
                false => format!("[{name}]"),
            };
            let taken = keys_of_parser(&refuse(&format!("{title}\nunknown = 1\n")));
            assert_eq!(tables[name], taken, "{page}: {title}");
        }
        let mut top = tables.remove("").unwrap();
        top.extend(names);
        assert_eq!(top, keys_of_parser(&refuse("unknown = 1\n")), "{page}");
    }
}

#[test]
fn the_example_trust_list_is_refused_until_channel_and_keys_are_filled_in_and_sound_then() {
    let text = fs::read_to_string(root().join("config/trust.toml")).unwrap();
    TrustList::parse(text.as_bytes()).unwrap_err();
    let with_channel = text.replace("CHANNEL", "0123456789abcdef0123456789abcdef");
    TrustList::parse(with_channel.as_bytes()).unwrap_err();

    let places = ["B.OFFICER", "C.OFFICER"];
    let fill = |text: &str, key: &dyn Fn(u8) -> String| {
        places
            .iter()
            .zip(1..)
            .fold(text.to_owned(), |text, (officer, seed)| {
                let place = format!("sk-ssh-ed25519@openssh.com KEY-OF-{officer}");
                assert!(text.contains(&place), "{place}");
                text.replace(&place, &key(seed))
            })
    };
    let with_keys = fill(&with_channel, &|seed| Token::new(seed).public_line());
    let list = TrustList::parse(with_keys.as_bytes()).unwrap();
    // The example must be usable: at the time of its making, somebody can release the cables that it allows to draft.
    let warnings = list.warnings("2026-11-22T00:00:00Z".parse().unwrap());
    assert!(warnings.is_empty(), "{warnings:?}");

    // The commented keys of the example are accepted as they are.
    let mut full = with_keys.clone();
    for key in [
        "classification-max",
        "categories",
        "mailboxes",
        "revoked",
        "colour",
    ] {
        let commented = format!("\n# {key} = ");
        assert_eq!(full.matches(&commented).count(), 1, "{key}");
        full = full.replace(&commented, &format!("\n{key} = "));
    }
    let meaning = TrustList::parse(full.as_bytes())
        .unwrap()
        .explain()
        .join("\n");
    for found in [
        "need to know: classification up to EU-RESTRICTED, categories LIMITE, mailboxes paris-desk",
        "in blue",
        "revoked from",
    ] {
        assert_eq!(meaning.matches(found).count(), 1, "{found}: {meaning}");
    }

    // The exercises of operations.md.
    let software = |seed| {
        Token::new(seed)
            .with(|key| key.hardware = false)
            .public_line()
    };
    let with_software = fill(&with_channel, &software);
    TrustList::parse(with_software.as_bytes()).unwrap_err();
    let exercise =
        with_software.replace("allow-software-keys = false", "allow-software-keys = true");
    let list = TrustList::parse(exercise.as_bytes()).unwrap();
    let nobody = list.warnings("2026-11-22T00:00:00Z".parse().unwrap());
    let exercise = exercise.replace("user-verification = true ", "user-verification = false");
    let list = TrustList::parse(exercise.as_bytes()).unwrap();
    let somebody = list.warnings("2026-11-22T00:00:00Z".parse().unwrap());
    assert_eq!(nobody.len(), somebody.len() + 1, "{nobody:?} {somebody:?}");
}

#[test]
fn every_unit_names_an_installed_program_a_role_and_its_own_user() {
    for (host, role) in [
        ("sender", "gate"),
        ("sender", "transmit"),
        ("receiver", "receive"),
        ("receiver", "release"),
    ] {
        let file = root().join(format!("config/systemd/valise-{host}-{role}.service"));
        let unit = fs::read_to_string(&file).unwrap();
        let start =
            format!("ExecStart=/usr/bin/valise-{host} {role} --config /etc/valise/{host}.toml\n");
        assert!(unit.contains(&start), "{}", file.display());
        assert!(unit.contains(&format!("User=valise-{role}\n")));
        let users =
            fs::read_to_string(root().join(format!("config/sysusers/valise-{host}.conf"))).unwrap();
        assert!(users.contains(&format!("valise-{role} ")));
        // Only transmit has a network: systemd makes the socket of receive.
        for line in ["PrivateNetwork=yes\n", "RestrictAddressFamilies=AF_UNIX\n"] {
            let is_there = unit.contains(line);
            assert_eq!(is_there, role != "transmit", "{} {line}", file.display());
        }
    }
}

#[test]
fn the_rules_of_a_serial_port_give_it_to_the_group_of_the_links_role_alone() {
    let rules = fs::read_to_string(root().join("config/udev/90-valise-serial.rules")).unwrap();
    let tty = rules
        .lines()
        .find(|line| line.starts_with("SUBSYSTEM==\"tty\""))
        .unwrap();
    assert!(
        tty.contains("GROUP=\"valise-line\", MODE=\"0660\"")
            && tty.contains("SYMLINK+=\"valise-line\""),
        "{tty}"
    );
    for (host, role) in [("sender", "transmit"), ("receiver", "receive")] {
        let users =
            fs::read_to_string(root().join(format!("config/sysusers/valise-{host}.conf"))).unwrap();
        let members: Vec<&str> = users
            .lines()
            .filter(|line| line.starts_with("m ") && line.ends_with(" valise-line"))
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(members, [format!("valise-{role}")]);
        assert!(users.lines().any(|line| line.starts_with("g valise-line ")));
    }
}

#[test]
fn the_samples_are_there_and_small() {
    let mut total = 0;
    for name in ["telegram.txt", "annex.pdf", "photograph.png"] {
        total += root()
            .join("tests/samples")
            .join(name)
            .metadata()
            .unwrap()
            .len();
    }
    assert!((1 << 20..3 << 20).contains(&total), "{total}");
}

/// Every `fn` of a Rust source below a folder.
fn functions_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                if let Some(rest) = line.trim_start().strip_prefix("fn ") {
                    found.extend(rest.split('(').next().map(str::to_owned));
                }
            }
        }
    }
}

/// Every `fn` of the workspace's sources and tests.
fn functions() -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    for part in ["common", "sender", "receiver", "tests"] {
        for folder in ["src", "tests"] {
            let folder = root().join(part).join(folder);
            if folder.is_dir() {
                functions_below(&folder, &mut functions);
            }
        }
    }
    functions
}

/// The texts of a page between backticks: every second piece.
fn named(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns whether a text is the name of a test: a claim of several words.
fn is_claim(name: &str) -> bool {
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.matches('_').count() >= 3 && name.bytes().all(is_word)
}

/// Asserts that every test, link and file in a page exists. Returns the tests.
fn check_page(page: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
    let (functions, named) = (functions(), named(&text));
    let claims: BTreeSet<String> = named
        .iter()
        .filter(|name| is_claim(name))
        .map(|name| (*name).to_owned())
        .collect();
    for claim in &claims {
        assert!(functions.contains(claim), "{claim} is no test of ours");
    }
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.starts_with("http")) {
        assert!(
            root().join("docs").join(target).exists(),
            "{target} is not there"
        );
    }
    for path in named.iter().filter(|name| name.ends_with(".rs")) {
        assert!(root().join(path).exists(), "{path} is not there");
    }
    claims
}

#[test]
fn every_test_and_file_that_the_threat_model_names_exists() {
    let claims = check_page("threat-model.md");
    assert!(claims.len() > 40, "{claims:?}");
}

/// The names of the tests in a source file.
fn tests_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let behind = text.split("#[test]\n").skip(1);
    behind
        .map(|rest| {
            let (_, rest) = rest.split_once("fn ").unwrap();
            rest.split('(').next().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_test_of_the_attack_suite_was_tried_without_its_check() {
    let claims = check_page("mutants.md");
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/tests/attacks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(root().join("tests/tests/audit_attacks.rs"));
    for name in ["secrecy", "clock", "hostile", "lists", "meanwhile"] {
        files.push(root().join(format!("sender/tests/{name}.rs")));
    }
    let tests: Vec<String> = files.iter().flat_map(|file| tests_of(file)).collect();
    assert!(tests.len() > 80, "{tests:?}");
    for test in tests {
        assert!(
            claims.contains(&test),
            "{test} is not in docs/mutants.md: remove the check that it guards, see it fail, and write it down"
        );
    }
}

#[test]
fn every_alarm_is_in_the_manual_and_the_manual_names_no_other() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut named = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| alarm `")) {
        let words = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        for word in words.filter(|word| *word != "gaps") {
            match word.strip_prefix("ROLE") {
                Some(end) => named.extend(Role::ALL.map(|role| format!("{role}{end}"))),
                None => {
                    named.insert(word.to_owned());
                }
            }
        }
    }
    let known: BTreeSet<String> = Alarm::ALL.iter().map(Alarm::to_string).collect();
    assert_eq!(named, known);
}
