//! Cables as folders: filled out of sight, staged whole, made visible by one rename each.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Group};
use thiserror::Error;
use valise_common::ids::MailboxId;
use valise_common::os::durable::{self, StagedFile, SyncBatch};
use valise_common::os::entropy;
use valise_common::os::layout::ReceiverState;

use crate::stage::open::Piece;
use crate::stage::publish::{StageName, papers};
use crate::stage::verify::Verified;

/// Mode of every released file: whoever may read it may not change it.
const FILE_MODE: u32 = 0o440;

/// Mode of a released cable's folders.
const FOLDER_MODE: u32 = 0o2750;

/// Mode of a mailbox's folder: its group takes cables out.
const MAILBOX_MODE: u32 = 0o2770;

/// So many bytes of a large part go to the disk at a time: a sync of another cable must not wait for a gigabyte.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// Why `[mailboxes]` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// There is no such group.
    #[error(
        "[mailboxes] {mailbox}: there is no group {group}; make it (groupadd {group}) or name another"
    )]
    Unknown {
        /// The mailbox.
        mailbox: MailboxId,
        /// The group's name.
        group: String,
    },
    /// The group could not be looked up.
    #[error("[mailboxes] {mailbox}: group {group} could not be looked up: {errno}")]
    Lookup {
        /// The mailbox.
        mailbox: MailboxId,
        /// The group's name.
        group: String,
        /// What the system said.
        errno: nix::Error,
    },
}

/// The Unix group of each mailbox that has one.
#[derive(Debug, Clone, Default)]
pub struct Groups(BTreeMap<MailboxId, Gid>);

impl Groups {
    /// Looks up the groups of `[mailboxes]`.
    ///
    /// # Errors
    /// [`GroupError`] names the mailbox and its group.
    pub fn look_up(mailboxes: &BTreeMap<MailboxId, String>) -> Result<Groups, GroupError> {
        let mut groups = BTreeMap::new();
        for (mailbox, group) in mailboxes {
            let known = |errno| GroupError::Lookup {
                mailbox: mailbox.clone(),
                group: group.clone(),
                errno,
            };
            let found =
                Group::from_name(group)
                    .map_err(known)?
                    .ok_or_else(|| GroupError::Unknown {
                        mailbox: mailbox.clone(),
                        group: group.clone(),
                    })?;
            groups.insert(mailbox.clone(), found.gid);
        }
        Ok(Groups(groups))
    }

    fn gid(&self, mailbox: &MailboxId) -> Option<u32> {
        self.0.get(mailbox).map(|gid| gid.as_raw())
    }
}

/// A cable's parts in a folder that nobody else sees. Dropped, it is gone.
#[derive(Debug)]
pub struct BodyFolder {
    path: PathBuf,
    names: Vec<String>,
    lengths: Vec<u64>,
    /// Files of the parts begun so far.
    files: Vec<StagedFile>,
    unsynced_bytes: u64,
    kept: Kept,
}

/// Whether a folder outlives its value.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

