//! The two configuration files.
//!
//! Unknown keys are refused. Every key but `state` and the ends of the link has a default; the commented files in
//! `config/` name each with its meaning, unit, default and range, and a test parses them.

mod address;
mod tables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::ids::{MailboxId, PersonId};
use crate::limits;
use crate::units::{Rate, Span};

pub use tables::{
    Alarm, AuditFiles, Cover, Fec, Fences, Intake, LinkKind, Log, Memory, Metrics, ReceiverLink,
    Release, Retain, Sandbox, SenderLink, Spool,
};

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// It is not TOML, or a key is unknown, missing or of the wrong kind. The text names line and key.
    #[error("the configuration cannot be read: {0}")]
    Syntax(String),
    /// A value is outside its range.
    #[error("{key} is out of range: {rule}")]
    Range {
        /// The key, with its table.
        key: &'static str,
        /// What would be right.
        rule: String,
    },
    /// An address that cannot carry a cable.
    #[error("{key} = \"{address}\" cannot be used: {rule}")]
    Address {
        /// The key, with its table.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What is wrong with it, and what would be right.
        rule: &'static str,
    },
    /// A key is missing that this kind of link needs.
    #[error("{key} is missing: {rule}")]
    Missing {
        /// The key, with its table.
        key: &'static str,
        /// What it is for.
        rule: &'static str,
    },
}

/// `sender.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderConfig {
    /// Everything that this host writes is below it.
    pub state: PathBuf,
    /// Which person of the trust list a local user is.
    #[serde(default)]
    pub persons: BTreeMap<String, PersonId>,
    /// The link.
    pub link: SenderLink,
    /// Repair, passes, interleaving.
    #[serde(default)]
    pub fec: Fec,
    /// What gate takes in.
    #[serde(default)]
    pub limits: Intake,
    /// How long containers stay.
    #[serde(default)]
    pub retain: Retain,
    /// Whom to tell.
    #[serde(default)]
    pub alarm: Alarm,
    /// Figures for a monitor.
    #[serde(default)]
    pub metrics: Metrics,
    /// The fences.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// The files of the audit logs.
    #[serde(default)]
    pub audit: AuditFiles,
    /// How much to log.
    #[serde(default)]
    pub log: Log,
}

/// `receiver.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// Everything that this host writes is below it.
    pub state: PathBuf,
    /// The Unix group that may fetch a mailbox's cables.
    #[serde(default)]
    pub mailboxes: BTreeMap<MailboxId, String>,
    /// The link.
    pub link: ReceiverLink,
    /// The sender's repair and passes: checked and not used.
    pub fec: Option<Fec>,
    /// Bounds of memory.
    #[serde(default)]
    pub memory: Memory,
    /// Bounds of disk.
    #[serde(default)]
    pub spool: Spool,
    /// When to warn.
    #[serde(default)]
    pub release: Release,
    /// Whom to tell.
    #[serde(default)]
    pub alarm: Alarm,
    /// Figures for a monitor.
    #[serde(default)]
    pub metrics: Metrics,
    /// The fences.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// The files of the audit logs.
    #[serde(default)]
    pub audit: AuditFiles,
    /// How much to log.
    #[serde(default)]
    pub log: Log,
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string().trim().to_owned()))
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if value < min || value > max {
        return Err(ConfigError::Range {
            key,
            rule: format!("from {min} to {max}"),
        });
    }
    Ok(())
}

fn check_datagram_bytes(kind: LinkKind, bytes: Option<u16>) -> Result<u16, ConfigError> {
    let key = "link.datagram_bytes";
    let bytes = bytes.unwrap_or(match kind {
        LinkKind::Udp => limits::DATAGRAM_BYTES_UDP,
        LinkKind::Serial => limits::DATAGRAM_BYTES_SERIAL,
    });
    within(
        key,
        bytes,
        limits::DATAGRAM_BYTES_MIN,
        limits::DATAGRAM_BYTES_MAX,
    )?;
    if !bytes.is_multiple_of(2) {
        return Err(ConfigError::Range {
            key,
            rule: "an even number".to_owned(),
        });
    }
    Ok(bytes)
}

