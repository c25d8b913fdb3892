//! What a request is answered, told from the event that did what it asked. So the answer after a crash is the one that
//! would have been given before it: the register keeps it from the same line of the log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, LinkKeyId, Serial, Sha256Digest};
use valise_common::units::UtcTime;

use crate::model::event::Event;

/// Where bundles that were made on request wait for the command that asked.
pub const COURIER: &str = "courier";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; the text answers.
    Accepted(String),
    /// Refused; the text says why.
    Refused(String),
}

/// The answer to `bundle-create`: where the courier's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleMade {
    /// The bundle.
    pub bundle: BundleId,
    /// Its first serial.
    pub first: Serial,
    /// Number of slots.
    pub count: u32,
    /// The link key that it brings.
    pub link_key: LinkKeyId,
    /// SHA-256 of `channel.bundle`.
    pub sha256: Sha256Digest,
    /// The folder below the state folder.
    pub folder: PathBuf,
}

impl Event {
    /// Which placing of a request this event answers, if it does.
    pub fn asked(&self) -> Option<&str> {
        match self {
            Event::TrustImported { by, .. }
            | Event::BundleCreated { by, .. }
            | Event::BundleVoided { by, .. }
            | Event::LinkKeyRetired { by, .. }
            | Event::ClockAccepted { by, .. }
            | Event::Rechecked { by, .. }
            | Event::Discarded { by, .. }
            | Event::RequestRefused { by, .. } => by.asked.as_deref(),
            Event::Publishing { asked, .. } => asked.as_deref(),
            _ => None,
        }
    }

    /// What the request is answered that this event was for, when the line is of this time.
    pub fn reply(&self, time: UtcTime) -> Option<Reply> {
        let accepted = match self {
            Event::TrustImported { version, .. } => format!("trust list {version} is in force"),
            Event::BundleCreated {
                bundle,
                first,
                count,
                link_key,
                sha256,
                ..
            } => {
                let made = BundleMade {
                    bundle: *bundle,
                    first: *first,
                    count: *count,
                    link_key: *link_key,
                    sha256: sha256.parse().ok()?,
                    folder: PathBuf::from(COURIER).join(bundle.to_string()),
                };
                serde_json::to_string(&made).ok()?
            }
            Event::BundleVoided { bundle, kept, .. } => {
                let kept = match kept.is_empty() {
                    true => "",
                    false => "; cables that had arrived before are still judged",
                };
                format!(
                    "bundle {bundle} is void: its unused slots and its link key are destroyed{kept}"
                )
            }
            Event::LinkKeyRetired {
                link_key, bundle, ..
            } => format!("link key {link_key} of bundle {bundle} is retired"),
            Event::ClockAccepted { now, .. } if *now > time => format!(
                "the log follows the clock, {time}; the trust list was issued later, so now is {now}"
            ),
            Event::ClockAccepted { before, now, .. } => format!("now is {now}, it was {before}"),
            Event::Publishing { serial, .. } => format!("serial {serial} is released"),
            Event::Discarded { serial, .. } => format!("serial {serial} is discarded"),
            Event::Rechecked { serial, reason, .. } => {
                let text = format!("serial {serial} stays in quarantine: {reason}");
                return Some(Reply::Refused(text));
            }
            Event::RequestRefused { reason, .. } => return Some(Reply::Refused(reason.clone())),
            _ => return None,
        };
        Some(Reply::Accepted(accepted))
    }
}
