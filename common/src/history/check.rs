//! Verifying a role's log where it lies, or a copy of it elsewhere, with what an auditor brings.
//!
//! Nothing is locked or written, and no key of the host is needed: the daemon may go on writing, and an auditor may be another
//! user or sit at another machine. Checkpoints and the key file are read before the log, which therefore reaches at least as
//! far as they say.

mod brought;
mod report;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::brought::{Brought, BroughtFiles};
use self::brought::{FirstKey, read_notes, read_verifiers};
pub use self::report::{Fault, Report};
use super::log::{InTurn, parts, read_key_state};
use crate::audit::{AuditError, Chain, Checkpoint, CheckpointVerifier, Evidence, Verifier};
use crate::limits;
use crate::secret::Secret32;

/// Why a log could not be verified at all.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The auditor named something wrong.
    #[error("{0}")]
    Usage(String),
    /// The system failed.
    #[error("{0}")]
    System(String),
}

impl CheckError {
    fn open(path: &Path, error: &io::Error) -> Self {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Usage(format!("{shown}: {error}")),
            io::ErrorKind::PermissionDenied => Self::System(format!(
                "{shown}: {error}; run this as root, as the log's owner or in its group, or verify a copy"
            )),
            _ => Self::System(format!("{shown}: {error}")),
        }
    }
}

/// The words by which logs, first keys and public keys are told apart.
const ROLES: [&str; 4] = ["gate", "transmit", "receive", "release"];

/// A log to be verified.
#[derive(Debug, Clone)]
pub struct Place {
    /// The log's first file. The others, checkpoints and their public key are looked for beside it.
    pub log: PathBuf,
    /// Whose log it is.
    pub role: Option<String>,
    /// Whether the host writes it there, so that the key file beside it belongs to it.
    pub is_host: bool,
}

impl Place {
    /// A role's log in a host's `audit/`.
    pub fn of_host(audit: &Path, role: &str) -> Self {
        Self {
            log: audit.join(format!("{role}.log")),
            role: Some(role.to_owned()),
            is_host: true,
        }
    }

    /// Creates a log that the auditor names; its role is its name, if that is not given.
    pub fn of_file(log: &Path, role: Option<&str>) -> Self {
        let stem = log.file_stem().and_then(|stem| stem.to_str());
        let role = role.or(stem.filter(|stem| ROLES.contains(stem)));
        Self {
            log: log.to_owned(),
            role: role.map(str::to_owned),
            is_host: false,
        }
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.log.with_extension(extension)
    }
}

/// A log that is being verified: its lines are to be read to the end, then there is a report.
pub struct Check {
    verifier: Verifier<BufReader<InTurn>>,
    basis: Basis,
    error: Option<AuditError>,
}

/// What a log is held against, as the report tells it.
#[derive(Debug, Default)]
struct Basis {
    place_log: PathBuf,
    role: Option<String>,
    has_first_key: bool,
    has_own_public_key: bool,
    /// Checkpoints that the auditor brought: how many, and the last one's line.
    held: Seen,
    /// Checkpoints that lie beside the log.
    beside: Seen,
    key_state: KeyState,
    /// What is wrong with the checkpoints themselves.
    fault: Option<String>,
    /// The file of checkpoints ends in half a note.
    is_note_torn: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    count: u64,
    last_line: u64,
}

