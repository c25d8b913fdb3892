//! The receiver: receive hands over whatever the link brings, release publishes it in five steps; both are killed, lose power,
//! start again. Readers take folders, an operator discards what is held.

use std::collections::BTreeSet;
use std::rc::Rc;

use valise_common::ids::Serial;
use valise_common::serial_set::SerialSet;
use valise_receiver::model::rows::Claim;
use valise_receiver::model::states::{Announced, ChannelState, State as SerialState};

use crate::disk::Disk;
use crate::explore::Model;
use crate::real::{BOTH, Claims, Clock, Container, MAILBOXES, Memo, Real, SLOTS, serial};
use files::{Change, Line, Place, Received};
use plans::mailboxes;

mod files;
mod plans;

/// A way to go about it. All but the first are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// As docs/spool-states.md says.
    Documented,
    /// A slot is erased before the line `released`.
    ErasesBeforeTheLine,
    /// Folders are renamed before the line `publishing`.
    RenamesBeforeTheLine,
    /// The container is deleted before the line `publishing`.
    DeletesBeforeTheLine,
    /// Start-up publishes again where no folder is in the stage.
    PublishesAgain,
    /// Start-up clears the stage before it publishes.
    ClearsTheStageFirst,
    /// What was staged is published as it was judged then.
    JudgesOnce,
    /// Start-up logs `released` for folders whose renames may not be durable.
    TrustsARenameThatIsNotSynced,
    /// A message-id is not looked up.
    ForgetsMessageIds,
    /// The list says that a container has arrived before its file is durable.
    ListsBeforeTheFile,
    /// Start-up leaves a cable whose publishing is committed.
    LeavesAnUnfinishedPublishing,
}

/// A step of receive or of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Do(Change),
    Sync(Place),
    /// What ② decides: a staged cable is judged again.
    Decide(Container),
    /// The rest of start-up, by what the log says after the publishing.
    Settle,
}

/// A process: what it is about to do, if it runs.
type Process = Option<Vec<Op>>;

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    disk: Disk<Received>,
    receive: Process,
    release: Process,
    clock: Clock,
    /// It was decided after `not-after` that a cable is published.
    is_decided_late: bool,
}

impl State {
    /// Returns whether every mailbox has had the cable.
    pub fn is_everywhere(&self) -> bool {
        self.disk.seen.appeared == [1; MAILBOXES.len()]
    }
}

/// What happens next. What is in it is read in a counterexample alone.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code)]
pub enum Action {
    ReceiveStarts,
    LinkBrings(Container),
    ReceiveSteps(Op),
    ReceiveIsKilled,
    ReleaseStarts,
    ReleaseOpens(Container),
    ReleaseSteps(Op),
    ReleaseIsKilled,
    ReaderTakes(usize),
    OperatorDiscards(u8),
    TimeRunsOut,
    PowerIsCut,
}

/// The power of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    MayFail,
    Steady,
}

/// The receiver of a protocol, and every container that is ever on its link.
pub struct Receiver<'r> {
    real: &'r Real,
    protocol: Protocol,
    link: Vec<Container>,
    /// Whether the host may lose its power.
    power: Power,
    ledgers: Memo<Vec<Line>, Rc<Claims>>,
}

impl<'r> Receiver<'r> {
    pub fn new(real: &'r Real, protocol: Protocol, link: Vec<Container>) -> Self {
        Self {
            real,
            protocol,
            link,
            power: Power::MayFail,
            ledgers: Memo::new(),
        }
    }

    /// The same receiver on a host whose power never fails.
    pub fn with_steady_power(mut self) -> Self {
        self.power = Power::Steady;
        self
    }
}

