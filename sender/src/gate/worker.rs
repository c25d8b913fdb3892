//! Long tasks: copying and measuring large requests, sealing large bodies. The loop of gate never waits
//! for it, so a FLASH cable is never behind a large one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use valise_common::host::requests::Found;
use valise_common::host::worker::{Threading, Worker};
use valise_common::ids::{MessageId, Serial};
use valise_common::os::durable::{FinishedFile, StagedFile, WriteBehind};
use valise_common::precedence::Precedence;
use valise_common::seal::{SealRandomness, SlotPublic};

use super::intake_error::Refused;
use super::prepare::Preparer;
use super::request::{Prepared, Request};
use super::sealing::LARGE_BODY_BYTES;
use crate::spool::pending::PartFiles;
use crate::steps::approve::Approved;
use crate::steps::seal::{Place, Sealed, SealingError, seal};

/// Something that takes long.
pub enum Work {
    /// A large request to copy and measure.
    Prepare(Found),
    /// A large cable to seal.
    Seal(Box<SealWork>),
}

/// A cable to seal, with everything that it takes.
pub struct SealWork {
    /// The cable.
    pub id: MessageId,
    /// The proof.
    pub approved: Approved,
    /// Its serial.
    pub serial: Serial,
    /// The bundle of its slot.
    pub bundle: valise_common::ids::BundleId,
    /// Its slot.
    pub slot: SlotPublic,
    /// Fresh randomness.
    pub randomness: SealRandomness,
    /// Its parts.
    pub parts: PartFiles,
    /// Where the container goes.
    pub staged: StagedFile,
}

impl SealWork {
    /// Seals, without syncing.
    ///
    /// # Errors
    /// [`SealingError`].
    pub fn seal(self) -> Result<(StagedFile, Sealed), SealingError> {
        let place = Place {
            serial: self.serial,
            bundle: self.bundle,
            slot: &self.slot,
        };
        let (randomness, parts) = (self.randomness, self.parts);
        if self.approved.manifest().body_bytes() > LARGE_BODY_BYTES {
            let mut behind = WriteBehind::start(self.staged)?;
            let sealed = seal(self.approved, place, randomness, parts, &mut behind)?;
            return Ok((behind.finish()?, sealed));
        }
        let mut staged = self.staged;
        let sealed = seal(self.approved, place, randomness, parts, &mut staged)?;
        Ok((staged, sealed))
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// A request, ready to be judged; a submission's parts are durable.
    Prepared(Result<Prepared, Refused>),
    /// A container, durable.
    Sealed {
        /// The cable.
        id: MessageId,
        /// What came of it.
        result: Result<(FinishedFile, Sealed), SealingError>,
    },
    /// The copies could not be made durable: the process must end.
    Failed(io::Error),
}

/// The worker, and what waits for it.
#[derive(Debug)]
pub struct Queue {
    waiting: BTreeMap<(Precedence, u64), WorkBox>,
    next: u64,
    worker: Worker<WorkBox, Done>,
}

struct WorkBox(Work);

impl std::fmt::Debug for WorkBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Work::Prepare(_) => "Prepare",
            Work::Seal(_) => "Seal",
        })
    }
}

impl Queue {
    /// Starts the worker.
    ///
    /// # Errors
    /// If the system gives no thread or descriptor.
    pub fn start(threading: Threading, preparer: Preparer) -> io::Result<Self> {
        let perform = move |WorkBox(work)| perform(&preparer, work);
        Ok(Self {
            waiting: BTreeMap::new(),
            next: 0,
            worker: Worker::start(threading, "gate-worker", perform)?,
        })
    }

    /// Hands something over; more urgent things go first.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn add(&mut self, precedence: Precedence, work: Work) -> io::Result<()> {
        self.waiting.insert((precedence, self.next), WorkBox(work));
        self.next += 1;
        self.feed()
    }

    /// Takes back a request that is not begun, so that a more urgent one may come before it.
    pub fn take_back(&mut self) -> Option<Found> {
        let is_request = |work: &WorkBox| matches!(work.0, Work::Prepare(_));
        let key = self
            .waiting
            .iter()
            .find_map(|(key, work)| is_request(work).then_some(*key))?;
        match self.waiting.remove(&key)?.0 {
            Work::Prepare(found) => Some(found),
            Work::Seal(_) => None,
        }
    }

    /// Takes one thing that is done; to be repeated until `None`.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn take(&mut self) -> io::Result<Option<Done>> {
        let done = self.worker.take()?;
        self.feed()?;
        Ok(done)
    }

    fn feed(&mut self) -> io::Result<()> {
        if !self.worker.is_busy()
            && let Some((_, work)) = self.waiting.pop_first()
        {
            self.worker.give(work)?;
        }
        Ok(())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.worker.as_fd()
    }
}

fn perform(preparer: &Preparer, work: Work) -> Done {
    match work {
        Work::Prepare(found) => {
            let mut prepared = preparer.prepare(&found);
            if let Ok(Prepared {
                act: Request::Submit(submission),
                ..
            }) = &mut prepared
            {
                for copy in &submission.copies {
                    if let Err(error) = std::fs::File::open(copy).and_then(|file| file.sync_all()) {
                        return Done::Failed(error);
                    }
                }
                submission.durable = true;
            }
            Done::Prepared(prepared)
        }
        Work::Seal(work) => {
            let id = work.id;
            match work.seal() {
                Ok((staged, sealed)) => match staged.finish() {
                    Ok(finished) => Done::Sealed {
                        id,
                        result: Ok((finished, sealed)),
                    },
                    Err(error) => Done::Failed(error),
                },
                Err(error) => Done::Sealed {
                    id,
                    result: Err(error),
                },
            }
        }
    }
}
