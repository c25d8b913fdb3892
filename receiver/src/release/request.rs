//! What operators may ask, as it is written in `request.toml`.

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, LinkKeyId, Serial};

/// `request.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RequestText {
    /// Verify a quarantined cable again.
    QuarantineRecheck {
        /// Its serial.
        serial: Serial,
    },
    /// Destroy a quarantined cable.
    QuarantineDiscard {
        /// Its serial.
        serial: Serial,
        /// Why.
        reason: String,
    },
    /// Put a signed trust list into force.
    TrustImport {},
    /// Make a bundle for the courier.
    BundleCreate {
        /// Number of slots.
        slots: u32,
        /// The bundle whose unused slots become void.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<BundleId>,
    },
    /// Destroy the unused slots of a bundle.
    BundleVoid {
        /// The bundle.
        bundle: BundleId,
        /// Why.
        reason: String,
    },
    /// End an old link key early.
    LinkKeyRetire {
        /// The key.
        link_key: LinkKeyId,
    },
    /// Set "now" back to the clock.
    ClockAccept {},
}

impl RequestText {
    /// The word of the request, as it is written and logged.
    pub fn as_str(&self) -> &'static str {
        match self {
            RequestText::QuarantineRecheck { .. } => "quarantine-recheck",
            RequestText::QuarantineDiscard { .. } => "quarantine-discard",
            RequestText::TrustImport {} => "trust-import",
            RequestText::BundleCreate { .. } => "bundle-create",
            RequestText::BundleVoid { .. } => "bundle-void",
            RequestText::LinkKeyRetire { .. } => "link-key-retire",
            RequestText::ClockAccept {} => "clock-accept",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn every_request_round_trips_as_toml() {
        let serial = Serial::new(4).unwrap();
        for ask in [
            RequestText::QuarantineRecheck { serial },
            RequestText::QuarantineDiscard {
                serial,
                reason: "wrong \"desk\"".to_owned(),
            },
            RequestText::TrustImport {},
            RequestText::BundleCreate {
                slots: 10,
                replaces: None,
            },
            RequestText::BundleCreate {
                slots: 10,
                replaces: Some(BundleId(1)),
            },
            RequestText::BundleVoid {
                bundle: BundleId(2),
                reason: "lost".to_owned(),
            },
            RequestText::LinkKeyRetire {
                link_key: LinkKeyId(1),
            },
            RequestText::ClockAccept {},
        ] {
            let text = toml::to_string(&ask).unwrap();
            assert!(
                text.contains(&format!("request = \"{}\"", ask.as_str())),
                "{text}"
            );
            assert_eq!(toml::from_str::<RequestText>(&text).unwrap(), ask);
        }
    }

    #[test]
    fn unknown_words_and_keys_are_refused() {
        for text in [
            "",
            "request = \"submit\"",
            "request = \"clock-accept\"\nmore = 1",
            "request = \"quarantine-recheck\"\nserial = 0",
            "request = \"quarantine-recheck\"\nserial = 1\nreason = \"x\"",
            "request = \"bundle-create\"\nslots = -1",
        ] {
            assert!(toml::from_str::<RequestText>(text).is_err(), "{text}");
        }
    }
}
