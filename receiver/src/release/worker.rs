//! The second thread: opens and stages large containers and makes bundles, so that a FLASH cable is never behind them.

use std::io;
use std::path::PathBuf;

use valise_common::host::folders::ReceiverState;
use valise_common::host::trust_store::VerifiedList;
use valise_common::host::worker::Threading;
use valise_common::ids::Sha256Digest;

use crate::model::event::Asker;
use crate::release::inbox::Incoming;
use crate::spool::bundle_store::{self, BundlePlan, BundleStoreError};
use crate::spool::containers::{OpenTask, OpenedFile, open_container};
use crate::spool::publish::{BodyFolder, Groups, Syncing, stage};
use crate::spool::slots_key::SlotsKey;
use crate::steps::publish::StageName;
use crate::steps::verify::Verified;

/// Something that takes long.
pub enum Task {
    /// Open a large container.
    Open(Incoming, Box<OpenTask>),
    /// Stage a large cable.
    Stage(Incoming, Verified, BodyFolder, VerifiedList, Groups),
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

/// The thread for what takes long.
pub type Worker = valise_common::host::worker::Worker<Task, Done>;

/// Starts the worker.
///
/// # Errors
/// If the system gives no thread or descriptor.
pub fn start(
    threading: Threading,
    state: ReceiverState,
    slots_key: Option<SlotsKey>,
) -> io::Result<Worker> {
    Worker::start(threading, "large", move |task| match task {
        Task::Open(incoming, task) => Done::Opened(incoming, open_container(&task)),
        Task::Stage(incoming, cable, body, list, groups) => {
            let names = stage(&state, body, &cable, &list, &groups, &mut Syncing::Now);
            Done::Staged(incoming, cable, names)
        }
        Task::Bundle(plan, out, request, by) => {
            let made = bundle_store::make(&state, &plan, &out, slots_key.as_ref());
            Done::Bundle(plan, out, request, by, made)
        }
    })
}
