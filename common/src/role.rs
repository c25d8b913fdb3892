//! The processes of a channel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the four processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes submissions and approvals, seals.
    Gate,
    /// Sends sealed containers.
    Transmit,
    /// Collects sealed containers.
    Receive,
    /// Opens, verifies and publishes.
    Release,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Gate, Role::Transmit, Role::Receive, Role::Release];

    /// Returns the role's word, as in commands, folder names and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Gate => "gate",
            Role::Transmit => "transmit",
            Role::Receive => "receive",
            Role::Release => "release",
        }
    }

    /// Returns the word of the host that the role works on.
    pub const fn host(self) -> &'static str {
        match self {
            Role::Gate | Role::Transmit => "sender",
            Role::Receive | Role::Release => "receiver",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
