//! Takes up what an earlier process left: nothing that was collected is lost, nothing is listed twice.

use std::borrow::Cow;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use valise_common::host::folders::{InboxName, ReceiverState, Role};
use valise_common::ids::ContainerHash;
use valise_common::os::clock::mono_now;
use valise_common::os::durable::{
    self, FinishedFile, SyncBatch, clear_tmp, finish_erasing, make_dir, remove_any,
};
use valise_common::units::Mono;

use super::handback::take_back;
use super::publish::{Folders, file_name};
use crate::pipeline::Assembler;
use crate::spool::assembly::{AssemblyStore, DataFile, FoundSet, data_path};
use crate::spool::beacon_file;
use crate::spool::completed::{CompletedLog, Record};

/// What an earlier process left, taken up.
pub(super) struct Recovered {
    /// The folders of receive.
    pub folders: Folders,
    /// The machine, which knows every set and every completed container.
    pub assembler: Assembler,
    /// The files of incomplete containers.
    pub store: AssemblyStore,
    /// The list of completed containers.
    pub completed: CompletedLog,
    /// Changes that are to be synced together.
    pub sync: SyncBatch,
}

impl Recovered {
    /// Brings the files of a state folder into order.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn take_up(
        state: &ReceiverState,
        memory_bytes: usize,
        mut sync: SyncBatch,
    ) -> io::Result<Self> {
        let tmp = state.tmp(Role::Receive);
        let folders = Folders {
            assembly: state.assembly(),
            tmp: tmp.clone(),
            inbox: state.inbox(),
            beacon: state.inbox_beacon(),
            damaged: state.damaged(),
        };
        make_dir(&folders.damaged, 0o2770)?;
        let mut assembler = Assembler::new(memory_bytes);
        let mut store = AssemblyStore::new(state.assembly(), tmp.clone());
        let (mut completed, records) = CompletedLog::open(state.completed(), tmp)?;
        let found = recover(
            mono_now(),
            &folders,
            (&mut completed, &records),
            &mut store,
            &mut sync,
            &mut assembler,
        )?;
        tracing::info!(
            published = found.published,
            resumed = found.resumed,
            "took up what was there"
        );
        Ok(Self {
            folders,
            assembler,
            store,
            completed,
            sync,
        })
    }
}

/// What start-up found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Containers whose rename into `inbox/` was completed.
    published: usize,
    /// Sets that are collected further.
    resumed: usize,
}

/// Repairs the files and hands them to the assembler.
///
/// # Errors
/// Those of the disk.
fn recover(
    now: Mono,
    folders: &Folders,
    completed: (&mut CompletedLog, &[Record]),
    store: &mut AssemblyStore,
    sync: &mut SyncBatch,
    assembler: &mut Assembler,
) -> io::Result<Found> {
    let (log, records) = completed;
    let mut found = Found::default();
    let mut taken_back = Vec::new();
    loop {
        let names = take_back(&folders.damaged, log, sync)?;
        if names.is_empty() {
            break;
        }
        taken_back.extend(names);
    }
    let mut records = Cow::Borrowed(records);
    if !taken_back.is_empty() {
        let name = |(serial, hash): &Record| InboxName {
            serial: *serial,
            container: hash.id(),
        };
        records
            .to_mut()
            .retain(|record| !taken_back.contains(&name(record)));
    }
    let records = &*records;
    for (serial, hash) in records {
        assembler.restore_completed(*serial, &hash.id());
    }
    found.published = publish_staged(folders, records, sync)?;
    list_inbox(folders, log, sync, assembler)?;
    // A killed process may have renamed a container without a sync; what is left of it in assembly/ goes below.
    sync.add_dir(&folders.inbox);
    sync.commit()?;
    clear_tmp(&folders.tmp, |_| false)?;
    finish_erasing(&folders.tmp)?;
    // One that cannot be read is nothing lost: the next one comes in a second.
    if let Ok(Some(written)) = beacon_file::read(&folders.beacon) {
        assembler.restore_beacon(now, &written);
    }
    for set in store.scan()? {
        if publish_assembled(folders, records, &set, sync)? {
            store.forget(&set.set)?;
            found.published += 1;
            continue;
        }
        let is_completed = assembler
            .collection()
            .completed()
            .contains(set.set.serial, &set.set.container);
        let whole =
            u64::try_from(set.done.len()).is_ok_and(|n| n == set.set.geometry.block_count());
        // Of a completed container, the data file is gone, or only the rename is missing.
        let keep = match set.data {
            DataFile::There => whole || !is_completed,
            DataFile::Absent => set.done.is_empty() && !is_completed,
        };
        let (done, spilled) = (set.done.into_iter(), set.spilled.into_iter());
        if keep && assembler.restore_set(set.set, done, spilled).is_ok() {
            found.resumed += 1;
        } else {
            store.forget(&set.set)?;
        }
    }
    Ok(found)
}

