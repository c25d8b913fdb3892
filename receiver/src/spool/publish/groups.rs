//! `[mailboxes]`: which Unix group may fetch a mailbox's cables.

use std::collections::BTreeMap;

use nix::unistd::{Gid, Group};
use thiserror::Error;
use valise_common::ids::MailboxId;

/// Why `[mailboxes]` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// There is no such group.
    #[error(
        "[mailboxes] {mailbox}: there is no group {group}; make it (groupadd {group}) or name another"
    )]
    Unknown {
        /// The mailbox.
        mailbox: MailboxId,
        /// The group's name.
        group: String,
    },
    /// The group could not be looked up.
    #[error("[mailboxes] {mailbox}: group {group} could not be looked up: {errno}")]
    Lookup {
        /// The mailbox.
        mailbox: MailboxId,
        /// The group's name.
        group: String,
        /// What the system said.
        errno: nix::Error,
    },
}

/// The Unix group of each mailbox that has one.
#[derive(Debug, Clone, Default)]
pub struct Groups(BTreeMap<MailboxId, Gid>);

impl Groups {
    /// Looks up the groups of `[mailboxes]`.
    ///
    /// # Errors
    /// [`GroupError`] names the mailbox and its group.
    pub fn look_up(mailboxes: &BTreeMap<MailboxId, String>) -> Result<Groups, GroupError> {
        let mut groups = BTreeMap::new();
        for (mailbox, group) in mailboxes {
            let known = |errno| GroupError::Lookup {
                mailbox: mailbox.clone(),
                group: group.clone(),
                errno,
            };
            let found =
                Group::from_name(group)
                    .map_err(known)?
                    .ok_or_else(|| GroupError::Unknown {
                        mailbox: mailbox.clone(),
                        group: group.clone(),
                    })?;
            groups.insert(mailbox.clone(), found.gid);
        }
        Ok(Groups(groups))
    }

    /// Returns every group that may fetch anything.
    pub fn gids(&self) -> Vec<u32> {
        self.0.values().map(|gid| gid.as_raw()).collect()
    }

    /// Returns the group of a mailbox.
    pub(super) fn gid(&self, mailbox: &MailboxId) -> Option<u32> {
        self.0.get(mailbox).map(|gid| gid.as_raw())
    }
}
