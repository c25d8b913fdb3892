//! What is answered when something is not done: a word for the audit log, a sentence for who asked.

use super::intake_error::IntakeError;
use crate::model::ledger::{Cable, Phase};
use valise_common::host::requests::SYSTEM_FAILURE;

/// A refusal: a word for the audit log, a sentence for who asked.
pub struct Refusal {
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, text: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    /// Nothing is wrong with what was asked: this host could not do it.
    pub fn failure(code: &'static str, text: impl std::fmt::Display) -> Self {
        Self::new(
            code,
            format!("{SYSTEM_FAILURE}: {text}; nothing was changed"),
        )
    }

    /// Whether the system failed.
    pub fn is_failure(&self) -> bool {
        self.text.starts_with(SYSTEM_FAILURE)
    }
}

impl From<&IntakeError> for Refusal {
    fn from(unfit: &IntakeError) -> Self {
        if unfit.is_failure() {
            Self::failure(unfit.code(), unfit)
        } else {
            Self::new(unfit.code(), unfit)
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a user is the host's operator: root, or who owns the state and so could change it by hand anyway.
pub(super) fn is_operator(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// A wrong clock ends cables: to call it right is for those alone who could end them otherwise.
pub(super) fn may_accept_clock(uid: u32) -> Result<(), Refusal> {
    if is_operator(uid) {
        return Ok(());
    }
    let owner = nix::unistd::geteuid();
    let text = format!(
        "user {uid} may not accept the clock; have root, or user {owner} to whom the state belongs, run \
         valise-sender clock accept"
    );
    Err(Refusal::new("not-operator", text))
}

pub(super) fn no_cable() -> Refusal {
    Refusal::new(
        "unknown-cable",
        "no cable has this id; valise-sender list shows what waits",
    )
}

pub(super) fn no_trust() -> Refusal {
    Refusal::new(
        "no-trust-list",
        "no trust list is in force; import one with trust import",
    )
}

pub(super) fn no_time() -> Refusal {
    Refusal::new(
        "clock",
        "the clock disagrees with the audit log; set it, or run valise-sender clock accept if it is right",
    )
}

pub(super) fn not_open(cable: &Cable) -> Refusal {
    let text = match (cable.phase, cable.serial()) {
        (Phase::Rejected, _) => "the cable was rejected".to_owned(),
        (Phase::Withdrawn, _) => "the cable was withdrawn".to_owned(),
        (Phase::Expired, None) => "the cable expired before it was sealed".to_owned(),
        (_, Some(serial)) => format!("the cable is sealed already, as serial {serial}"),
        _ => "the cable is no longer waiting".to_owned(),
    };
    Refusal::new("not-waiting", text)
}
