//! The containers of the outbox: which ones are to be sent, whether they are intact, and how far each has been sent.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use valise_common::limits;

use valise_common::ids::Serial;
use valise_common::units::Mono;

use super::check::{Checker, Compared};
use super::load::Loader;
use super::unsendable::{Unsendable, Why};
use super::view::OnLinkView;
use super::watch::{self, Arrived, Found, SpoolChanges, StateWatch};
use super::{During as _, TransmitError};
use crate::pipeline::{Batch, Now, PassEnded, Pipeline, Progress, RefusedContainer};
use crate::spool::outbox::OutboxError;
use crate::steps::frame::Framer;

/// The containers, and the batch of their symbols that leaves next.
pub(super) struct Containers {
    pipeline: Pipeline,
    loader: Loader,
    checker: Checker,
    unsendable: Unsendable,
    batch: Batch,
    /// Progress of symbols that have left and is not recorded yet. Composed symbols may still wait for a slow line.
    left: BTreeMap<Serial, Progress>,
}

impl Containers {
    /// No container yet.
    pub(super) fn new(pipeline: Pipeline, loader: Loader, checker: Checker) -> Self {
        Self {
            pipeline,
            loader,
            checker,
            unsendable: Unsendable::default(),
            batch: Batch::default(),
            left: BTreeMap::new(),
        }
    }

    /// Takes what gate has changed in the outbox.
    ///
    /// # Errors
    /// [`TransmitError`]; the process must end.
    pub(super) fn handle_changes(
        &mut self,
        now: Now,
        watch: &mut StateWatch,
        mut changes: SpoolChanges,
    ) -> Result<(), TransmitError> {
        // Gate's knowledge before the containers: a serial that it no longer calls "in sealing" is in the outbox by then.
        if let Some(spool) = watch.spool(&mut changes)? {
            self.pipeline.handle_spool(spool);
        }
        let known = |serial| self.pipeline.sealed(serial).map(watch::name_of);
        let all = self.pipeline.serials().chain(self.unsendable.serials());
        let Found {
            arrived,
            gone,
            damaged,
        } = watch.containers(changes, known, all)?;
        for (serial, why) in damaged {
            self.unsendable.insert(serial, why);
        }
        for serial in gone {
            if let Some(sealed) = self.pipeline.sealed(serial) {
                self.checker.forget(sealed.precedence, serial);
            }
            self.give_up(serial);
            self.unsendable.remove(serial);
        }
        for arrived in arrived {
            self.handle_arrived(now, arrived)
                .during("check containers")?;
        }
        Ok(())
    }

    /// Takes a container that is new, or whose wanted passes a resend has raised. A large one that owes a pass is compared
    /// with its hash first; a small one is compared where it is opened.
    fn handle_arrived(&mut self, now: Now, arrived: Arrived) -> io::Result<()> {
        let Arrived { sealed, progress } = arrived;
        let known = self.pipeline.sealed(sealed.serial);
        let known = known.filter(|known| known.hash == sealed.hash);
        let passes_before = match known {
            Some(known) => known.passes,
            None => progress.as_ref().map_or(0, |progress| progress.passes_done),
        };
        let is_large = sealed.geometry.container_bytes() > limits::COMPARED_AT_ONCE_BYTES_MAX;
        let must_compare = is_large && passes_before < sealed.passes;
        let taken = match (must_compare, known) {
            (false, _) => self.pipeline.handle_container(now, sealed, progress),
            (true, None) => self.pipeline.handle_unchecked(now, sealed, progress),
            // The passes that it owed before go on meanwhile.
            (true, Some(_)) => Ok(()),
        };
        match taken {
            Ok(()) if must_compare => self.checker.add(sealed)?,
            Ok(()) => self.unsendable.remove(sealed.serial),
            // The container is kept for a resend, and has been sent as it was cut.
            Err(_) if passes_before >= sealed.passes => {}
            Err(refused) => {
                tracing::error!(%refused, "a container cannot be sent");
                let RefusedContainer::SymbolBytes { symbol_bytes, .. } = refused;
                self.unsendable
                    .insert(sealed.serial, Why::Cut { symbol_bytes });
            }
        }
        Ok(())
    }

