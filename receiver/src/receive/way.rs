//! The way of a datagram into the inbox: reader, assembler, digest and publisher, usually on a thread each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use valise_common::limits;

use valise_common::units::Mono;
use valise_common::wire::DatagramBytes;

use super::ReceiveError;
use super::assemble::{Driver, Growing, InFlight, Input};
use super::digest::Digest;
use super::handback::Looking;
use super::intake::Intake;
use super::publish::Publisher;
use super::reader::Reader;
use super::recover::Recovered;
use super::shared::{Event, Shared};
use super::slab::Slab;
use crate::pipeline::Tally;

/// Stack of a thread of receive; the default would only lock more memory.
const STACK_BYTES: usize = 1 << 20;

/// The four parts, and the ends of their queues that the main thread holds.
pub(super) struct Way {
    shared: Arc<Shared>,
    input: SyncSender<Input>,
    events: Receiver<Event>,
    /// From the last part to the first.
    threads: Vec<JoinHandle<()>>,
    /// The parts, while they have no threads.
    here: Option<Box<Parts>>,
}

/// The parts that a datagram passes, in this order.
struct Parts {
    reader: Reader,
    driver: Driver,
    digest: Digest,
    publisher: Publisher,
}

impl Way {
    /// Connects the parts, on the caller's thread so far.
    pub(super) fn new(
        intake: Intake,
        size: DatagramBytes,
        memory_bytes: usize,
        recovered: Recovered,
    ) -> Self {
        let Recovered {
            folders,
            assembler,
            store,
            completed,
            sync,
        } = recovered;
        let (tell, events) = sync_channel(limits::RECEIVE_EVENTS_MAX);
        let (input, inputs) = sync_channel(limits::ASSEMBLER_INPUTS_MAX);
        let (free, free_slabs) = sync_channel(limits::SLABS_MAX);
        let (grow, growth) = sync_channel(limits::HASH_JOBS_MAX);
        let (publish, deliveries) = sync_channel(limits::DELIVERIES_MAX);
        for _ in 0..limits::SLABS_MAX - 1 {
            let _ = free.try_send(Slab::new());
        }
        let shared = Arc::new(Shared::new(tell));
        shared.set_link(intake.state());
        let driver = Driver {
            assembler,
            store,
            symbol_bytes: usize::from(size.symbol_bytes()),
            input: inputs,
            free,
            digest: grow,
            publish: publish.clone(),
            in_flight: InFlight::new(memory_bytes),
            growing: Growing::default(),
            looking: Looking::default(),
            tally: Tally::default(),
            shown: Mono(0),
        };
        let assembly = folders.assembly.clone();
        let publisher = Publisher {
            folders,
            completed,
            sync,
            deliveries,
            assembler: input.clone(),
        };
        let parts = Parts {
            reader: Reader::new(intake, size, free_slabs, input.clone()),
            driver,
            digest: Digest::new(assembly, growth, publish, input.clone()),
            publisher,
        };
        Self {
            shared,
            input,
            events,
            threads: Vec::new(),
            here: Some(Box::new(parts)),
        }
    }

    /// Gives each part a thread of its own.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn spawn(&mut self) -> io::Result<()> {
        let Some(parts) = self.here.take() else {
            return Ok(());
        };
        let Parts {
            reader,
            driver,
            digest,
            publisher,
        } = *parts;
        self.spawn_part("publisher", move |_| publisher.run())?;
        self.spawn_part("digest", move |_| digest.run())?;
        self.spawn_part("assembler", move |shared| driver.run(shared))?;
        self.spawn_part("reader", move |shared| reader.run(shared))
    }

    fn spawn_part(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                if let Err(error) = work(&shared) {
                    shared.tell(Event::Failed(format!("the {name} failed: {error}")));
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What the parts and the main thread share.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Gives the assembler an input.
    ///
    /// # Errors
    /// The input, if the assembler is so busy that there is no room for it.
    pub(super) fn tell(&self, input: Input) -> Result<(), Input> {
        match self.input.try_send(input) {
            Err(TrySendError::Full(input)) => Err(input),
            // An assembler that is gone has left an event.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Returns the next event of a part.
    pub(super) fn poll_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Without threads: reads datagrams once, which waits a tenth of a second if there are none.
    ///
    /// # Errors
    /// Those of the link.
    pub(super) fn read_link(&mut self) -> io::Result<()> {
        match &mut self.here {
            Some(parts) => parts.reader.turn(&self.shared).map(drop),
            None => Ok(()),
        }
    }

    /// Without threads: takes what was read as far as it goes.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn pass_on(&mut self) -> io::Result<()> {
        if let Some(parts) = &mut self.here {
            while parts.turn(&self.shared)? {}
        }
        Ok(())
    }

    /// Ends the parts from front to back; everything that is in memory goes to disk.
    ///
    /// # Errors
    /// Those of the disk, and a thread that panicked.
    pub(super) fn stop(&mut self) -> Result<(), ReceiveError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.pass_on()?;
        if let Some(parts) = self.here.take() {
            parts.end(&self.shared)?;
        }
        for (place, thread) in self.threads.drain(..).rev().enumerate() {
            if thread.join().is_err() {
                return Err(ReceiveError::Failed("a thread panicked".to_owned()));
            }
            if place == 0 {
                // The reader has handed over its last slab.
                let _ = self.input.send(Input::Stop);
            }
        }
        Ok(())
    }
}

impl Parts {
    /// Does what waits, in each part once; returns whether there was anything to do.
    fn turn(&mut self, shared: &Shared) -> io::Result<bool> {
        let assembled = self.driver.turn(shared)?;
        let hashed = self.digest.turn()?;
        let published = self.publisher.turn()?;
        Ok(assembled || hashed || published)
    }

    fn end(self, shared: &Shared) -> io::Result<()> {
        let Self {
            driver,
            mut digest,
            mut publisher,
            ..
        } = self;
        driver.end(shared)?;
        while digest.turn()? || publisher.turn()? {}
        Ok(())
    }
}
