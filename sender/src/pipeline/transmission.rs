//! One container on its way: which pass, which blocks, and where it goes on after a restart.

use std::collections::BTreeMap;

use valise_common::fec::plan::pass_symbols;
use valise_common::units::{Mono, Percent};
use valise_common::wire::{BeaconEntry, EntryState};

use super::announcer::Settling;
use super::{Progress, Sealed};
use crate::steps::interleave::{Lane, Run};
use crate::steps::queue::Place;

/// What a container does now.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its next pass waits since, or until, this time.
    Waiting(Mono),
    /// A pass is on the link.
    OnLink(Pass),
    /// A pass is wanted, and the container is still being compared with its hash.
    Held,
    /// All passes have been sent.
    Done,
}

/// A pass on the link.
#[derive(Debug)]
pub(super) struct Pass {
    /// Symbols sent.
    position: u64,
    /// Blocks below this one are open or have been sent.
    next_block: u64,
    /// Symbols sent of each open block.
    open: BTreeMap<u32, u32>,
    /// What an earlier process had sent of the blocks from `next_block` on.
    resumed: std::vec::IntoIter<u32>,
}

/// One container on its way.
#[derive(Debug)]
pub(super) struct Transmission {
    /// The container.
    pub sealed: Sealed,
    /// What it does now.
    pub phase: Phase,
    first_passes: u8,
    passes_done: u8,
    resume: Option<Progress>,
    repair: Percent,
}

impl Transmission {
    /// Creates a container that gate has put into the outbox, now or before a restart.
    pub(super) fn new(
        sealed: Sealed,
        progress: Option<Progress>,
        repair: Percent,
        now: Mono,
    ) -> Self {
        let first_passes = progress
            .as_ref()
            .map_or(sealed.passes, |known| known.first_passes);
        let passes_done = progress.as_ref().map_or(0, |known| known.passes_done);
        let phase = if passes_done < sealed.passes {
            Phase::Waiting(now)
        } else {
            Phase::Done
        };
        let resume = progress.filter(|known| known.pass == passes_done);
        Self {
            sealed,
            phase,
            first_passes,
            passes_done,
            resume,
            repair,
        }
    }

    /// Passes sent to their end.
    pub(super) fn passes_done(&self) -> u8 {
        self.passes_done
    }

    /// Begins the next pass, where an earlier process left it if one did.
    pub(super) fn begin_pass(&mut self) {
        assert!(
            matches!(self.phase, Phase::Waiting(_)),
            "a pass begins once"
        );
        let resume = self.resume.take().filter(|known| self.fits(known));
        let (block, lanes) = resume.map_or((0, Vec::new()), |known| (known.block, known.lanes));
        let position = (0..block).map(|number| u64::from(self.count(number))).sum();
        self.phase = Phase::OnLink(Pass {
            position,
            next_block: u64::from(block),
            open: BTreeMap::new(),
            resumed: lanes.into_iter(),
        });
    }

    /// Takes the pass off the link, to go on at that place not before this time.
    pub(super) fn suspend(&mut self, until: Mono) {
        if let Phase::OnLink(_) = self.phase {
            self.resume = Some(self.progress());
        }
        self.phase = Phase::Waiting(until);
    }

    /// Opens the next block of the pass; `None` when all are open or sent.
    pub(super) fn open_block(&mut self) -> Option<Lane> {
        let (geometry, repair) = (self.sealed.geometry, self.repair);
        let Phase::OnLink(pass) = &mut self.phase else {
            return None;
        };
        loop {
            let block = u32::try_from(pass.next_block).ok()?;
            let shape = geometry.block(block)?;
            let symbols = pass_symbols(&shape, repair, self.passes_done);
            pass.next_block += 1;
            let sent = pass.resumed.next().unwrap_or(0).min(symbols.count());
            pass.position += u64::from(sent);
            if sent == symbols.count() {
                continue;
            }
            pass.open.insert(block, sent);
            return Some(Lane {
                serial: self.sealed.serial,
                pass: self.passes_done,
                block,
                source_count: u32::from(symbols.source_count()),
                repair_count: u32::from(symbols.repair_count()),
                sent,
            });
        }
    }

