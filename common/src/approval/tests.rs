#![allow(clippy::unwrap_used)]

use super::*;
use crate::sshsig::forge::Forge;
use crate::sshsig::{KeyKind, SshsigError};
use crate::trust::LimitKind;
use crate::trust::sample::{self, B, B_SECOND, C, D, E, list_with};

const MANIFEST: &str = "VALISE-MANIFEST 1\n\
    channel: 0123456789abcdef0123456789abcdef\n\
    message-id: 00112233445566778899aabbccddeeff\n\
    label: RESTRICTED CRISIS LIMITE\n\
    precedence: ROUTINE\n\
    to: paris-desk registry\n\
    drafter: a.person\n\
    reference: -\n\
    subject: test\n\
    created: 2026-11-22T12:00:00Z\n\
    not-after: 2026-12-22T12:00:00Z\n\
    act-by: -\n\
    part: 1 600 text/plain sha256:\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 a.txt\n\
    part: 2 400 application/pdf sha256:\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 b.pdf\n\
    end\n";

fn now() -> UtcTime {
    at("2026-11-23T00:00:00Z")
}

fn at(text: &str) -> UtcTime {
    text.parse().unwrap()
}

fn manifest() -> Manifest {
    manifest_with("end", "end")
}

fn manifest_with(from: &str, to: &str) -> Manifest {
    assert!(MANIFEST.contains(from), "{from}");
    Manifest::decode(MANIFEST.replacen(from, to, 1).as_bytes()).unwrap()
}

/// A token that was touched and checked a PIN.
fn token(seed: u8) -> Forge {
    let mut forge = Forge::new(KeyKind::SkEd25519, seed);
    forge.flags = 5;
    forge
}

fn approved(seeds: &[u8], manifest: &Manifest) -> Vec<Signature> {
    let bytes = manifest.encode().unwrap();
    seeds
        .iter()
        .map(|seed| token(*seed).signature(&bytes))
        .collect()
}

fn judge_at(
    manifest: &Manifest,
    signatures: &[Signature],
    list: &TrustList,
    now: UtcTime,
) -> Result<Vec<PersonId>, Refusal> {
    let bytes = manifest.encode().unwrap();
    check_approvals(manifest, &bytes, signatures, list, now)
}

fn judge(seeds: &[u8]) -> Result<Vec<PersonId>, Refusal> {
    let manifest = manifest();
    judge_at(
        &manifest,
        &approved(seeds, &manifest),
        &sample::list(),
        now(),
    )
}

fn policy(from: &str, to: &str) -> Result<(), Refusal> {
    check_policy(&manifest_with(from, to), &sample::list(), now())
}

fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

#[test]
fn two_officers_release_what_policy_allows() {
    assert_eq!(check_policy(&manifest(), &sample::list(), now()), Ok(()));
    assert_eq!(judge(&[C, B]), Ok(vec![id("c.officer"), id("b.officer")]));
    assert_eq!(judge(&[B, C, D, E]).unwrap().len(), 4);
    assert_eq!(
        judge(&[B_SECOND, E]).unwrap(),
        [id("b.officer"), id("e.both")]
    );
}

#[test]
fn too_few_approvals_release_nothing() {
    assert_eq!(
        judge(&[]),
        Err(Refusal::Quorum {
            approvals: 0,
            needed: 2
        })
    );
    assert_eq!(
        judge(&[B]),
        Err(Refusal::Quorum {
            approvals: 1,
            needed: 2
        })
    );
    let secret = manifest_with("to: paris-desk registry", "to: registry");
    let text = String::from_utf8(secret.encode().unwrap()).unwrap();
    let secret = Manifest::decode(text.replace("RESTRICTED", "SECRET").as_bytes()).unwrap();
    assert_eq!(
        judge_at(&secret, &approved(&[B, C], &secret), &sample::list(), now()),
        Err(Refusal::Quorum {
            approvals: 2,
            needed: 3
        })
    );
}

