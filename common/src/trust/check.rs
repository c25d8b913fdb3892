//! File → list: what a typo would make unsafe is refused here, with its line.
//!
//! What time changes is not judged here: a list in which officers are revoked must be importable
//! even if nobody is left who could release anything. [`TrustList::warnings`] speaks of that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use super::file::{self, ClassificationEntry, ListEntry, MailboxEntry, PersonEntry};
use super::{
    Classification, Fault, Limit, Mailbox, NeedToKnow, Person, Role, TrustError, TrustList,
    spelling,
};
use crate::ids::{CategoryId, ClassificationId, MailboxId, PersonId};
use crate::limits;
use crate::manifest::FreeText;
use crate::sshsig::{KeyKind, PublicKey};

impl TrustList {
    /// Reads a trust list and checks it in full. It is in force only when
    /// [`super::verify_administrators`] accepted the signatures over the same bytes.
    ///
    /// # Errors
    /// [`TrustError`], with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let text = file::text_of(bytes)?;
        spelling::check(text)?;
        let entry = ListEntry::read(text)?;
        list(entry).map_err(|At { offset, fault }| TrustError::Unsafe {
            line: file::line_of(text, offset),
            fault,
        })
    }
}

/// A fault and the byte of the file where it stands.
struct At {
    offset: usize,
    fault: Fault,
}

fn at(span: Range<usize>, fault: Fault) -> At {
    At {
        offset: span.start,
        fault,
    }
}

fn list(entry: ListEntry) -> Result<TrustList, At> {
    if *entry.version.get_ref() == 0 {
        return Err(at(entry.version.span(), Fault::VersionZero));
    }
    for (kind, absent) in [
        ("person", entry.person.is_empty()),
        ("classification", entry.classification.is_empty()),
        ("mailbox", entry.mailbox.is_empty()),
    ] {
        if absent {
            return Err(at(0..0, Fault::Missing { kind }));
        }
    }
    unique("person", entry.person.iter().map(|one| &one.get_ref().id))?;
    unique(
        "classification",
        entry.classification.iter().map(|one| &one.get_ref().id),
    )?;
    unique(
        "category",
        entry.category.iter().map(|one| &one.get_ref().id),
    )?;
    unique("mailbox", entry.mailbox.iter().map(|one| &one.get_ref().id))?;

    let known = Known::of(&entry);
    let mut keyring = Keyring::default();
    let persons = entry
        .person
        .into_iter()
        .map(|one| {
            person(
                one.into_inner(),
                entry.allow_software_keys,
                &known,
                &mut keyring,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let available = persons
        .iter()
        .filter(|person| person.has_role(Role::Officer))
        .count();
    let classifications = entry
        .classification
        .into_iter()
        .map(|one| classification(one.into_inner(), available))
        .collect::<Result<Vec<_>, _>>()?;
    let mailboxes = entry
        .mailbox
        .into_iter()
        .map(|one| mailbox(one.into_inner(), &known))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(TrustList {
        version: entry.version.into_inner(),
        channel: entry.channel,
        issued: entry.issued,
        allow_software_keys: entry.allow_software_keys,
        persons,
        classifications,
        categories: known.categories,
        mailboxes,
        by_key: keyring.by_key,
    })
}

fn unique<'a, T: Ord + ToString + 'a>(
    kind: &'static str,
    ids: impl Iterator<Item = &'a Spanned<T>>,
) -> Result<(), At> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id.get_ref()) {
            let fault = Fault::Twice {
                kind,
                id: id.get_ref().to_string(),
            };
            return Err(at(id.span(), fault));
        }
    }
    Ok(())
}

/// The ids that the list defines: limits and clearances name no others.
struct Known {
    classifications: Vec<ClassificationId>,
    categories: Vec<CategoryId>,
    mailboxes: Vec<MailboxId>,
}

