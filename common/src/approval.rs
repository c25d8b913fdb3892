//! Policy: whether a cable may go, and whose approvals count. The sender asks before it seals, the
//! receiver before it publishes; the receiver's answer, by its own trust list, is the one that
//! decides.
//!
//! "Now" is the caller's: the latest of the clock, the list's `issued` and the last audit time.

mod refusal;

pub use refusal::Refusal;

use crate::ids::{MailboxId, PersonId};
use crate::limits;
use crate::manifest::Manifest;
use crate::sshsig::{Namespace, Signature};
use crate::trust::{Classification, Person, Role, TrustList};
use crate::units::UtcTime;

const DAY_S: u64 = 86_400;

/// Checks that the cable may go at all, whoever approves it: label, mailboxes, parts, size, times and
/// drafter.
///
/// # Errors
/// The first [`Refusal`].
pub fn check_policy(manifest: &Manifest, list: &TrustList, now: UtcTime) -> Result<(), Refusal> {
    if manifest.channel != list.channel() {
        return Err(Refusal::OtherChannel);
    }
    let classification = classification_of(manifest, list)?;
    check_categories(manifest, list)?;
    for id in &manifest.to {
        check_mailbox(id, manifest, list)?;
    }
    check_parts(manifest, classification)?;
    check_times(manifest, classification, now)?;
    let drafter = list
        .person(&manifest.drafter)
        .ok_or_else(|| Refusal::UnknownDrafter {
            id: manifest.drafter.clone(),
        })?;
    check_person(drafter, Role::Drafter, manifest, list, now)
}

/// Checks that one approval counts, and returns whose it is. `manifest_bytes` is what `manifest` was decoded
/// from.
///
/// # Errors
/// The first [`Refusal`].
pub fn check_approval(
    manifest: &Manifest,
    manifest_bytes: &[u8],
    signature: &Signature,
    list: &TrustList,
    now: UtcTime,
) -> Result<PersonId, Refusal> {
    // The signature covers the bytes and everything else is judged by the value: they must be the
    // same manifest.
    if manifest.encode().is_ok_and(|bytes| bytes == manifest_bytes) {
        check_one(manifest, manifest_bytes, signature, list, now)
    } else {
        Err(Refusal::OtherManifest)
    }
}

/// Checks that all approvals count, are of distinct persons, and are as many as the classification asks
/// for. One approval that does not count refuses the cable, even if the others suffice. Returns the persons
/// in the order of their approvals.
///
/// # Errors
/// The first [`Refusal`].
pub fn check_approvals(
    manifest: &Manifest,
    manifest_bytes: &[u8],
    signatures: &[Signature],
    list: &TrustList,
    now: UtcTime,
) -> Result<Vec<PersonId>, Refusal> {
    let needed = classification_of(manifest, list)?.officers;
    if signatures.len() > limits::APPROVALS_MAX {
        let approvals = signatures.len();
        return Err(Refusal::TooManyApprovals { approvals });
    }
    let mut officers = Vec::new();
    for signature in signatures {
        let id = check_approval(manifest, manifest_bytes, signature, list, now)?;
        if officers.contains(&id) {
            return Err(Refusal::Repeated { id });
        }
        officers.push(id);
    }
    if officers.len() < needed {
        let approvals = officers.len();
        return Err(Refusal::Quorum { approvals, needed });
    }
    Ok(officers)
}

fn classification_of<'a>(
    manifest: &Manifest,
    list: &'a TrustList,
) -> Result<&'a Classification, Refusal> {
    let id = manifest.label.classification();
    match list.classification(id) {
        Some((_, classification)) => Ok(classification),
        None => Err(Refusal::UnknownClassification { id: id.to_string() }),
    }
}

fn check_categories(manifest: &Manifest, list: &TrustList) -> Result<(), Refusal> {
    let categories = manifest.label.categories();
    match categories.iter().find(|id| !list.knows_category(id)) {
        Some(id) => Err(Refusal::UnknownCategory { id: id.to_string() }),
        None => Ok(()),
    }
}