    /// Takes the containers that have been compared with their hashes.
    ///
    /// # Errors
    /// If the comparison's descriptor cannot be read.
    pub(super) fn handle_compared(&mut self, now: Now) -> io::Result<()> {
        for (sealed, compared) in self.checker.take()? {
            let serial = sealed.serial;
            let known = self.pipeline.sealed(serial);
            if known.is_none_or(|known| known.hash != sealed.hash) {
                // Deleted meanwhile, or replaced by another one.
                continue;
            }
            match compared {
                Compared::Intact => {
                    // The container was not refused when it arrived.
                    let _ = self.pipeline.handle_container(now, sealed, None);
                    self.pipeline.handle_checked(now, serial);
                    self.unsendable.remove(serial);
                }
                Compared::Gone => self.give_up(serial),
                Compared::Unfit(error) => self.cannot_send(serial, &error),
            }
        }
        Ok(())
    }

    /// Composes the next batch, if one may leave now, and returns its count of datagrams.
    pub(super) fn poll_batch(&mut self, now: Now) -> Option<u32> {
        let has_batch = self.pipeline.poll_batch(now, &mut self.batch);
        has_batch.then(|| self.batch.count())
    }

    /// Makes the datagrams of the batch in `buffer`. A container that cannot be read is given up.
    pub(super) fn fill(&mut self, framer: &mut Framer, buffer: &mut [u8]) {
        let unreadable = self
            .loader
            .fill(&self.batch, &self.pipeline, framer, buffer);
        for one in unreadable {
            match one.error {
                Some(error) => self.cannot_send(one.serial, &error),
                // Gate has deleted the container.
                None => self.give_up(one.serial),
            }
        }
    }

    /// Makes repair symbols ahead of their turn; returns whether there were some to make.
    pub(super) fn prepare(&mut self) -> bool {
        self.loader.prepare(&self.pipeline)
    }

    /// Notes that the last batch has left, and returns its count of datagrams.
    pub(super) fn handle_batch_left(&mut self) -> u32 {
        self.take_progress();
        self.batch.count()
    }

    /// Returns the next pass that has left to its end.
    pub(super) fn poll_ended(&mut self) -> Option<PassEnded> {
        let ended = self.pipeline.poll_ended()?;
        self.loader.close(ended.progress.serial);
        self.left.remove(&ended.progress.serial);
        Some(ended)
    }

    /// Begins the passes again that a lost link has swallowed: those on the link, and `ended`.
    pub(super) fn handle_link_lost(&mut self, now: Now, ended: Vec<PassEnded>) {
        self.pipeline.handle_link_lost(now, ended);
        self.take_progress();
    }

    /// Returns when the next batch may leave.
    pub(super) fn next_wakeup(&self, now: Now) -> Mono {
        self.pipeline.next_wakeup(now)
    }

    /// Returns the progress since the last call.
    pub(super) fn take_left(&mut self) -> BTreeMap<Serial, Progress> {
        std::mem::take(&mut self.left)
    }

    /// Returns the text of the alarm `container`, if there is a container that cannot be sent.
    pub(super) fn alarm(&self) -> Option<String> {
        self.unsendable.alarm()
    }

    /// Returns the state of the passes, for the view.
    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Returns the containers whose passes are on the link, for the view.
    pub(super) fn on_link(&self) -> Vec<OnLinkView> {
        let on_link = self.pipeline.on_link().filter_map(|progress| {
            let sealed = self.pipeline.sealed(progress.serial)?;
            Some(OnLinkView {
                serial: progress.serial,
                pass: progress.pass,
                passes: sealed.passes,
                position: progress.position,
                source_symbols: sealed.geometry.symbol_count(),
            })
        });
        on_link.collect()
    }

    fn take_progress(&mut self) {
        while let Some(progress) = self.pipeline.poll_progress() {
            self.left.insert(progress.serial, progress);
        }
    }

    fn cannot_send(&mut self, serial: Serial, error: &OutboxError) {
        tracing::error!(serial = serial.get(), %error, "a container cannot be sent");
        self.unsendable.insert(serial, Why::from(error));
        self.give_up(serial);
    }

    /// Forgets a container: the receiver learns that the serial is settled, and counts it as missing.
    fn give_up(&mut self, serial: Serial) {
        self.pipeline.handle_gone(serial);
        self.loader.close(serial);
        self.left.remove(&serial);
    }
}

impl AsFd for Containers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.checker.as_fd()
    }
}
