//! What gate leaves for transmit in `outbox/`: names, the geometry beside each container, and what gate knows of serials.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use valise_common::fec::Geometry;
use valise_common::ids::{ContainerHash, ContainerId, Serial, parse_decimal};
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

/// The file in `outbox/` that holds a [`SpoolBeacon`].
pub const BEACON_NAME: &str = "beacon";

/// Bytes of a `.fec` file or of `outbox/beacon` at most.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Why a file of the outbox cannot be used.
#[derive(Debug, Error)]
pub enum OutboxError {
    /// The system failed.
    #[error("outbox: {0}")]
    Io(#[from] io::Error),
    /// Not what gate writes.
    #[error("outbox: {what} of serial {serial} cannot be read: {error}")]
    Malformed {
        /// Which file.
        what: &'static str,
        /// Whose; 0 for the beacon.
        serial: u64,
        /// What the parser says; it names no content.
        error: serde_json::Error,
    },
    /// The geometry and the file beside it contradict each other.
    #[error(
        "outbox: container of serial {serial} has {file_bytes} bytes, its geometry says {container_bytes}"
    )]
    Length {
        /// Whose.
        serial: Serial,
        /// Bytes of the file.
        file_bytes: u64,
        /// Bytes that the geometry was made for.
        container_bytes: u64,
    },
}

/// `<precedence 0–3>-<serial>-<not-after, unix seconds>`: the stem of a container's two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxName {
    /// Precedence.
    pub precedence: Precedence,
    /// Serial.
    pub serial: Serial,
    /// Until when a pass may begin.
    pub not_after: UtcTime,
}

/// Which of the two files of a container a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxFile {
    /// The sealed container.
    Container,
    /// Its [`FecFile`].
    Fec,
}

impl OutboxName {
    /// The name of the container's file.
    pub fn container_name(&self) -> String {
        format!("{}.container", self.stem())
    }

    /// The name of the file that holds its geometry.
    pub fn fec_name(&self) -> String {
        format!("{}.fec", self.stem())
    }

    /// Reads a file name; `None` for any other.
    pub fn parse(name: &str) -> Option<(Self, OutboxFile)> {
        let (stem, extension) = name.rsplit_once('.')?;
        let file = match extension {
            "container" => OutboxFile::Container,
            "fec" => OutboxFile::Fec,
            _ => return None,
        };
        let mut fields = stem.split('-');
        let (precedence, serial, not_after) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let precedence = u8::try_from(parse_decimal(precedence).ok()?).ok()?;
        let name = Self {
            precedence: Precedence::from_index(precedence)?,
            serial: serial.parse().ok()?,
            not_after: UtcTime::from_s(parse_decimal(not_after).ok()?),
        };
        Some((name, file))
    }

    fn stem(&self) -> String {
        format!(
            "{}-{}-{}",
            self.precedence.index(),
            self.serial,
            self.not_after.as_s()
        )
    }
}

/// The `.fec` file: how a container is cut for its whole life, and how often it is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FecFile {
    /// Codec, k_max, m, symbol size and length.
    pub geometry: Geometry,
    /// Passes wanted in all, those already sent included; a resend raises it.
    pub passes: u8,
    /// The container's short name on the link.
    pub container: ContainerId,
    /// The whole hash.
    pub hash: ContainerHash,
}

/// A serial that was issued but will not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// The serial.
    pub serial: Serial,
    /// Its container.
    pub container: ContainerId,
    /// The container's length.
    pub container_bytes: u64,
}

/// `outbox/beacon`: what gate alone knows and every beacon tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolBeacon {
    /// The highest serial issued; 0 before the first.
    pub issued: u64,
    /// The lowest serial whose container is still kept; 0 for none.
    pub lowest_retained: u64,
    /// Version of the trust list; 0 for none.
    pub trust_version: u32,
    /// Serials that are issued and whose container is not in the outbox yet.
    #[serde(default)]
    pub in_sealing: Vec<Serial>,
    /// Serials that will not be sent, the newest of them.
    #[serde(default)]
    pub given_up: Vec<GivenUp>,
}

