//! What the wire did to the datagrams that it carried.

use serde::{Deserialize, Serialize};

/// Counts of one run of the wire, in datagrams unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireStatistics {
    /// Datagrams that came in.
    pub received: u64,
    /// Bytes that came in (payload of UDP).
    pub received_bytes: u64,
    /// Datagrams that went out, duplicates included.
    pub sent: u64,
    /// Datagrams that the modelled line lost.
    pub lost: u64,
    /// Runs of consecutive lost datagrams.
    pub bursts: u64,
    /// The longest such run.
    pub longest_burst: u64,
    /// Datagrams that later ones overtook.
    pub reordered: u64,
    /// Second copies that were delivered.
    pub duplicated: u64,
    /// Datagrams (or copies) delivered with flipped bits.
    pub corrupted: u64,
    /// Datagrams that this program itself was too slow for: not part of the model, and a reason to
    /// distrust a measurement when it is not 0.
    pub overrun: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_survive_json() {
        let statistics = WireStatistics {
            received: 7,
            lost: 3,
            ..WireStatistics::default()
        };
        let text = serde_json::to_string(&statistics).expect("numbers serialize");
        assert_eq!(
            serde_json::from_str::<WireStatistics>(&text).expect("own output"),
            statistics
        );
    }
}
