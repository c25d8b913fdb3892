#![allow(clippy::unwrap_used)]

use super::super::sample::{self, B, C, changed, software, token};
use super::*;
use crate::sshsig::SshsigError;
use crate::units::UtcTime;
use proptest::prelude::*;

/// The fault of a text, whose line must be the one that holds `place`.
fn fault(text: &str, place: &str) -> Fault {
    match TrustList::parse(text.as_bytes()) {
        Err(TrustError::Unsafe { line, fault }) => {
            let found = text.lines().nth(line - 1).unwrap();
            assert!(
                found.contains(place),
                "line {line} is {found:?}, not {place:?}"
            );
            fault
        }
        result => panic!("{result:?}"),
    }
}

fn syntax(text: &str) -> usize {
    match TrustList::parse(text.as_bytes()) {
        Err(TrustError::Syntax { line, .. } | TrustError::Spelling { line, .. }) => line,
        result => panic!("{result:?}"),
    }
}

#[test]
fn a_sound_list_says_what_it_says() {
    let list = sample::list();
    assert_eq!(list.version(), 7);
    assert_eq!(list.issued().to_string(), "2026-11-22T00:00:00Z");
    assert!(!list.allow_software_keys());
    assert_eq!(list.persons().len(), 5);
    let entries = [
        list.classifications().len(),
        list.categories().len(),
        list.mailboxes().len(),
    ];
    assert_eq!(entries, [3, 3, 2]);
    let rank = |id: &str| list.classification(&id.parse().unwrap()).unwrap().0;
    assert!(rank("OPEN") < rank("RESTRICTED") && rank("RESTRICTED") < rank("SECRET"));
    let (_, secret) = list.classification(&"SECRET".parse().unwrap()).unwrap();
    assert_eq!((secret.officers, secret.user_verification), (3, true));
    assert!(list.knows_category(&"CRISIS".parse().unwrap()));
    assert!(!list.knows_category(&"OTHER".parse().unwrap()));
    let mailbox = list.mailbox(&"paris-desk".parse().unwrap()).unwrap();
    assert_eq!(mailbox.categories.len(), 2);
    for seed in [B, sample::B_SECOND] {
        let key = PublicKey::parse_openssh(&token(seed)).unwrap();
        assert_eq!(list.person_of_key(&key).unwrap().id.as_str(), "b.officer");
    }
    let same_secret = PublicKey::parse_openssh(&software(B)).unwrap();
    assert_eq!(list.person_of_key(&same_secret), None);
}

#[test]
fn one_officer_or_none_is_no_quorum() {
    for officers in [0, 1, 17, 1000] {
        let text = changed("officers = 3", &format!("officers = {officers}"));
        assert!(matches!(
            fault(&text, &format!("officers = {officers}")),
            Fault::Quorum { .. }
        ));
    }
    assert!(syntax(&changed("officers = 3", "officers = -2")) > 1);
}

#[test]
fn a_quorum_beyond_the_officers_is_refused() {
    assert!(TrustList::parse(changed("officers = 3", "officers = 4").as_bytes()).is_ok());
    assert_eq!(
        fault(&changed("officers = 3", "officers = 5"), "officers = 5"),
        Fault::QuorumOutOfReach {
            classification: "SECRET".to_owned(),
            officers: 5,
            available: 4
        }
    );
}

#[test]
fn a_list_without_officers_is_refused() {
    let text = sample::text()
        .replace("\"officer\"]", "\"drafter\"]")
        .replace("\"drafter\", \"drafter\"", "\"drafter\"");
    assert_eq!(
        fault(&text, "officers = 2"),
        Fault::QuorumOutOfReach {
            classification: "OPEN".to_owned(),
            officers: 2,
            available: 0
        }
    );
}

#[test]
fn a_list_in_which_everyone_is_revoked_can_still_be_imported() {
    let until = "valid-until = \"2027-01-01T00:00:00Z\"\n";
    let revoked = format!("{until}revoked = \"2026-06-01T00:00:00Z\"\n");
    let text = sample::text().replace(until, &revoked);
    let list = TrustList::parse(text.as_bytes()).unwrap();
    assert!(list.persons().iter().all(|person| person.revoked.is_some()));
}