#[test]
fn one_person_with_two_keys_is_one_person() {
    let repeated = Err(Refusal::Repeated {
        id: id("b.officer"),
    });
    assert_eq!(judge(&[B, B_SECOND]), repeated);
    assert_eq!(judge(&[B, C, B]), repeated);
}

#[test]
fn the_drafters_own_approval_refuses_the_cable_even_beside_enough_others() {
    let manifest = manifest_with("a.person", "e.both");
    let own = Err(Refusal::OwnCable { id: id("e.both") });
    for seeds in [&[B, E][..], &[B, C, E]] {
        let signatures = approved(seeds, &manifest);
        assert_eq!(
            judge_at(&manifest, &signatures, &sample::list(), now()),
            own
        );
    }
    let signatures = approved(&[B, C], &manifest);
    assert!(judge_at(&manifest, &signatures, &sample::list(), now()).is_ok());
}

#[test]
fn a_stranger_refuses_the_cable_even_beside_enough_others() {
    assert_eq!(judge(&[B, C, 99]), Err(Refusal::UnknownKey));
    // The same secret under another application is not the enrolled key.
    let mut other = token(D);
    other.application = "ssh:other";
    let bytes = manifest().encode().unwrap();
    let mut signatures = approved(&[B, C], &manifest());
    signatures.push(other.signature(&bytes));
    assert_eq!(
        judge_at(&manifest(), &signatures, &sample::list(), now()),
        Err(Refusal::UnknownKey)
    );
}

#[test]
fn a_signature_moved_to_a_changed_manifest_refuses_it() {
    let signatures = approved(&[B, C], &manifest());
    let changed = manifest_with("subject: test", "subject: best");
    assert_eq!(
        judge_at(&changed, &signatures, &sample::list(), now()),
        Err(Refusal::Signature(SshsigError::Mismatch))
    );
    let bytes = changed.encode().unwrap();
    assert_eq!(
        check_approvals(
            &manifest(),
            &bytes,
            &approved(&[B, C], &changed),
            &sample::list(),
            now()
        ),
        Err(Refusal::OtherManifest)
    );
}

#[test]
fn a_signature_for_something_else_refuses_the_cable() {
    let bytes = manifest().encode().unwrap();
    for namespace in [Namespace::TrustList, Namespace::Bundle] {
        let mut forge = token(B);
        forge.namespace = namespace.as_str();
        assert_eq!(
            judge_at(
                &manifest(),
                &[forge.signature(&bytes)],
                &sample::list(),
                now()
            ),
            Err(Refusal::Signature(SshsigError::Namespace {
                expected: Namespace::CableApproval
            }))
        );
    }
}

#[test]
fn touch_alone_does_not_do_where_verification_is_asked_for() {
    let bytes = manifest().encode().unwrap();
    let mut signatures = approved(&[C], &manifest());
    let mut touched = token(B);
    touched.flags = 1;
    signatures.push(touched.signature(&bytes));
    assert_eq!(
        judge_at(&manifest(), &signatures, &sample::list(), now()),
        Err(Refusal::NotUserVerified {
            id: id("b.officer")
        })
    );
    let open = manifest_with("RESTRICTED", "OPEN");
    let bytes = open.encode().unwrap();
    let touched = |seed| {
        let mut forge = token(seed);
        forge.flags = 1;
        forge.signature(&bytes)
    };
    let signatures = [touched(B), touched(C)];
    assert!(judge_at(&open, &signatures, &sample::list(), now()).is_ok());
}

#[test]
fn a_software_key_counts_only_where_the_list_allows_it_and_no_verification_is_asked_for() {
    let text = sample::changed("allow-software-keys = false", "allow-software-keys = true")
        .replace(&sample::token(B), &sample::software(B));
    let list = TrustList::parse(text.as_bytes()).unwrap();
    let open = manifest_with("RESTRICTED", "OPEN");
    for (manifest, expected) in [
        (
            manifest(),
            Err(Refusal::NotUserVerified {
                id: id("b.officer"),
            }),
        ),
        (open, Ok(id("b.officer"))),
    ] {
        let bytes = manifest.encode().unwrap();
        let signature = Forge::new(KeyKind::Ed25519, B).signature(&bytes);
        assert_eq!(
            check_approval(&manifest, &bytes, &signature, &list, now()),
            expected
        );
    }
    let bytes = manifest().encode().unwrap();
    let signature = Forge::new(KeyKind::Ed25519, B).signature(&bytes);
    assert_eq!(
        check_approval(&manifest(), &bytes, &signature, &sample::list(), now()),
        Err(Refusal::UnknownKey)
    );
}

