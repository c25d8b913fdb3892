//! The settings of a run of the harness.

use std::path::PathBuf;
use std::time::Duration;

use valise_common::limits;
use valise_common::units::{Percent, Rate};

use crate::wire::LineConditions;

/// The most bytes of a container beside the cable's body: its header, the manifest, approvals, padding of small ones.
const CABLE_OVERHEAD_BYTES: u64 = 4_096;

/// Media types that the harness's classifications allow by default.
const MEDIA_TYPES: [&str; 5] = [
    "text/plain",
    "application/pdf",
    "image/jpeg",
    "image/png",
    "application/octet-stream",
];

/// The kind of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// UDP datagrams.
    Udp,
    /// The frames of a serial line, with pseudo-terminals as ports.
    Serial {
        /// `link.baud` of both hosts.
        baud: u32,
    },
}

/// The line between the hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// The sender's datagrams go directly to the receiver's port. On a serial line the wire process carries the bytes
    /// unchanged.
    Direct,
    /// The wire process is between them.
    Wire {
        /// Its faults.
        conditions: LineConditions,
        /// The seed of its random decisions.
        seed: u64,
    },
    /// The test itself is between them: it must read from [`super::World::entrance`] and send to
    /// [`super::World::receiver_address`]. On a serial line it must hold the ports of [`super::World::open_port`].
    Tapped,
}

/// The settings of the two hosts. Texts are as in a configuration file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `link.kind`, with the keys of only that kind.
    pub link: Link,
    /// `link.rate`, of UDP.
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
    /// The parent of the temporary folder; the system's choice if `None`.
    pub parent: Option<PathBuf>,
    /// The folder in which everything is kept, instead of a temporary folder.
    pub keep: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            link: Link::Udp,
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
    /// A serial line of this speed, with the default `datagram_bytes`.
    pub fn serial(baud: u32) -> Self {
        Self {
            link: Link::Serial { baud },
            datagram_bytes: limits::DATAGRAM_BYTES_SERIAL,
            ..Self::default()
        }
    }

    /// The longest time for so many cables, from their submission to the end of their last pass: three times the time
    /// of the link, and a minute.
    ///
    /// # Shape
    /// `body_bytes`: of all cables together.
    pub fn time_limit(&self, cable_count: u32, body_bytes: u64) -> Duration {
        let (bits_per_second, bits_per_byte) = match self.link {
            Link::Serial { baud } => (u64::from(baud), 10),
            Link::Udp => match self.rate.parse() {
                Ok(Rate::BitsPerSecond(bits)) => (bits, 8),
                // Every machine of today reads and writes faster than this.
                _ => (200_000_000, 8),
            },
        };
        let cable_count = u64::from(cable_count);
        let source = body_bytes.saturating_add(cable_count.saturating_mul(CABLE_OVERHEAD_BYTES));
        let repair = self.repair.parse().unwrap_or(Percent::from_ppm(0));
        let symbols = (source + repair.of_ceil(source)).saturating_mul(u64::from(self.passes));
        let datagram_bytes = u64::from(self.datagram_bytes);
        let symbol_bytes = datagram_bytes
            .saturating_sub(u64::from(limits::DATAGRAM_OVERHEAD_BYTES))
            .max(1);
        let sent = symbols.saturating_mul(datagram_bytes) / symbol_bytes;
        let link_s = sent.saturating_mul(bits_per_byte) / bits_per_second.max(1);
        Duration::from_secs(60 + link_s.saturating_mul(3) + cable_count / 5)
    }

    /// `sender.toml`. `to` is an address, or a device.
    pub(super) fn sender_toml(&self, state: &str, user: &str, person: &str, to: &str) -> String {
        let rate = match self.link {
            Link::Udp => format!("rate = {:?}\n", self.rate),
            Link::Serial { .. } => String::new(),
        };
        format!(
            "state = {state:?}\n\n[persons]\n{user:?} = {person:?}\n\n\
             {}{rate}cover = {}\n\n\
             [fec]\nrepair = {:?}\npasses = {}\ninterleave = {:?}\n\n{}",
            self.link_toml("to", to),
            self.cover,
            self.repair,
            self.passes,
            self.interleave,
            self.sender_extra,
        )
    }

    /// `receiver.toml`. `listen` is an address, or a device.
    pub(super) fn receiver_toml(&self, state: &str, listen: &str) -> String {
        format!(
            "state = {state:?}\n\n{}\n{}",
            self.link_toml("listen", listen),
            self.receiver_extra,
        )
    }

    /// The keys of `[link]` that both hosts have.
    fn link_toml(&self, address_key: &str, end: &str) -> String {
        let kind = match self.link {
            Link::Udp => format!("kind = \"udp\"\n{address_key} = {end:?}\n"),
            Link::Serial { baud } => {
                format!("kind = \"serial\"\ndevice = {end:?}\nbaud = {baud}\n")
            }
        };
        format!("[link]\n{kind}datagram_bytes = {}\n", self.datagram_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valise_common::config::{LinkKind, ReceiverConfig, SenderConfig};

    #[test]
    fn the_files_that_the_harness_writes_are_valid() {
        let settings = Settings::default();
        let sender = settings.sender_toml("/s", "root", "d.drafter", "127.0.0.1:7001");
        let config = SenderConfig::parse(&sender).expect("a valid sender.toml");
        assert_eq!(config.fec.passes, 2);
        ReceiverConfig::parse(&settings.receiver_toml("/r", "127.0.0.1:7000"))
            .expect("a valid receiver.toml");
    }

    #[test]
    fn the_files_of_a_serial_line_name_its_ports_and_its_speed() {
        let settings = Settings {
            datagram_bytes: 200,
            ..Settings::serial(9_600)
        };
        let sender = settings.sender_toml("/s", "root", "d.drafter", "/line/sender");
        let config = SenderConfig::parse(&sender).expect("a valid sender.toml");
        let sender = (config.link.kind, config.link.baud, config.datagram_bytes());
        assert_eq!(config.link.device, Some("/line/sender".into()));
        let receiver = settings.receiver_toml("/r", "/line/receiver");
        let config = ReceiverConfig::parse(&receiver).expect("a valid receiver.toml");
        assert_eq!(config.link.device, Some("/line/receiver".into()));
        let receiver = (config.link.kind, config.link.baud, config.datagram_bytes());
        assert_eq!((sender, sender), (receiver, (LinkKind::Serial, 9_600, 200)));
    }

    #[test]
    fn the_time_limit_follows_from_the_speed_and_the_amount() {
        let slow = Settings::serial(9_600);
        // 2 KiB of body with its overhead, a quarter of repair, twice: about 16 s at 960 bytes a second.
        let limit = slow.time_limit(1, 2_048);
        let bounds = Duration::from_secs(60 + 3 * 15)..Duration::from_secs(60 + 3 * 20);
        assert!(bounds.contains(&limit), "{limit:?}");
        assert!(slow.time_limit(1, 200_000) > limit);
        assert!(Settings::serial(115_200).time_limit(1, 2_048) < limit);
        assert!(Settings::default().time_limit(1, 2_048) <= Duration::from_secs(60));
    }
}