/// The outbox, read only.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// Looks at a folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// All containers that are there.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn containers(&self) -> Result<BTreeMap<Serial, OutboxName>, OutboxError> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if let Some((name, OutboxFile::Container)) = name.to_str().and_then(OutboxName::parse) {
                found.insert(name.serial, name);
            }
        }
        Ok(found)
    }

    /// What stands beside a container; `None` if gate has deleted it meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, or is not what gate writes.
    pub fn fec(&self, name: &OutboxName) -> Result<Option<FecFile>, OutboxError> {
        let Some(text) = read(&self.folder.join(name.fec_name()))? else {
            return Ok(None);
        };
        let serial = name.serial.get();
        let malformed = |error| OutboxError::Malformed {
            what: "geometry",
            serial,
            error,
        };
        serde_json::from_slice(&text).map(Some).map_err(malformed)
    }

    /// What gate knows; the default before gate has written anything.
    ///
    /// # Errors
    /// If it cannot be read, or is not what gate writes.
    pub fn beacon(&self) -> Result<SpoolBeacon, OutboxError> {
        let Some(text) = read(&self.folder.join(BEACON_NAME))? else {
            return Ok(SpoolBeacon::default());
        };
        let malformed = |error| OutboxError::Malformed {
            what: "beacon",
            serial: 0,
            error,
        };
        serde_json::from_slice(&text).map_err(malformed)
    }

    /// Opens a container to be read at offsets; `None` if gate has deleted it meanwhile.
    ///
    /// # Errors
    /// If it cannot be opened, or has not the length that its geometry was made for.
    pub fn open(
        &self,
        name: &OutboxName,
        geometry: &Geometry,
    ) -> Result<Option<File>, OutboxError> {
        let file = match File::open(self.folder.join(name.container_name())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (file_bytes, container_bytes) = (file.metadata()?.len(), geometry.container_bytes());
        if file_bytes != container_bytes {
            return Err(OutboxError::Length {
                serial: name.serial,
                file_bytes,
                container_bytes,
            });
        }
        Ok(Some(file))
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use valise_common::fec::Codec;

    fn name() -> OutboxName {
        OutboxName {
            precedence: Precedence::Flash,
            serial: Serial::new(17).unwrap(),
            not_after: UtcTime::from_s(1_800_000_000),
        }
    }

    fn fec() -> FecFile {
        let hash = ContainerHash::from_bytes([7; 32]);
        let geometry = Geometry::new(1_264 + 1_024 + 16, Codec::Rs8, 2, 2, 1_400).unwrap();
        FecFile {
            geometry,
            passes: 2,
            container: hash.id(),
            hash,
        }
    }

    #[test]
    fn names_round_trip_and_others_are_not_ours() {
        assert_eq!(name().container_name(), "0-17-1800000000.container");
        let parsed = |text: &str| OutboxName::parse(text);
        assert_eq!(
            parsed(&name().container_name()),
            Some((name(), OutboxFile::Container))
        );
        assert_eq!(parsed(&name().fec_name()), Some((name(), OutboxFile::Fec)));
        for other in [
            "beacon",
            "4-17-1.container",
            "0-0-1.container",
            "0-17-1-2.container",
            "0-017-1.container",
            "0-17.container",
            "0-17-1.container.tmp",
            ".container",
            "",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn a_geometry_round_trips_through_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(folder.path());
        assert!(outbox.fec(&name()).unwrap().is_none());
        let text = serde_json::to_vec(&fec()).unwrap();
        fs::write(folder.path().join(name().fec_name()), text).unwrap();
        assert_eq!(outbox.fec(&name()).unwrap(), Some(fec()));
        fs::write(folder.path().join(name().fec_name()), "{").unwrap();
        assert!(matches!(
            outbox.fec(&name()),
            Err(OutboxError::Malformed { serial: 17, .. })
        ));
    }

    #[test]
    fn only_containers_are_listed_and_only_whole_ones_opened() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(folder.path());
        assert!(outbox.open(&name(), &fec().geometry).unwrap().is_none());
        for other in ["beacon", "0-9-1.fec", "x"] {
            fs::write(folder.path().join(other), "{}").unwrap();
        }
        let path = folder.path().join(name().container_name());
        fs::write(&path, vec![0; 5]).unwrap();
        let listed: Vec<_> = outbox.containers().unwrap().into_values().collect();
        assert_eq!(listed, [name()]);
        let opened = outbox.open(&name(), &fec().geometry);
        assert!(matches!(
            opened,
            Err(OutboxError::Length { file_bytes: 5, .. })
        ));
        fs::write(&path, vec![0; 2_304]).unwrap();
        assert!(outbox.open(&name(), &fec().geometry).unwrap().is_some());
    }

    #[test]
    fn a_missing_beacon_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(folder.path());
        assert_eq!(outbox.beacon().unwrap(), SpoolBeacon::default());
        let known = SpoolBeacon {
            issued: 9,
            lowest_retained: 2,
            trust_version: 7,
            in_sealing: vec![Serial::new(9).unwrap()],
            given_up: vec![GivenUp {
                serial: Serial::new(3).unwrap(),
                container: ContainerId::from_bytes([1; 12]),
                container_bytes: 2_304,
            }],
        };
        let text = serde_json::to_vec(&known).unwrap();
        fs::write(folder.path().join(BEACON_NAME), text).unwrap();
        assert_eq!(outbox.beacon().unwrap(), known);
    }
}