#[test]
fn an_unknown_clearance_is_refused_where_it_stands() {
    let text = changed(
        "classification-max = \"SECRET\"",
        "classification-max = \"SECRTE\"",
    );
    assert!(matches!(
        fault(&text, "SECRTE"),
        Fault::UnknownClearance {
            kind: "classification",
            ..
        }
    ));
    let text = changed(
        "categories = [\"LIMITE\", \"CRISIS\"]",
        "categories = [\n\"LIMITE\",\n\"CRISSI\"]",
    );
    assert!(matches!(
        fault(&text, "CRISSI"),
        Fault::UnknownClearance {
            kind: "category",
            ..
        }
    ));
}

#[test]
fn a_limit_that_names_an_unknown_id_refuses_the_list() {
    let person = "id = \"c.officer\"\n";
    for (limit, kind) in [
        ("classification-max = \"SECRTE\"", "classification"),
        ("categories = [\"LIMITE\", \"CRISSI\"]", "category"),
        ("mailboxes = [\"paris-desc\"]", "mailbox"),
        // Ids of another kind.
        ("classification-max = \"LIMITE\"", "classification"),
        ("categories = [\"SECRET\"]", "category"),
        ("mailboxes = [\"b.officer\"]", "mailbox"),
    ] {
        let text = changed(person, &format!("{person}{limit}\n"));
        match fault(&text, limit) {
            Fault::UnknownLimit {
                person,
                kind: found,
                ..
            } => assert_eq!((person.as_str(), found), ("c.officer", kind)),
            other => panic!("{limit}: {other:?}"),
        }
    }
    for twice in [
        "categories = [\"LIMITE\", \"LIMITE\"]",
        "mailboxes = [\"registry\", \"registry\"]",
    ] {
        let text = changed(person, &format!("{person}{twice}\n"));
        assert!(matches!(fault(&text, twice), Fault::Twice { .. }));
    }
    // Neither is a limit of one kind written as one of another.
    for wrong in [
        "classification-max = [\"OPEN\"]",
        "categories = \"LIMITE\"",
        "mailboxes = true",
        "classification_max = \"OPEN\"",
        "Categories = []",
    ] {
        let text = changed(person, &format!("{person}{wrong}\n"));
        assert_eq!(syntax(&text), 22, "{wrong}");
    }
}

#[test]
fn limits_are_read_as_they_are_and_absent_ones_are_no_limit() {
    let person = "id = \"c.officer\"\n";
    let limits = "classification-max = \"OPEN\"\nmailboxes = [\"registry\", \"paris-desk\"]\n\
                  categories = []\n";
    let text = changed(person, &format!("{person}{limits}"));
    let list = TrustList::parse(text.as_bytes()).unwrap();
    for found in list.persons() {
        let expected = match found.id.as_str() {
            "c.officer" => NeedToKnow {
                classification_max: Limit::Within("OPEN".parse().unwrap()),
                categories: Limit::Within(Vec::new()),
                mailboxes: Limit::Within(vec![
                    "paris-desk".parse().unwrap(),
                    "registry".parse().unwrap(),
                ]),
            },
            _ => NeedToKnow {
                classification_max: Limit::NoLimit,
                categories: Limit::NoLimit,
                mailboxes: Limit::NoLimit,
            },
        };
        assert_eq!(found.limits, expected, "{}", found.id);
    }
}

#[test]
fn a_colour_is_one_of_seven() {
    let marking = "marking = \"OPEN MARKING\"\n";
    let with = |colour: &str| changed(marking, &format!("{marking}colour = {colour}\n"));
    for colour in [
        "white", "green", "blue", "purple", "red", "orange", "yellow",
    ] {
        let text = with(&format!("\"{colour}\""));
        let list = TrustList::parse(text.as_bytes()).unwrap();
        let found: Vec<_> = list
            .classifications()
            .iter()
            .map(|one| one.colour)
            .collect();
        assert_eq!(found[0].map(|one| one.as_str()), Some(colour));
        assert_eq!(found[1..], [None, None]);
    }
    for wrong in [
        "\"black\"",
        "\"Red\"",
        "\"\"",
        "\"#ff0000\"",
        "1",
        "[\"red\"]",
    ] {
        let line = syntax(&with(wrong));
        let text = with(wrong);
        assert!(
            text.lines().nth(line - 1).unwrap().starts_with("colour"),
            "{wrong}"
        );
    }
}