fn check_ends(
    kind: LinkKind,
    (key, given): (&'static str, Option<SocketAddr>),
    device: &Option<PathBuf>,
) -> Result<(), ConfigError> {
    match kind {
        LinkKind::Udp if given.is_none() => Err(ConfigError::Missing {
            key,
            rule: "a UDP link needs an address and port, such as \"192.0.2.2:7000\"",
        }),
        LinkKind::Serial if device.is_none() => Err(ConfigError::Missing {
            key: "link.device",
            rule: "a serial link needs a device, such as \"/dev/ttyS0\"",
        }),
        _ => given.map_or(Ok(()), |given| address::check(key, given)),
    }
}

/// Checks a path that the programs use as it stands.
fn check_path(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    let rule = match path.as_os_str().as_encoded_bytes() {
        [] => "a path, not nothing",
        [b'~', ..] => "the whole path: no program but a shell replaces ~ by a home folder",
        _ => return Ok(()),
    };
    Err(ConfigError::Range {
        key,
        rule: rule.to_owned(),
    })
}

/// Checks the keys of a serial port, which both hosts have.
fn check_port(device: Option<&Path>, baud: u32) -> Result<(), ConfigError> {
    device.map_or(Ok(()), |device| check_path("link.device", device))?;
    within("link.baud", baud, limits::BAUD_MIN, limits::BAUD_MAX)
}

fn check_metrics(metrics: &Metrics) -> Result<(), ConfigError> {
    let folder = &metrics.folder;
    if folder.as_os_str().is_empty() || folder.is_absolute() {
        return Ok(());
    }
    Err(ConfigError::Range {
        key: "metrics.folder",
        rule: "the whole path of a folder, or nothing".to_owned(),
    })
}

fn check_alarm(alarm: &Alarm) -> Result<(), ConfigError> {
    if let Some(program) = alarm.command.first() {
        check_path("alarm.command", Path::new(program))?;
    }
    within(
        "alarm.slots_low (parts per million)",
        alarm.slots_low.ppm(),
        0,
        1_000_000,
    )
}

fn check_rate(rate: Rate) -> Result<(), ConfigError> {
    match rate {
        Rate::BitsPerSecond(bits) => within("link.rate (bit/s)", bits, 300, 400_000_000_000),
        Rate::Unlimited => Ok(()),
    }
}

fn check_fec(fec: &Fec) -> Result<(), ConfigError> {
    within("fec.passes", fec.passes, 1, 16)?;
    within(
        "fec.repair (parts per million)",
        fec.repair.ppm(),
        0,
        3_000_000,
    )?;
    within("fec.interleave (us)", fec.interleave.as_us(), 0, 10_000_000)
}

fn check_audit(audit: AuditFiles) -> Result<(), ConfigError> {
    within("audit.file_bytes (B)", audit.file_bytes.0, 4 << 10, 1 << 40)
}

fn check_log(log: &Log) -> Result<(), ConfigError> {
    if ["error", "warn", "info", "debug", "trace"].contains(&log.level.as_str()) {
        return Ok(());
    }
    let rule = "one of error, warn, info, debug, trace".to_owned();
    Err(ConfigError::Range {
        key: "log.level",
        rule,
    })
}

impl SenderConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the line and key, and what would be right.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = parse(text)?;
        check_path("state", &config.state)?;
        check_port(config.link.device.as_deref(), config.link.baud)?;
        check_datagram_bytes(config.link.kind, config.link.datagram_bytes)?;
        check_ends(
            config.link.kind,
            ("link.to", config.link.to),
            &config.link.device,
        )?;
        if let Some(bind) = config.link.bind {
            address::check("link.bind", bind)?;
            let to = config.link.to.unwrap_or(bind);
            address::check_family(to, bind)?;
        }
        check_rate(config.link.rate)?;
        check_fec(&config.fec)?;
        within(
            "limits.pending_max",
            config.limits.pending_max,
            1,
            1_000_000,
        )?;
        let submission = config.limits.submission_bytes_max.0;
        within(
            "limits.submission_bytes_max (B)",
            submission,
            1,
            limits::PACKAGE_BYTES_MAX / 2,
        )?;
        check_alarm(&config.alarm)?;
        check_metrics(&config.metrics)?;
        check_audit(config.audit)?;
        check_log(&config.log)?;
        Ok(config)
    }

    /// Bytes of every datagram: as given, or the default of the link's kind.
    pub fn datagram_bytes(&self) -> u16 {
        // `parse` has checked the range; the default of the kind stands where none was given.
        check_datagram_bytes(self.link.kind, self.link.datagram_bytes)
            .unwrap_or(limits::DATAGRAM_BYTES_UDP)
    }
}

