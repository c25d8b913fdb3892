//! Thread 4: makes containers durable in `inbox/`, many with one sync.
//!
//! The order is: bytes and name synced · a line in `completed` · rename into `inbox/` · list and directory synced. A process that is
//! killed between the line and the rename leaves the file in `tmp/` or in `assembly/`; start-up completes the rename. So a
//! container is never lost, and one that `release` has taken already is not collected again.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use valise_common::host::folders::InboxName;
use valise_common::ids::ContainerHash;
use valise_common::os::durable::{
    Access, FinishedFile, StagedFile, SyncBatch, is_full, remove_any,
};
use valise_common::wire::SetId;

use super::assemble::Input;
use super::handback::take_back;
use crate::pipeline::{Finished, SignedBeacon, Writing};
use crate::spool::assembly::data_path;
use crate::spool::beacon_file;
use crate::spool::completed::{CompletedLog, Record};
use crate::steps::fec::SourceBlock;
use crate::steps::reassemble::{ContainerHasher, Verdict};

/// Containers that share a sync.
const BATCH_MAX: usize = 512;

/// What is to be made durable.
#[derive(Debug)]
pub(super) enum Delivery {
    /// A container of one block, not judged yet.
    Block {
        /// The set.
        set: SetId,
        /// The container.
        block: Box<SourceBlock>,
    },
    /// An intact container in `assembly/`, synced.
    File {
        /// The set.
        set: SetId,
        /// Its hash.
        hash: ContainerHash,
    },
    /// The beacon for `release`, or that there is none.
    Beacon(Writing),
    /// `release` has handed something back.
    HandedBack,
}

/// Where everything stands.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    /// The folder of the sets.
    pub assembly: PathBuf,
    /// Where files are staged.
    pub tmp: PathBuf,
    /// Where containers go.
    pub inbox: PathBuf,
    /// Where the beacon goes.
    pub beacon: PathBuf,
    /// Where `release` hands containers back.
    pub damaged: PathBuf,
}

/// The thread's end of everything.
pub(super) struct Publisher {
    /// Where everything stands.
    pub folders: Folders,
    /// The list of completed containers.
    pub completed: CompletedLog,
    /// Shares syncs.
    pub sync: SyncBatch,
    /// What comes.
    pub deliveries: Receiver<Delivery>,
    /// Where it is reported.
    pub assembler: SyncSender<Input>,
}

/// A container on its way into the inbox.
struct Leaving {
    set: SetId,
    name: InboxName,
    hash: ContainerHash,
    file: FinishedFile,
}

impl Publisher {
    /// Works until nobody has anything more to deliver.
    ///
    /// # Errors
    /// If the disk fails; a full one is no failure.
    pub(super) fn run(mut self) -> io::Result<()> {
        while let Ok(first) = self.deliveries.recv() {
            self.deliver_with(first)?;
        }
        Ok(())
    }

    /// Makes what waits durable, if anything does; returns whether it did.
    ///
    /// # Errors
    /// As [`Publisher::run`].
    pub(super) fn turn(&mut self) -> io::Result<bool> {
        match self.deliveries.try_recv() {
            Ok(first) => self.deliver_with(first).map(|()| true),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(false),
        }
    }

    fn deliver_with(&mut self, first: Delivery) -> io::Result<()> {
        let more = self.deliveries.try_iter().take(BATCH_MAX - 1);
        let batch: Vec<Delivery> = std::iter::once(first).chain(more).collect();
        self.deliver(batch)
    }

    /// Makes a batch durable: first the files, then the list, then the names in the inbox.
    fn deliver(&mut self, batch: Vec<Delivery>) -> io::Result<()> {
        let mut leaving: Vec<Leaving> = Vec::new();
        let mut beacon = None;
        let mut handed_back = false;
        for delivery in batch {
            match delivery {
                Delivery::Beacon(writing) => beacon = Some(writing),
                Delivery::HandedBack => handed_back = true,
                Delivery::File { set, hash } => leaving.push(self.found(set, hash)),
                Delivery::Block { set, block } => self.take_block(set, block, &mut leaving)?,
            }
        }
        let beacon = match beacon {
            Some(Writing::Beacon(beacon)) => self.stage_beacon(&beacon),
            Some(Writing::Nothing) => {
                remove_any(&self.folders.beacon)?;
                self.sync.add_dir(&self.folders.inbox);
                None
            }
            None => None,
        };
        self.sync.commit()?;
        let sets = self.list(&leaving)?;
        self.publish(leaving)?;
        if let Some(beacon) = beacon {
            beacon?.replace_in(&self.folders.beacon, &mut self.sync)?;
        }
        self.sync.commit()?;
        for (set, hash) in sets {
            let intact = Finished::Judged(Verdict::Intact(hash));
            self.report(Input::Finished(set, intact));
        }
        if handed_back {
            let names = take_back(&self.folders.damaged, &mut self.completed, &mut self.sync)?;
            self.report(Input::TakenBack(names));
        }
        Ok(())
    }

