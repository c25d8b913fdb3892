//! The sans-IO whole of transmit: what leaves next, in which order, and when.
//!
//! Containers, gate's knowledge and time go in through `handle_*`; batches, progress and the next time to wake come out
//! through `poll_*` and [`Pipeline::next_wakeup`]. Nothing here reads a container: a batch says which symbols go where, and
//! `transmit` fills them in. The same calls give the same batches.

mod announcer;
mod batch;
mod line;
mod transmission;
mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use valise_common::config::Cover;
use valise_common::ids::Serial;
use valise_common::precedence::Precedence;
use valise_common::units::{Mono, Rate, UtcTime};
use valise_common::wire::{BeaconEntry, EntryState};

use crate::steps::interleave::{Interleaver, Lane, Run};
use crate::steps::pace::{self, Pace};
use crate::steps::queue::{Place, Queue};

use announcer::{Announcer, Patience, Settling};
pub use batch::{Batch, Slot};
use line::{Demand, Line, Next};
use transmission::{Phase, Transmission};
pub use values::{
    GivenUp, Now, Outlook, PassEnded, Progress, RefusedContainer, Sealed, Settings, SpoolBeacon,
    Totals, WarmUp,
};

/// The rate that interleaving assumes of an unlimited link: its bursts are counted in time, and time needs a rate.
const UNLIMITED_BITS: u64 = 1_000_000_000;

/// How soon a container that seems to have expired is looked at again.
const EXPIRY_LOOK_US: u64 = 1_000_000;

/// The transmit side as a pure machine.
#[derive(Debug)]
pub struct Pipeline {
    settings: Settings,
    transmissions: BTreeMap<Serial, Transmission>,
    queue: Queue,
    classes: [Class; 4],
    line: Line,
    pace: Pace,
    announcer: Announcer,
    moved: BTreeSet<Serial>,
    ended: VecDeque<PassEnded>,
    totals: Totals,
}

/// One precedence: the blocks in work, and the container whose next blocks join them.
#[derive(Debug)]
struct Class {
    interleaver: Interleaver,
    opening: Option<Serial>,
}

