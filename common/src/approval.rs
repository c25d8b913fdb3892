//! Policy: whether a cable may go, and whose approvals count. The sender asks before it seals, the receiver before it
//! publishes; the receiver's answer, by its own trust list, is the one that decides.
//!
//! "Now" is the caller's: the latest of the clock, the list's `issued` and the last audit time.

use thiserror::Error;

use crate::ids::{MailboxId, PersonId};
use crate::limits;
use crate::manifest::Manifest;
use crate::sshsig::{Namespace, Signature, SshsigError};
use crate::trust::{Classification, Person, Role, TrustList};
use crate::units::UtcTime;

const DAY_S: u64 = 86_400;

/// Why a cable, or an approval of it, is refused. Ids are named, content never is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The cable is for another channel than the list.
    #[error("the cable is for another channel")]
    OtherChannel,
    /// The list does not know the classification.
    #[error("classification {id} is not in the trust list")]
    UnknownClassification {
        /// Its id.
        id: String,
    },
    /// The list does not know a category.
    #[error("category {id} is not in the trust list")]
    UnknownCategory {
        /// Its id.
        id: String,
    },
    /// The list does not know a mailbox.
    #[error("mailbox {id} is not in the trust list")]
    UnknownMailbox {
        /// Its id.
        id: String,
    },
    /// A mailbox is not cleared for the label.
    #[error("mailbox {id} is not cleared for this label")]
    NotCleared {
        /// Its id.
        id: String,
    },
    /// A part is of a type that the classification does not take.
    #[error("part {part} is {media_type}, which {classification} does not allow")]
    MediaType {
        /// The part's number, from 1.
        part: usize,
        /// What it is.
        media_type: String,
        /// The classification.
        classification: String,
    },
    /// The parts together are too large.
    #[error("the cable has {bytes} bytes; {bytes_max} are the most for its classification")]
    TooLarge {
        /// Their bytes.
        bytes: u64,
        /// The most.
        bytes_max: u64,
    },
    /// Valid for longer than the classification allows.
    #[error("the cable is valid for more than the {days_max} days that its classification allows")]
    ValidTooLong {
        /// The most days.
        days_max: u32,
    },
    /// Created in the future.
    #[error("the cable was created in the future; check the clocks")]
    CreatedAhead,
    /// Its time has passed.
    #[error("the cable expired at {not_after}")]
    Expired {
        /// When.
        not_after: UtcTime,
    },
    /// The list does not know the drafter.
    #[error("drafter {id} is not in the trust list")]
    UnknownDrafter {
        /// Its id.
        id: PersonId,
    },
    /// The person has not the role that is needed.
    #[error("{id} is no {role}")]
    Role {
        /// The person.
        id: PersonId,
        /// The role.
        role: Role,
    },
    /// The person was not valid at `created`, or is not now.
    #[error("{id} is not valid at the time of the cable and now")]
    NotValid {
        /// The person.
        id: PersonId,
    },
    /// The person counts for nothing any more.
    #[error("{id} is revoked")]
    Revoked {
        /// The person.
        id: PersonId,
    },
    /// The bytes that were signed are not the manifest's.
    #[error("the manifest is not the one that was to be approved")]
    OtherManifest,
    /// An approval is no signature of an accepted kind, or does not verify.
    #[error("approval refused: {0}")]
    Signature(#[from] SshsigError),
    /// An approval of a key that the list does not know.
    #[error("an approval is of a key that is not in the trust list")]
    UnknownKey,
    /// PIN or biometrics were asked for and not given.
    #[error("{id} approved without PIN or biometrics, which the classification asks for")]
    NotUserVerified {
        /// The person.
        id: PersonId,
    },
    /// The drafter approves nothing of his own.
    #[error("{id} drafted the cable and cannot approve it")]
    OwnCable {
        /// The person.
        id: PersonId,
    },
    /// One person approves once.
    #[error("{id} approved twice")]
    Repeated {
        /// The person.
        id: PersonId,
    },
    /// More approvals than a package holds.
    #[error(
        "the cable has {approvals} approvals; {} are the most",
        limits::APPROVALS_MAX
    )]
    TooManyApprovals {
        /// How many.
        approvals: usize,
    },
    /// Too few persons approved.
    #[error("{approvals} of {needed} officers approved")]
    Quorum {
        /// How many did.
        approvals: usize,
        /// How many must.
        needed: usize,
    },
}

/// Whether the cable may go at all, whoever approves it: label, mailboxes, parts, size, times and drafter.
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
    check_person(drafter, Role::Drafter, manifest, now)
}

/// Whether one approval counts, and whose it is. `manifest_bytes` is what `manifest` was decoded from.
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
    // The signature covers the bytes and everything else is judged by the value: they must be the same manifest.
    if manifest.encode().is_ok_and(|bytes| bytes == manifest_bytes) {
        check_one(manifest, manifest_bytes, signature, list, now)
    } else {
        Err(Refusal::OtherManifest)
    }
}

/// Whether all approvals count, are of distinct persons, and are as many as the classification asks for. One that does
/// not count refuses the cable, even if the others suffice. Returns the persons in the order of their approvals.
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

/// A mailbox takes a cable if the classification is at most its highest and it is cleared for every category.
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

/// The latest `not-after` that a classification grants: also the default of a submission.
pub fn latest_not_after(created: UtcTime, classification: &Classification) -> UtcTime {
    created.plus_s(u64::from(classification.validity_days_max) * DAY_S)
}

/// Whether a person held a role when the cable was made, and holds it now.
fn check_person(
    person: &Person,
    role: Role,
    manifest: &Manifest,
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
    Ok(())
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
    check_person(person, Role::Officer, manifest, now)?;
    // A software key never has checked anything, so this keeps it out as well.
    if classification.user_verification && !presence.user_verified {
        return Err(Refusal::NotUserVerified { id: id() });
    }
    Ok(id())
}

impl Refusal {
    /// One word for reports and quarantine reasons.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::OtherChannel => "other-channel",
            Refusal::UnknownClassification { .. } => "unknown-classification",
            Refusal::UnknownCategory { .. } => "unknown-category",
            Refusal::UnknownMailbox { .. } => "unknown-mailbox",
            Refusal::NotCleared { .. } => "not-cleared",
            Refusal::MediaType { .. } => "media-type",
            Refusal::TooLarge { .. } => "too-large",
            Refusal::ValidTooLong { .. } => "valid-too-long",
            Refusal::CreatedAhead => "created-ahead",
            Refusal::Expired { .. } => "expired",
            Refusal::UnknownDrafter { .. } => "unknown-drafter",
            Refusal::Role { .. } => "role",
            Refusal::NotValid { .. } => "not-valid",
            Refusal::Revoked { .. } => "revoked",
            Refusal::OtherManifest => "other-manifest",
            Refusal::Signature(_) => "signature",
            Refusal::UnknownKey => "unknown-key",
            Refusal::NotUserVerified { .. } => "not-user-verified",
            Refusal::OwnCable { .. } => "own-cable",
            Refusal::Repeated { .. } => "repeated-approval",
            Refusal::TooManyApprovals { .. } => "too-many-approvals",
            Refusal::Quorum { .. } => "quorum",
        }
    }
}
