//! One cable and one bundle, as the events of the log describe them.

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, ContainerHash, MailboxId, MessageId, PersonId, Serial};
use valise_common::label::Label;
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

use super::event::Event;

/// The progress of a cable, by the log alone. The files beside it show which ones are queued and on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Submitted; zero or more approvals, no serial.
    Open,
    /// A serial is issued; its container is not durable yet.
    Sealing,
    /// The container is durable; it may still have to be moved into the outbox.
    Sealed,
    /// Every pass has been made.
    Transmitted,
    /// An officer ended it.
    Rejected,
    /// Its drafter ended it.
    Withdrawn,
    /// Its last moment passed before it was sent in full.
    Expired,
    /// Sent, and no longer kept.
    Retired,
}

impl Phase {
    /// Returns whether nothing will ever happen to the cable again.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Phase::Rejected | Phase::Withdrawn | Phase::Expired | Phase::Retired
        )
    }

    /// Returns whether the cable has, or is about to have, a container in the outbox.
    pub fn is_sealed(self) -> bool {
        matches!(self, Phase::Sealing | Phase::Sealed | Phase::Transmitted)
    }
}

/// A sealed cable's place on the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its serial.
    pub serial: Serial,
    /// The bundle whose slot seals it.
    pub bundle: BundleId,
    /// Its container's hash and length, once durable.
    pub container: Option<(ContainerHash, u64)>,
    /// Passes wanted in all.
    pub passes: u8,
    /// Digest of the last request to send it again.
    pub resent: Option<MessageId>,
}

/// One cable, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cable {
    /// Its message-id.
    pub id: MessageId,
    /// Digest of the request that submitted it.
    pub request: MessageId,
    /// Its progress.
    pub phase: Phase,
    /// Who drafted it.
    pub drafter: PersonId,
    /// Its label.
    pub label: Label,
    /// Its precedence.
    pub precedence: Precedence,
    /// Its mailboxes.
    pub to: Vec<MailboxId>,
    /// Its last moment.
    pub not_after: UtcTime,
    /// When an answer is due.
    pub act_by: Option<UtcTime>,
    /// Bytes of its parts.
    pub body_bytes: u64,
    /// Officers that its label asks for.
    pub needed: u8,
    /// Officers that have approved, in the order of their approvals.
    pub approvals: Vec<PersonId>,
    /// Serial and container, once issued.
    pub issued: Option<Issued>,
    /// The reason of its end, if it was not sent.
    pub reason: Option<String>,
    /// The officer that rejected it.
    pub rejected_by: Option<PersonId>,
    /// When it was submitted.
    pub submitted: UtcTime,
    /// When its phase last changed.
    pub changed: UtcTime,
}

impl Cable {
    /// Returns the cable of a submission; `None` for another event.
    pub fn submitted(time: UtcTime, event: &Event) -> Option<Self> {
        let Event::Submitted {
            id,
            request,
            drafter,
            label,
            precedence,
            to,
            not_after,
            act_by,
            body_bytes,
            needed,
        } = event
        else {
            return None;
        };
        Some(Cable {
            id: *id,
            request: *request,
            phase: Phase::Open,
            drafter: drafter.clone(),
            label: label.clone(),
            precedence: *precedence,
            to: to.clone(),
            not_after: *not_after,
            act_by: *act_by,
            body_bytes: *body_bytes,
            needed: *needed,
            approvals: Vec::new(),
            issued: None,
            reason: None,
            rejected_by: None,
            submitted: time,
            changed: time,
        })
    }

    /// Returns the serial, once issued.
    pub fn serial(&self) -> Option<Serial> {
        self.issued.as_ref().map(|issued| issued.serial)
    }
}

/// A bundle that this host holds or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBundle {
    /// Its first serial.
    pub first: Serial,
    /// Its slots.
    pub count: u32,
    /// A later bundle has replaced it: its unused slots are void.
    pub void: bool,
    /// SHA-256 of the whole bundle.
    pub sha256: ContainerHash,
}

impl HeldBundle {
    /// A bundle whose slots are all unused.
    pub fn new(first: Serial, count: u32, sha256: ContainerHash) -> Self {
        Self {
            first,
            count,
            void: false,
            sha256,
        }
    }

    /// Its last serial.
    pub fn last(&self) -> Serial {
        self.first
            .plus(u64::from(self.count.saturating_sub(1)))
            .unwrap_or(self.first)
    }
}