impl Receiver<'_> {
    fn next_of_receive(&self, state: &State, next: &mut Vec<(Action, State)>) {
        let with = |mut receive| {
            skip(&state.disk, &mut receive);
            State {
                receive,
                ..state.clone()
            }
        };
        let Some(ops) = &state.receive else {
            let ops = self.start_receive(state);
            return next.push((Action::ReceiveStarts, with(Some(ops))));
        };
        next.push((Action::ReceiveIsKilled, with(None)));
        if let Some(op) = ops.first() {
            let mut after = state.clone();
            perform(&mut after.disk, *op);
            after.receive = Some(ops[1..].to_vec());
            skip(&after.disk, &mut after.receive);
            return next.push((Action::ReceiveSteps(*op), after));
        }
        for container in &self.link {
            if !state.disk.seen.list.contains(container) {
                let ops = self.hand_over(*container);
                next.push((Action::LinkBrings(*container), with(Some(ops))));
            }
        }
    }

    fn next_of_release(&self, state: &State, next: &mut Vec<(Action, State)>) {
        let with = |mut release| {
            skip(&state.disk, &mut release);
            State {
                release,
                ..state.clone()
            }
        };
        let Some(ops) = &state.release else {
            let ops = self.start_release(state);
            return next.push((Action::ReleaseStarts, with(Some(ops))));
        };
        next.push((Action::ReleaseIsKilled, with(None)));
        if let Some(op) = ops.first() {
            let after = self.step_release(state, *op, &ops[1..]);
            return next.push((Action::ReleaseSteps(*op), after));
        }
        for container in &state.disk.seen.inbox {
            let ops = self.open(state, *container);
            next.push((Action::ReleaseOpens(*container), with(Some(ops))));
        }
        for row in &self.claims(&state.disk.seen.log).rows {
            if row.claim == Claim::Quarantined {
                let container = self.container_of(row);
                let slot = container.slot;
                let ops = vec![
                    Op::Do(Change::Append(Line::Discarded(slot))),
                    Op::Sync(Place::Log),
                    Op::Do(Change::Erase(slot)),
                    Op::Sync(Place::Slots),
                    Op::Do(Change::RemoveHeld(container)),
                ];
                next.push((Action::OperatorDiscards(slot), with(Some(ops))));
            }
        }
    }

    fn step_release(&self, state: &State, op: Op, rest: &[Op]) -> State {
        let mut after = state.clone();
        let mut ops = match op {
            Op::Decide(container) => self.publish(state, container),
            Op::Settle => self.settle(state),
            Op::Do(_) | Op::Sync(_) => Vec::new(),
        };
        let is_line = |op: &Op| matches!(op, Op::Do(Change::Append(Line::Publishing(_))));
        after.is_decided_late |= ops.iter().any(is_line) && state.clock == Clock::Late;
        perform(&mut after.disk, op);
        ops.extend(rest);
        after.release = Some(ops);
        skip(&after.disk, &mut after.release);
        after
    }

    /// The state of each serial once the sender's last beacon has come.
    fn states(&self, state: &State) -> Vec<SerialState> {
        let files = &state.disk.seen;
        let claims = self.claims(&files.log);
        let mut sent = SerialSet::new();
        let mut complete = SerialSet::new();
        let slots = self.link.iter().map(|container| serial(container.slot));
        slots.for_each(|serial| sent.insert(serial));
        let arrived = files.inbox.iter().map(|container| serial(container.slot));
        arrived.for_each(|serial| complete.insert(serial));
        let mut claimed = SerialSet::new();
        claims
            .rows
            .iter()
            .for_each(|row| claimed.insert(row.serial));
        let channel = ChannelState {
            first: Some(Serial::FIRST),
            claimed,
            complete,
            announced: Announced {
                highest: sent.last().map_or(0, Serial::get),
                passes_done: sent,
                ..Announced::default()
            },
            ..ChannelState::default()
        };
        channel.rows(&claims.rows).map(|row| row.state).collect()
    }
}