#[test]
fn a_drafter_is_no_officer_and_an_officer_is_no_drafter() {
    let list = list_with("[\"drafter\", \"officer\"]", "[\"drafter\"]");
    let signatures = approved(&[B, E], &manifest());
    let refusal = judge_at(&manifest(), &signatures, &list, now()).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::Role {
            id: id("e.both"),
            role: Role::Officer
        }
    );
    assert_eq!(refusal.to_string(), "e.both is no officer");
    assert_eq!(
        policy("a.person", "b.officer"),
        Err(Refusal::Role {
            id: id("b.officer"),
            role: Role::Drafter
        })
    );
    assert_eq!(
        policy("a.person", "z.person"),
        Err(Refusal::UnknownDrafter { id: id("z.person") })
    );
}

/// A list in which one line of one person differs.
fn list_of(person: &str, field: &str, time: &str) -> TrustList {
    let text = sample::text();
    let (before, rest) = text.split_once(&format!("id = \"{person}\"")).unwrap();
    let rest = match field {
        "revoked" => format!("\nrevoked = \"{time}\"{rest}"),
        _ => {
            let (head, tail) = rest.split_once(&format!("{field} = \"")).unwrap();
            format!("{head}{field} = \"{time}{}", &tail[20..])
        }
    };
    TrustList::parse(format!("{before}id = \"{person}\"{rest}").as_bytes()).unwrap()
}

#[test]
fn who_is_not_valid_when_the_cable_was_made_and_now_counts_for_nothing() {
    // Created 2026-11-22T12:00:00Z, now 2026-11-23T00:00:00Z.
    for (field, time, counts) in [
        ("valid-from", "2026-11-22T12:00:00Z", true),
        ("valid-from", "2026-11-22T12:00:01Z", false),
        ("valid-until", "2026-11-23T00:00:01Z", true),
        ("valid-until", "2026-11-23T00:00:00Z", false),
        ("valid-until", "2026-11-22T13:00:00Z", false),
        ("revoked", "2026-11-23T00:00:01Z", true),
        ("revoked", "2026-11-23T00:00:00Z", false),
        ("revoked", "2026-01-01T00:00:00Z", false),
    ] {
        for person in ["a.person", "c.officer"] {
            let list = list_of(person, field, time);
            let signatures = approved(&[B, C], &manifest());
            let verdict = match person {
                "a.person" => check_policy(&manifest(), &list, now()),
                _ => judge_at(&manifest(), &signatures, &list, now()).map(|_| ()),
            };
            let expected = match (counts, field) {
                (true, _) => Ok(()),
                (false, "revoked") => Err(Refusal::Revoked { id: id(person) }),
                (false, _) => Err(Refusal::NotValid { id: id(person) }),
            };
            assert_eq!(verdict, expected, "{person} {field} {time}");
        }
    }
}

/// A list in which these persons have these lines more.
fn limited(persons: &[&str], lines: &str) -> TrustList {
    let mut text = sample::text();
    for person in persons {
        let id = format!("id = \"{person}\"\n");
        assert!(text.contains(&id), "{person}");
        text = text.replace(&id, &format!("{id}{lines}\n"));
    }
    TrustList::parse(text.as_bytes()).unwrap()
}