impl Known {
    fn of(entry: &ListEntry) -> Self {
        let classifications = entry.classification.iter();
        let categories = entry.category.iter();
        let mailboxes = entry.mailbox.iter();
        Self {
            classifications: classifications
                .map(|one| one.get_ref().id.get_ref().clone())
                .collect(),
            categories: categories
                .map(|one| one.get_ref().id.get_ref().clone())
                .collect(),
            mailboxes: mailboxes
                .map(|one| one.get_ref().id.get_ref().clone())
                .collect(),
        }
    }
}

/// Every key of the list, by its binary form, and every secret, by its point.
#[derive(Default)]
struct Keyring {
    by_key: BTreeMap<PublicKey, PersonId>,
    by_point: BTreeMap<[u8; 32], PersonId>,
}

fn person(
    entry: PersonEntry,
    allow_software_keys: bool,
    known: &Known,
    keyring: &mut Keyring,
) -> Result<Person, At> {
    let id = entry.id.into_inner();
    let person = id.to_string();
    let limits = NeedToKnow {
        classification_max: match entry.classification_max {
            None => Limit::NoLimit,
            Some(max) => {
                check_limit(&person, "classification", &max, &known.classifications)?;
                Limit::Within(max.into_inner())
            }
        },
        categories: limit(&person, "category", entry.categories, &known.categories)?,
        mailboxes: limit(&person, "mailbox", entry.mailboxes, &known.mailboxes)?,
    };
    let roles = entry.roles.get_ref();
    if roles.is_empty() {
        return Err(at(entry.roles.span(), Fault::NoRole { person }));
    }
    if roles.iter().collect::<BTreeSet<_>>().len() != roles.len() {
        return Err(at(entry.roles.span(), Fault::RoleTwice { person }));
    }
    let is_officer = roles.contains(&Role::Officer);
    // A drafter is a name that the sender asserts and signs nothing, so only an officer needs a
    // key.
    if is_officer && entry.keys.get_ref().is_empty() {
        return Err(at(entry.keys.span(), Fault::NoKey { person }));
    }
    let mut keys = Vec::new();
    for line in entry.keys.into_inner() {
        let fault = |fault| at(line.span(), fault);
        let key = PublicKey::parse_openssh(line.get_ref()).map_err(|error| {
            fault(Fault::BadKey {
                person: person.clone(),
                error,
            })
        })?;
        if is_officer && key.kind() == KeyKind::Ed25519 && !allow_software_keys {
            return Err(fault(Fault::SoftwareKey { person }));
        }
        // The point, not the key's binary form: a security key's secret that is enrolled as a
        // software key as well, or under another application, is one secret in two hands.
        if let Some(other) = keyring.by_point.insert(*key.point_bytes(), id.clone()) {
            let other = other.to_string();
            return Err(fault(Fault::SharedKey { person, other }));
        }
        keyring.by_key.insert(key.clone(), id.clone());
        keys.push(key);
    }
    if *entry.valid_from.get_ref() >= entry.valid_until {
        return Err(at(entry.valid_from.span(), Fault::Validity { person }));
    }
    Ok(Person {
        id,
        roles: entry.roles.into_inner(),
        keys,
        valid_from: entry.valid_from.into_inner(),
        valid_until: entry.valid_until,
        revoked: entry.revoked,
        limits,
    })
}

/// Reads a person's limit of one kind. Nothing in it may be unknown: a misspelt limit would be another one.
fn limit<T: Ord + Clone + ToString>(
    person: &str,
    kind: &'static str,
    entry: Option<Vec<Spanned<T>>>,
    known: &[T],
) -> Result<Limit<Vec<T>>, At> {
    let Some(ids) = entry else {
        return Ok(Limit::NoLimit);
    };
    unique("id of a limit", ids.iter())?;
    for id in &ids {
        check_limit(person, kind, id, known)?;
    }
    let mut ids: Vec<T> = ids.into_iter().map(Spanned::into_inner).collect();
    ids.sort();
    Ok(Limit::Within(ids))
}