    /// Notes symbols that leave.
    pub(super) fn handle_sent(&mut self, run: &Run) {
        let Phase::OnLink(pass) = &mut self.phase else {
            return;
        };
        pass.position += u64::from(run.count);
        if run.ends_lane() {
            pass.open.remove(&run.lane.block);
        } else {
            pass.open.insert(run.lane.block, run.lane.sent + run.count);
        }
    }

    /// Returns whether the last symbol of the pass has left.
    pub(super) fn is_pass_over(&self) -> bool {
        let block_count = self.sealed.geometry.block_count();
        matches!(&self.phase, Phase::OnLink(pass) if pass.open.is_empty() && pass.next_block == block_count)
    }

    /// Counts the pass that has been sent to its end. Its successor, if one is wanted, waits until `next_at`.
    pub(super) fn end_pass(&mut self, next_at: Mono) {
        self.passes_done = self.passes_done.saturating_add(1);
        let more = self.passes_done < self.sealed.passes;
        self.phase = if more {
            Phase::Waiting(next_at)
        } else {
            Phase::Done
        };
    }

    /// Goes back to the beginning of the pass that follows so many, to begin not before this time.
    pub(super) fn repeat_pass(&mut self, passes_done: u8, next_at: Mono) {
        self.passes_done = passes_done.min(self.passes_done);
        self.resume = None;
        self.phase = Phase::Waiting(next_at);
    }

    /// Returns its place in the queue, if its next pass waits.
    pub(super) fn place(&self) -> Option<Place> {
        let Phase::Waiting(eligible_at) = self.phase else {
            return None;
        };
        Some(Place {
            precedence: self.sealed.precedence,
            eligible_at,
            serial: self.sealed.serial,
        })
    }

    /// Returns its entry in the beacons.
    pub(super) fn entry(&self) -> BeaconEntry {
        let state = match self.phase {
            Phase::OnLink(_) => EntryState::OnLink,
            Phase::Done => EntryState::PassesDone,
            Phase::Waiting(_) | Phase::Held if self.passes_done > 0 => EntryState::OnLink,
            Phase::Waiting(_) | Phase::Held => EntryState::Queued,
        };
        BeaconEntry {
            serial: self.sealed.serial,
            container: self.sealed.container,
            container_bytes: self.sealed.geometry.container_bytes(),
            state,
        }
    }

    /// Returns whether it has had the passes that were wanted at first: a resend does not unsettle a serial.
    pub(super) fn settling(&self) -> Settling {
        match self.passes_done >= self.first_passes {
            true => Settling::Settled,
            false => Settling::Open,
        }
    }

    /// Returns what is to be recorded of it.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress {
            serial: self.sealed.serial,
            passes_done: self.passes_done,
            first_passes: self.first_passes,
            pass: self.passes_done,
            position: 0,
            block: 0,
            lanes: Vec::new(),
        };
        if let Phase::OnLink(pass) = &self.phase {
            let next_block = u32::try_from(pass.next_block).unwrap_or(u32::MAX);
            let block = pass.open.keys().next().copied().unwrap_or(next_block);
            let sent = |number| {
                pass.open
                    .get(&number)
                    .copied()
                    .unwrap_or(self.count(number))
            };
            progress.position = pass.position;
            progress.block = block;
            progress.lanes = (block..next_block).map(sent).collect();
        } else if let (Phase::Waiting(_) | Phase::Held, Some(resume)) = (&self.phase, &self.resume)
        {
            return resume.clone();
        }
        progress
    }

    fn count(&self, block: u32) -> u32 {
        self.sealed.geometry.block(block).map_or(0, |shape| {
            pass_symbols(&shape, self.repair, self.passes_done).count()
        })
    }

    fn fits(&self, known: &Progress) -> bool {
        u64::from(known.block) < self.sealed.geometry.block_count()
    }
}