/// A mailbox takes a cable if the classification is at most its highest and it is cleared for every
/// category.
fn check_mailbox(id: &MailboxId, manifest: &Manifest, list: &TrustList) -> Result<(), Refusal> {
    let mailbox = list
        .mailbox(id)
        .ok_or_else(|| Refusal::UnknownMailbox { id: id.to_string() })?;
    let rank = |id| list.classification(id).map(|(rank, _)| rank);
    // An unknown rank would compare as lower than any known one; both are known, and must be.
    let reaches = match (
        rank(manifest.label.classification()),
        rank(&mailbox.classification_max),
    ) {
        (Some(rank), Some(rank_max)) => rank <= rank_max,
        _ => false,
    };
    let categories = manifest.label.categories();
    if reaches && categories.iter().all(|id| mailbox.categories.contains(id)) {
        Ok(())
    } else {
        Err(Refusal::NotCleared { id: id.to_string() })
    }
}

fn check_parts(manifest: &Manifest, classification: &Classification) -> Result<(), Refusal> {
    for (number, part) in (1..).zip(&manifest.parts) {
        if !classification.media_types.contains(&part.media_type) {
            return Err(Refusal::MediaType {
                part: number,
                media_type: part.media_type.to_string(),
                classification: classification.id.to_string(),
            });
        }
    }
    let (bytes, bytes_max) = (manifest.body_bytes(), classification.cable_bytes_max);
    if bytes > bytes_max {
        return Err(Refusal::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

fn check_times(
    manifest: &Manifest,
    classification: &Classification,
    now: UtcTime,
) -> Result<(), Refusal> {
    if manifest.created > now.plus_s(limits::CREATED_AHEAD_S_MAX) {
        return Err(Refusal::CreatedAhead);
    }
    if manifest.not_after > latest_not_after(manifest.created, classification) {
        let days_max = classification.validity_days_max;
        return Err(Refusal::ValidTooLong { days_max });
    }
    if now > manifest.not_after {
        let not_after = manifest.not_after;
        return Err(Refusal::Expired { not_after });
    }
    Ok(())
}

/// Returns the latest `not-after` that a classification grants: also the default of a submission.
pub(crate) fn latest_not_after(created: UtcTime, classification: &Classification) -> UtcTime {
    created.plus_s(u64::from(classification.validity_days_max) * DAY_S)
}

/// Checks that a person held a role when the cable was made, holds it now, and may know of the cable.
fn check_person(
    person: &Person,
    role: Role,
    manifest: &Manifest,
    list: &TrustList,
    now: UtcTime,
) -> Result<(), Refusal> {
    let id = || person.id.clone();
    if !person.has_role(role) {
        return Err(Refusal::Role { id: id(), role });
    }
    if person.is_revoked(now) {
        return Err(Refusal::Revoked { id: id() });
    }
    if !person.is_valid_at(manifest.created) || !person.is_valid_at(now) {
        return Err(Refusal::NotValid { id: id() });
    }
    list.check_need_to_know(person, &manifest.label, &manifest.to)
        .map_err(|limit| Refusal::OutsideLimits { id: id(), limit })
}

fn check_one(
    manifest: &Manifest,
    manifest_bytes: &[u8],
    signature: &Signature,
    list: &TrustList,
    now: UtcTime,
) -> Result<PersonId, Refusal> {
    let classification = classification_of(manifest, list)?;
    let person = list
        .person_of_key(signature.public_key())
        .ok_or(Refusal::UnknownKey)?;
    let presence = signature.verify(Namespace::CableApproval, manifest_bytes)?;
    let id = || person.id.clone();
    if person.id == manifest.drafter {
        return Err(Refusal::OwnCable { id: id() });
    }
    check_person(person, Role::Officer, manifest, list, now)?;
    // A software key never has checked anything, so this keeps it out as well.
    if classification.user_verification && !presence.user_verified {
        return Err(Refusal::NotUserVerified { id: id() });
    }
    Ok(id())
}

#[cfg(test)]
mod tests;
