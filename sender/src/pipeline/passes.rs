//! Passes: the containers on their way, the order of their passes, and the blocks on the link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use valise_common::ids::Serial;
use valise_common::precedence::Precedence;
use valise_common::units::{Mono, Percent, Span, UtcTime};

use super::announcer::Announcer;
use super::transmission::{Phase, Transmission};
use super::{Now, Outlook, PassEnded, Progress, Sealed};
use crate::steps::interleave::{Interleaver, Lane, Run};
use crate::steps::queue::Queue;

/// How soon a container that seems to have expired is looked at again.
const EXPIRY_LOOK_US: u64 = 1_000_000;

/// Every container of the outbox, and what of it leaves next.
///
/// Each change of a container goes to the announcer, for the next beacon.
#[derive(Debug)]
pub(super) struct Passes {
    repair: Percent,
    /// Time from the end of a pass to the beginning of the next.
    interleave: Span,
    transmissions: BTreeMap<Serial, Transmission>,
    queue: Queue,
    classes: [Class; 4],
    /// Containers whose progress has changed since it was last asked for.
    moved: BTreeSet<Serial>,
    ended: VecDeque<PassEnded>,
}

/// One precedence: the blocks on the link, and the container whose next blocks join them.
#[derive(Debug)]
struct Class {
    interleaver: Interleaver,
    opening: Option<Serial>,
}

impl Passes {
    /// No container. Bursts of the link are `burst_count` datagrams long, of symbols of this size.
    pub(super) fn new(
        burst_count: u64,
        symbol_bytes: u16,
        repair: Percent,
        interleave: Span,
    ) -> Self {
        let class = || Class {
            interleaver: Interleaver::new(burst_count, symbol_bytes),
            opening: None,
        };
        Self {
            repair,
            interleave,
            transmissions: BTreeMap::new(),
            queue: Queue::default(),
            classes: std::array::from_fn(|_| class()),
            moved: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    /// Takes a container that is new, or whose wanted passes a resend has raised.
    pub(super) fn handle_container(
        &mut self,
        now: Now,
        sealed: Sealed,
        progress: Option<Progress>,
        announcer: &mut Announcer,
    ) {
        let serial = sealed.serial;
        match self.transmissions.get_mut(&serial) {
            Some(known) if known.sealed.container == sealed.container => {
                known.sealed.passes = sealed.passes;
                if matches!(known.phase, Phase::Done) && known.passes_done() < sealed.passes {
                    known.phase = Phase::Waiting(now.mono);
                    self.enqueue(serial);
                }
            }
            _ => {
                self.handle_gone(serial, announcer);
                let transmission = Transmission::new(sealed, progress, self.repair, now.mono);
                self.transmissions.insert(serial, transmission);
                self.enqueue(serial);
            }
        }
        self.announce(serial, announcer);
    }

    /// Keeps a container from leaving before [`Passes::release`].
    pub(super) fn hold(&mut self, serial: Serial) {
        if let Some(known) = self.transmissions.get_mut(&serial)
            && let Some(place) = known.place()
        {
            self.queue.remove(place);
            known.phase = Phase::Held;
        }
    }

    /// Lets a container leave that was held.
    pub(super) fn release(&mut self, now: Now, serial: Serial) {
        if let Some(known) = self.transmissions.get_mut(&serial)
            && matches!(known.phase, Phase::Held)
        {
            known.phase = Phase::Waiting(now.mono);
            self.enqueue(serial);
        }
    }

    /// Forgets a container that gate has deleted, or that cannot be sent.
    pub(super) fn handle_gone(&mut self, serial: Serial, announcer: &mut Announcer) {
        // A batch counts as sent when it is composed. A pass whose container could not be read was not sent.
        self.ended.retain(|ended| ended.progress.serial != serial);
        let Some(known) = self.transmissions.remove(&serial) else {
            return;
        };
        if let Some(place) = known.place() {
            self.queue.remove(place);
        }
        self.drop_lanes(known.sealed.precedence, serial);
        self.moved.remove(&serial);
        announcer.handle_gone(serial);
    }

    /// Begins the passes again that a lost link has swallowed: every pass on the link, and those of `ended`.
    pub(super) fn handle_link_lost(
        &mut self,
        now: Now,
        ended: impl IntoIterator<Item = PassEnded>,
        announcer: &mut Announcer,
    ) {
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
            if let Some(place) = known.place() {
                self.queue.remove(place);
            }
            known.repeat_pass(passes_done, now.mono);
            let precedence = known.sealed.precedence;
            self.drop_lanes(precedence, serial);
            self.enqueue(serial);
            self.announce(serial, announcer);
            self.moved.insert(serial);
        }
    }

    /// Returns the most urgent class that has something to send, its lanes filled up.
    pub(super) fn ready_class(
        &mut self,
        now: Now,
        announcer: &mut Announcer,
    ) -> Option<Precedence> {
        Precedence::ALL.into_iter().find(|precedence| {
            self.fill_lanes(*precedence, now, announcer);
            !self.class(*precedence).interleaver.is_empty()
        })
    }

    /// Returns the next symbols of a class, at most `room`. They count as sent.
    pub(super) fn next_run(
        &mut self,
        now: Now,
        class: Precedence,
        room: u32,
        announcer: &mut Announcer,
    ) -> Option<Run> {
        let run = self.class_mut(class).interleaver.next_run(room)?;
        announcer.handle_sent(run.count);
        let serial = run.lane.serial;
        if let Some(known) = self.transmissions.get_mut(&serial) {
            known.handle_sent(&run);
            self.moved.insert(serial);
            if run.ends_lane() {
                self.end_pass_if_over(serial, now, announcer);
            }
        }
        Some(run)
    }

    /// Returns the next pass that has been sent to its end.
    pub(super) fn poll_ended(&mut self) -> Option<PassEnded> {
        self.ended.pop_front()
    }

    /// Returns the progress of the next container that has moved since the last call.
    pub(super) fn poll_progress(&mut self) -> Option<Progress> {
        let serial = self.moved.pop_first()?;
        self.find(serial).map(Transmission::progress)
    }

    /// Returns whether a block is on the link, or a pass on it has more blocks.
    pub(super) fn has_symbols(&self) -> bool {
        let has_symbols = |class: &Class| !class.interleaver.is_empty() || class.opening.is_some();
        self.classes.iter().any(has_symbols)
    }

    /// Returns when the next pass may begin.
    pub(super) fn next_time(&self) -> Option<Mono> {
        self.queue.next_time()
    }

    /// Returns the number of containers that wait for a pass, for each precedence.
    pub(super) fn depths(&self) -> [usize; 4] {
        self.queue.depths()
    }

    /// Returns the blocks on the link, most urgent first.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let classes = self.classes.iter();
        classes.flat_map(|class| class.interleaver.lanes())
    }

