//! What an auditor brings: first keys, public keys of checkpoints, and checkpoints taken away earlier.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::{CheckError, ROLES};
use crate::audit::{CheckpointVerifier, notes};
use crate::limits;
use crate::secret::Secret32;

/// The files that the auditor names, as options of a command.
#[derive(Debug, Clone, Default, Args)]
pub struct BroughtFiles {
    /// The first keys, as init printed them: with them every MAC is verified.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The public keys of the checkpoints, as init printed them; by default what lies beside the log.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// Checkpoints that the auditor took away earlier; may be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
}

/// What was read from them.
#[derive(Default)]
pub struct Brought {
    pub(super) first_keys: Vec<FirstKey>,
    pub(super) verifiers: Vec<CheckpointVerifier>,
    pub(super) notes: Vec<HeldNote>,
    /// What the auditor should know about these files.
    pub warnings: Vec<String>,
}

/// A first key, and whose it is where the file says that.
pub(super) struct FirstKey {
    pub(super) role: Option<String>,
    pub(super) key: Secret32,
}

/// A checkpoint that is not verified yet.
pub(super) struct HeldNote {
    pub(super) text: String,
    pub(super) file: PathBuf,
    /// Its place in the file, from 1.
    pub(super) number: usize,
}

impl HeldNote {
    /// Whose it says that it is.
    pub(super) fn origin(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

impl Brought {
    /// Reads what the auditor names.
    ///
    /// # Errors
    /// [`CheckError::Usage`] for a file that is not there or does not hold what it is named for.
    pub fn read(files: &BroughtFiles) -> Result<Self, CheckError> {
        let mut brought = Self::default();
        if let Some(path) = &files.key {
            brought.read_keys(path)?;
        }
        if let Some(path) = &files.public_key {
            brought.verifiers = read_verifiers(path)?;
        }
        for path in &files.checkpoints {
            let (held, _) = read_notes(path)?;
            if held.is_empty() {
                return Err(CheckError::Usage(format!(
                    "{} holds no checkpoint",
                    path.display()
                )));
            }
            brought.notes.extend(held);
        }
        Ok(brought)
    }

    fn read_keys(&mut self, path: &Path) -> Result<(), CheckError> {
        let text = read_text(path, limits::REQUEST_TEXT_BYTES_MAX)?;
        let mut word_before = None;
        for word in words(&text) {
            if let Some(key) = Secret32::from_hex(word) {
                let role = word_before.filter(|word| ROLES.contains(word));
                let role = role.map(str::to_owned);
                self.first_keys.push(FirstKey { role, key });
            }
            word_before = Some(word);
        }
        let shown = path.display();
        if self.first_keys.is_empty() {
            return Err(CheckError::Usage(format!(
                "{shown} holds no first key: 64 lower-case hexadecimal digits, as init prints them"
            )));
        }
        let mode = path
            .metadata()
            .map_or(0, |found| found.permissions().mode());
        if path.is_file() && mode & 0o077 != 0 {
            self.warnings.push(format!(
                "others may read {shown}, and whoever has a first key can rewrite the log: set its mode to 0600"
            ));
        }
        Ok(())
    }
}

/// Returns the words of what `init` printed, as text or as JSON.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ':' | '{' | '}' | '[' | ']'))
        .filter(|word| !word.is_empty())
}

/// Returns the public keys in a file.
pub(super) fn read_verifiers(path: &Path) -> Result<Vec<CheckpointVerifier>, CheckError> {
    let text = read_text(path, limits::REQUEST_TEXT_BYTES_MAX)?;
    let found: Vec<_> = words(&text)
        .filter_map(|word| CheckpointVerifier::parse(word).ok())
        .collect();
    if found.is_empty() {
        return Err(CheckError::Usage(format!(
            "{} holds no public key of checkpoints: name+hash+key, as init prints it",
            path.display()
        )));
    }
    Ok(found)
}

/// Returns the checkpoints in a file, and whether it ends as the daemon leaves it: of one that it is writing, the last is cut short.
pub(super) fn read_notes(path: &Path) -> Result<(Vec<HeldNote>, bool), CheckError> {
    let text = read_text(path, limits::CHECKPOINT_FILE_BYTES_MAX)?;
    let held = notes(&text).enumerate().map(|(index, text)| HeldNote {
        text,
        file: path.to_owned(),
        number: index + 1,
    });
    Ok((held.collect(), text.ends_with("\n\n")))
}

/// An auditor's own file: links and pipes are welcome.
fn read_text(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, CheckError> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| CheckError::open(path, &error))?;
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut text = Zeroizing::new(String::new());
    match file.take(most.saturating_add(1)).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // What is not text holds nothing that would verify.
            return Ok(Zeroizing::new(String::from("\u{fffd}")));
        }
        Err(error) => return Err(CheckError::System(format!("{shown}: {error}"))),
        Ok(_) if text.len() > bytes_max => {
            return Err(CheckError::Usage(format!("{shown} is too long")));
        }
        Ok(_) => {}
    }
    Ok(text)
}
