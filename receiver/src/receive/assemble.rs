//! Thread 2: drives the assembler, and does for it what takes a file but no sync.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;
use valise_common::limits;

use valise_common::host::folders::InboxName;
use valise_common::ids::BundleId;
use valise_common::os::clock::mono_now;
use valise_common::os::durable::is_full;
use valise_common::units::Mono;
use valise_common::wire::SetId;

use super::digest::{Generation, HashJob};
use super::handback::Looking;
use super::publish::Delivery;
use super::shared::{AssemblyView, Shared};
use super::slab::{Arrived, Slab};
use crate::pipeline::{Assembler, Cause, Effect, Finished, Spilled, Tally};
use crate::spool::assembly::AssemblyStore;
use crate::steps::fec::SourceBlock;

/// How often the view is renewed.
const VIEW_US: u64 = 500_000;

/// What the assembler's thread waits for.
#[derive(Debug)]
pub(super) enum Input {
    /// Symbols and beacons.
    Slab(Slab),
    /// A block that was handed out has been written, and comes back.
    Recycle(Box<SourceBlock>),
    /// A block that was handed over to be hashed comes back.
    Returned(Box<SourceBlock>),
    /// A set that was handed out has been judged.
    Finished(SetId, Finished),
    /// Other link keys are in force.
    Keys {
        /// The bundles that brought them.
        in_force: Vec<BundleId>,
        /// The highest serial that has a slot.
        issued_last: u64,
    },
    /// Bytes that sets may have on disk.
    Room(u64),
    /// `release` has handed containers back.
    HandedBack,
    /// These containers may be collected again.
    TakenBack(Vec<InboxName>),
    /// Put everything on disk and end.
    Stop,
}

/// The thread's end of everything.
pub(super) struct Driver {
    /// The machine.
    pub assembler: Assembler,
    /// Its files.
    pub store: AssemblyStore,
    /// Bytes of a symbol.
    pub symbol_bytes: usize,
    /// What comes.
    pub input: Receiver<Input>,
    /// Slabs that go back.
    pub free: SyncSender<Slab>,
    /// Larger containers, to be hashed while they grow.
    pub digest: SyncSender<HashJob>,
    /// Containers of one block, and beacons, to be made durable.
    pub publish: SyncSender<Delivery>,
    /// Blocks that the digest has.
    pub in_flight: InFlight,
    /// The sets that have a file.
    pub growing: Growing,
    /// Whether the publisher looks at what was handed back. It owes one answer at most, so that the answer finds room.
    pub looking: Looking,
    /// Counters of the symbols and beacons.
    pub tally: Tally,
    /// When the view was last renewed.
    pub shown: Mono,
}

/// Blocks that are in another thread's hands; their memory counts as used until they come back.
#[derive(Debug)]
pub(super) struct InFlight {
    count: usize,
    bytes: usize,
    bytes_max: usize,
}

impl InFlight {
    /// Returns an account without blocks, for so many bytes of memory for blocks. At most half of it is: by default that is more than the
    /// blocks that leave a sender interleaved, which become whole nearly together.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self {
            count: 0,
            bytes: 0,
            bytes_max: memory_bytes / 2,
        }
    }

    fn has_room(&self, block_bytes: usize) -> bool {
        self.count < limits::BLOCKS_HASHING_MAX && self.bytes + block_bytes <= self.bytes_max
    }
}

/// The sets that have a file, each with the number of its generation.
#[derive(Debug, Default)]
pub(super) struct Growing {
    sets: BTreeMap<SetId, Generation>,
    next: u64,
}

impl Growing {
    fn number(&mut self, set: &SetId) -> Generation {
        *self.sets.entry(*set).or_insert_with(|| {
            self.next += 1;
            Generation(self.next)
        })
    }

    fn forget(&mut self, set: &SetId) {
        self.sets.remove(set);
    }
}

