//! The sender: gate takes approvals and a withdrawal, seals in its six steps, is killed, loses power, starts again;
//! transmit sends the containers in the outbox.

use std::collections::BTreeSet;
use std::rc::Rc;

use valise_sender::model::ledger::{Ledger, Phase};

use crate::disk::Disk;
use crate::explore::Model;
use crate::real::{BOTH, Clock, Container, Memo, Real, person};
use files::{Change, Line, PASSES, Place, REQUESTS, Request, Sent, WITHDRAWAL};
use plans::{cable, resend, slot_of};

mod files;
mod plans;

/// A way to go about it. All but the first are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// As docs/spool-states.md says.
    Documented,
    /// A slot is erased as soon as its container is below `tmp/`.
    ErasesBeforeTheLine,
    /// The plaintext is erased as soon as the container is below `tmp/`.
    ErasesPlaintextBeforeTheLine,
    /// A request is answered before its line is committed.
    AnswersBeforeTheCommit,
    /// The container is in the outbox before the line with its hash.
    RenamesBeforeTheLine,
    /// Start-up gives a cable that was being sealed another serial.
    SealsUnderANewSerial,
    /// A cable is withdrawn although it has a serial.
    WithdrawsWhatIsSealed,
    /// The bytes of a container below `tmp/` are synced, its name is not.
    LeavesTheNameUnsynced,
    /// Start-up erases slot and plaintext of a container whose rename may not be durable.
    TrustsARenameThatIsNotSynced,
    /// A cable that expires while it waits to be sealed again keeps slot and plaintext.
    KeepsWhatExpiresWhileItWaits,
    /// What waited for room is not tried again.
    NeverTriesAgain,
}

/// A step of gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Do(Change),
    Sync(Place),
    /// Steps ② to ⑤ for the serial of a slot, if there is room for a container.
    Seal(u8),
    /// Answers that a request is accepted.
    Accept(Request),
}

/// What gate remembers: the steps before it, and whether a cable with a serial waits to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Gate {
    Down,
    Up { ops: Vec<Op>, waits: bool },
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    disk: Disk<Sent>,
    gate: Gate,
    clock: Clock,
    /// Every container that ever was on the link.
    pub left: BTreeSet<Container>,
    resends: u8,
    /// The disk lost a container that had not been sent.
    has_lost: bool,
    /// A request was accepted whose line a power cut could have taken.
    is_answered_early: bool,
}

/// What happens next. What is in it is read in a counterexample alone.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code)]
pub enum Action {
    GateStarts,
    GateTakes(Request, Option<Request>),
    GateSteps(Op),
    GateFindsNoRoom,
    GateTriesAgain,
    GateEndsWhatIsLate,
    GateNotesThePass,
    TransmitSends,
    OperatorResends,
    TimeRunsOut,
    DiskLosesTheContainer,
    GateIsKilled,
    PowerIsCut,
}

/// The sender of a protocol.
pub struct Sender<'r> {
    real: &'r Real,
    protocol: Protocol,
    ledgers: Memo<Vec<Line>, Rc<Ledger>>,
}

impl<'r> Sender<'r> {
    pub fn new(real: &'r Real, protocol: Protocol) -> Self {
        Self {
            real,
            protocol,
            ledgers: Memo::new(),
        }
    }
}

