//! `pending/ID/`: what officers read and sign until the cable is sealed; then it is gone.
//!
//! ```text
//! manifest.txt             the exact bytes that officers sign
//! manifest.sha256          their hash: what a disk changed is told from what an officer did not sign
//! part-001, part-002, …    gate's own copies
//! approvals/PERSON.sig     armoured
//! ```

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use valise_common::host::folders::{Role, SenderState, approval_file, part_file};
use valise_common::ids::{MessageId, PersonId, Sha256Digest};
use valise_common::limits;
use valise_common::os::durable::{
    self, Access, FinishedFile, StagedFile, SyncBatch, make_dir, put_away, read_bounded,
    remove_any, rename_new,
};
use valise_common::os::group::give_to_group_of;
use valise_common::sshsig::{Signature, SshsigError};

/// The name of the manifest's file.
pub(crate) const MANIFEST_NAME: &str = "manifest.txt";
const HASH_NAME: &str = "manifest.sha256";
const APPROVALS_NAME: &str = "approvals";
const FOLDER_MODE: u32 = 0o750;
/// The mode of a cable's folder until its readers are known.
const CLOSED_MODE: u32 = 0o700;
const SHA256_HEX_BYTES: usize = 64;

/// Why a pending cable cannot be read.
#[derive(Debug, Error)]
pub enum PendingError {
    /// The system failed.
    #[error("pending/{id}: {source}")]
    Io {
        /// The cable.
        id: MessageId,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is not what gate wrote.
    #[error(
        "pending/{id}: {what} is not what was submitted or approved: the disk changed it. Look at the health of the disk, \
         withdraw the cable, and submit it again"
    )]
    Damaged {
        /// The cable.
        id: MessageId,
        /// Which file.
        what: &'static str,
    },
}

impl StagedSubmission {
    /// Where the folder is now.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder of waiting cables.
#[derive(Debug, Clone)]
pub struct Pending {
    state: SenderState,
}

/// A submission's folder under `tmp/`, complete but not yet visible.
#[derive(Debug)]
#[must_use = "a staged submission stays invisible until it is published"]
pub struct StagedSubmission {
    path: PathBuf,
    id: MessageId,
}

impl Pending {
    /// Creates the waiting cables of a host.
    pub fn new(state: &SenderState) -> Self {
        Self {
            state: state.clone(),
        }
    }

    /// Puts a submission's folder together under `tmp/`: the copies of its parts move into it. They must be durable, or in
    /// `batch`, already. The folder is gate's alone until it is shared.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn stage(
        &self,
        id: MessageId,
        bytes: &[u8],
        parts: &[PathBuf],
        batch: &mut SyncBatch,
    ) -> io::Result<StagedSubmission> {
        let tmp = self.state.tmp(Role::Gate);
        let path = tmp.join(staged_submission(&id));
        make_dir(&path, CLOSED_MODE)?;
        let approvals = path.join(APPROVALS_NAME);
        make_dir(&approvals, FOLDER_MODE)?;
        for (number, part) in (1..).zip(parts) {
            let copy = path.join(part_file(number, ""));
            rename_new(part, &copy)?;
            std::fs::set_permissions(&copy, permissions(0o640))?;
            give_to_group_of(&self.state.pending(), &copy)?;
        }
        let mut staged = StagedFile::create(&tmp)?;
        staged.set_access(Access::Group)?;
        staged.write_all(bytes)?;
        let manifest = staged.finish_in(batch)?;
        let mut staged = StagedFile::create(&tmp)?;
        staged.set_access(Access::Group)?;
        staged.write_all(sha256_hex(bytes).as_bytes())?;
        let hash = staged.finish_in(batch)?;
        for ours in [manifest.path(), hash.path(), &path, &approvals] {
            give_to_group_of(&self.state.pending(), ours)?;
        }
        hash.publish_in(&path.join(HASH_NAME), batch)?;
        manifest.publish_in(&path.join(MANIFEST_NAME), batch)?;
        batch.add_dir(path.clone());
        // Its line counts on this name until it has the other.
        batch.add_dir(&tmp);
        Ok(StagedSubmission { path, id })
    }

