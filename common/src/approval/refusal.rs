//! The reasons to refuse a cable, or an approval of it.

use thiserror::Error;

use crate::ids::PersonId;
use crate::limits;
use crate::sshsig::SshsigError;
use crate::trust::{LimitKind, Role};
use crate::units::{ByteSize, UtcTime};

/// The reason to refuse. It includes ids, and never content.
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
    #[error(
        "the cable has {bytes} bytes; at most {} are allowed for its classification",
        ByteSize(*bytes_max)
    )]
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
    /// The person need not know of the cable.
    #[error("the limits of {id} in the trust list do not cover the {limit} of this cable")]
    OutsideLimits {
        /// The person.
        id: PersonId,
        /// The limit.
        limit: LimitKind,
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
    /// A drafter does not approve their own cable.
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
            Refusal::OutsideLimits { .. } => "outside-limits",
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
