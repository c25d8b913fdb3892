//! The trust list: who may draft and approve, what classifications ask for, and which mailbox may
//! have what.
//!
//! A list takes effect only when [`verify_administrators`] accepted the signatures over its exact
//! bytes.

mod administrators;
mod check;
mod colour;
mod error;
mod explain;
mod file;
mod need_to_know;
#[cfg(test)]
pub(crate) mod sample;
mod spelling;

pub(crate) use administrators::check_administrators;
pub use administrators::verify_administrators;
pub use colour::Colour;
pub use error::{AdministratorError, Fault, IssuedAhead, TrustError};
pub use explain::difference;
pub use need_to_know::{Limit, LimitKind, NeedToKnow};
pub use spelling::SpellingError;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::ids::{CategoryId, ChannelId, ClassificationId, MailboxId, PersonId};
use crate::limits;
use crate::manifest::{FreeText, MediaType};
use crate::sshsig::PublicKey;
use crate::units::UtcTime;

/// A trust list that is fit for use. Only [`TrustList::parse`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustList {
    version: u32,
    channel: ChannelId,
    issued: UtcTime,
    allow_software_keys: bool,
    persons: Vec<Person>,
    classifications: Vec<Classification>,
    categories: Vec<CategoryId>,
    mailboxes: Vec<Mailbox>,
    by_key: BTreeMap<PublicKey, PersonId>,
}

/// What a person may do with a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Writes cables.
    Drafter,
    /// Approves cables of others.
    Officer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Drafter => "drafter",
            Role::Officer => "officer",
        })
    }
}

/// A person of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The id that manifests name.
    pub id: PersonId,
    /// Drafter, officer or both; at least one.
    pub roles: Vec<Role>,
    /// The keys that sign for this person; an officer has at least one.
    pub keys: Vec<PublicKey>,
    /// From when, this second included.
    pub valid_from: UtcTime,
    /// Until when, this second excluded.
    pub valid_until: UtcTime,
    /// From when on this person counts for nothing, if so.
    pub revoked: Option<UtcTime>,
    /// The cables that the person may know of.
    pub limits: NeedToKnow,
}

/// A classification, and what a cable of it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// The id that labels name.
    pub id: ClassificationId,
    /// The marking as it stands on paper.
    pub marking: FreeText,
    /// Distinct persons that must approve: 2 to 16.
    pub officers: usize,
    /// Whether their tokens must have checked PIN or biometrics.
    pub user_verification: bool,
    /// What parts may be.
    pub media_types: Vec<MediaType>,
    /// Bytes of the largest body.
    pub cable_bytes_max: u64,
    /// Days between `created` and the latest `not-after`.
    pub validity_days_max: u32,
    /// The colour of its banner, if it has one.
    pub colour: Option<Colour>,
}

/// A mailbox, and what it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The id that manifests name.
    pub id: MailboxId,
    /// The highest classification it takes.
    pub classification_max: ClassificationId,
    /// The categories it is cleared for, in byte order.
    pub categories: Vec<CategoryId>,
}

impl Person {
    /// Returns whether the person has this role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Returns whether `time` is within the person's validity. Revocation is not checked.
    pub fn is_valid_at(&self, time: UtcTime) -> bool {
        self.valid_from <= time && time < self.valid_until
    }

    /// Returns whether the person counts for nothing at `now`, whatever the date of what was signed.
    pub fn is_revoked(&self, now: UtcTime) -> bool {
        self.revoked.is_some_and(|revoked| revoked <= now)
    }
}

impl TrustList {
    /// Only ever rises.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the channel that the list is for.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns the time of issue: "now" is never earlier.
    pub fn issued(&self) -> UtcTime {
        self.issued
    }

    /// Whether a host with this clock may take the list.
    ///
    /// # Errors
    /// [`IssuedAhead`] when it is issued more than [`limits::ISSUED_AHEAD_S_MAX`] later.
    pub(crate) fn check_issued(&self, clock: UtcTime) -> Result<(), IssuedAhead> {
        let issued = self.issued;
        if issued.since(clock) > limits::ISSUED_AHEAD_S_MAX {
            return Err(IssuedAhead { issued, clock });
        }
        Ok(())
    }

    /// Returns whether `ssh-ed25519` keys may approve: for exercises only.
    pub fn allow_software_keys(&self) -> bool {
        self.allow_software_keys
    }

    /// Returns all persons, in the order of the file.
    pub fn persons(&self) -> &[Person] {
        &self.persons
    }

    /// Returns all classifications, ascending.
    pub fn classifications(&self) -> &[Classification] {
        &self.classifications
    }

    /// Returns all categories, in the order of the file.
    pub fn categories(&self) -> &[CategoryId] {
        &self.categories
    }

    /// Returns all mailboxes, in the order of the file.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    /// Returns the person of this id.
    pub fn person(&self, id: &PersonId) -> Option<&Person> {
        self.persons.iter().find(|person| person.id == *id)
    }

    /// Returns the person that this key signs for. Keys are compared byte for byte.
    pub fn person_of_key(&self, key: &PublicKey) -> Option<&Person> {
        self.by_key.get(key).and_then(|id| self.person(id))
    }

    /// Returns the classification of this id, and its rank: 0 is the lowest.
    pub fn classification(&self, id: &ClassificationId) -> Option<(usize, &Classification)> {
        self.classifications
            .iter()
            .enumerate()
            .find(|(_, classification)| classification.id == *id)
    }

    /// Returns whether labels may name this category.
    pub fn knows_category(&self, id: &CategoryId) -> bool {
        self.categories.contains(id)
    }

    /// Returns the mailbox of this id.
    pub fn mailbox(&self, id: &MailboxId) -> Option<&Mailbox> {
        self.mailboxes.iter().find(|mailbox| mailbox.id == *id)
    }
}
