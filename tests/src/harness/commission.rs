//! The people of the harness, their trust list, and the courier's material between the hosts.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use valise_common::units::UtcTime;

use super::error::{Context, HarnessError, Result};
use super::keys::KeyPair;

/// One day, in seconds.
const DAY_S: u64 = 86_400;
/// The largest body that the harness's classifications allow: 64 GiB.
const CABLE_BYTES_MAX: u64 = 64 << 30;
/// All persons with a key.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Two administrators.
    pub administrators: [KeyPair; 2],
    /// `d.drafter`, who is the user that runs the harness. Also an officer, so that the refusal of an approval of their
    /// own cable can be tested.
    pub drafter: KeyPair,
    /// `o.one`, `o.two` and `o.three`.
    pub officers: [KeyPair; 3],
    /// A second key of `o.two`.
    pub second_key: KeyPair,
    /// A key that is in no trust list.
    pub stranger: KeyPair,
}

impl Roster {
    /// The drafter's id in the trust list.
    pub const DRAFTER: &'static str = "d.drafter";
    /// The officers' ids in the trust list.
    pub const OFFICERS: [&'static str; 3] = ["o.one", "o.two", "o.three"];

    /// Makes everybody's keys in `folder`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn generate(folder: &Path) -> Result<Self> {
        let key = |name: &str| KeyPair::generate(folder, name);
        let [one, two, three] = Self::OFFICERS;
        Ok(Self {
            administrators: [key("admin-1")?, key("admin-2")?],
            drafter: key(Self::DRAFTER)?,
            officers: [key(one)?, key(two)?, key(three)?],
            second_key: key("o.two-second")?,
            stranger: key("stranger")?,
        })
    }

    /// The text of a trust list, issued a day before `now`.
    pub fn trust_list(
        &self,
        channel: &str,
        version: u32,
        now: UtcTime,
        media_types: &[String],
    ) -> String {
        let day = |offset: i64| {
            let seconds = offset.unsigned_abs() * DAY_S;
            match offset < 0 {
                true => UtcTime::from_s(now.as_s().saturating_sub(seconds)),
                false => now.plus_s(seconds),
            }
        };
        let mut text = format!(
            "version = {version}\nchannel = \"{channel}\"\nissued = \"{}\"\n\
             allow-software-keys = true\n",
            day(-1)
        );
        let mut person = |id: &str, roles: &str, keys: &[&KeyPair]| {
            let keys: Vec<&str> = keys.iter().map(|key| key.public_line()).collect();
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[[person]]\nid = \"{id}\"\nroles = {roles}\nkeys = {keys:?}\n\
                 valid-from = \"{}\"\nvalid-until = \"{}\"\n",
                day(-30),
                day(300)
            );
        };
        person(
            Self::DRAFTER,
            "[\"drafter\", \"officer\"]",
            &[&self.drafter],
        );
        let [one, two, three] = &self.officers;
        person(Self::OFFICERS[0], "[\"officer\"]", &[one]);
        person(Self::OFFICERS[1], "[\"officer\"]", &[two, &self.second_key]);
        person(Self::OFFICERS[2], "[\"officer\"]", &[three]);
        for (id, marking, officers) in [
            ("EU-RESTRICTED", "RESTREINT UE/EU RESTRICTED", 2),
            ("EU-CONFIDENTIAL", "CONFIDENTIEL UE/EU CONFIDENTIAL", 3),
        ] {
            let _ = write!(
                text,
                "\n[[classification]]\nid = \"{id}\"\nmarking = \"{marking}\"\n\
                 officers = {officers}\nuser-verification = false\n\
                 media-types = {media_types:?}\ncable-bytes-max = {CABLE_BYTES_MAX}\n\
                 validity-days-max = 30\n",
            );
        }
        text.push_str("\n[[category]]\nid = \"LIMITE\"\n\n[[category]]\nid = \"CRISIS\"\n");
        for (id, maximum, categories) in [
            ("paris-desk", "EU-RESTRICTED", "[\"LIMITE\", \"CRISIS\"]"),
            ("rome-desk", "EU-CONFIDENTIAL", "[\"LIMITE\"]"),
        ] {
            let _ = write!(
                text,
                "\n[[mailbox]]\nid = \"{id}\"\nclassification-max = \"{maximum}\"\n\
                 categories = {categories}\n",
            );
        }
        text
    }

    /// Signs a trust list or a statement as both administrators.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn administrators_sign(&self, namespace: &str, file: &Path) -> Result<()> {
        for (index, administrator) in self.administrators.iter().enumerate() {
            administrator.sign_as_administrator(namespace, file, index + 1)?;
        }
        Ok(())
    }

    /// `--administrator` for both, as `init` takes them.
    pub fn administrator_arguments(&self) -> Vec<String> {
        self.administrators
            .iter()
            .flat_map(|key| {
                [
                    "--administrator".to_owned(),
                    key.public_file().display().to_string(),
                ]
            })
            .collect()
    }
}

/// The folder that a courier carries from the receiver to the sender.
#[derive(Debug, Clone)]
pub struct Courier {
    folder: PathBuf,
}

impl Courier {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The secret file.
    pub fn bundle_file(&self) -> PathBuf {
        self.folder.join("channel.bundle")
    }

    /// The statement that administrators sign.
    pub fn statement_file(&self) -> PathBuf {
        self.folder.join("channel.bundle.statement")
    }

    /// The channel's id in hexadecimal, from the statement.
    ///
    /// # Errors
    /// If the statement cannot be read or has none.
    pub fn channel(&self) -> Result<String> {
        let file = self.statement_file();
        let text = std::fs::read_to_string(&file).context("read", &file)?;
        text.lines()
            .find_map(|line| line.strip_prefix("channel: "))
            .map(str::to_owned)
            .ok_or_else(|| HarnessError::Wrong("the bundle's statement names no channel".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trust_list_names_everybody_and_expires_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let roster = Roster::generate(folder.path()).expect("ssh-keygen is installed");
        let now = UtcTime::from_s(1_795_384_398);
        let text = roster.trust_list("0123456789abcdef0123456789abcdef", 1, now, &[]);
        for id in Roster::OFFICERS {
            assert!(text.contains(&format!("id = \"{id}\"")));
        }
        assert!(text.contains("issued = \"2026-11-21T21:53:18Z\""), "{text}");
        assert!(!text.contains(roster.stranger.public_line()));
    }
}
