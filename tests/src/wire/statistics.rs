//! Statistics of the wire.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Counts of one run of the wire, in datagrams unless the name differs. On a serial line, all of them are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireStatistics {
    /// Received datagrams.
    pub received: u64,
    /// Received bytes (payload of UDP).
    pub received_bytes: u64,
    /// Sent datagrams, duplicates included.
    pub sent: u64,
    /// Datagrams that the modelled line lost.
    pub lost: u64,
    /// Runs of consecutive lost datagrams.
    pub bursts: u64,
    /// The longest such run.
    pub longest_burst: u64,
    /// Datagrams that later ones overtook.
    pub reordered: u64,
    /// Second copies that were delivered; on a serial line, bytes that nobody sent.
    pub duplicated: u64,
    /// Datagrams (or copies) delivered with flipped bits.
    pub corrupted: u64,
    /// Datagrams for which this program itself was too slow. They are not part of the model, and a reason to distrust a
    /// measurement if there are any.
    pub overrun: u64,
}

impl WireStatistics {
    /// Writes the counts as JSON to a file, replacing older ones.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&self, file: Option<&Path>) -> io::Result<()> {
        let Some(file) = file else {
            return Ok(());
        };
        let temporary = file.with_extension("new");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, file)
    }
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
