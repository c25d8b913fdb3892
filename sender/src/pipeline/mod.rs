//! The sans-IO whole of transmit: what leaves next, in which order, and when.
//!
//! Containers, gate's knowledge and time go in through `handle_*`. Batches, progress and the next time to wake come out
//! through `poll_*` and [`Pipeline::next_wakeup`]. Nothing here reads a container: a batch names the symbols, and
//! `transmit` fills them in. The same calls give the same batches.
//!
//! | file | owns |
//! |---|---|
//! | `passes` | containers, the order of their passes, the blocks on the link; `transmission` is one container |
//! | `announcer` | the beacons |
//! | `line` | warm-up and run-down of the link |

mod announcer;
mod batch;
mod line;
mod passes;
mod transmission;
mod values;

use valise_common::config::Cover;
use valise_common::ids::Serial;
use valise_common::precedence::Precedence;
use valise_common::units::{Mono, Rate};

use crate::steps::interleave::Lane;
use crate::steps::pace::{self, Pace};

use announcer::{Announcer, Patience};
pub(crate) use batch::{Batch, Slot};
use line::{Demand, Line, Next};
use passes::Passes;
use transmission::{Phase, Transmission};
pub(crate) use values::{
    GivenUp, Now, Outlook, PassEnded, Progress, RefusedContainer, Sealed, Settings, SpoolBeacon,
    Totals, WarmUp,
};

/// The rate that interleaving assumes of an unlimited link: its bursts are counted in time, and time needs a rate.
const UNLIMITED_BITS: u64 = 1_000_000_000;

/// The transmit side as a pure machine.
#[derive(Debug)]
pub(crate) struct Pipeline {
    symbol_bytes: u16,
    cover: Cover,
    passes: Passes,
    announcer: Announcer,
    line: Line,
    pace: Pace,
    totals: Totals,
}

