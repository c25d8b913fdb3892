//! The trust list.

use std::collections::BTreeSet;

use valise_common::limits;
use valise_common::sshsig::{KeyKind, Namespace};
use valise_common::trust::{Role, TrustList, difference, verify_administrators};

use super::Seed;
use super::scene::{SCENE, now};

/// Reads a trust list.
pub(super) fn trust(data: &[u8]) {
    let scene = &*SCENE;
    let signatures = &scene.list_signatures;
    let list = TrustList::parse(data);
    if let Err(error) = &list {
        assert!(!error.to_string().contains('\0'));
    }
    let Ok(list) = list else {
        return;
    };
    assert_eq!(TrustList::parse(data).as_ref(), Ok(&list));
    assert!(data.len() <= limits::TRUST_LIST_BYTES_MAX && list.version() > 0);
    check_persons(&list);
    check_policies(&list);
    for line in list.explain().into_iter().chain(list.warnings(now())) {
        assert!(!line.contains(char::is_control), "a sentence a line");
    }
    assert!(difference(&list, &list).is_empty());
    let changes = difference(&scene.list, &list);
    assert!(list == scene.list || !changes.is_empty() || is_same_to_people(&list));
    let administrators = &scene.administrators;
    let signed = verify_administrators(data, signatures, Namespace::TrustList, administrators);
    assert_eq!(signed.is_ok(), data == scene.list_text.as_bytes());
}

/// Returns whether two lists differ only in what `difference` does not report: their version and date.
fn is_same_to_people(list: &TrustList) -> bool {
    let without_head =
        |list: &TrustList| -> BTreeSet<String> { list.explain().into_iter().skip(1).collect() };
    without_head(list) == without_head(&SCENE.list)
}

fn check_persons(list: &TrustList) {
    let persons = list.persons();
    let ids: BTreeSet<_> = persons.iter().map(|person| &person.id).collect();
    assert_eq!(ids.len(), persons.len());
    let mut secrets = BTreeSet::new();
    for person in persons {
        assert!(!person.roles.is_empty() && person.valid_from < person.valid_until);
        let is_officer = person.has_role(Role::Officer);
        assert!(!is_officer || !person.keys.is_empty());
        for key in &person.keys {
            assert!(
                secrets.insert(*key.point_bytes()),
                "one secret in two hands"
            );
            let is_software = key.kind() == KeyKind::Ed25519;
            assert!(!is_officer || !is_software || list.allow_software_keys());
            assert_eq!(list.person_of_key(key), Some(person));
        }
    }
}

fn check_policies(list: &TrustList) {
    let officers = list.persons().iter();
    let officers = officers
        .filter(|person| person.has_role(Role::Officer))
        .count();
    for classification in list.classifications() {
        assert!((2..=limits::APPROVALS_MAX.min(officers)).contains(&classification.officers));
        assert!(!classification.media_types.is_empty());
        assert!((1..=limits::PACKAGE_BYTES_MAX).contains(&classification.cable_bytes_max));
        assert!((1..=limits::VALIDITY_DAYS_MAX).contains(&classification.validity_days_max));
    }
    assert!(!list.classifications().is_empty() && !list.mailboxes().is_empty());
    for mailbox in list.mailboxes() {
        assert!(list.classification(&mailbox.classification_max).is_some());
        assert!(mailbox.categories.iter().all(|id| list.knows_category(id)));
    }
}

/// The list that administrators signed, and the shipped example.
pub(super) fn seeds() -> Vec<Seed> {
    let example = include_bytes!("../../../config/trust.toml").to_vec();
    vec![
        ("signed".to_owned(), SCENE.list_text.clone().into_bytes()),
        ("example".to_owned(), example),
    ]
}