impl BodyFolder {
    /// Makes the folder in `tmp` for parts of these names and lengths.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn create(tmp: &Path, names: Vec<String>, lengths: Vec<u64>) -> io::Result<BodyFolder> {
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        let path = tmp.join(format!("body-{:016x}", u64::from_be_bytes(random)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let files = Vec::with_capacity(names.len());
        let mut folder = BodyFolder {
            path,
            names,
            lengths,
            files,
            unsynced_bytes: 0,
            kept: Kept::No,
        };
        // A part of no bytes gets no piece, and a file all the same.
        folder.begin_parts(0)?;
        Ok(folder)
    }

    /// Opens the files of all parts up to `part_index`.
    fn begin_parts(&mut self, part_index: usize) -> io::Result<()> {
        while self.files.len() <= part_index {
            let index = self.files.len();
            let (Some(name), Some(length)) = (self.names.get(index), self.lengths.get(index))
            else {
                return Ok(());
            };
            let file = StagedFile::create_named(&self.path, OsStr::new(name))?;
            // A small file is cheaper without; for a large one a full disk shows at once.
            if *length > SYNC_EVERY_BYTES {
                file.reserve(*length)?;
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// Writes the next bytes of a part.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn write(&mut self, piece: Piece<'_>) -> io::Result<()> {
        self.begin_parts(piece.part_index)?;
        let file = self
            .files
            .get_mut(piece.part_index)
            .ok_or_else(|| io::Error::other("a piece of a part that the manifest does not name"))?;
        file.write_all(piece.bytes)?;
        let bytes = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(bytes);
        if self.unsynced_bytes >= SYNC_EVERY_BYTES {
            self.unsynced_bytes = 0;
            file.file().sync_data()?;
        }
        Ok(())
    }
}

impl Drop for BodyFolder {
    fn drop(&mut self) {
        self.files.clear();
        if self.kept == Kept::No {
            // Start-up empties tmp/ too, so that a failure here loses nothing.
            let _ = durable::remove_any(&self.path);
        }
    }
}

/// Whether the files of a cable are synced here or left to a batch.
#[derive(Debug)]
pub enum Syncing<'a> {
    /// With those of other cables.
    Batch(&'a mut SyncBatch),
    /// Here and now: the files are large.
    Now,
}

impl Syncing<'_> {
    fn file(&mut self, file: &File) -> io::Result<()> {
        match self {
            Syncing::Batch(batch) => batch.add_file(file.try_clone()?),
            Syncing::Now => file.sync_all(),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        match self {
            Syncing::Batch(batch) => {
                batch.add_dir(path);
                Ok(())
            }
            Syncing::Now => durable::sync_dir(path),
        }
    }
}

/// Stages a cable for each of its mailboxes. Nothing of it is visible until [`publish`].
///
/// # Errors
/// The system's. What was staged by then is not committed, and start-up removes it.
pub fn stage(
    state: &ReceiverState,
    mut body: BodyFolder,
    cable: &Verified,
    groups: &Groups,
    syncing: &mut Syncing<'_>,
) -> io::Result<Vec<StageName>> {
    let manifest = cable.manifest();
    body.begin_parts(manifest.parts.len().saturating_sub(1))?;
    let papers = papers(cable);
    let names: Vec<StageName> = manifest
        .to
        .iter()
        .map(|mailbox| StageName {
            serial: cable.serial(),
            message_id: manifest.message_id,
            mailbox: mailbox.clone(),
        })
        .collect();
    let path = |name: &StageName| state.stage().join(name.to_string());
    for name in &names {
        // What an earlier attempt left before it was committed.
        durable::remove_any(&path(name))?;
    }
    let (first, others) = names
        .split_first()
        .ok_or_else(|| io::Error::other("no mailbox"))?;
    for name in others {
        let folder = path(name);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let gid = groups.gid(&name.mailbox);
        for (source, part) in body.files.iter().zip(&body.names) {
            let mut copy = create_new(&folder.join(part))?;
            io::copy(&mut open(source.path())?, &mut copy)?;
            seal_file(&copy, gid, syncing)?;
        }
        write_papers(&folder, &papers, gid, syncing)?;
        seal_folder(&folder, gid, syncing)?;
    }
    let gid = groups.gid(&first.mailbox);
    for file in &body.files {
        give(file.file(), gid)?;
    }
    for file in body.files.drain(..) {
        let _in_place = match syncing {
            Syncing::Batch(batch) => file.finish_in(batch)?,
            Syncing::Now => file.finish()?,
        };
    }
    // From here on the folder belongs to the stage, where nobody sees it either; a batch syncs it under its new name.
    let folder = path(first);
    durable::rename_new(&body.path, &folder)?;
    body.path.clone_from(&folder);
    write_papers(&folder, &papers, gid, syncing)?;
    seal_folder(&folder, gid, syncing)?;
    syncing.folder(&state.stage())?;
    body.kept = Kept::Yes;
    Ok(names)
}

fn write_papers(
    folder: &Path,
    papers: &crate::stage::publish::Papers,
    gid: Option<u32>,
    syncing: &mut Syncing<'_>,
) -> io::Result<()> {
    let mut write = |path: PathBuf, bytes: &[u8]| -> io::Result<()> {
        let mut file = create_new(&path)?;
        file.write_all(bytes)?;
        seal_file(&file, gid, syncing)
    };
    write(folder.join("manifest.txt"), &papers.manifest)?;
    write(folder.join("release.json"), &papers.release)?;
    let approvals = folder.join("approvals");
    fs::DirBuilder::new().mode(0o700).create(&approvals)?;
    for (name, armor) in &papers.approvals {
        write(approvals.join(name), armor.as_bytes())?;
    }
    seal_folder(&approvals, gid, syncing)
}

fn seal_file(file: &File, gid: Option<u32>, syncing: &mut Syncing<'_>) -> io::Result<()> {
    give(file, gid)?;
    syncing.file(file)
}

/// Gives a file to its readers.
fn give(file: &File, gid: Option<u32>) -> io::Result<()> {
    // The group first: a change of it may take mode bits away.
    if gid.is_some() {
        fchown(file, None, gid)?;
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

fn seal_folder(path: &Path, gid: Option<u32>, syncing: &mut Syncing<'_>) -> io::Result<()> {
    let folder = open_folder(path)?;
    if gid.is_some() {
        fchown(&folder, None, gid)?;
    }
    folder.set_permissions(Permissions::from_mode(FOLDER_MODE))?;
    syncing.folder(path)
}

/// What publishing found.
#[derive(Debug, PartialEq, Eq)]
pub enum Published {
    /// The folder is visible now.
    Now,
    /// It was made visible before; its reader may have moved it already.
    Before,
    /// Something else had its name and was put aside; the folder is visible now.
    InPlaceOf(PathBuf),
}

/// Makes one staged folder visible. Its publishing must be committed.
///
/// # Errors
/// The system's.
pub fn publish(
    state: &ReceiverState,
    name: &StageName,
    batch: &mut SyncBatch,
) -> io::Result<Published> {
    let from = state.stage().join(name.to_string());
    let to = state.released_cable(&name.mailbox, name.serial, &name.message_id);
    match fs::symlink_metadata(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Published::Before),
        other => other.map(drop)?,
    }
    batch.add_dir(state.stage());
    batch.add_dir(state.mailbox(&name.mailbox));
    match durable::rename_new(&from, &to) {
        Ok(()) => Ok(Published::Now),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // The staged folder is still here, so that this name was never ours: someone planted it.
            let random = entropy::bytes::<4>().map_err(io::Error::other)?;
            let aside = state.mailbox(&name.mailbox).join(format!(
                ".aside-{}-{:08x}",
                name.serial,
                u32::from_be_bytes(random)
            ));
            durable::rename_new(&to, &aside)?;
            durable::rename_new(&from, &to)?;
            Ok(Published::InPlaceOf(aside))
        }
        Err(error) => Err(error),
    }
}

/// Makes the folder of a mailbox, with its group; one that stands keeps its mode.
///
/// # Errors
/// The system's: without membership in the group nobody may give it a folder.
pub fn make_mailbox(state: &ReceiverState, mailbox: &MailboxId, groups: &Groups) -> io::Result<()> {
    let path = state.mailbox(mailbox);
    let told = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!(
                "the folder of mailbox {mailbox} cannot be made for its group ({error}); \
                 the user of release must be a member of it"
            ),
        )
    };
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {
            let folder = open_folder(&path)?;
            if let Some(gid) = groups.gid(mailbox) {
                fchown(&folder, None, Some(gid)).map_err(told)?;
            }
            folder.set_permissions(Permissions::from_mode(MAILBOX_MODE))?;
            durable::sync_dir(&state.released())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let folder = open_folder(&path)?;
            let owner = std::os::unix::fs::MetadataExt::gid(&folder.metadata()?);
            match groups.gid(mailbox) {
                Some(gid) if gid != owner => fchown(&folder, None, Some(gid)).map_err(told),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}