#[test]
fn an_approval_outside_of_its_signers_limits_refuses_the_cable_even_beside_enough_others() {
    // The cable is RESTRICTED CRISIS LIMITE, to paris-desk and registry.
    let outside = |limit| {
        Err(Refusal::OutsideLimits {
            id: id("c.officer"),
            limit,
        })
    };
    for (lines, limit) in [
        ("classification-max = \"OPEN\"", LimitKind::Classification),
        ("categories = [\"LIMITE\"]", LimitKind::Categories),
        ("categories = []", LimitKind::Categories),
        ("mailboxes = [\"registry\"]", LimitKind::Mailboxes),
        ("mailboxes = []", LimitKind::Mailboxes),
    ] {
        let list = limited(&["c.officer"], lines);
        let judged = |seeds: &[u8]| {
            let signatures = approved(seeds, &manifest());
            judge_at(&manifest(), &signatures, &list, now())
        };
        assert_eq!(judged(&[B, C]), outside(limit), "{lines}");
        assert_eq!(judged(&[B, D, C]), outside(limit), "{lines}");
        // Others' approvals count as before, and the cable may go.
        assert!(judged(&[B, D]).is_ok(), "{lines}");
        assert_eq!(check_policy(&manifest(), &list, now()), Ok(()));
    }
    for lines in [
        "classification-max = \"RESTRICTED\"",
        "categories = [\"NUCLEAR\", \"CRISIS\", \"LIMITE\"]",
        "mailboxes = [\"registry\", \"paris-desk\"]",
    ] {
        let list = limited(&["a.person", "b.officer", "c.officer"], lines);
        let signatures = approved(&[B, C], &manifest());
        assert!(judge_at(&manifest(), &signatures, &list, now()).is_ok());
        assert_eq!(check_policy(&manifest(), &list, now()), Ok(()), "{lines}");
    }
}

#[test]
fn a_drafter_drafts_within_their_limits_only() {
    for (lines, limit) in [
        ("classification-max = \"OPEN\"", LimitKind::Classification),
        ("categories = [\"CRISIS\"]", LimitKind::Categories),
        ("mailboxes = [\"paris-desk\"]", LimitKind::Mailboxes),
    ] {
        let refused = check_policy(&manifest(), &limited(&["a.person"], lines), now());
        let expected = Refusal::OutsideLimits {
            id: id("a.person"),
            limit,
        };
        assert_eq!(refused, Err(expected), "{lines}");
    }
}

#[test]
fn limits_are_judged_after_the_signature_so_that_nobody_else_learns_of_them() {
    let list = limited(&["c.officer"], "mailboxes = []");
    let mut forged = token(C);
    forged.namespace = Namespace::Bundle.as_str();
    let bytes = manifest().encode().unwrap();
    let refused = judge_at(&manifest(), &[forged.signature(&bytes)], &list, now());
    assert!(matches!(refused, Err(Refusal::Signature(_))), "{refused:?}");
}

#[test]
fn a_cable_created_before_its_officers_validity_is_refused_though_they_are_valid_now() {
    let early = list_of("c.officer", "valid-from", "2026-11-22T18:00:00Z");
    let signatures = approved(&[B, C], &manifest());
    assert_eq!(
        judge_at(&manifest(), &signatures, &early, now()),
        Err(Refusal::NotValid {
            id: id("c.officer")
        })
    );
}

#[test]
fn more_approvals_than_a_package_holds_are_refused() {
    let signatures = vec![approved(&[B], &manifest())[0].clone(); 17];
    assert_eq!(
        judge_at(&manifest(), &signatures, &sample::list(), now()),
        Err(Refusal::TooManyApprovals { approvals: 17 })
    );
    // As many as it holds are looked at: here they are all of one person.
    assert_eq!(
        judge_at(&manifest(), &signatures[..16], &sample::list(), now()),
        Err(Refusal::Repeated {
            id: id("b.officer")
        })
    );
}

#[test]
fn what_the_list_does_not_know_goes_nowhere() {
    let unknown = |text: &str| text.to_owned();
    assert_eq!(
        policy("RESTRICTED", "OTHER"),
        Err(Refusal::UnknownClassification {
            id: unknown("OTHER")
        })
    );
    assert_eq!(
        policy("CRISIS", "ATOMAL"),
        Err(Refusal::UnknownCategory {
            id: unknown("ATOMAL")
        })
    );
    assert_eq!(
        policy("to: paris-desk", "to: paris-desc"),
        Err(Refusal::UnknownMailbox {
            id: unknown("paris-desc")
        })
    );
    assert_eq!(
        policy("channel: 0123", "channel: 1123"),
        Err(Refusal::OtherChannel)
    );
    let other = manifest_with("RESTRICTED", "OTHER");
    assert_eq!(
        judge_at(&other, &approved(&[B, C], &other), &sample::list(), now()),
        Err(Refusal::UnknownClassification {
            id: unknown("OTHER")
        })
    );
}