    /// Takes a container whose file is complete in `assembly/`.
    fn found(&mut self, set: SetId, hash: ContainerHash) -> Leaving {
        let name = InboxName {
            serial: set.serial,
            container: hash.id(),
        };
        let data = data_path(&self.folders.assembly, &set);
        // The name too, before a line says that nothing more is to be collected.
        self.sync.add_dir(data.parent().unwrap_or(&data));
        self.sync.add_dir(&self.folders.assembly);
        Leaving {
            set,
            name,
            hash,
            file: FinishedFile::found(data),
        }
    }

    /// Stages a container of one block, and gives its memory back.
    fn take_block(
        &mut self,
        set: SetId,
        block: Box<SourceBlock>,
        leaving: &mut Vec<Leaving>,
    ) -> io::Result<()> {
        let finished = match self.stage(&set, &block, leaving) {
            Ok(Staged::Leaving(container)) => {
                leaving.push(container);
                None
            }
            Ok(Staged::Judged(verdict)) => Some(Finished::Judged(verdict)),
            Err(error) if is_full(&error) => Some(Finished::NoDisk),
            Err(error) => return Err(error),
        };
        self.report(Input::Recycle(block));
        if let Some(finished) = finished {
            self.report(Input::Finished(set, finished));
        }
        Ok(())
    }

    /// Adds containers to the list of completed ones, and returns their sets.
    fn list(&mut self, leaving: &[Leaving]) -> io::Result<Vec<(SetId, ContainerHash)>> {
        let sets = leaving.iter().map(|one| (one.set, one.hash));
        let records: Vec<Record> = sets.clone().map(|(set, hash)| (set.serial, hash)).collect();
        if !records.is_empty() {
            self.completed.append(&records, &mut self.sync)?;
        }
        Ok(sets.collect())
    }

    /// Gives containers their names in `inbox/`.
    fn publish(&mut self, leaving: Vec<Leaving>) -> io::Result<()> {
        for Leaving { name, file, .. } in leaving {
            let from = file.path().to_path_buf();
            let to = self.folders.inbox.join(file_name(&name));
            match file.publish_in(&to, &mut self.sync) {
                // The container is there already, as another geometry cut it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_any(&from)?,
                result => result?,
            }
        }
        Ok(())
    }

    fn stage(
        &mut self,
        set: &SetId,
        block: &SourceBlock,
        leaving: &[Leaving],
    ) -> io::Result<Staged> {
        let mut hasher = ContainerHasher::default();
        hasher.update(block.bytes());
        let verdict = hasher.verdict(&set.container);
        let Verdict::Intact(hash) = verdict else {
            return Ok(Staged::Judged(verdict));
        };
        let name = InboxName {
            serial: set.serial,
            container: hash.id(),
        };
        if leaving.iter().any(|other| other.name == name) {
            // The same container under two geometries, in one batch.
            return Ok(Staged::Judged(verdict));
        }
        let mut staged = StagedFile::create_named(&self.folders.tmp, &file_name(&name))?;
        staged.set_access(Access::Group)?;
        staged.write_all(block.bytes())?;
        let file = staged.finish_in(&mut self.sync)?;
        // The name too, before a line says that nothing more is to be collected.
        self.sync.add_dir(&self.folders.tmp);
        Ok(Staged::Leaving(Leaving {
            set: *set,
            name,
            hash,
            file,
        }))
    }

    /// Stages a beacon. One that finds no room is left out: the next will come.
    fn stage_beacon(&mut self, beacon: &SignedBeacon) -> Option<io::Result<FinishedFile>> {
        let mut write = || {
            let mut staged = StagedFile::create(&self.folders.tmp)?;
            staged.set_access(Access::Group)?;
            staged.write_all(&beacon_file::encode(beacon))?;
            staged.finish_in(&mut self.sync)
        };
        match write() {
            Err(error) if is_full(&error) => None,
            result => Some(result),
        }
    }

    /// The assembler has room for every answer; when it has ended, nobody needs one.
    fn report(&self, input: Input) {
        let _ = self.assembler.send(input);
    }
}

enum Staged {
    Leaving(Leaving),
    Judged(Verdict),
}

/// Returns the name of a container in `inbox/`, and in `tmp/` before.
pub(super) fn file_name(name: &InboxName) -> OsString {
    format!("{name}.container").into()
}
