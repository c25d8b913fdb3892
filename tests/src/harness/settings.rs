//! What a run of the harness is made with.

use std::path::PathBuf;

use crate::wire::LineConditions;

/// Media types that the harness's classifications allow unless more are asked for.
const MEDIA_TYPES: [&str; 5] = [
    "text/plain",
    "application/pdf",
    "image/jpeg",
    "image/png",
    "application/octet-stream",
];

/// The line between the hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// The sender's datagrams go straight to the receiver's port.
    Direct,
    /// The wire process stands between them.
    Wire {
        /// What it does.
        conditions: LineConditions,
        /// What its chance follows from.
        seed: u64,
    },
    /// The test itself stands between them: it must read from [`super::World::entrance`] and send to
    /// [`super::World::receiver_address`].
    Tapped,
}

/// How the two hosts are set up. Texts are as a configuration file writes them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `link.rate`.
    pub rate: String,
    /// `link.datagram_bytes` of both hosts.
    pub datagram_bytes: u16,
    /// `link.cover`.
    pub cover: bool,
    /// `fec.repair`.
    pub repair: String,
    /// `fec.passes`.
    pub passes: u8,
    /// `fec.interleave`.
    pub interleave: String,
    /// Slots in the first bundle.
    pub slots: u32,
    /// Media types that every classification allows.
    pub media_types: Vec<String>,
    /// The line.
    pub line: Line,
    /// Every role runs as the user of the harness, as under `run`.
    pub one_user: bool,
    /// Lines added at the end of sender.toml (whole tables).
    pub sender_extra: String,
    /// Lines added at the end of receiver.toml (whole tables).
    pub receiver_extra: String,
    /// Where the temporary folder is made; the system's choice when `None`.
    pub parent: Option<PathBuf>,
    /// Where everything is kept afterwards instead of a temporary folder.
    pub keep: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: "100 Mbit/s".to_owned(),
            datagram_bytes: 1472,
            cover: false,
            repair: "25 %".to_owned(),
            passes: 2,
            interleave: "20 ms".to_owned(),
            slots: 64,
            media_types: MEDIA_TYPES.map(str::to_owned).to_vec(),
            line: Line::Direct,
            one_user: false,
            sender_extra: String::new(),
            receiver_extra: String::new(),
            parent: None,
            keep: None,
        }
    }
}

impl Settings {
    /// `sender.toml`.
    pub(super) fn sender_toml(&self, state: &str, user: &str, person: &str, to: &str) -> String {
        format!(
            "state = {state:?}\n\n[persons]\n{user:?} = {person:?}\n\n\
             [link]\nkind = \"udp\"\nto = {to:?}\ndatagram_bytes = {}\nrate = {:?}\ncover = {}\n\n\
             [fec]\nrepair = {:?}\npasses = {}\ninterleave = {:?}\n\n{}",
            self.datagram_bytes,
            self.rate,
            self.cover,
            self.repair,
            self.passes,
            self.interleave,
            self.sender_extra,
        )
    }

    /// `receiver.toml`.
    pub(super) fn receiver_toml(&self, state: &str, listen: &str) -> String {
        format!(
            "state = {state:?}\n\n[link]\nkind = \"udp\"\nlisten = {listen:?}\n\
             datagram_bytes = {}\n\n{}",
            self.datagram_bytes, self.receiver_extra,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valise_common::config::{ReceiverConfig, SenderConfig};

    #[test]
    fn the_files_that_the_harness_writes_are_valid() {
        let settings = Settings::default();
        let sender = settings.sender_toml("/s", "root", "d.drafter", "127.0.0.1:7001");
        let config = SenderConfig::parse(&sender).expect("a valid sender.toml");
        assert_eq!(config.fec.passes, 2);
        ReceiverConfig::parse(&settings.receiver_toml("/r", "127.0.0.1:7000"))
            .expect("a valid receiver.toml");
    }
}