    /// Gives a staged submission its name. Its files are durable by then, and its line: officers see nothing that is not in the
    /// log. A start finds the staged one by its name when a kill came between.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn publish(&self, staged: StagedSubmission, batch: &mut SyncBatch) -> io::Result<()> {
        rename_new(&staged.path, &self.state.pending_of(&staged.id))?;
        batch.add_dir(self.state.pending());
        Ok(())
    }

    /// Writes an approval under `tmp/`; it gets its name as a submission does.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn stage_approval(
        &self,
        id: &MessageId,
        officer: &PersonId,
        signature: &Signature,
        batch: &mut SyncBatch,
    ) -> io::Result<FinishedFile> {
        let (tmp, name) = (self.state.tmp(Role::Gate), staged_approval(id, officer));
        let mut staged = StagedFile::create_named(&tmp, name.as_ref())?;
        batch.add_dir(&tmp);
        staged.set_access(Access::Group)?;
        staged.write_all(signature.to_armor().as_bytes())?;
        give_to_group_of(&self.state.pending(), staged.path())?;
        staged.finish_in(batch)
    }

    /// Returns the names under `tmp/` that a waiting cable and its approvals have before they are given theirs.
    pub fn staged_names<'i>(
        id: &'i MessageId,
        approvals: &'i [PersonId],
    ) -> impl Iterator<Item = String> {
        let approvals = approvals.iter().map(|officer| staged_approval(id, officer));
        std::iter::once(staged_submission(id)).chain(approvals)
    }

    /// Gives what the log knows of a waiting cable its name, where a kill came before that. To be synced with `batch`.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn finish_staged(
        &self,
        id: &MessageId,
        approvals: &[PersonId],
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        let folder = self.state.pending_of(id);
        let approval = |officer| self.approval_path(id, officer);
        let names = std::iter::once(folder).chain(approvals.iter().map(approval));
        for (staged, name) in Self::staged_names(id, approvals).zip(names) {
            let staged = self.state.tmp(Role::Gate).join(staged);
            if !name.parent().is_some_and(Path::is_dir) {
                // Somebody took the cable's folder away; what is here is the only copy.
                continue;
            }
            if staged.exists() && !name.exists() {
                FinishedFile::found(staged).publish_in(&name, batch)?;
            } else {
                put_away(&staged, &self.state.tmp(Role::Gate))?;
            }
        }
        Ok(())
    }

    /// Where an officer's approval of a cable stands.
    pub fn approval_path(&self, id: &MessageId, officer: &PersonId) -> PathBuf {
        self.state
            .pending_of(id)
            .join(APPROVALS_NAME)
            .join(approval_file(officer))
    }

    /// Returns the exact bytes that officers sign.
    ///
    /// # Errors
    /// Any error of the system, and [`PendingError::Damaged`] if they are not those that were submitted.
    pub fn manifest(&self, id: &MessageId) -> Result<Vec<u8>, PendingError> {
        let folder = self.state.pending_of(id);
        let read = |name: &str, bytes_max| {
            read_bounded(&folder.join(name), bytes_max).map_err(|source| match source.kind() {
                io::ErrorKind::FileTooLarge => PendingError::Damaged {
                    id: *id,
                    what: MANIFEST_NAME,
                },
                _ => PendingError::Io { id: *id, source },
            })
        };
        let bytes = read(MANIFEST_NAME, limits::MANIFEST_BYTES_MAX)?;
        if read(HASH_NAME, SHA256_HEX_BYTES)? != sha256_hex(&bytes).as_bytes() {
            return Err(PendingError::Damaged {
                id: *id,
                what: MANIFEST_NAME,
            });
        }
        Ok(bytes)
    }

    /// Checks that manifest and approvals are what gate wrote.
    ///
    /// # Errors
    /// As [`Pending::manifest`] and [`Pending::approval`].
    pub fn check(&self, id: &MessageId, approvals: &[PersonId]) -> Result<(), PendingError> {
        self.manifest(id)?;
        approvals
            .iter()
            .try_for_each(|officer| self.approval(id, officer).map(drop))
    }

    /// Returns an officer's stored approval.
    ///
    /// # Errors
    /// Any error of the system, and a file that holds no signature.
    pub fn approval(&self, id: &MessageId, officer: &PersonId) -> Result<Signature, PendingError> {
        let path = self.approval_path(id, officer);
        let bytes = read_bounded(&path, limits::REQUEST_TEXT_BYTES_MAX)
            .map_err(|source| PendingError::Io { id: *id, source })?;
        std::str::from_utf8(&bytes)
            .map_err(|_| SshsigError::Armor)
            .and_then(Signature::from_armor)
            .map_err(|_| PendingError::Damaged {
                id: *id,
                what: "a stored approval",
            })
    }

    /// Returns the parts' files, one after another, as the sealing reads them.
    pub fn parts(&self, id: &MessageId, count: usize) -> PartFiles {
        PartFiles {
            folder: self.state.pending_of(id),
            next: 1,
            count,
        }
    }

    /// Returns the ids of the folders that are there; names that are no id are returned apart.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn scan(&self) -> io::Result<(Vec<MessageId>, Vec<PathBuf>)> {
        let mut found = (Vec::new(), Vec::new());
        for entry in durable::list(&self.state.pending())? {
            let entry = entry?;
            match entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                Some(id) => found.0.push(id),
                None => found.1.push(entry.path()),
            }
        }
        Ok(found)
    }

    /// The approvals that stand in a cable's folder and that the ledger does not know: written by a process that was killed
    /// before its commit. They are deleted; their requests are still there.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn drop_unknown_approvals(&self, id: &MessageId, known: &[PersonId]) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.state.pending_of(id).join(APPROVALS_NAME)) {
            // The folder of a sealed cable may have been on its way out when gate was killed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if !known
                .iter()
                .any(|officer| self.approval_path(id, officer) == path)
            {
                remove_any(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a cable's folder away, in one step, into gate's `tmp/`, where it is erased; one that is gone already is no error.
    ///
    /// # Errors
    /// If it stays.
    pub fn remove(&self, id: &MessageId) -> io::Result<()> {
        put_away(&self.state.pending_of(id), &self.state.tmp(Role::Gate)).map(drop)
    }

    /// Returns whether the folder is there.
    pub fn exists(&self, id: &MessageId) -> bool {
        self.state.pending_of(id).is_dir()
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    Sha256Digest::from_bytes(sha2::Sha256::digest(bytes).into()).to_string()
}

fn staged_submission(id: &MessageId) -> String {
    format!("submission-{id}")
}

fn staged_approval(id: &MessageId, officer: &PersonId) -> String {
    format!("approval-{id}-{officer}")
}

fn permissions(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

/// Opens the parts of a cable one after another.
#[derive(Debug, Clone)]
pub struct PartFiles {
    folder: PathBuf,
    next: usize,
    count: usize,
}

impl PartFiles {
    /// Where a part stands.
    pub fn path(folder: &Path, number: usize) -> PathBuf {
        folder.join(part_file(number, ""))
    }
}

impl Iterator for PartFiles {
    type Item = io::Result<File>;

    fn next(&mut self) -> Option<io::Result<File>> {
        if self.next > self.count {
            return None;
        }
        let path = Self::path(&self.folder, self.next);
        self.next += 1;
        Some(File::open(path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::io::Read as _;

    use super::*;

    fn pending(folder: &Path) -> (Pending, SenderState) {
        let state = SenderState::new(folder);
        state.create_all().unwrap();
        (Pending::new(&state), state)
    }

    #[test]
    fn a_submission_appears_whole_and_goes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, state) = pending(folder.path());
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let id = MessageId::from_bytes([7; 16]);
        let copies: Vec<PathBuf> = ["one", "two"]
            .iter()
            .map(|name| state.tmp(Role::Gate).join(name))
            .collect();
        for copy in &copies {
            std::fs::write(copy, copy.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        let staged = pending.stage(id, b"manifest", &copies, &mut batch).unwrap();
        assert!(pending.scan().unwrap().0.is_empty());
        batch.commit().unwrap();
        pending.publish(staged, &mut batch).unwrap();
        batch.commit().unwrap();
        assert_eq!(pending.scan().unwrap().0, [id]);
        assert_eq!(pending.manifest(&id).unwrap(), b"manifest");
        let mut body = String::new();
        for part in pending.parts(&id, 2) {
            part.unwrap().read_to_string(&mut body).unwrap();
        }
        assert_eq!(body, "onetwo");
        pending.remove(&id).unwrap();
        pending.remove(&id).unwrap();
        assert!(!pending.exists(&id));
    }

    #[test]
    fn approvals_without_a_committed_line_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, _) = pending(folder.path());
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let id = MessageId::from_bytes([7; 16]);
        let staged = pending.stage(id, b"manifest", &[], &mut batch).unwrap();
        pending.publish(staged, &mut batch).unwrap();
        let officers: [PersonId; 2] = ["b.officer".parse().unwrap(), "c.officer".parse().unwrap()];
        for officer in &officers {
            std::fs::write(pending.approval_path(&id, officer), "x").unwrap();
        }
        pending.drop_unknown_approvals(&id, &officers[..1]).unwrap();
        assert!(pending.approval_path(&id, &officers[0]).exists());
        assert!(!pending.approval_path(&id, &officers[1]).exists());
        assert!(matches!(
            pending.approval(&id, &officers[0]),
            Err(PendingError::Damaged { .. })
        ));
    }
}