impl Seen {
    fn note(&mut self, checkpoint: &Checkpoint) {
        self.count += 1;
        self.last_line = self.last_line.max(checkpoint.seq + 1);
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum KeyState {
    /// The log is a copy, or lies elsewhere.
    #[default]
    NotAsked,
    /// It holds a secret, and this user may not read it.
    Unreadable,
    Read,
}

impl Check {
    /// Opens a log and gathers what it is held against.
    ///
    /// # Errors
    /// [`CheckError`], when nothing could be verified. What is wrong with the log or its checkpoints is in the report.
    pub fn open(place: &Place, brought: &Brought) -> Result<Self, CheckError> {
        let (verifier, has_own_public_key) = choose_verifier(place, brought)?;
        let mut basis = Basis {
            place_log: place.log.clone(),
            role: place.role.clone(),
            has_own_public_key,
            ..Basis::default()
        };
        let mut checkpoints = Vec::new();
        if let Some(verifier) = &verifier {
            basis.take_role(verifier, place);
            basis.take_held(verifier, brought, &mut checkpoints);
        } else if !brought.notes.is_empty() {
            return Err(CheckError::Usage(
                "checkpoints need the public key that verifies them: give it with --public-key FILE"
                    .to_owned(),
            ));
        }
        if !place.is_host && !brought.notes.is_empty() && basis.held.count == 0 {
            basis.fault.get_or_insert_with(|| {
                "none of the checkpoints that you brought is of this log".to_owned()
            });
        }
        let is_log_empty = place.log.metadata().is_ok_and(|found| found.len() == 0);
        if let Some(verifier) = &verifier {
            basis.take_beside(verifier, place, is_log_empty, &mut checkpoints)?;
        }
        let key_state = if place.is_host {
            basis.take_key_state(place)?
        } else {
            None
        };
        let log = match File::open(&place.log) {
            Err(error) if place.is_host && error.kind() == io::ErrorKind::NotFound => {
                let shown = place.log.display();
                basis.fault = Some(format!("{shown} is gone"));
                File::open("/dev/null").map_err(|error| CheckError::open(&place.log, &error))?
            }
            other => other.map_err(|error| CheckError::open(&place.log, &error))?,
        };
        let parts = parts(&place.log).map_err(|error| CheckError::open(&place.log, &error))?;
        let next = parts.into_iter().skip(1).map(|part| part.path);
        let log = InTurn::new(log, next);
        let first_key = choose_first_key(place, brought)?;
        basis.has_first_key = first_key.is_some();
        let evidence = Evidence {
            first_key,
            checkpoints,
            key_state,
        };
        Ok(Self {
            verifier: Verifier::new(BufReader::with_capacity(1 << 18, log), evidence),
            basis,
            error: None,
        })
    }

    /// Returns the next valid line without its LF, or `None` after the last valid line.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        match self.verifier.next_line() {
            Ok(line) => line,
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    /// Reads what is left and tells what was found.
    ///
    /// # Errors
    /// [`CheckError::System`] when the log could not be read.
    pub fn report(mut self) -> Result<Report, CheckError> {
        while self.next_line().is_some() {}
        let vouched = self.verifier.vouched();
        let ended = match self.error {
            Some(AuditError::Read(error)) => {
                return Err(CheckError::open(&self.basis.place_log, &error));
            }
            Some(error) => Err(error),
            None => self.verifier.finish(),
        };
        Ok(Report::new(self.basis, ended, vouched))
    }
}

impl Basis {
    /// A role's log has that role's public key.
    fn take_role(&mut self, verifier: &CheckpointVerifier, place: &Place) {
        if let Some(role) = &place.role
            && role_of(verifier.origin()) != role
        {
            let origin = verifier.origin();
            self.fault.get_or_insert_with(|| {
                format!("its checkpoints' public key is of the log {origin}")
            });
        }
    }

    /// Verifies what the auditor brought. Checkpoints of other logs are for those.
    fn take_held(
        &mut self,
        verifier: &CheckpointVerifier,
        brought: &Brought,
        checkpoints: &mut Vec<Checkpoint>,
    ) {
        for note in &brought.notes {
            if note.origin() != verifier.origin() {
                if role_of(note.origin()) == role_of(verifier.origin()) {
                    // There is one log of a role: one of the two has been replaced, or the file is of another host.
                    let (file, number) = (note.file.display(), note.number);
                    let (theirs, ours) = (note.origin(), verifier.origin());
                    self.fault.get_or_insert_with(|| {
                        format!("checkpoint {number} in {file} is of the log {theirs}, this log is {ours}")
                    });
                }
                continue;
            }
            match verifier.verify(&note.text) {
                Ok(checkpoint) => {
                    self.held.note(&checkpoint);
                    checkpoints.push(checkpoint);
                }
                Err(error) => {
                    let (file, number) = (note.file.display(), note.number);
                    self.fault
                        .get_or_insert_with(|| format!("checkpoint {number} in {file}: {error}"));
                }
            }
        }
    }

    /// Verifies what lies beside the log. The log's first lines bring a checkpoint, so there is always one.
    fn take_beside(
        &mut self,
        verifier: &CheckpointVerifier,
        place: &Place,
        is_log_empty: bool,
        checkpoints: &mut Vec<Checkpoint>,
    ) -> Result<(), CheckError> {
        let path = place.beside("checkpoints");
        let shown = path.display();
        let notes = match read_notes(&path) {
            Err(CheckError::Usage(_)) if !place.is_host => return Ok(()),
            Err(CheckError::Usage(_)) => {
                self.fault.get_or_insert_with(|| format!("{shown} is gone"));
                return Ok(());
            }
            other => other?,
        };
        let (notes, ends_whole) = notes;
        let count = notes.len();
        for note in notes {
            match verifier.verify(&note.text) {
                Ok(checkpoint) => {
                    self.beside.note(&checkpoint);
                    checkpoints.push(checkpoint);
                }
                // The daemon is writing it, or a crash cut it short.
                Err(_) if note.number == count && !ends_whole => self.is_note_torn = true,
                Err(error) => {
                    let number = note.number;
                    self.fault
                        .get_or_insert_with(|| format!("checkpoint {number} in {shown}: {error}"));
                }
            }
        }
        if self.beside.count == 0 && !is_log_empty {
            self.fault.get_or_insert_with(|| {
                format!("{shown} holds no checkpoint, although the log's first lines bring one")
            });
        }
        Ok(())
    }

    fn take_key_state(&mut self, place: &Place) -> Result<Option<Chain>, CheckError> {
        let path = place.beside("key");
        match read_key_state(&path) {
            Ok(Some(chain)) => {
                self.key_state = KeyState::Read;
                Ok(Some(chain))
            }
            Ok(None) => {
                let shown = path.display();
                self.fault
                    .get_or_insert_with(|| format!("{shown} is damaged"));
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.key_state = KeyState::Unreadable;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let shown = path.display();
                self.fault.get_or_insert_with(|| format!("{shown} is gone"));
                Ok(None)
            }
            Err(error) => Err(CheckError::open(&path, &error)),
        }
    }
}

/// Returns the public key of a log's checkpoints, and whether the auditor brought it: otherwise it is the key beside the log.
/// The role that an origin ends in.
fn role_of(origin: &str) -> &str {
    origin.rsplit('/').next().unwrap_or(origin)
}

fn choose_verifier(
    place: &Place,
    brought: &Brought,
) -> Result<(Option<CheckpointVerifier>, bool), CheckError> {
    let own = match place.role.as_deref() {
        Some(role) => brought
            .verifiers
            .iter()
            .find(|verifier| role_of(verifier.origin()) == role),
        None if brought.verifiers.len() > 1 => {
            let shown = place.log.display();
            return Err(CheckError::Usage(format!(
                "say with --role ROLE whose log {shown} is: there are public keys of several"
            )));
        }
        None => brought.verifiers.first(),
    };
    if own.is_some() {
        return Ok((own.cloned(), true));
    }
    match read_verifiers(&place.beside("verifier")) {
        Ok(found) => Ok((found.into_iter().next(), false)),
        Err(CheckError::Usage(_)) => Ok((None, false)),
        Err(error) => Err(error),
    }
}

/// Returns the first key of a log: the one under which its first line verifies. If none does, the role's own, so that the report says so.
fn choose_first_key(place: &Place, brought: &Brought) -> Result<Option<Secret32>, CheckError> {
    let copy = |key: &Secret32| Secret32::new(*key.expose());
    let mut line = Vec::new();
    if let Ok(file) = File::open(&place.log) {
        let most = u64::try_from(limits::AUDIT_LINE_BYTES_MAX).unwrap_or(u64::MAX);
        BufReader::new(file.take(most))
            .read_until(b'\n', &mut line)
            .map_err(|error| CheckError::open(&place.log, &error))?;
    }
    let whole = line.strip_suffix(b"\n").unwrap_or(&line);
    let fits = |key: &Secret32| Chain::start(copy(key)).follow(whole).is_ok();
    let is_of_other =
        |one: &&FirstKey| one.role.is_some() && place.role.is_some() && one.role != place.role;
    let keys = || brought.first_keys.iter().filter(|one| !is_of_other(one));
    let chosen = keys().find(|one| fits(&one.key)).or_else(|| keys().next());
    Ok(chosen.map(|one| copy(&one.key)))
}