impl Model for Receiver<'_> {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            disk: Disk::new(Received {
                log: Vec::new(),
                tmp: BTreeSet::new(),
                list: BTreeSet::new(),
                inbox: BTreeSet::new(),
                stage: [None; MAILBOXES.len()],
                visible: [None; MAILBOXES.len()],
                appeared: [0; MAILBOXES.len()],
                quarantine: BTreeSet::new(),
                erased: 0,
            }),
            receive: None,
            release: None,
            clock: Clock::InTime,
            is_decided_late: false,
        }
    }

    fn next(&self, state: &State, next: &mut Vec<(Action, State)>) {
        self.next_of_receive(state, next);
        self.next_of_release(state, next);
        for mailbox in mailboxes() {
            if state.disk.seen.visible[mailbox].is_some() {
                let mut after = state.clone();
                after.disk.write(Change::Take(mailbox));
                // What moves on is durable under its new name: so is the name that it had before.
                after.disk.sync(Place::Mailbox(mailbox));
                next.push((Action::ReaderTakes(mailbox), after));
            }
        }
        if state.clock == Clock::InTime {
            let mut after = state.clone();
            after.clock = Clock::Late;
            next.push((Action::TimeRunsOut, after));
        }
        let cuts = match self.power {
            Power::MayFail => state.disk.cuts(),
            Power::Steady => Vec::new(),
        };
        for disk in cuts {
            let after = State {
                disk,
                receive: None,
                release: None,
                ..state.clone()
            };
            next.push((Action::PowerIsCut, after));
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let files = &state.disk.seen;
        let claims = self.claims(&files.log);
        let claim = |slot: u8| {
            let mut rows = claims.rows.iter();
            rows.find(|row| row.serial == serial(slot))
                .map(|row| row.claim)
        };
        let slots = 0..u8::try_from(SLOTS).expect("a count");
        let is_over = |slot: u8| matches!(claim(slot), Some(Claim::Released | Claim::Discarded));
        let is_erased = |slot: u8| files.erased & 1 << slot != 0;
        let is_released = slots
            .clone()
            .any(|slot| claim(slot) == Some(Claim::Released));
        let is_idle = state.release.as_ref().is_some_and(Vec::is_empty);
        let publishing = files
            .log
            .iter()
            .filter(|line| matches!(line, Line::Publishing(_)));
        let is_lost = |container: &&Container| {
            let is_here = [&files.tmp, &files.inbox, &files.quarantine]
                .iter()
                .any(|folder| folder.contains(*container));
            !is_here && claim(container.slot).is_none()
        };
        let shown = files.visible.iter().chain(&files.stage).flatten();
        let promises = [
            (
                files.appeared.iter().any(|times| *times > 1) || publishing.count() > 1,
                "a cable is released once",
            ),
            (
                shown.clone().any(|container| container.approvals != BOTH),
                "two distinct officers approved what is released",
            ),
            (
                state.is_decided_late,
                "nothing is published after it expired",
            ),
            (
                slots.clone().any(|slot| is_erased(slot) && !is_over(slot)),
                "a slot lasts until its cable is released or discarded",
            ),
            (
                is_idle && slots.clone().any(|slot| is_over(slot) && !is_erased(slot)),
                "after its end, the slot of a cable is gone",
            ),
            (
                is_released && files.appeared.contains(&0),
                "what is called released was visible in every mailbox",
            ),
            (
                state.receive.as_ref().is_some_and(Vec::is_empty)
                    && is_idle
                    && files.list.iter().any(|container| is_lost(&container)),
                "what counts as arrived is here or judged",
            ),
            (
                files.visible.iter().any(Option::is_some) && publishing_of(files).is_none(),
                "nothing is visible before its line",
            ),
        ];
        promises
            .iter()
            .find(|(is_broken, _)| *is_broken)
            .map(|(_, promise)| *promise)
    }

    /// Each serial that was sent is released, held, discarded or reported as missing.
    fn is_end(&self, state: &State) -> bool {
        let is_idle = |process: &Process| process.as_ref().is_some_and(Vec::is_empty);
        let is_over = |state: &SerialState| {
            matches!(
                state,
                SerialState::Released
                    | SerialState::Quarantined
                    | SerialState::Discarded
                    | SerialState::Missing
            )
        };
        is_idle(&state.receive) && is_idle(&state.release) && self.states(state).iter().all(is_over)
    }

    fn is_by_itself(&self, action: Action) -> bool {
        matches!(
            action,
            Action::ReceiveStarts
                | Action::ReceiveSteps(_)
                | Action::ReleaseStarts
                | Action::ReleaseOpens(_)
                | Action::ReleaseSteps(_)
        )
    }
}

fn perform(disk: &mut Disk<Received>, op: Op) {
    match op {
        Op::Do(change) => disk.write(change),
        Op::Sync(place) => disk.sync(place),
        Op::Decide(_) | Op::Settle => {}
    }
}

/// Passes over steps that change nothing.
fn skip(disk: &Disk<Received>, process: &mut Process) {
    let is_idle = |op: &Op| match op {
        Op::Do(change) => disk.has(*change),
        Op::Sync(place) => disk.is_synced(*place),
        Op::Decide(_) | Op::Settle => false,
    };
    if let Some(ops) = process {
        let idle = ops.iter().take_while(|op| is_idle(op)).count();
        ops.drain(..idle);
    }
}

fn publishing_of(files: &Received) -> Option<Container> {
    files.log.iter().find_map(|line| match line {
        Line::Publishing(container) => Some(*container),
        _ => None,
    })
}
