//! The manifest: what officers read and sign. One cable has one, and one form of it only.

mod codec;
mod media_type;
mod shown;
mod text;

pub use codec::ManifestError;
pub use media_type::{MediaType, MediaTypeError};
pub(crate) use shown::{printable, printable_json};
pub use shown::{shown_lines, shown_name};
pub(crate) use text::is_forbidden;
pub(crate) use text::one_line;
pub use text::{FileName, FreeText, TextError};

use crate::ids::{ChannelId, MailboxId, MessageId, PersonId};
use crate::label::Label;
use crate::precedence::Precedence;
use crate::units::UtcTime;

/// Everything about a cable but the bytes of its parts.
///
/// The fields are public, so a value may hold what no manifest may; [`Manifest::encode`] refuses it
/// then, and [`Manifest::decode`] never makes such a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The channel that the cable is for.
    pub channel: ChannelId,
    /// The cable's own id, random.
    pub message_id: MessageId,
    /// Classification and categories.
    pub label: Label,
    /// How urgent it is.
    pub precedence: Precedence,
    /// The mailboxes it is for: 1 to 64, unique, in byte order.
    pub to: Vec<MailboxId>,
    /// Who wrote it, as the sender asserts.
    pub drafter: PersonId,
    /// Up to 64 characters, if the drafter gave one.
    pub reference: Option<FreeText>,
    /// 1 to 120 characters.
    pub subject: FreeText,
    /// When it was submitted.
    pub created: UtcTime,
    /// Until when it may be released, this second included.
    pub not_after: UtcTime,
    /// When an answer is due, or silence means consent: later than `created`, at most `not_after`.
    pub act_by: Option<UtcTime>,
    /// Its parts in order: 1 to 100.
    pub parts: Vec<Part>,
}

/// One file of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its bytes.
    pub length: u64,
    /// What the drafter says it is.
    pub media_type: MediaType,
    /// SHA-256, so that an officer can check it with `sha256sum`.
    pub sha256: [u8; 32],
    /// The name that the drafter's file had. Shown, never used as a path.
    pub name: FileName,
}

impl Manifest {
    /// Bytes of all parts together: the body of the package. Saturates; no valid manifest comes
    /// near.
    pub fn body_bytes(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.length))
    }
}