impl ReceiverConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the line and key, and what would be right.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = parse(text)?;
        check_path("state", &config.state)?;
        check_port(config.link.device.as_deref(), config.link.baud)?;
        check_datagram_bytes(config.link.kind, config.link.datagram_bytes)?;
        check_ends(
            config.link.kind,
            ("link.listen", config.link.listen),
            &config.link.device,
        )?;
        config.link.rate.map_or(Ok(()), check_rate)?;
        config.fec.as_ref().map_or(Ok(()), check_fec)?;
        check_alarm(&config.alarm)?;
        check_metrics(&config.metrics)?;
        // Two of the largest blocks: one being finished while the next begins.
        let least = 2 * limits::BLOCK_BYTES_MAX;
        within(
            "memory.assembly (B)",
            config.memory.assembly.0,
            least,
            1 << 40,
        )?;
        within(
            "spool.bytes_max (B)",
            config.spool.bytes_max.0,
            1 << 20,
            1 << 50,
        )?;
        check_audit(config.audit)?;
        check_log(&config.log)?;
        Ok(config)
    }

    /// Bytes of every datagram: as given, or the default of the link's kind.
    pub fn datagram_bytes(&self) -> u16 {
        check_datagram_bytes(self.link.kind, self.link.datagram_bytes)
            .unwrap_or(limits::DATAGRAM_BYTES_UDP)
    }

    /// Returns the time without a datagram that raises an alarm: as given, and on a slow line at least the time of three beacons.
    pub fn silence_alarm(&self) -> Span {
        let given = self.release.silence_alarm;
        if self.link.kind == LinkKind::Udp {
            return given;
        }
        let frames = 3 * u64::from(limits::BEACON_INTERVAL_DATAGRAMS) + 1;
        // A frame has a few bytes more than its datagram, and the sender leaves one per cent of the line unused.
        let bytes = u64::from(self.datagram_bytes()) * 102 / 100 + 8;
        let bits = frames * bytes * u64::from(limits::LINE_BITS_PER_BYTE);
        let beacons = Duration::from_secs(bits.div_ceil(self.link.baud.into()));
        Span(given.0.max(beacons))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SENDER: &str = r#"
state = "/var/lib/valise-sender"
[persons]
unixuser = "a.person"
[link]
kind = "udp"
to = "192.0.2.2:7000"
datagram_bytes = 1472
rate = "100 Mbit/s"
cover = false
[fec]
repair = "25 %"
passes = 2
interleave = "20 ms"
"#;

    #[test]
    fn the_fixed_names_are_enough() {
        let config = SenderConfig::parse(SENDER).unwrap();
        assert_eq!(config.link.rate, Rate::BitsPerSecond(100_000_000));
        assert_eq!(config.datagram_bytes(), 1472);
        assert_eq!(config.link.cover, Cover::None);
        let receiver = "state = \"s\"\n[link]\nkind = \"udp\"\nlisten = \"192.0.2.2:7000\"\n";
        assert_eq!(
            ReceiverConfig::parse(receiver).unwrap().datagram_bytes(),
            1472
        );
        let serial = "state = \"s\"\n[link]\nkind = \"serial\"\ndevice = \"/dev/ttyS0\"\n";
        let serial = ReceiverConfig::parse(serial).unwrap();
        assert_eq!(serial.datagram_bytes(), 584);
        assert_eq!(serial.silence_alarm(), serial.release.silence_alarm);
    }

    #[test]
    fn on_a_slow_line_silence_is_the_absence_of_three_beacons() {
        let slow =
            "state = \"s\"\n[link]\nkind = \"serial\"\ndevice = \"/dev/ttyS0\"\nbaud = 9600\n";
        let slow = ReceiverConfig::parse(slow).unwrap();
        assert_eq!(slow.silence_alarm().as_s(), 95);
    }

    #[test]
    fn a_receiver_takes_the_senders_keys_of_the_link_and_checks_them() {
        let shared = SENDER
            .replace("[persons]\nunixuser = \"a.person\"\n", "")
            .replace("to = ", "listen = ");
        assert!(ReceiverConfig::parse(&shared).is_ok());
        for (from, to) in [
            ("100 Mbit/s", "1 bit/s"),
            ("passes = 2", "passes = 0"),
            ("cover = false", "cover = 1"),
        ] {
            assert!(ReceiverConfig::parse(&shared.replace(from, to)).is_err());
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name() {
        let error = SenderConfig::parse(&SENDER.replace("cover", "covert")).unwrap_err();
        assert!(error.to_string().contains("covert"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_key() {
        for (from, to, key) in [
            (
                "datagram_bytes = 1472",
                "datagram_bytes = 1471",
                "datagram_bytes",
            ),
            (
                "datagram_bytes = 1472",
                "datagram_bytes = 64",
                "datagram_bytes",
            ),
            ("passes = 2", "passes = 0", "passes"),
            ("100 Mbit/s", "1 bit/s", "rate"),
            ("to = \"192.0.2.2:7000\"", "", "link.to"),
            ("25 %", "400 %", "repair"),
            ("kind = \"udp\"", "kind = \"serial\"", "link.device"),
            ("/var/lib/valise-sender", "", "state"),
            ("/var/lib/valise-sender", "~/valise", "state"),
            ("cover = false", "device = \"~/tty\"", "link.device"),
            (
                "[fec]",
                "[alarm]\nslots_low = \"101 %\"\n[fec]",
                "alarm.slots_low",
            ),
            ("[fec]", "[alarm]\ncommand = [\"\"]\n[fec]", "alarm.command"),
        ] {
            let error = SenderConfig::parse(&SENDER.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