    /// Returns a container that is known.
    pub(super) fn find(&self, serial: Serial) -> Option<&Transmission> {
        self.transmissions.get(&serial)
    }

    /// Returns every container, by serial.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Serial, &Transmission)> {
        let transmissions = self.transmissions.iter();
        transmissions.map(|(serial, known)| (*serial, known))
    }

    fn fill_lanes(&mut self, precedence: Precedence, now: Now, announcer: &mut Announcer) {
        while self.class(precedence).interleaver.wants_lane() {
            let opening = self.class(precedence).opening;
            let next = opening.or_else(|| self.queue.pop_ready(precedence, now.mono));
            let Some(serial) = next else { return };
            self.class_mut(precedence).opening = Some(serial);
            self.open_lane(precedence, serial, now, announcer);
        }
    }

    /// Opens the next block of a container, beginning its pass if need be.
    fn open_lane(
        &mut self,
        precedence: Precedence,
        serial: Serial,
        now: Now,
        announcer: &mut Announcer,
    ) {
        let Some(known) = self.transmissions.get_mut(&serial) else {
            self.class_mut(precedence).opening = None;
            return;
        };
        if UtcTime::from_s(now.utc_us / 1_000_000) > known.sealed.not_after {
            // Gate gives the container up, not transmit: until then it may be the clock that is wrong.
            known.suspend(now.mono.plus_us(EXPIRY_LOOK_US));
            self.drop_lanes(precedence, serial);
            self.enqueue(serial);
            self.announce(serial, announcer);
            return;
        }
        if let Phase::Waiting(_) = known.phase {
            known.begin_pass();
            announcer.handle_pass();
            announcer.handle_entry(known.entry(), known.settling());
        }
        match known.open_block() {
            Some(lane) => self.class_mut(precedence).interleaver.open(lane),
            None => {
                self.class_mut(precedence).opening = None;
                self.end_pass_if_over(serial, now, announcer);
            }
        }
    }

    fn end_pass_if_over(&mut self, serial: Serial, now: Now, announcer: &mut Announcer) {
        let Some(known) = self.transmissions.get_mut(&serial) else {
            return;
        };
        if !known.is_pass_over() {
            return;
        }
        known.end_pass(now.mono + self.interleave.0);
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
        self.announce(serial, announcer);
        announcer.handle_pass();
    }

    fn enqueue(&mut self, serial: Serial) {
        if let Some(place) = self.find(serial).and_then(Transmission::place) {
            self.queue.push(place);
        }
    }

    fn announce(&self, serial: Serial, announcer: &mut Announcer) {
        if let Some(known) = self.find(serial) {
            announcer.handle_entry(known.entry(), known.settling());
        }
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