#[test]
fn categories_only_restrict_and_every_mailbox_must_be_cleared() {
    let not_cleared = Err(Refusal::NotCleared {
        id: "paris-desk".to_owned(),
    });
    assert_eq!(policy("RESTRICTED CRISIS LIMITE", "OPEN"), Ok(()));
    assert_eq!(policy("RESTRICTED CRISIS LIMITE", "RESTRICTED"), Ok(()));
    assert_eq!(
        policy("RESTRICTED CRISIS LIMITE", "RESTRICTED LIMITE"),
        Ok(())
    );
    assert_eq!(
        policy("CRISIS LIMITE", "CRISIS LIMITE NUCLEAR"),
        not_cleared
    );
    assert_eq!(
        policy("RESTRICTED CRISIS LIMITE", "OPEN NUCLEAR"),
        not_cleared
    );
    assert_eq!(policy("RESTRICTED CRISIS LIMITE", "SECRET"), not_cleared);
    let only_registry = MANIFEST
        .replace("paris-desk registry", "registry")
        .replace("RESTRICTED CRISIS LIMITE", "SECRET CRISIS LIMITE NUCLEAR");
    let manifest = Manifest::decode(only_registry.as_bytes()).unwrap();
    assert_eq!(check_policy(&manifest, &sample::list(), now()), Ok(()));
}

#[test]
fn parts_are_of_the_types_and_within_the_size_that_the_classification_allows() {
    assert!(matches!(
        policy("application/pdf", "application/zip"),
        Err(Refusal::MediaType { part: 2, .. })
    ));
    assert!(matches!(
        policy("text/plain", "text/plai"),
        Err(Refusal::MediaType { part: 1, .. })
    ));
    assert_eq!(
        policy("400", "401"),
        Err(Refusal::TooLarge {
            bytes: 1001,
            bytes_max: 1000
        })
    );
}

#[test]
fn times_hold_to_the_second() {
    let check = |manifest: &Manifest, now| check_policy(manifest, &sample::list(), at(now));
    let created_ahead = |now| check(&manifest(), now);
    assert_eq!(created_ahead("2026-11-22T11:55:00Z"), Ok(()));
    assert_eq!(
        created_ahead("2026-11-22T11:54:59Z"),
        Err(Refusal::CreatedAhead)
    );
    assert_eq!(created_ahead("2026-12-22T12:00:00Z"), Ok(()));
    let not_after = at("2026-12-22T12:00:00Z");
    assert_eq!(
        created_ahead("2026-12-22T12:00:01Z"),
        Err(Refusal::Expired { not_after })
    );
    let longer = manifest_with("2026-12-22T12:00:00Z", "2026-12-22T12:00:01Z");
    assert_eq!(
        check(&longer, "2026-11-23T00:00:00Z"),
        Err(Refusal::ValidTooLong { days_max: 30 })
    );
    let list = sample::list();
    let (_, restricted) = list.classification(&"RESTRICTED".parse().unwrap()).unwrap();
    assert_eq!(latest_not_after(manifest().created, restricted), not_after);
}

#[test]
fn refusals_name_ids_and_never_content() {
    let refusals = [
        judge(&[B]).unwrap_err(),
        policy("to: paris-desk", "to: paris-desc").unwrap_err(),
        policy("a.person", "z.person").unwrap_err(),
    ];
    let texts = refusals.map(|refusal| format!("{refusal} ({})", refusal.code()));
    assert_eq!(
        texts,
        [
            "1 of 2 officers approved (quorum)",
            "mailbox paris-desc is not in the trust list (unknown-mailbox)",
            "drafter z.person is not in the trust list (unknown-drafter)",
        ]
    );
}