impl Sender<'_> {
    /// Returns whether what a request asked for is in the log, whatever happens.
    fn is_durable(&self, state: &State, request: Request) -> bool {
        let ledger = self.ledger(&state.disk.durable().log);
        let cable = cable(&ledger);
        match request {
            WITHDRAWAL => cable.phase == Phase::Withdrawn,
            _ => cable.approvals.contains(&person(u8::from(request == 2))),
        }
    }

    fn step(&self, state: &State) -> State {
        let mut state = state.clone();
        let Gate::Up { ops, .. } = &mut state.gate else {
            return state;
        };
        match ops.remove(0) {
            Op::Do(change) => state.disk.write(change),
            Op::Sync(place) => state.disk.sync(place),
            Op::Accept(request) => state.is_answered_early |= !self.is_durable(&state, request),
            Op::Seal(slot) => {
                let mut before = self.seal(&state, slot);
                if let Gate::Up { ops, waits } = &mut state.gate {
                    before.append(ops);
                    (*ops, *waits) = (before, false);
                }
            }
        }
        let gate = state.gate.clone();
        with(&state, gate)
    }

    fn next_of_gate(&self, state: &State, next: &mut Vec<(Action, State)>) {
        let Gate::Up { ops, waits } = &state.gate else {
            let ops = self.start(state);
            let gate = Gate::Up { ops, waits: false };
            return next.push((Action::GateStarts, with(state, gate)));
        };
        next.push((Action::GateIsKilled, with(state, Gate::Down)));
        if let Some(op) = ops.first() {
            if let Op::Seal(_) = op {
                let (ops, waits) = (ops[1..].to_vec(), true);
                let gate = Gate::Up { ops, waits };
                next.push((Action::GateFindsNoRoom, with(state, gate)));
            }
            return next.push((Action::GateSteps(*op), self.step(state)));
        }
        let mut plan = |action, ops: Vec<Op>, waits| {
            // A repeated request is answered again.
            if ops
                .iter()
                .any(|op| matches!(op, Op::Do(Change::Append(_)) | Op::Seal(_)))
            {
                next.push((action, with(state, Gate::Up { ops, waits })));
            }
        };
        let files = &state.disk.seen;
        for first in 0..REQUESTS {
            let ops = self.take(state, &[first]);
            plan(Action::GateTakes(first, None), ops, *waits);
            for second in (0..REQUESTS).filter(|second| *second != first) {
                let ops = self.take(state, &[first, second]);
                plan(Action::GateTakes(first, Some(second)), ops, *waits);
            }
        }
        let ledger = self.ledger(&files.log);
        let cable = cable(&ledger);
        if let Some(issued) = &cable.issued {
            let slot = slot_of(issued.serial);
            let tries_again = self.protocol != Protocol::NeverTriesAgain;
            if *waits && cable.phase.is_sealed() && tries_again {
                let ops = self.seal_again(state, slot);
                plan(Action::GateTriesAgain, ops, false);
            }
            if cable.phase == Phase::Sealed && files.passes_done() >= issued.passes {
                let line = Op::Do(Change::Append(Line::Transmitted(slot)));
                let ops = vec![line, Op::Sync(Place::Log)];
                plan(Action::GateNotesThePass, ops, *waits);
            }
        }
        if state.clock == Clock::Late {
            plan(Action::GateEndsWhatIsLate, self.upkeep(state), *waits);
        }
        if state.resends == 0
            && !state.left.is_empty()
            && let Some(ops) = resend(cable, files.passes_done())
        {
            plan(Action::OperatorResends, ops, *waits);
            if let Some((Action::OperatorResends, state)) = next.last_mut() {
                state.resends += 1;
            }
        }
    }

    fn next_of_others(&self, state: &State, next: &mut Vec<(Action, State)>) {
        let files = &state.disk.seen;
        let ledger = self.ledger(&files.log);
        let wanted = cable(&ledger).issued.as_ref();
        let wanted = wanted.map_or(PASSES, |issued| issued.passes.max(PASSES));
        // Progress of another container is ignored.
        let progress = files.progress.filter(|(of, _)| Some(*of) == files.outbox);
        let passes = progress.map_or(0, |(_, passes)| passes);
        if let Some(container) = files.outbox
            && passes < wanted
        {
            let mut state = state.clone();
            state.left.insert(container);
            // One that a power cut took would only be made again.
            state.disk.write(Change::Passed(container, passes + 1));
            state.disk.sync(Place::Progress);
            next.push((Action::TransmitSends, state));
        }
        if state.clock == Clock::InTime {
            let mut state = state.clone();
            state.clock = Clock::Late;
            next.push((Action::TimeRunsOut, state));
        }
        for disk in state.disk.cuts() {
            let (mut state, gate) = (state.clone(), Gate::Down);
            (state.disk, state.gate) = (disk, gate);
            next.push((Action::PowerIsCut, state));
        }
        // With a container that was sent, a second one under its serial would be right.
        let has_container = files.tmp.is_some() || files.outbox.is_some();
        if has_container && state.left.is_empty() && !state.has_lost && state.gate == Gate::Down {
            let mut state = state.clone();
            state.has_lost = true;
            state.disk.write(Change::RemoveTmp);
            state.disk.write(Change::RemoveOutbox);
            state.disk.sync(Place::Tmp);
            state.disk.sync(Place::Outbox);
            next.push((Action::DiskLosesTheContainer, state));
        }
    }
}