fn check_limit<T: PartialEq + ToString>(
    person: &str,
    kind: &'static str,
    id: &Spanned<T>,
    known: &[T],
) -> Result<(), At> {
    if known.contains(id.get_ref()) {
        return Ok(());
    }
    let fault = Fault::UnknownLimit {
        person: person.to_owned(),
        kind,
        id: id.get_ref().to_string(),
    };
    Err(at(id.span(), fault))
}

fn classification(entry: ClassificationEntry, available: usize) -> Result<Classification, At> {
    let id = entry.id.into_inner();
    let classification = id.to_string();
    let marking = FreeText::parse(entry.marking.get_ref(), limits::SUBJECT_CHARS_MAX);
    let marking = marking.map_err(|error| {
        let classification = classification.clone();
        at(
            entry.marking.span(),
            Fault::Marking {
                classification,
                error,
            },
        )
    })?;
    let officers = quorum(&entry.officers, available, &classification)?;
    let media_types = entry.media_types.get_ref();
    let distinct = media_types.iter().collect::<BTreeSet<_>>().len();
    if distinct == 0 || distinct != media_types.len() {
        return Err(at(
            entry.media_types.span(),
            Fault::MediaTypes { classification },
        ));
    }
    if !(1..=limits::PACKAGE_BYTES_MAX).contains(entry.cable_bytes_max.get_ref()) {
        let fault = Fault::CableBytes { classification };
        return Err(at(entry.cable_bytes_max.span(), fault));
    }
    if !(1..=limits::VALIDITY_DAYS_MAX).contains(entry.validity_days_max.get_ref()) {
        let fault = Fault::ValidityDays { classification };
        return Err(at(entry.validity_days_max.span(), fault));
    }
    Ok(Classification {
        id,
        marking,
        officers,
        user_verification: entry.user_verification,
        media_types: entry.media_types.into_inner(),
        cable_bytes_max: entry.cable_bytes_max.into_inner(),
        validity_days_max: entry.validity_days_max.into_inner(),
        colour: entry.colour,
    })
}

/// How many officers must approve: at least two, at most a package's approvals, and not more than
/// there are.
fn quorum(officers: &Spanned<u64>, available: usize, classification: &str) -> Result<usize, At> {
    let span = officers.span();
    let officers = *officers.get_ref();
    let classification = classification.to_owned();
    let allowed = limits::OFFICERS_MIN..=limits::APPROVALS_MAX;
    match usize::try_from(officers) {
        Ok(count) if allowed.contains(&count) && count <= available => Ok(count),
        Ok(count) if allowed.contains(&count) => Err(at(
            span,
            Fault::QuorumOutOfReach {
                classification,
                officers,
                available,
            },
        )),
        _ => Err(at(
            span,
            Fault::Quorum {
                classification,
                officers,
            },
        )),
    }
}

fn mailbox(entry: MailboxEntry, known: &Known) -> Result<Mailbox, At> {
    let id = entry.id.into_inner();
    if !known
        .classifications
        .contains(entry.classification_max.get_ref())
    {
        let fault = Fault::UnknownClearance {
            mailbox: id.to_string(),
            kind: "classification",
            id: entry.classification_max.get_ref().to_string(),
        };
        return Err(at(entry.classification_max.span(), fault));
    }
    unique("category of a mailbox", entry.categories.iter())?;
    if let Some(unknown) = entry
        .categories
        .iter()
        .find(|category| !known.categories.contains(category.get_ref()))
    {
        let fault = Fault::UnknownClearance {
            mailbox: id.to_string(),
            kind: "category",
            id: unknown.get_ref().to_string(),
        };
        return Err(at(unknown.span(), fault));
    }
    let mut categories: Vec<CategoryId> = entry
        .categories
        .into_iter()
        .map(Spanned::into_inner)
        .collect();
    categories.sort();
    Ok(Mailbox {
        id,
        classification_max: entry.classification_max.into_inner(),
        categories,
    })
}

#[cfg(test)]
mod tests;
