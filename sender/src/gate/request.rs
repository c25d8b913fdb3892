//! What a request asks: as it is written, and as it can be judged.

use std::path::PathBuf;

use serde::Deserialize;
use valise_common::host::requests::Found;
use valise_common::host::trust_store::SignedList;
use valise_common::ids::MessageId;
use valise_common::serial_set::SerialSet;
use valise_common::sshsig::Signature;

use super::courier::VerifiedBundle;
use crate::steps::submit::{ChosenPart, Draft, Measured};

/// The content of `request.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RequestText {
    /// Submit the other files as a cable.
    Submit(Draft),
    /// Take the one other file as an approval.
    Approve {
        /// The cable.
        id: MessageId,
    },
    /// End a submission, as an officer.
    Reject {
        /// The cable.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// End a submission, as its drafter.
    Withdraw {
        /// The cable.
        id: MessageId,
    },
    /// Queue retained containers again.
    Resend {
        /// Serials and ranges.
        serials: String,
    },
    /// Take the courier's material.
    BundleImport {},
    /// Take a trust list.
    TrustImport {},
    /// Take the clock as right.
    ClockAccept {},
}

impl RequestText {
    /// The word of the request, as it is written and logged.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            RequestText::Submit(_) => "submit",
            RequestText::Approve { .. } => "approve",
            RequestText::Reject { .. } => "reject",
            RequestText::Withdraw { .. } => "withdraw",
            RequestText::Resend { .. } => "resend",
            RequestText::BundleImport {} => "bundle-import",
            RequestText::TrustImport {} => "trust-import",
            RequestText::ClockAccept {} => "clock-accept",
        }
    }
}

/// A request that can be judged.
#[derive(Debug)]
pub struct Prepared {
    /// The request's folder.
    pub found: Found,
    /// What is asked, for the log.
    pub kind: &'static str,
    /// The request, with everything that judging it needs.
    pub act: Request,
}

/// A request that was read, with everything that judging it needs.
#[derive(Debug)]
pub enum Request {
    /// A cable, copied and measured.
    Submit(Box<PreparedSubmission>),
    /// An approval.
    Approve {
        /// The cable.
        id: MessageId,
        /// The approval.
        signature: Box<Signature>,
    },
    /// An officer's end of a submission.
    Reject {
        /// The cable.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// The drafter's end of a submission.
    Withdraw {
        /// The cable.
        id: MessageId,
    },
    /// Serials to queue again.
    Resend {
        /// The serials.
        serials: SerialSet,
        /// Digest of the request's placing: the same when it is judged again after a kill, another when it is placed again.
        digest: MessageId,
    },
    /// A bundle whose statement and keys have been verified.
    BundleImport(Box<VerifiedBundle>),
    /// A trust list, not yet verified.
    TrustImport(Box<SignedList>),
    /// The clock is right.
    ClockAccept,
}

/// A draft with gate's own copies of its parts.
#[derive(Debug)]
pub struct PreparedSubmission {
    /// The draft.
    pub draft: Draft,
    /// The parts in order, measured.
    pub parts: Vec<(ChosenPart, Measured)>,
    /// Where the copies stand, in the same order; they are not synced unless `durable`.
    pub copies: Vec<PathBuf>,
    /// The folder that holds them.
    pub folder: PathBuf,
    /// Digest of the request: the same for a repeated one.
    pub digest: MessageId,
    /// Whether the copies have been synced already.
    pub durable: bool,
}

impl Request {
    pub(super) fn id(&self) -> Option<MessageId> {
        match self {
            Request::Approve { id, .. } | Request::Reject { id, .. } | Request::Withdraw { id } => {
                Some(*id)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn every_request_is_understood_and_unknown_keys_are_refused() {
        let id = "0123456789abcdef0123456789abcdef";
        for (text, word) in [
            (
                "request = 'submit'\nlabel = 'EU'\nto = ['a']\nprecedence = 'flash'\nsubject = 'S'"
                    .to_owned(),
                "submit",
            ),
            (format!("request = 'approve'\nid = '{id}'"), "approve"),
            (
                format!("request = 'reject'\nid = '{id}'\nreason = 'r'"),
                "reject",
            ),
            (format!("request = 'withdraw'\nid = '{id}'"), "withdraw"),
            ("request = 'resend'\nserials = '1-2'".to_owned(), "resend"),
            ("request = 'bundle-import'".to_owned(), "bundle-import"),
            ("request = 'trust-import'".to_owned(), "trust-import"),
            ("request = 'clock-accept'".to_owned(), "clock-accept"),
        ] {
            assert_eq!(toml::from_str::<RequestText>(&text).unwrap().as_str(), word);
            let surprising = format!("{text}\nsurprise = 1");
            assert!(
                toml::from_str::<RequestText>(&surprising).is_err(),
                "{word}"
            );
        }
        assert!(toml::from_str::<RequestText>("request = 'release'").is_err());
    }
}