impl Driver {
    /// Works until it is told to stop, and then until everything that was handed out is durable.
    ///
    /// # Errors
    /// If the disk fails; a full one is no failure.
    pub(super) fn run(mut self, shared: &Shared) -> io::Result<()> {
        self.perform(mono_now(), shared)?;
        loop {
            let now = mono_now();
            let next = self.assembler.next_wakeup().unwrap_or(now.plus_us(VIEW_US));
            let wait = next.since_us(now).min(VIEW_US);
            match self.input.recv_timeout(Duration::from_micros(wait)) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(input) => self.take(Some(input), shared)?,
                Err(RecvTimeoutError::Timeout) => self.take(None, shared)?,
            }
        }
        self.end(shared)
    }

    /// Takes an input, if any waits, and does what is due; returns whether one did.
    ///
    /// # Errors
    /// As [`Driver::run`].
    pub(super) fn turn(&mut self, shared: &Shared) -> io::Result<bool> {
        let input = self.input.try_recv().ok();
        let has_input = input.is_some();
        self.take(input, shared)?;
        Ok(has_input)
    }

    /// Puts everything on disk. The threads after it end when they have nothing more to do, and with them their ends of `input`.
    ///
    /// # Errors
    /// As [`Driver::run`].
    pub(super) fn end(mut self, shared: &Shared) -> io::Result<()> {
        self.assembler.handle_stop();
        self.perform(mono_now(), shared)?;
        drop((self.digest, self.publish, self.free));
        shared.set_assembly(view_of(&self.assembler, &self.tally));
        Ok(())
    }

    fn take(&mut self, input: Option<Input>, shared: &Shared) -> io::Result<()> {
        let now = mono_now();
        if let Some(input) = input {
            self.handle(now, input, shared)?;
        }
        self.assembler.handle_time(now);
        self.perform(now, shared)?;
        if now.since_us(self.shown) >= VIEW_US {
            shared.set_assembly(view_of(&self.assembler, &self.tally));
            self.shown = now;
        }
        Ok(())
    }

    fn handle(&mut self, now: Mono, input: Input, shared: &Shared) -> io::Result<()> {
        match input {
            Input::Slab(mut slab) => {
                for arrived in slab.arrived(self.symbol_bytes) {
                    let (outcome, counter) = match arrived {
                        Arrived::Symbol(symbol, payload) => (
                            self.assembler.handle_symbol(now, &symbol, payload),
                            &mut self.tally.symbols,
                        ),
                        Arrived::Beacon(bundle, payload) => (
                            self.assembler.handle_beacon(now, bundle, payload),
                            &mut self.tally.beacons,
                        ),
                    };
                    match outcome {
                        Ok(()) => *counter += 1,
                        Err(reason) => self.tally.dropped.count(reason),
                    }
                    self.perform(now, shared)?;
                }
                slab.clear();
                // The circle has room for every slab that there is; when the reader has ended, the slab ends too.
                let _ = self.free.send(slab);
            }
            Input::Recycle(block) => self.assembler.recycle(*block),
            Input::Returned(block) => {
                self.in_flight.count -= 1;
                self.in_flight.bytes -= block.allocated_bytes();
                self.assembler.recycle(*block);
            }
            Input::HandedBack => self.look_at_handed_back(Looking::Again)?,
            Input::TakenBack(names) => {
                for InboxName { serial, container } in &names {
                    self.assembler.handle_handed_back(*serial, container);
                    tracing::warn!(%serial, %container, "a container was damaged on the disk, and is collected again");
                }
                let before = std::mem::take(&mut self.looking);
                // A full folder is looked at until it is empty.
                if before == Looking::Again || !names.is_empty() {
                    self.look_at_handed_back(Looking::Now)?;
                }
            }
            Input::Finished(set, finished) => self.assembler.handle_finished(&set, finished),
            Input::Keys {
                in_force,
                issued_last,
            } => self.assembler.handle_keys(now, &in_force, issued_last),
            Input::Room(bytes) => self.assembler.handle_room(bytes),
            Input::Stop => {}
        }
        Ok(())
    }

    /// Does everything that the assembler asks for.
    fn perform(&mut self, now: Mono, shared: &Shared) -> io::Result<()> {
        while let Some(effect) = self.assembler.poll_effect() {
            self.perform_one(now, effect, shared)?;
        }
        Ok(())
    }

    fn perform_one(&mut self, now: Mono, effect: Effect, shared: &Shared) -> io::Result<()> {
        match effect {
            Effect::Restore { set, block } => {
                let assembler = &mut self.assembler;
                self.store.restore(&set, block, |index, bytes| {
                    assembler.handle_restored(now, &set, block, index, bytes);
                })?;
                assembler.handle_restore_done(&set, block);
            }
            Effect::Spill { set, buffer } => {
                if !has_room(self.store.spill(&set, &buffer))? {
                    self.assembler
                        .handle_spill_failed(&set, buffer.shape().number);
                }
                self.assembler.offer(buffer);
            }
            Effect::Write {
                set,
                block,
                spilled,
            } => {
                let number = block.shape().number;
                let written = has_room(self.store.write_block(&set, &block))?;
                if spilled == Spilled::Yes {
                    self.store.forget_part(&set, number)?;
                }
                if written {
                    self.lend(set, block);
                } else {
                    self.assembler.handle_write_failed(&set, number);
                    self.assembler.recycle(block);
                }
            }
            // Only a hint: what the digest has no time for now, it hashes later.
            Effect::Prefix { set, bytes } => {
                let generation = self.growing.number(&set);
                let _ = self.digest.try_send(HashJob::Prefix {
                    set,
                    generation,
                    bytes,
                });
            }
            Effect::FinishFile { set } => {
                // Its last block may have found no room on the disk since.
                if self.assembler.collection().is_finishing(&set) {
                    self.store.close(&set);
                    let generation = self.growing.number(&set);
                    hand_over(&self.digest, HashJob::Whole { set, generation })?;
                }
            }
            Effect::FinishBlock { set, block } => {
                hand_over(
                    &self.publish,
                    Delivery::Block {
                        set,
                        block: Box::new(block),
                    },
                )?;
            }
            Effect::Forget { set, cause } => {
                self.growing.forget(&set);
                self.store.forget(&set)?;
                if cause == Cause::Poisoned {
                    shared.forged().handle_set(set.serial);
                }
            }
            Effect::Beacon(writing) => hand_over(&self.publish, Delivery::Beacon(writing))?,
        }
        Ok(())
    }

    /// Has the publisher look at what was handed back, now or, if it does already, once more.
    fn look_at_handed_back(&mut self, otherwise: Looking) -> io::Result<()> {
        if self.looking == Looking::No {
            self.looking = Looking::Now;
            return hand_over(&self.publish, Delivery::HandedBack);
        }
        self.looking = otherwise;
        Ok(())
    }

    /// Lends a written block to be hashed from memory; if that would keep too much memory away, it is read back later.
    fn lend(&mut self, set: SetId, block: SourceBlock) {
        let block_bytes = block.allocated_bytes();
        if !self.in_flight.has_room(block_bytes) {
            return self.assembler.recycle(block);
        }
        let job = HashJob::Block {
            set,
            generation: self.growing.number(&set),
            block: Box::new(block),
        };
        match self.digest.try_send(job) {
            Ok(()) => {
                self.in_flight.count += 1;
                self.in_flight.bytes += block_bytes;
            }
            Err(TrySendError::Full(unsent) | TrySendError::Disconnected(unsent)) => {
                if let HashJob::Block { block, .. } = unsent {
                    self.assembler.recycle(*block);
                }
            }
        }
    }
}

fn view_of(assembler: &Assembler, tally: &Tally) -> AssemblyView {
    AssemblyView {
        tally: *tally,
        sets: assembler.collection().counters(),
        set_count: assembler.collection().sets().count(),
        assembling: assembler
            .assembling()
            .take(limits::SETS_SHOWN_MAX)
            .collect(),
        memory_bytes: assembler.memory_bytes(),
        disk_bytes: assembler.collection().sets().disk_bytes(),
    }
}

/// Hands something to a thread that ends only after this one; if it is gone, it has failed.
fn hand_over<T>(channel: &SyncSender<T>, thing: T) -> io::Result<()> {
    channel
        .send(thing)
        .map_err(|_| io::Error::other("another thread of this process has failed"))
}

/// A full disk is an answer, any other error is one.
fn has_room(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_full(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