#[test]
fn what_stands_twice_is_refused_where_it_stands_again() {
    for (from, to, kind) in [
        ("id = \"c.officer\"", "id = \"b.officer\"", "person"),
        ("id = \"RESTRICTED\"", "id = \"OPEN\"", "classification"),
        ("id = \"CRISIS\"", "id = \"LIMITE\"", "category"),
        ("id = \"registry\"", "id = \"paris-desk\"", "mailbox"),
        (
            "[\"LIMITE\", \"CRISIS\", \"NUCLEAR\"]",
            "[\"LIMITE\", \"CRISIS\", \"LIMITE\"]",
            "category of a mailbox",
        ),
    ] {
        match fault(&changed(from, to), to) {
            Fault::Twice { kind: found, .. } => assert_eq!(found, kind),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_persons_key_given_to_another_is_refused_in_any_form() {
    let mut other_application = crate::sshsig::forge::Forge::new(KeyKind::SkEd25519, B);
    other_application.application = "ssh:other";
    let other_application = other_application.public_key().to_openssh();
    for key in [token(B), format!("{} comment", token(B)), other_application] {
        assert_eq!(
            fault(&changed(&token(C), &key), &key),
            Fault::SharedKey {
                person: "c.officer".to_owned(),
                other: "b.officer".to_owned()
            }
        );
    }
    let text = changed("allow-software-keys = false", "allow-software-keys = true");
    let text = text.replacen(&token(C), &software(B), 1);
    assert!(matches!(
        fault(&text, &software(B)),
        Fault::SharedKey { .. }
    ));
    let text = changed(&token(sample::B_SECOND), &token(B));
    assert!(matches!(fault(&text, &token(B)), Fault::SharedKey { .. }));
}

#[test]
fn a_software_key_of_an_officer_needs_the_lists_leave() {
    let text = changed(&token(C), &software(C));
    assert_eq!(
        fault(&text, &software(C)),
        Fault::SoftwareKey {
            person: "c.officer".to_owned()
        }
    );
    let allowed = text.replace("allow-software-keys = false", "allow-software-keys = true");
    let list = TrustList::parse(allowed.as_bytes()).unwrap();
    assert!(list.allow_software_keys(), "both daemons warn of it");
}

#[test]
fn a_list_may_be_issued_five_minutes_ahead_of_the_clock_and_no_more() {
    let list = sample::list();
    let taken = |ahead_s: u64| {
        let clock = UtcTime::from_s(list.issued().as_s() - ahead_s);
        list.check_issued(clock).is_ok()
    };
    let tried = [0, 299, 300, 301, 3_600].map(taken);
    assert_eq!(tried, [true, true, true, false, false]);
    assert!(list.check_issued(list.issued().plus_s(1)).is_ok());
}

#[test]
fn keys_that_are_none_or_weak_are_refused() {
    // The point of order 1, as a software key and as a token's.
    let weak = "AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let weak_token = "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAEAAAAA\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo=";
    for (line, expected) in [
        (format!("ssh-ed25519 {weak}"), SshsigError::WeakKey),
        (
            format!("sk-ssh-ed25519@openssh.com {weak_token}"),
            SshsigError::WeakKey,
        ),
        ("ssh-ed25519 AAAA".to_owned(), SshsigError::KeySyntax),
        (
            include_str!("../../../../tests/vectors/sshsig/rsa.pub")
                .trim_end()
                .to_owned(),
            SshsigError::KeyType,
        ),
    ] {
        match fault(&changed(&token(C), &line), &line) {
            Fault::BadKey { error, .. } => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_person_without_role_key_or_time_is_refused() {
    assert!(matches!(
        fault(
            &changed("roles = [\"officer\"]", "roles = []"),
            "roles = []"
        ),
        Fault::NoRole { .. }
    ));
    let twice = "roles = [\"officer\", \"officer\"]";
    assert!(matches!(
        fault(&changed("roles = [\"officer\"]", twice), twice),
        Fault::RoleTwice { .. }
    ));
    let key = format!("keys = [\"{}\"]", token(C));
    assert!(matches!(
        fault(&changed(&key, "keys = [ ]"), "keys = [ ]"),
        Fault::NoKey { .. }
    ));
    for from in ["2027-01-01T00:00:00Z", "2027-01-01T00:00:01Z"] {
        assert!(matches!(
            fault(&changed("2026-01-01T00:00:00Z", from), from),
            Fault::Validity { .. }
        ));
    }
}

#[test]
fn limits_of_a_classification_are_limits() {
    for (from, to) in [
        ("cable-bytes-max = 1000", "cable-bytes-max = 0"),
        ("cable-bytes-max = 1000", "cable-bytes-max = 1099511627777"),
    ] {
        assert!(matches!(
            fault(&changed(from, to), to),
            Fault::CableBytes { .. }
        ));
    }
    for to in ["validity-days-max = 0", "validity-days-max = 36526"] {
        assert!(matches!(
            fault(&changed("validity-days-max = 30", to), to),
            Fault::ValidityDays { .. }
        ));
    }
    for to in [
        "media-types = []",
        "media-types = [\"text/plain\", \"text/plain\"]",
    ] {
        assert!(matches!(
            fault(
                &changed("media-types = [\"text/plain\", \"application/pdf\"]", to),
                to
            ),
            Fault::MediaTypes { .. }
        ));
    }
    for to in ["marking = \"\"", "marking = \"e\u{301}\""] {
        assert!(matches!(
            fault(&changed("marking = \"OPEN MARKING\"", to), to),
            Fault::Marking { .. }
        ));
    }
}

#[test]
fn a_list_without_persons_classifications_or_mailboxes_is_refused() {
    let text = sample::text();
    let without = |kind: &str| -> String {
        let mut sections: Vec<&str> = text.split("\n[[").collect();
        sections.retain(|section| !section.starts_with(kind));
        sections.join("\n[[")
    };
    for kind in ["person", "classification", "mailbox"] {
        assert_eq!(fault(&without(kind), "version"), Fault::Missing { kind });
    }
    assert!(matches!(
        fault(&without("category"), "LIMITE"),
        Fault::UnknownClearance { .. }
    ));
    assert_eq!(
        fault(&changed("version = 7", "version = 0"), "version"),
        Fault::VersionZero
    );
}

#[test]
fn unknown_missing_and_malformed_keys_are_refused_with_their_line() {
    for (from, to, line) in [
        ("version = 7", "version = 7\nextra = 1", 2),
        ("version = 7", "version = 4294967296", 1),
        ("version = 7", "version = \"7\"", 1),
        (
            "0123456789abcdef0123456789abcdef",
            "0123456789ABCDEF0123456789ABCDEF",
            2,
        ),
        ("\"2026-11-22T00:00:00Z\"", "2026-11-22T00:00:00Z", 3),
        (
            "allow-software-keys = false",
            "allow-software-keys = \"false\"",
            4,
        ),
        ("id = \"a.person\"", "id = \"A Person\"", 7),
        (
            "roles = [\"drafter\"]",
            "roles = [\"drafter\", \"administrator\"]",
            8,
        ),
        ("2026-01-01T00:00:00Z", "2026-01-01", 10),
        (
            "2027-01-01T00:00:00Z\"",
            "2027-01-01T00:00:00Z\"\nrevokd = \"2026-06-01T00:00:00Z\"",
            12,
        ),
        (
            "2027-01-01T00:00:00Z\"",
            "2027-01-01T00:00:00Z\"\nrevoked = \"never\"",
            12,
        ),
        ("\n[[category]]", "\n[[catgory]]", 68),
    ] {
        let text = changed(from, to);
        let found = syntax(&text);
        assert_eq!(found, line, "{to}: {:?}", text.lines().nth(found - 1));
    }
    let lines: Vec<String> = sample::text().lines().map(str::to_owned).collect();
    for gone in 0..lines.len() {
        if lines[gone].contains(" = ") {
            let mut rest = lines.clone();
            rest.remove(gone);
            let text = rest.join("\n");
            assert!(
                TrustList::parse(text.as_bytes()).is_err(),
                "{}",
                lines[gone]
            );
        }
    }
    assert_eq!(TrustList::parse(b"\xff"), Err(TrustError::NotUtf8));
    let bytes = limits::TRUST_LIST_BYTES_MAX + 1;
    assert_eq!(
        TrustList::parse(&vec![b' '; bytes]),
        Err(TrustError::TooLarge { bytes })
    );
}

proptest! {
    #[test]
    fn parsing_any_text_returns(text in ".{0,200}") {
        prop_assert!(TrustList::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn damage_never_panics(
        at in any::<prop::sample::Index>(),
        with in "[ -~\\n]{0,3}",
        gone in 0..6usize,
    ) {
        let mut bytes = sample::text().into_bytes();
        let at = at.index(bytes.len());
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, with.into_bytes());
        if let Ok(list) = TrustList::parse(&bytes) {
            let _ = list.explain();
            prop_assert!(list.classifications().iter().all(|one| one.officers >= 2));
        }
    }
}
