//! Who may do what on this host: the administrators, the trust list in force, and the persons that local users are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use valise_common::ids::{MailboxId, PersonId};
use valise_common::label::Label;
use valise_common::os::durable::Readers;
use valise_common::sshsig::PublicKey;
use valise_common::trust::{Person, Role, TrustList};
use valise_common::units::UtcTime;

use super::intake_error::IntakeError;
use super::refusal::{Refusal, no_trust};
use crate::model::ledger::Cable;

/// The rules in force.
pub struct Authority {
    administrators: Vec<PublicKey>,
    list: Option<Arc<TrustList>>,
    persons: BTreeMap<u32, PersonId>,
}

impl Authority {
    /// The administrators' keys, the list in force, and `[persons]` of the configuration.
    pub fn new(
        administrators: Vec<PublicKey>,
        list: Option<Arc<TrustList>>,
        persons: &BTreeMap<String, PersonId>,
    ) -> Self {
        Self {
            administrators,
            list,
            persons: persons_by_uid(persons),
        }
    }

    /// Whose signatures put lists and bundles into force.
    pub fn administrators(&self) -> &[PublicKey] {
        &self.administrators
    }

    /// The list in force.
    pub fn list(&self) -> Option<&Arc<TrustList>> {
        self.list.as_ref()
    }

    /// Puts a list into force.
    pub fn put_into_force(&mut self, list: Arc<TrustList>) {
        self.list = Some(list);
    }

    /// The list in force, or the refusal of what needs one.
    pub(super) fn need_list(&self) -> Result<&TrustList, Refusal> {
        self.list.as_deref().ok_or_else(no_trust)
    }

    /// The person that a local user is.
    pub fn person(&self, uid: u32) -> Option<PersonId> {
        self.persons.get(&uid).cloned()
    }

    /// Who asked, for the audit log.
    pub fn asker(&self, uid: u32) -> String {
        self.person(uid)
            .map_or_else(|| format!("uid {uid}"), |person| person.to_string())
    }

    /// The person that a local user is, or the refusal of what a stranger asks.
    pub(super) fn known_person(&self, uid: u32) -> Result<PersonId, Refusal> {
        self.person(uid)
            .ok_or_else(|| Refusal::from(&IntakeError::UnknownUser { uid }))
    }

    /// The person that a local user is, if the list in force counts on them now, in whatever role.
    pub(super) fn counting_person(&self, uid: u32, now: UtcTime) -> Result<PersonId, Refusal> {
        let by = self.known_person(uid)?;
        let person = self.need_list()?.person(&by);
        if person.is_some_and(|person| person.is_valid_at(now) && !person.is_revoked(now)) {
            return Ok(by);
        }
        let text = format!("{by} is not on the trust list in force, not valid now, or revoked");
        Err(Refusal::new("role", text))
    }

    /// Officers that a cable's label asks for today.
    pub fn needed(&self, cable: &Cable) -> usize {
        self.list
            .as_ref()
            .and_then(|list| list.classification(cable.label.classification()))
            .map_or(usize::from(cable.needed), |(_, classification)| {
                classification.officers
            })
    }

    /// Returns who may read a waiting cable: the officers and the drafter who need to know of it. If nobody of the list is
    /// limited below it, that is the officers' group, as an administrator of the host has filled it; without a list it is
    /// nobody.
    pub fn readers_of(&self, drafter: &PersonId, label: &Label, to: &[MailboxId]) -> Readers {
        let Some(list) = &self.list else {
            return Readers::Users(BTreeSet::new());
        };
        let knows = |person: &Person| list.check_need_to_know(person, label, to).is_ok();
        if list.persons().iter().all(knows) {
            return Readers::Group;
        }
        let reads = |id: &PersonId| {
            list.person(id).is_some_and(|person| {
                (person.has_role(Role::Officer) || person.id == *drafter) && knows(person)
            })
        };
        let users = self.persons.iter().filter(|(_, id)| reads(id));
        Readers::Users(users.map(|(uid, _)| *uid).collect())
    }
}

/// The persons of the configuration by their users' numbers; a user may be named by number where the system knows no name.
/// Read once: the sandbox closes the system's list of users.
pub fn persons_by_uid(persons: &BTreeMap<String, PersonId>) -> BTreeMap<u32, PersonId> {
    let uid_of = |user: &String| {
        let known = nix::unistd::User::from_name(user).ok().flatten();
        known
            .map(|user| user.uid.as_raw())
            .or_else(|| user.parse().ok())
    };
    let by_uid = persons
        .iter()
        .filter_map(|(user, person)| Some((uid_of(user)?, person.clone())));
    by_uid.collect()
}
