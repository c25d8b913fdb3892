//! The second thread: opens and stages large containers and makes bundles, so that a FLASH cable is never behind them.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use valise_common::ids::Sha256Digest;
use valise_common::os::layout::ReceiverState;

use crate::io::bundle_store::{self, BundlePlan, BundleStoreError};
use crate::io::containers::{OpenTask, OpenedFile, open_container};
use crate::io::publish::{BodyFolder, Groups, Syncing, stage};
use crate::io::slots_key::SlotsKey;
use crate::io::trust_store::SignedList;
use crate::release::cables::Incoming;
use crate::release::event::Asker;
use crate::stage::publish::StageName;
use crate::stage::verify::Verified;

/// Something that takes long.
pub enum Task {
    /// Open a large container.
    Open(Incoming, Box<OpenTask>),
    /// Stage a large cable.
    Stage(Incoming, Verified, BodyFolder, SignedList, Groups),
    /// Make a bundle into a folder, for the request of this name and who asked.
    Bundle(BundlePlan, PathBuf, String, Asker),
}

/// What became of it.
pub enum Done {
    /// Opened, or not.
    Opened(Incoming, io::Result<OpenedFile>),
    /// Staged, and its files are durable.
    Staged(Incoming, Verified, io::Result<Vec<StageName>>),
    /// Written durably.
    Bundle(
        BundlePlan,
        PathBuf,
        String,
        Asker,
        Result<Sha256Digest, BundleStoreError>,
    ),
}

/// The thread, and the way to and from it.
pub struct Worker {
    tasks: SyncSender<Task>,
    done: Receiver<Done>,
    wake: PipeReader,
    busy: Busy,
}

/// Whether a task is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// It waits.
    No,
    /// It works.
    Yes,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's.
    pub fn start(state: ReceiverState, slots_key: Option<SlotsKey>) -> io::Result<Worker> {
        let (tasks, todo) = sync_channel(1);
        let (ready, done) = sync_channel(1);
        let (wake, waker) = io::pipe()?;
        thread::Builder::new()
            .name("large".to_owned())
            .spawn(move || work(&state, slots_key.as_ref(), &todo, &ready, waker))?;
        Ok(Worker {
            tasks,
            done,
            wake,
            busy: Busy::No,
        })
    }

    /// Whether a task is under way.
    pub fn busy(&self) -> Busy {
        self.busy
    }

    /// Hands over a task; the worker must not be busy.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn give(&mut self, task: Task) -> io::Result<()> {
        assert_eq!(self.busy, Busy::No);
        self.busy = Busy::Yes;
        self.tasks.send(task).map_err(|_| gone())
    }

    /// What has been done, once the descriptor was readable.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn take(&mut self) -> io::Result<Option<Done>> {
        match self.done.try_recv() {
            Ok(done) => {
                // The thread writes one byte behind each result; it may come a moment later.
                self.wake.read_exact(&mut [0])?;
                self.busy = Busy::No;
                Ok(Some(done))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread for large containers ended")
}

fn work(
    state: &ReceiverState,
    slots_key: Option<&SlotsKey>,
    todo: &Receiver<Task>,
    ready: &SyncSender<Done>,
    mut waker: PipeWriter,
) {
    // Either end closes when the process ends.
    while let Ok(task) = todo.recv() {
        let done = match task {
            Task::Open(incoming, task) => Done::Opened(incoming, open_container(&task)),
            Task::Stage(incoming, cable, body, list, groups) => {
                let names = stage(state, body, &cable, &list, &groups, &mut Syncing::Now);
                Done::Staged(incoming, cable, names)
            }
            Task::Bundle(plan, out, request, by) => {
                let made = bundle_store::make(state, &plan, &out, slots_key);
                Done::Bundle(plan, out, request, by, made)
            }
        };
        if ready.send(done).is_err() || waker.write_all(&[0]).is_err() {
            return;
        }
    }
}
