//! Cables as folders: filled out of sight, staged whole, made visible by one rename each.

mod body;
mod groups;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::trust_store::VerifiedList;
use valise_common::ids::MailboxId;
use valise_common::os::durable::{self, SyncBatch};
use valise_common::os::entropy;

use crate::steps::publish::{PAPER_FOLDERS, Paper, StageName, papers};
use crate::steps::verify::Verified;

pub use body::BodyFolder;
use body::Kept;
pub use groups::{GroupError, Groups};

/// Who may take a cable out of a mailbox.
#[derive(Debug, Clone, Copy)]
struct Rights {
    gid: u32,
    /// Of the mailbox, and of each cable's folders: a folder moves to another parent only by somebody who may write it, and
    /// whoever fetched it must be able to destroy it. A file that was changed has another owner than this process.
    folder_mode: u32,
    /// Of each file: whoever may read it may not change it.
    file_mode: u32,
}

impl Rights {
    /// Returns the rights of a mailbox's group; those of this process's user alone if `[mailboxes]` names none.
    ///
    /// `tmp/release` belongs to the group of both roles, and what is made there inherits it. So a mailbox without a group
    /// gets the group of the stage, which is the user's own, and a mode that closes it to every group.
    fn of(state: &ReceiverState, groups: &Groups, mailbox: &MailboxId) -> io::Result<Rights> {
        Ok(match groups.gid(mailbox) {
            Some(gid) => Rights {
                gid,
                folder_mode: 0o770,
                file_mode: 0o440,
            },
            None => Rights {
                gid: fs::symlink_metadata(state.stage())?.gid(),
                folder_mode: 0o700,
                file_mode: 0o400,
            },
        })
    }

    /// Gives a file to its readers.
    fn give(self, file: &File) -> io::Result<()> {
        self.set(file, self.file_mode)
    }

    fn give_folder(self, folder: &File) -> io::Result<()> {
        self.set(folder, self.folder_mode)
    }

    fn set(self, file: &File, mode: u32) -> io::Result<()> {
        // The group first: a change of it may take mode bits away.
        match fchown(file, None, Some(self.gid)) {
            // A mode without rights for the group closes it, whichever group that is.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && mode & 0o077 == 0 => {}
            other => other?,
        }
        file.set_permissions(Permissions::from_mode(mode))
    }
}

/// How often a name that someone plants again and again is tried before the cable waits.
const TRIES_MAX: usize = 64;

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

/// Stages a cable for each of its mailboxes, with the list by which it was verified. Nothing of it is visible until [`publish`].
///
/// # Errors
/// The system's. What was staged by then is not committed, and start-up removes it.
pub fn stage(
    state: &ReceiverState,
    body: BodyFolder,
    cable: &Verified,
    list: &VerifiedList,
    groups: &Groups,
    syncing: &mut Syncing<'_>,
) -> io::Result<Vec<StageName>> {
    stage_all(state, body, cable, list, groups, syncing).map_err(|error| {
        let (serial, stage) = (cable.serial(), state.stage());
        let text = format!(
            "cannot stage cable {serial} in {}: {error}",
            stage.display()
        );
        io::Error::new(error.kind(), text)
    })
}

fn stage_all(
    state: &ReceiverState,
    mut body: BodyFolder,
    cable: &Verified,
    list: &VerifiedList,
    groups: &Groups,
    syncing: &mut Syncing<'_>,
) -> io::Result<Vec<StageName>> {
    assert_eq!(list.list.version(), cable.trust_version());
    let manifest = cable.manifest();
    body.finish()?;
    let papers = papers(cable, list.signed().files());
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
        durable::put_away(&path(name), &state.tmp(Role::Release))?;
    }
    let (first, others) = names
        .split_first()
        .ok_or_else(|| io::Error::other("no mailbox"))?;
    for name in others {
        let folder = path(name);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let rights = Rights::of(state, groups, &name.mailbox)?;
        for (source, part) in body.files.iter().zip(&body.names) {
            let mut copy = create_new(&folder.join(part))?;
            io::copy(&mut open(source.path())?, &mut copy)?;
            seal_file(&copy, rights, syncing)?;
        }
        write_papers(&folder, &papers, rights, syncing)?;
        seal_folder(&folder, rights, syncing)?;
    }
    let rights = Rights::of(state, groups, &first.mailbox)?;
    for file in &body.files {
        rights.give(file.file())?;
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
    write_papers(&folder, &papers, rights, syncing)?;
    seal_folder(&folder, rights, syncing)?;
    syncing.folder(&state.stage())?;
    body.kept = Kept::Yes;
    Ok(names)
}

fn write_papers(
    folder: &Path,
    papers: &[Paper],
    rights: Rights,
    syncing: &mut Syncing<'_>,
) -> io::Result<()> {
    for name in PAPER_FOLDERS {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(folder.join(name))?;
    }
    for (path, bytes) in papers {
        let mut file = create_new(&folder.join(path))?;
        file.write_all(bytes)?;
        seal_file(&file, rights, syncing)?;
    }
    PAPER_FOLDERS
        .iter()
        .try_for_each(|name| seal_folder(&folder.join(name), rights, syncing))
}

fn seal_file(file: &File, rights: Rights, syncing: &mut Syncing<'_>) -> io::Result<()> {
    rights.give(file)?;
    syncing.file(file)
}

fn seal_folder(path: &Path, rights: Rights, syncing: &mut Syncing<'_>) -> io::Result<()> {
    rights.give_folder(&open_folder(path)?)?;
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
    /// Its name is taken again whenever it is free. It stands in the stage still.
    Blocked,
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
    // Also if it was renamed before: a process that was killed then did not sync it.
    batch.add_dir(state.stage());
    batch.add_dir(state.mailbox(&name.mailbox));
    match fs::symlink_metadata(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Published::Before),
        other => other.map(drop)?,
    }
    let mut published = Published::Now;
    for _ in 0..TRIES_MAX {
        match durable::rename_new(&from, &to) {
            Ok(()) => return Ok(published),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // The staged folder is still here, so that this name was never ours: someone planted it.
        let random = entropy::bytes::<4>().map_err(io::Error::other)?;
        let aside = state.mailbox(&name.mailbox).join(format!(
            ".aside-{}-{:08x}",
            name.serial,
            u32::from_be_bytes(random)
        ));
        match durable::rename_new(&to, &aside) {
            Ok(()) => published = Published::InPlaceOf(aside),
            // It has just been taken away; it may come back before the next try.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Published::Blocked)
}

/// Makes the folder of a mailbox with its group, or gives one that is there to the group that `[mailboxes]` names now.
/// One of that group keeps its mode; a mailbox without a group is closed in any case.
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
    let rights = Rights::of(state, groups, mailbox)?;
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {
            rights.give_folder(&open_folder(&path)?).map_err(told)?;
            durable::sync_dir(&state.released())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let folder = open_folder(&path)?;
            let found = folder.metadata()?;
            let is_open = rights.folder_mode & 0o077 == 0 && found.mode() & 0o077 != 0;
            if found.gid() != rights.gid || is_open {
                rights.give_folder(&folder).map_err(told)?;
            }
            Ok(())
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