/// Renames containers that are listed as completed and are still in `tmp/`.
fn publish_staged(
    folders: &Folders,
    records: &[Record],
    sync: &mut SyncBatch,
) -> io::Result<usize> {
    let mut published = 0;
    for entry in durable::list(&folders.tmp)? {
        let entry = entry?;
        let path = entry.path();
        let Some(name) = InboxName::of_container(&entry.file_name()) else {
            continue;
        };
        let Some(hash) = hash_file(&path)? else {
            continue;
        };
        if !records.contains(&(name.serial, hash)) || hash.id() != name.container {
            continue;
        }
        let to = folders.inbox.join(entry.file_name());
        match FinishedFile::found(path.clone()).publish_in(&to, sync) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_any(&path)?,
            result => result?,
        }
        published += 1;
    }
    Ok(published)
}

/// Gives a listed container its place in `inbox/` that stands whole in `assembly/`. Its bytes were synced before it was
/// listed and its blocks' bits never were: after a loss of power the hash is to be believed, not the bits.
fn publish_assembled(
    folders: &Folders,
    records: &[Record],
    found: &FoundSet,
    sync: &mut SyncBatch,
) -> io::Result<bool> {
    let set = &found.set;
    let is_record = |(serial, hash): &Record| *serial == set.serial && hash.id() == set.container;
    let Some((serial, listed)) = records.iter().find(|record| is_record(record)) else {
        return Ok(false);
    };
    let path = data_path(&folders.assembly, set);
    let length = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?.len(),
    };
    if length != set.geometry.container_bytes() || hash_file(&path)? != Some(*listed) {
        return Ok(false);
    }
    let name = InboxName {
        serial: *serial,
        container: set.container,
    };
    let file = File::open(&path)?;
    file.set_permissions(Permissions::from_mode(0o640))?;
    file.sync_all()?;
    let to = folders.inbox.join(file_name(&name));
    match FinishedFile::found(path.clone()).publish_in(&to, sync) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    // The name is durable before the set's folder is deleted.
    sync.commit()?;
    Ok(true)
}

fn hash_file(path: &Path) -> io::Result<Option<ContainerHash>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Some(ContainerHash::from_bytes(
        *hasher.finalize().as_bytes(),
    )))
}

/// Lists containers that are in `inbox/` and not in the list: power was lost before the list was on the disk.
fn list_inbox(
    folders: &Folders,
    log: &mut CompletedLog,
    sync: &mut SyncBatch,
    assembler: &mut Assembler,
) -> io::Result<()> {
    let mut missing: Vec<Record> = Vec::new();
    for entry in durable::list(&folders.inbox)? {
        let entry = entry?;
        let Some(name) = InboxName::of_container(&entry.file_name()) else {
            continue;
        };
        if assembler
            .collection()
            .completed()
            .contains(name.serial, &name.container)
        {
            continue;
        }
        if let Some(hash) = hash_file(&entry.path())? {
            missing.push((name.serial, hash));
            assembler.restore_completed(name.serial, &name.container);
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        log.append(&missing, sync)
    }
}
