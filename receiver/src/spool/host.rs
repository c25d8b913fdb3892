//! `host.toml`: what was fixed when the host was commissioned.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use valise_common::ids::ChannelId;
use valise_common::limits;
use valise_common::os::durable::{self, Access};
use valise_common::sshsig::PublicKey;
use valise_common::trust::check_administrators;

/// Why the host's file cannot be used.
#[derive(Debug, Error)]
pub enum HostError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is none: the host was never commissioned.
    #[error("this host is not commissioned: run valise-receiver init first")]
    Absent,
    /// It is not what `init` wrote.
    #[error(
        "{path} is damaged ({reason}): put back a copy of the file, or write into it again what it held, the public keys of the \
         administrators and the channel"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The channel and the persons whose signatures rule it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The channel.
    pub channel: ChannelId,
    /// The administrators' keys.
    pub administrators: Vec<PublicKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    channel: ChannelId,
    administrators: Vec<String>,
}

impl Host {
    /// Reads the host's file.
    ///
    /// # Errors
    /// [`HostError::Absent`] before `init`; the others when the file was changed.
    pub fn read(path: &Path) -> Result<Host, HostError> {
        let bytes = match durable::read_bounded(path, limits::CONFIG_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HostError::Absent),
            other => other?,
        };
        let damaged = |error: &dyn std::fmt::Display| HostError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let text = durable::checked(&bytes).ok_or_else(|| damaged(&"its hash differs"))?;
        let text = std::str::from_utf8(text).map_err(|error| damaged(&error))?;
        let file: File = toml::from_str(text).map_err(|error| damaged(&error.message()))?;
        let administrators = file
            .administrators
            .iter()
            .map(|line| PublicKey::parse_openssh(line))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| damaged(&error))?;
        check_administrators(&administrators).map_err(|error| damaged(&error))?;
        Ok(Host {
            channel: file.channel,
            administrators,
        })
    }

    /// Writes the host's file, once.
    ///
    /// # Errors
    /// [`HostError::Io`], for a file that exists too.
    pub fn write_new(&self, tmp: &Path, path: &Path) -> Result<(), HostError> {
        let file = File {
            channel: self.channel,
            administrators: self
                .administrators
                .iter()
                .map(PublicKey::to_openssh)
                .collect(),
        };
        let mut text = toml::to_string(&file)
            .map_err(io::Error::other)?
            .into_bytes();
        durable::add_check(&mut text);
        Ok(durable::write_new(tmp, path, &text, Access::Everyone)?)
    }
}