impl Model for Sender<'_> {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            disk: Disk::new(Sent {
                log: Vec::new(),
                staged: 0,
                has_pending: true,
                shown: 0,
                tmp: None,
                outbox: None,
                erased: 0,
                progress: None,
            }),
            gate: Gate::Down,
            clock: Clock::InTime,
            left: BTreeSet::new(),
            resends: 0,
            has_lost: false,
            is_answered_early: false,
        }
    }

    fn next(&self, state: &State, next: &mut Vec<(Action, State)>) {
        self.next_of_gate(state, next);
        self.next_of_others(state, next);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let files = &state.disk.seen;
        let ledger = self.ledger(&files.log);
        let cable = cable(&ledger);
        let lines = |kind: fn(&Line) -> bool| files.log.iter().filter(|line| kind(line)).count();
        let was_ended = lines(|line| matches!(line, Line::Withdrawn | Line::Expired)) > 0;
        let serials = lines(|line| matches!(line, Line::Sealing(_)));
        let is_issued = serials > 0;
        let slot = cable.serial().map(slot_of);
        let is_erased = slot.is_some_and(|slot| files.erased & 1 << slot != 0);
        let hash = cable.issued.as_ref().and_then(|issued| issued.container);
        let mut whole = files.outbox.iter().chain(&files.tmp);
        let is_kept = whole.any(|it| hash.is_some_and(|(hash, _)| hash == self.real.hash(*it)));
        let is_idle = matches!(&state.gate, Gate::Up { ops, waits: false } if ops.is_empty());
        let is_resting = matches!(&state.gate, Gate::Up { ops, .. } if ops.is_empty());
        let promises = [
            (state.is_answered_early, "what is accepted is durable"),
            (
                was_ended && (is_issued || !state.left.is_empty()),
                "nothing is sealed or sent after withdrawal or expiry",
            ),
            (
                state.left.len() > 1 || serials > 1,
                "a serial is sealed to one container, a cable under one serial",
            ),
            (
                state
                    .left
                    .iter()
                    .any(|container| container.approvals != BOTH)
                    || is_issued && cable.approvals.len() < 2,
                "two distinct officers approve what is sealed",
            ),
            (
                cable.phase.is_sealed() && is_erased && !is_kept && !state.has_lost,
                "a slot lasts until its container is kept",
            ),
            (
                matches!(cable.phase, Phase::Open | Phase::Sealing) && !files.has_pending,
                "the plaintext lasts until it is sealed",
            ),
            (
                cable.phase == Phase::Expired
                    && is_issued
                    && state.clock == Clock::InTime
                    && !state.has_lost,
                "an accepted cable is not given up in time",
            ),
            (
                is_idle && slot.is_some() && (!is_erased || files.has_pending),
                "after sealing, slot and plaintext are gone",
            ),
            (
                is_resting
                    && cable.phase.is_final()
                    && (files.has_pending || slot.is_some() && !is_erased),
                "after its end, slot and plaintext are gone",
            ),
        ];
        promises
            .iter()
            .find(|(is_broken, _)| *is_broken)
            .map(|(_, promise)| *promise)
    }

    /// Sent as often as wanted, or ended: both are in the beacon.
    fn is_end(&self, state: &State) -> bool {
        let ledger = self.ledger(&state.disk.seen.log);
        let phase = cable(&ledger).phase;
        let is_idle = matches!(&state.gate, Gate::Up { ops, .. } if ops.is_empty());
        is_idle && (phase == Phase::Transmitted || phase.is_final())
    }

    fn is_by_itself(&self, action: Action) -> bool {
        matches!(
            action,
            Action::GateStarts
                | Action::GateSteps(_)
                | Action::GateTriesAgain
                | Action::GateEndsWhatIsLate
                | Action::GateNotesThePass
                | Action::TransmitSends
                | Action::TimeRunsOut
        )
    }
}

/// The state with gate at the next step that changes something.
fn with(state: &State, mut gate: Gate) -> State {
    if let Gate::Up { ops, .. } = &mut gate {
        let is_idle = |op: &Op| match op {
            Op::Do(change) => state.disk.has(*change),
            Op::Sync(place) => state.disk.is_synced(*place),
            Op::Seal(_) | Op::Accept(_) => false,
        };
        let idle = ops.iter().take_while(|op| is_idle(op)).count();
        ops.drain(..idle);
    }
    State {
        gate,
        ..state.clone()
    }
}
