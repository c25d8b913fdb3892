//! `host.toml`: what was fixed when the host was commissioned.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;
use crate::os::durable::{self, Access};
use crate::sshsig::PublicKey;
use crate::trust::check_administrators;

/// Why the host's file cannot be used.
#[derive(Debug, Error)]
pub enum HostError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is absent: `init` was not run.
    #[error("this host is not commissioned: run {program} init first")]
    NotCommissioned {
        /// The host's program.
        program: &'static str,
    },
    /// It is not what `init` wrote.
    #[error(
        "{path} is damaged ({reason}): put back a copy of the file, or write into it again what it held, the public keys of the \
         administrators and, on the receiver, the channel"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The persons whose signatures rule the host, and what else `init` fixed: the receiver makes the channel, and the sender
/// learns it from its first import, whose line is in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<C> {
    /// The administrators' keys.
    pub administrators: Vec<PublicKey>,
    /// The channel, or an `Option` of it.
    pub channel: C,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<C> {
    administrators: Vec<String>,
    channel: C,
}

impl<C: Serialize + DeserializeOwned> Host<C> {
    /// Reads the host's file.
    ///
    /// # Errors
    /// [`HostError::NotCommissioned`] before `init`; the others when the file was changed.
    pub(super) fn read(path: &Path, program: &'static str) -> Result<Self, HostError> {
        let bytes = match durable::read_bounded(path, limits::CONFIG_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HostError::NotCommissioned { program });
            }
            bytes => bytes?,
        };
        let damaged = |error: &dyn std::fmt::Display| HostError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let text = durable::checked(&bytes).ok_or_else(|| damaged(&"its hash differs"))?;
        let text = std::str::from_utf8(text).map_err(|error| damaged(&error))?;
        let file: File<C> = toml::from_str(text).map_err(|error| damaged(&error.message()))?;
        let administrators = file
            .administrators
            .iter()
            .map(|line| PublicKey::parse_openssh(line))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| damaged(&error))?;
        check_administrators(&administrators).map_err(|error| damaged(&error))?;
        Ok(Self {
            administrators,
            channel: file.channel,
        })
    }

    /// Writes the host's file durably, once.
    ///
    /// # Errors
    /// The system's, for a file that exists too.
    pub fn write_new(self, tmp: &Path, path: &Path) -> io::Result<()> {
        let keys = self.administrators.iter().map(PublicKey::to_openssh);
        let file = File {
            administrators: keys.collect(),
            channel: self.channel,
        };
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        let mut text = text.into_bytes();
        durable::add_check(&mut text);
        durable::write_new(tmp, path, &text, Access::Everyone)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::ids::ChannelId;
    use crate::sshsig::KeyKind;
    use crate::sshsig::forge::Forge;

    type Sender = Host<Option<ChannelId>>;
    type Receiver = Host<ChannelId>;

    fn keys(count: u8) -> Vec<PublicKey> {
        let forge = |seed| Forge::new(KeyKind::SkEd25519, seed).public_key();
        (1..=count).map(forge).collect()
    }

    #[test]
    fn what_init_wrote_is_read_and_any_other_byte_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.toml");
        let error = Receiver::read(&path, "valise-receiver").unwrap_err();
        assert!(
            error.to_string().contains("run valise-receiver init"),
            "{error}"
        );
        let host = Host {
            administrators: keys(2),
            channel: ChannelId::from_bytes([7; 16]),
        };
        host.clone().write_new(folder.path(), &path).unwrap();
        assert_eq!(Receiver::read(&path, "").unwrap(), host);
        host.write_new(folder.path(), &path).unwrap_err();
        let bytes = fs::read(&path).unwrap();
        let check = b"# blake3 ";
        let text_bytes = bytes.windows(check.len()).position(|at| at == check);
        for index in 0..text_bytes.unwrap() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            fs::write(&path, flipped).unwrap();
            let read = Receiver::read(&path, "");
            assert!(matches!(read, Err(HostError::Damaged { .. })), "{index}");
        }
    }

    #[test]
    fn the_sender_alone_has_no_channel_and_no_host_has_one_administrator() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.toml");
        let host: Sender = Host {
            administrators: keys(3),
            channel: None,
        };
        host.clone().write_new(folder.path(), &path).unwrap();
        assert_eq!(Sender::read(&path, "").unwrap(), host);
        Receiver::read(&path, "").unwrap_err();
        let one = keys(1)[0].to_openssh();
        for text in [
            format!("administrators = ['{one}']\n"),
            format!("administrators = ['{one}', '{one}']\n"),
            "administrators = 1\n".to_owned(),
        ] {
            fs::write(&path, text).unwrap();
            let read = Sender::read(&path, "");
            assert!(matches!(read, Err(HostError::Damaged { .. })), "{read:?}");
        }
    }
}