impl Pipeline {
    /// Creates a silent link and no container.
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let Settings {
            datagram,
            wire_bytes,
            batch_count_max,
            warm_up,
            rate,
            cover,
            repair,
            interleave,
        } = settings;
        let bits = match rate {
            Rate::BitsPerSecond(bits) => bits,
            Rate::Unlimited => UNLIMITED_BITS,
        };
        let burst_count = pace::datagrams_in(bits, wire_bytes, interleave.as_us());
        let pace = Pace::new(rate, wire_bytes, batch_count_max, now.mono);
        let lead_count = match warm_up {
            WarmUp::Cover => pace.lead_count(),
            WarmUp::None => 0,
        };
        let symbol_bytes = datagram.symbol_bytes();
        Self {
            symbol_bytes,
            cover,
            passes: Passes::new(burst_count, symbol_bytes, repair, interleave),
            announcer: Announcer::new(symbol_bytes, |count| pace.time_us(count), now.mono),
            line: Line::new(lead_count),
            pace,
            totals: Totals::default(),
        }
    }

    /// Takes up the time in the beacons before the start: it must not fall.
    pub(crate) fn restore_beacon_time(&mut self, now: Now, time_us: u64) {
        self.announcer.restore_time(now.mono, time_us);
    }

    /// Returns the time in the last beacon, µs since 1970; 0 before the first.
    pub(crate) fn beacon_time_us(&self) -> u64 {
        self.announcer.time_us()
    }

    /// Takes a container that gate has put into the outbox, or one whose wanted passes a resend has raised.
    ///
    /// # Errors
    /// [`RefusedContainer`] if this link cannot carry it.
    pub(crate) fn handle_container(
        &mut self,
        now: Now,
        sealed: Sealed,
        progress: Option<Progress>,
    ) -> Result<(), RefusedContainer> {
        let symbol_bytes = sealed.geometry.symbol_bytes();
        if symbol_bytes != self.symbol_bytes {
            return Err(RefusedContainer::SymbolBytes {
                serial: sealed.serial,
                symbol_bytes,
                link_symbol_bytes: self.symbol_bytes,
            });
        }
        self.passes
            .handle_container(now, sealed, progress, &mut self.announcer);
        Ok(())
    }

    /// Takes a container that is still being compared with its hash: it is announced, and nothing of it leaves before
    /// [`Pipeline::handle_checked`].
    ///
    /// # Errors
    /// [`RefusedContainer`] if this link cannot carry it.
    pub(crate) fn handle_unchecked(
        &mut self,
        now: Now,
        sealed: Sealed,
        progress: Option<Progress>,
    ) -> Result<(), RefusedContainer> {
        self.handle_container(now, sealed, progress)?;
        self.passes.hold(sealed.serial);
        Ok(())
    }

    /// Lets a container leave that is what gate sealed.
    pub(crate) fn handle_checked(&mut self, now: Now, serial: Serial) {
        self.passes.release(now, serial);
    }

    /// Forgets a container that gate has deleted, or that cannot be sent.
    pub(crate) fn handle_gone(&mut self, serial: Serial) {
        self.passes.handle_gone(serial, &mut self.announcer);
    }

    /// Takes what gate knows of serials. To be called before the containers that were found together with it.
    pub(crate) fn handle_spool(&mut self, spool: SpoolBeacon) {
        self.announcer.handle_spool(spool);
    }

    /// Begins again what a link that was down has swallowed: every pass on the link, and those of `ended` that are not yet
    /// known to have left.
    pub(crate) fn handle_link_lost(
        &mut self,
        now: Now,
        ended: impl IntoIterator<Item = PassEnded>,
    ) {
        self.passes
            .handle_link_lost(now, ended, &mut self.announcer);
        self.announcer.handle_link_lost();
        self.line.restart();
    }

    /// Composes the next batch, if one may leave now. What it names counts as sent.
    pub(crate) fn poll_batch(&mut self, now: Now, batch: &mut Batch) -> bool {
        batch.clear();
        if !self.has_work(now) {
            self.pace.rest();
            return false;
        }
        let allowed = self.pace.allowance(now.mono);
        while batch.count() < allowed {
            let room = allowed - batch.count();
            let class = self.passes.ready_class(now, &mut self.announcer);
            let patience = if class.is_some() {
                Patience::More
            } else {
                Patience::Last
            };
            let beacon_due = self.announcer.is_due(now.mono, patience);
            let busy = beacon_due || class.is_some();
            let demand = if busy {
                Demand::Traffic
            } else {
                Demand::Nothing
            };
            match self.line.next(demand, room) {
                Next::Cover(count) => self.push_cover(count, batch),
                Next::Traffic if beacon_due => {
                    batch.push(Slot::Beacon(self.announcer.compose(now.mono, now.utc_us)));
                    self.totals.beacons += 1;
                }
                Next::Traffic => self.push_run(now, class, room, batch),
                Next::Silence if self.cover == Cover::Constant => {
                    self.push_cover(room, batch);
                }
                Next::Silence => {
                    self.announcer.handle_silence();
                    self.pace.rest();
                    break;
                }
            }
        }
        self.pace.spend(batch.count());
        batch.count() > 0
    }

    /// Takes the next pass that has been sent to its end. Its progress must become durable.
    pub(crate) fn poll_ended(&mut self) -> Option<PassEnded> {
        self.passes.poll_ended()
    }

    /// Takes the progress of the next container that has moved since the last call. Losing it costs a part of a pass.
    pub(crate) fn poll_progress(&mut self) -> Option<Progress> {
        self.passes.poll_progress()
    }

    /// When to call [`Pipeline::poll_batch`] again if nothing else happens; in the past if at once.
    pub(crate) fn next_wakeup(&self, now: Now) -> Mono {
        let ready_at = self.pace.ready_at().unwrap_or(now.mono);
        if self.has_work(now) {
            return ready_at;
        }
        let due_at = self.announcer.due_at();
        let next_at = self.passes.next_time();
        ready_at.max(next_at.map_or(due_at, |time| time.min(due_at)))
    }

    /// Returns the blocks on the link, most urgent first: their repair symbols will be needed.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.passes.lanes()
    }

    /// Returns a container that is known.
    pub(crate) fn sealed(&self, serial: Serial) -> Option<&Sealed> {
        self.passes.find(serial).map(|known| &known.sealed)
    }

    /// Returns all containers that are known.
    pub(crate) fn serials(&self) -> impl Iterator<Item = Serial> {
        self.passes.iter().map(|(serial, _)| serial)
    }

    /// What left so far.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Containers that wait for a pass, for each precedence.
    pub(crate) fn depths(&self) -> [usize; 4] {
        self.passes.depths()
    }

    /// Progress of the containers whose passes are on the link.
    pub(crate) fn on_link(&self) -> impl Iterator<Item = Progress> {
        let transmissions = self.passes.iter().map(|(_, known)| known);
        transmissions
            .filter(|known| matches!(known.phase, Phase::OnLink(_)))
            .map(Transmission::progress)
    }

    fn has_work(&self, now: Now) -> bool {
        self.cover == Cover::Constant
            || self.line.is_running_down()
            || self.passes.has_symbols()
            || self.announcer.is_due(now.mono, Patience::Last)
            || self.passes.next_time().is_some_and(|time| time <= now.mono)
    }

    fn push_run(&mut self, now: Now, class: Option<Precedence>, room: u32, batch: &mut Batch) {
        let announcer = &mut self.announcer;
        let run = class.and_then(|class| self.passes.next_run(now, class, room, announcer));
        if let Some(run) = run {
            batch.push(Slot::Symbols(run));
            self.totals.symbols += u64::from(run.count);
        }
    }

    fn push_cover(&mut self, count: u32, batch: &mut Batch) {
        batch.push(Slot::Cover(count));
        self.totals.cover += u64::from(count);
        self.announcer.handle_sent(count);
    }
}

#[cfg(test)]
mod tests;
