//! What gate leaves for transmit in `outbox/`: names, the geometry beside each container, and what gate knows of serials.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use valise_common::limits;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use valise_common::fec::Geometry;
use valise_common::host::folders::{OutboxName, SenderState};
use valise_common::ids::{ContainerHash, ContainerId, Serial};
use valise_common::os::durable::{self, checked};

pub(crate) use crate::pipeline::{GivenUp, SpoolBeacon};

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
    /// The container, or what stands beside it, is not what gate wrote.
    #[error("outbox: container of serial {serial} does not match its hash: the disk changed it")]
    Hash {
        /// Whose.
        serial: Serial,
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

/// What a file name of the outbox means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutboxFile {
    /// A sealed container.
    Container(OutboxName),
    /// Its [`FecFile`].
    Fec(OutboxName),
    /// The [`SpoolBeacon`].
    Beacon,
}

impl OutboxFile {
    /// Reads a file name; `None` for any that gate does not write.
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let container = OutboxName::of_container(name).map(Self::Container);
        let fec = || OutboxName::of_geometry(name).map(Self::Fec);
        let beacon = || (name == "beacon").then_some(Self::Beacon);
        container.or_else(fec).or_else(beacon)
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

/// The outbox, read only.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: SenderState,
}

impl Outbox {
    /// Creates the outbox of a sender's state.
    pub(crate) fn new(state: SenderState) -> Self {
        Self { state }
    }

    /// Returns all containers that are there.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn containers(&self) -> Result<BTreeMap<Serial, OutboxName>, OutboxError> {
        let mut found = BTreeMap::new();
        for entry in durable::list(&self.state.outbox())? {
            if let Some(name) = OutboxName::of_container(&entry?.file_name()) {
                found.insert(name.serial, name);
            }
        }
        Ok(found)
    }

    /// What stands beside a container; `None` if gate has deleted it meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, or is not what gate writes.
    pub(crate) fn fec(&self, name: &OutboxName) -> Result<Option<FecFile>, OutboxError> {
        let Some(text) = read(&self.state.geometry(name))? else {
            return Ok(None);
        };
        let serial = name.serial.get();
        let malformed = |error| OutboxError::Malformed {
            what: "geometry",
            serial,
            error,
        };
        parse(&text).map(Some).map_err(malformed)
    }

    /// What gate knows; the default before gate has written anything.
    ///
    /// # Errors
    /// If it cannot be read, or is not what gate writes.
    pub(crate) fn beacon(&self) -> Result<SpoolBeacon, OutboxError> {
        let Some(text) = read(&self.state.outbox_beacon())? else {
            return Ok(SpoolBeacon::default());
        };
        let malformed = |error| OutboxError::Malformed {
            what: "beacon",
            serial: 0,
            error,
        };
        parse(&text).map_err(malformed)
    }

    /// Opens a container to be read at offsets; `None` if gate has deleted it meanwhile.
    ///
    /// # Errors
    /// If it cannot be opened, or has not the length that its geometry was made for.
    pub(crate) fn open(
        &self,
        name: &OutboxName,
        geometry: &Geometry,
    ) -> Result<Option<File>, OutboxError> {
        let file = match File::open(self.state.container(name)) {
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

/// Reads the text of a `.fec` file or of `outbox/beacon`.
///
/// # Errors
/// If it is not what gate wrote.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let text = checked(text).ok_or_else(|| serde_json::Error::custom("its hash differs"))?;
    serde_json::from_slice(text)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(limits::OUTBOX_TEXT_BYTES_MAX)
        .read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use std::fs;
    use valise_common::fec::Codec;
    use valise_common::precedence::Precedence;
    use valise_common::units::UtcTime;

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

    fn state() -> (tempfile::TempDir, SenderState, Outbox) {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        (folder, state.clone(), Outbox::new(state))
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        let parsed = |text: &str| OutboxFile::parse(OsStr::new(text));
        assert_eq!(
            parsed("0-17-1800000000.container"),
            Some(OutboxFile::Container(name()))
        );
        assert_eq!(parsed("0-17-1800000000.fec"), Some(OutboxFile::Fec(name())));
        assert_eq!(parsed("beacon"), Some(OutboxFile::Beacon));
        for other in [
            "",
            "beacon.tmp",
            "4-17-1.container",
            "0-17-1.container.tmp",
            ".fec",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn a_geometry_round_trips_through_its_file() {
        let (_folder, state, outbox) = state();
        assert!(outbox.fec(&name()).unwrap().is_none());
        fs::write(state.geometry(&name()), serde_json::to_vec(&fec()).unwrap()).unwrap();
        assert_eq!(outbox.fec(&name()).unwrap(), Some(fec()));
        fs::write(state.geometry(&name()), "{").unwrap();
        assert!(matches!(
            outbox.fec(&name()),
            Err(OutboxError::Malformed { serial: 17, .. })
        ));
    }

    #[test]
    fn only_containers_are_listed_and_only_whole_ones_opened() {
        let (_folder, state, outbox) = state();
        assert!(outbox.open(&name(), &fec().geometry).unwrap().is_none());
        for other in ["beacon", "0-9-1.fec", "x"] {
            fs::write(state.outbox().join(other), "{}").unwrap();
        }
        fs::write(state.container(&name()), vec![0; 5]).unwrap();
        let listed: Vec<_> = outbox.containers().unwrap().into_values().collect();
        assert_eq!(listed, [name()]);
        let opened = outbox.open(&name(), &fec().geometry);
        assert!(matches!(
            opened,
            Err(OutboxError::Length { file_bytes: 5, .. })
        ));
        fs::write(state.container(&name()), vec![0; 2_304]).unwrap();
        assert!(outbox.open(&name(), &fec().geometry).unwrap().is_some());
    }

    #[test]
    fn a_missing_beacon_knows_nothing() {
        let (_folder, state, outbox) = state();
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
        fs::write(state.outbox_beacon(), serde_json::to_vec(&known).unwrap()).unwrap();
        assert_eq!(outbox.beacon().unwrap(), known);
    }
}