impl Pipeline {
    /// A silent link and no container.
    pub fn new(settings: Settings, now: Now) -> Self {
        let Settings {
            datagram,
            wire_bytes,
            batch_count_max,
            rate,
            ..
        } = settings;
        let bits = match rate {
            Rate::BitsPerSecond(bits) => bits,
            Rate::Unlimited => UNLIMITED_BITS,
        };
        let burst_count = pace::datagrams_in(bits, wire_bytes, settings.interleave.as_us());
        let pace = Pace::new(rate, wire_bytes, batch_count_max, now.mono);
        let lead_count = match settings.warm_up {
            WarmUp::Cover => pace.lead_count(),
            WarmUp::None => 0,
        };
        let class = || Class {
            interleaver: Interleaver::new(burst_count, datagram.symbol_bytes()),
            opening: None,
        };
        Self {
            settings,
            transmissions: BTreeMap::new(),
            queue: Queue::default(),
            classes: std::array::from_fn(|_| class()),
            line: Line::new(lead_count),
            announcer: Announcer::new(
                datagram.symbol_bytes(),
                |count| pace.time_us(count),
                now.mono,
            ),
            pace,
            moved: BTreeSet::new(),
            ended: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// Takes up the time in the beacons before the start: it must not fall.
    pub fn restore_beacon_time(&mut self, now: Now, time_us: u64) {
        self.announcer.restore_time(now.mono, time_us);
    }

    /// The time in the last beacon, µs since 1970; 0 before the first.
    pub fn beacon_time_us(&self) -> u64 {
        self.announcer.time_us()
    }

    /// Takes a container that gate has put into the outbox, or one whose wanted passes a resend has raised.
    ///
    /// # Errors
    /// [`RefusedContainer`] if this link cannot carry it.
    pub fn handle_container(
        &mut self,
        now: Now,
        sealed: Sealed,
        progress: Option<Progress>,
    ) -> Result<(), RefusedContainer> {
        let (symbol_bytes, link_symbol_bytes) = (
            sealed.geometry.symbol_bytes(),
            self.settings.datagram.symbol_bytes(),
        );
        let serial = sealed.serial;
        if symbol_bytes != link_symbol_bytes {
            return Err(RefusedContainer::SymbolBytes {
                serial,
                symbol_bytes,
                link_symbol_bytes,
            });
        }
        match self.transmissions.get_mut(&serial) {
            Some(known) if known.sealed.container == sealed.container => {
                known.sealed.passes = sealed.passes;
                if matches!(known.phase, Phase::Done) && known.passes_done() < sealed.passes {
                    known.phase = Phase::Waiting(now.mono);
                    self.enqueue(serial);
                }
            }
            _ => {
                self.handle_gone(serial);
                let repair = self.settings.repair;
                let transmission = Transmission::new(sealed, progress, repair, now.mono);
                self.transmissions.insert(serial, transmission);
                self.enqueue(serial);
            }
        }
        self.announce(serial);
        Ok(())
    }

    /// Takes a container that is still being compared with its hash: it is announced, and nothing of it leaves before
    /// [`Pipeline::handle_checked`].
    ///
    /// # Errors
    /// [`RefusedContainer`] if this link cannot carry it.
    pub fn handle_unchecked(
        &mut self,
        now: Now,
        sealed: Sealed,
        progress: Option<Progress>,
    ) -> Result<(), RefusedContainer> {
        self.handle_container(now, sealed, progress)?;
        if let Some(known) = self.transmissions.get_mut(&sealed.serial)
            && let Phase::Waiting(eligible_at) = known.phase
        {
            known.phase = Phase::Held;
            self.queue.remove(Place {
                precedence: sealed.precedence,
                eligible_at,
                serial: sealed.serial,
            });
        }
        Ok(())
    }

    /// Lets a container leave that is what gate sealed.
    pub fn handle_checked(&mut self, now: Now, serial: Serial) {
        if let Some(known) = self.transmissions.get_mut(&serial)
            && matches!(known.phase, Phase::Held)
        {
            known.phase = Phase::Waiting(now.mono);
            self.enqueue(serial);
        }
    }

    /// Forgets a container that gate has deleted, or that cannot be sent.
    pub fn handle_gone(&mut self, serial: Serial) {
        // A batch counts as sent when it is composed. A pass whose container could not be read was not sent.
        self.ended.retain(|ended| ended.progress.serial != serial);
        let Some(known) = self.transmissions.remove(&serial) else {
            return;
        };
        let precedence = known.sealed.precedence;
        if let Phase::Waiting(eligible_at) = known.phase {
            self.queue.remove(Place {
                precedence,
                eligible_at,
                serial,
            });
        }
        self.drop_lanes(precedence, serial);
        self.moved.remove(&serial);
        self.announcer.handle_gone(serial);
    }

    /// Takes what gate knows of serials. To be called before the containers that were found together with it.
    pub fn handle_spool(&mut self, spool: SpoolBeacon) {
        self.announcer.handle_spool(spool);
    }

    /// Begins again what a link that was down has swallowed: every pass on the link, and those of `ended` that are not yet
    /// known to have left.
    pub fn handle_link_lost(&mut self, now: Now, ended: impl IntoIterator<Item = PassEnded>) {
        let ended: Vec<PassEnded> = ended.into_iter().chain(self.ended.drain(..)).collect();
        let mut lost: BTreeMap<Serial, u8> = self
            .transmissions
            .iter()
            .filter(|(_, known)| matches!(known.phase, Phase::OnLink(_)))
            .map(|(serial, known)| (*serial, known.passes_done()))
            .collect();
        for ended in ended {
            let passes_done = ended.progress.passes_done.saturating_sub(1);
            let least = lost.entry(ended.progress.serial).or_insert(passes_done);
            *least = passes_done.min(*least);
        }
        for (serial, passes_done) in lost {
            let Some(known) = self.transmissions.get_mut(&serial) else {
                continue;
            };
            let precedence = known.sealed.precedence;
            if let Phase::Waiting(eligible_at) = known.phase {
                self.queue.remove(Place {
                    precedence,
                    eligible_at,
                    serial,
                });
            }
            known.repeat_pass(passes_done, now.mono);
            self.drop_lanes(precedence, serial);
            self.enqueue(serial);
            self.announce(serial);
            self.moved.insert(serial);
        }
        self.announcer.handle_link_lost();
        self.line.restart();
    }

    /// Composes the next batch, if one may leave now. What it names counts as sent.
    pub fn poll_batch(&mut self, now: Now, batch: &mut Batch) -> bool {
        batch.clear();
        if !self.has_work(now) {
            self.pace.rest();
            return false;
        }
        let allowed = self.pace.allowance(now.mono);
        while batch.count() < allowed {
            let room = allowed - batch.count();
            let class = self.ready_class(now);
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
                Next::Silence if self.settings.cover == Cover::Constant => {
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
    pub fn poll_ended(&mut self) -> Option<PassEnded> {
        self.ended.pop_front()
    }

    /// Takes the progress of the next container that moved since it was last asked for. Losing it costs a part of a pass.
    pub fn poll_progress(&mut self) -> Option<Progress> {
        let serial = self.moved.pop_first()?;
        self.transmissions.get(&serial).map(Transmission::progress)
    }

    /// When to call [`Pipeline::poll_batch`] again if nothing else happens; in the past if at once.
    pub fn next_wakeup(&self, now: Now) -> Mono {
        let ready_at = self.pace.ready_at().unwrap_or(now.mono);
        if self.has_work(now) {
            return ready_at;
        }
        let due_at = self.announcer.due_at();
        ready_at.max(
            self.queue
                .next_time()
                .map_or(due_at, |time| time.min(due_at)),
        )
    }

    /// The blocks on the link, most urgent first: their repair symbols will be needed.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.classes
            .iter()
            .flat_map(|class| class.interleaver.lanes())
    }

    /// A container that is known.
    pub fn sealed(&self, serial: Serial) -> Option<&Sealed> {
        self.transmissions.get(&serial).map(|known| &known.sealed)
    }

    /// All containers that are known.
    pub fn serials(&self) -> impl Iterator<Item = Serial> {
        self.transmissions.keys().copied()
    }

    /// What left so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Containers that wait for a pass, for each precedence.
    pub fn depths(&self) -> [usize; 4] {
        self.queue.depths()
    }

    /// Progress of the containers whose passes are on the link.
    pub fn on_link(&self) -> impl Iterator<Item = Progress> {
        let on_link = |known: &&Transmission| matches!(known.phase, Phase::OnLink(_));
        self.transmissions
            .values()
            .filter(on_link)
            .map(Transmission::progress)
    }

    fn has_work(&self, now: Now) -> bool {
        self.settings.cover == Cover::Constant
            || self.line.is_running_down()
            || self.classes.iter().any(|class| class.has_symbols())
            || self.announcer.is_due(now.mono, Patience::Last)
            || self.queue.next_time().is_some_and(|time| time <= now.mono)
    }

    /// The most urgent class that has something to send, its lanes filled up.
    fn ready_class(&mut self, now: Now) -> Option<Precedence> {
        Precedence::ALL.into_iter().find(|precedence| {
            self.fill_lanes(*precedence, now);
            !self.class(*precedence).interleaver.is_empty()
        })
    }

    fn fill_lanes(&mut self, precedence: Precedence, now: Now) {
        while self.class(precedence).interleaver.wants_lane() {
            let opening = self.class(precedence).opening;
            let next = opening.or_else(|| self.queue.pop_ready(precedence, now.mono));
            let Some(serial) = next else { return };
            self.class_mut(precedence).opening = Some(serial);
            self.open_lane(precedence, serial, now);
        }
    }

    /// Opens the next block of a container, beginning its pass if need be.
    fn open_lane(&mut self, precedence: Precedence, serial: Serial, now: Now) {
        let Some(known) = self.transmissions.get_mut(&serial) else {
            self.class_mut(precedence).opening = None;
            return;
        };
        if UtcTime::from_s(now.utc_us / 1_000_000) > known.sealed.not_after {
            // Gate gives it up, not transmit: until then it may be the clock that is wrong.
            known.suspend(now.mono.plus_us(EXPIRY_LOOK_US));
            self.drop_lanes(precedence, serial);
            self.enqueue(serial);
            self.announce(serial);
            return;
        }
        if let Phase::Waiting(_) = known.phase {
            known.begin_pass();
            self.announcer.handle_pass();
            self.announce(serial);
        }
        let Some(known) = self.transmissions.get_mut(&serial) else {
            return;
        };
        match known.open_block() {
            Some(lane) => self.class_mut(precedence).interleaver.open(lane),
            None => {
                self.class_mut(precedence).opening = None;
                self.end_pass_if_over(serial, now);
            }
        }
    }

    fn push_run(&mut self, now: Now, class: Option<Precedence>, room: u32, batch: &mut Batch) {
        let run = class.and_then(|class| self.class_mut(class).interleaver.next_run(room));
        let Some(run) = run else { return };
        batch.push(Slot::Symbols(run));
        self.totals.symbols += u64::from(run.count);
        self.announcer.handle_sent(run.count);
        self.note_sent(now, &run);
    }

    fn note_sent(&mut self, now: Now, run: &Run) {
        let serial = run.lane.serial;
        let Some(known) = self.transmissions.get_mut(&serial) else {
            return;
        };
        known.handle_sent(run);
        self.moved.insert(serial);
        if run.ends_lane() {
            self.end_pass_if_over(serial, now);
        }
    }

    fn end_pass_if_over(&mut self, serial: Serial, now: Now) {
        let Some(known) = self.transmissions.get_mut(&serial) else {
            return;
        };
        if !known.is_pass_over() {
            return;
        }
        known.end_pass(now.mono + self.settings.interleave.0);
        let precedence = known.sealed.precedence;
        let outlook = match known.phase {
            Phase::Done => Outlook::Transmitted,
            _ => Outlook::MorePasses,
        };
        self.moved.remove(&serial);
        self.ended.push_back(PassEnded {
            progress: known.progress(),
            outlook,
        });
        let class = self.class_mut(precedence);
        if class.opening == Some(serial) {
            // Its next pass waits for its turn in the queue.
            class.opening = None;
        }
        self.enqueue(serial);
        self.announce(serial);
        self.announcer.handle_pass();
    }

    fn push_cover(&mut self, count: u32, batch: &mut Batch) {
        batch.push(Slot::Cover(count));
        self.totals.cover += u64::from(count);
        self.announcer.handle_sent(count);
    }

    fn enqueue(&mut self, serial: Serial) {
        let Some(known) = self.transmissions.get(&serial) else {
            return;
        };
        if let Phase::Waiting(eligible_at) = known.phase {
            self.queue.push(Place {
                precedence: known.sealed.precedence,
                eligible_at,
                serial,
            });
        }
    }

    fn announce(&mut self, serial: Serial) {
        let Some(known) = self.transmissions.get(&serial) else {
            return;
        };
        let Sealed {
            container,
            geometry,
            ..
        } = known.sealed;
        let state = match known.phase {
            Phase::OnLink(_) => EntryState::OnLink,
            Phase::Done => EntryState::PassesDone,
            Phase::Waiting(_) | Phase::Held if known.passes_done() > 0 => EntryState::OnLink,
            Phase::Waiting(_) | Phase::Held => EntryState::Queued,
        };
        let settling = if known.is_settled() {
            Settling::Settled
        } else {
            Settling::Open
        };
        let container_bytes = geometry.container_bytes();
        let entry = BeaconEntry {
            serial,
            container,
            container_bytes,
            state,
        };
        self.announcer.handle_entry(entry, settling);
    }

    fn drop_lanes(&mut self, precedence: Precedence, serial: Serial) {
        let class = self.class_mut(precedence);
        class.interleaver.drop_container(serial);
        if class.opening == Some(serial) {
            class.opening = None;
        }
    }

    fn class(&self, precedence: Precedence) -> &Class {
        &self.classes[usize::from(precedence.index())]
    }

    fn class_mut(&mut self, precedence: Precedence) -> &mut Class {
        &mut self.classes[usize::from(precedence.index())]
    }
}

impl Class {
    fn has_symbols(&self) -> bool {
        !self.interleaver.is_empty() || self.opening.is_some()
    }
}

#[cfg(test)]
mod tests;
