//! Policy: whether a cable may go, and whose approvals count. The sender asks before it seals, the receiver before it
//! publishes; the receiver's answer, by its own trust list, is the one that decides.
//!
//! "Now" is the caller's: the latest of the clock, the list's `issued` and the last audit time.

use thiserror::Error;

use crate::ids::PersonId;
use crate::manifest::Manifest;
use crate::sshsig::{Signature, SshsigError};
use crate::trust::TrustList;
use crate::units::UtcTime;

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
    #[error("{id} is not {role}")]
    Role {
        /// The person.
        id: PersonId,
        /// The role.
        role: &'static str,
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
    /// A software key where the list does not allow it.
    #[error("{id} approved with a software key, which the trust list does not allow")]
    SoftwareKey {
        /// The person.
        id: PersonId,
    },
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
        crate::limits::APPROVALS_MAX
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
    let _ = (manifest, list, now);
    todo!()
}

/// Whether one approval counts, and whose it is.
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
    let _ = (manifest, manifest_bytes, signature, list, now);
    todo!()
}

/// Whether all approvals count, are of distinct persons, and are as many as the classification asks for.
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
    let _ = (manifest, manifest_bytes, signatures, list, now);
    todo!()
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
            Refusal::SoftwareKey { .. } => "software-key",
            Refusal::NotUserVerified { .. } => "not-user-verified",
            Refusal::OwnCable { .. } => "own-cable",
            Refusal::Repeated { .. } => "repeated-approval",
            Refusal::TooManyApprovals { .. } => "too-many-approvals",
            Refusal::Quorum { .. } => "quorum",
        }
    }
}
