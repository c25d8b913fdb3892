//! What receive and release do next, step by step: the product's code decides, and docs/spool-states.md has the order.

use std::rc::Rc;

use valise_common::ids::Serial;
use valise_receiver::model::event::{Asker, Event};
use valise_receiver::model::rows::{CableRow, Claim};

use super::files::{Change, Line, Place};
use super::{Op, Protocol, Receiver, State};
use crate::real::{Claims, Container, MAILBOXES, Verdict, message, serial};

impl Receiver<'_> {
    pub(super) fn claims(&self, log: &Vec<Line>) -> Rc<Claims> {
        self.ledgers.get(log, || {
            let events = log.iter().map(|line| self.event(*line)).collect();
            Rc::new(self.real.claims(events))
        })
    }

    fn event(&self, line: Line) -> Event {
        match line {
            Line::Publishing(container) => Event::Publishing {
                serial: serial(container.slot),
                container: self.real.hash(container),
                message_id: message(),
                to: MAILBOXES.map(|id| id.parse().expect("a mailbox")).to_vec(),
                act_by: None,
                trust_version: 7,
                asked: None,
            },
            Line::Released(slot) => Event::Released {
                serial: serial(slot),
                message_id: message(),
            },
            Line::Quarantined(container) => Event::Quarantined {
                serial: serial(container.slot),
                container: self.real.hash(container),
                message_id: Some(message()),
                code: "expired".to_owned(),
                reason: "it is expired".to_owned(),
            },
            Line::Discarded(slot) => Event::Discarded {
                serial: serial(slot),
                reason: "too late".to_owned(),
                by: Asker::user(0),
            },
        }
    }

    pub(super) fn container_of(&self, row: &CableRow) -> Container {
        let mut all = self.link.iter().copied();
        all.find(|container| self.real.hash(*container) == row.container)
            .expect("it was on the link")
    }

    /// Receive makes a container durable and lists it.
    pub(super) fn hand_over(&self, container: Container) -> Vec<Op> {
        let write = [Op::Do(Change::Write(container)), Op::Sync(Place::Tmp)];
        let list = [Op::Do(Change::List(container))];
        let arrive = [
            Op::Do(Change::Arrive(container)),
            Op::Sync(Place::List),
            Op::Sync(Place::Inbox),
        ];
        let order: [&[Op]; 3] = match self.protocol {
            Protocol::ListsBeforeTheFile => [&list, &write, &arrive],
            _ => [&write, &list, &arrive],
        };
        order.concat()
    }

    /// Start-up of receive: completes the renames of what is listed, lists what has arrived.
    pub(super) fn start_receive(&self, state: &State) -> Vec<Op> {
        let files = &state.disk.seen;
        let mut ops = Vec::new();
        for container in &files.tmp {
            ops.push(match files.list.contains(container) {
                true => Op::Do(Change::Arrive(*container)),
                false => Op::Do(Change::Drop(*container)),
            });
        }
        // Whatever a power cut brings back is taken away by the next start.
        ops.push(Op::Sync(Place::Tmp));
        let unlisted = files.inbox.difference(&files.list);
        ops.extend(unlisted.map(|container| Op::Do(Change::List(*container))));
        ops.extend([Op::Sync(Place::List), Op::Sync(Place::Inbox)]);
        ops
    }

    /// Release takes a container out of the inbox.
    pub(super) fn open(&self, state: &State, container: Container) -> Vec<Op> {
        let files = &state.disk.seen;
        let claims = self.claims(&files.log);
        let of_serial = |row: &&CableRow| row.serial == serial(container.slot);
        if let Some(row) = claims.rows.iter().find(of_serial) {
            let is_same = row.container == self.real.hash(container);
            let is_held = files.quarantine.contains(&container);
            return match is_same && row.claim == Claim::Quarantined && !is_held {
                true => vec![Op::Do(Change::Hold(container)), Op::Sync(Place::Quarantine)],
                false => vec![Op::Do(Change::RemoveArrived(container))],
            };
        }
        if files.erased & 1 << container.slot != 0 {
            return vec![Op::Do(Change::RemoveArrived(container))];
        }
        match self
            .real
            .verdict(container, state.clock, self.seen(&claims))
        {
            Verdict::NotOpened => vec![Op::Do(Change::RemoveArrived(container))],
            Verdict::Held => hold(container),
            Verdict::Verified => {
                let mut ops = stage(container);
                if self.protocol == Protocol::DeletesBeforeTheLine {
                    ops.push(Op::Do(Change::RemoveArrived(container)));
                    ops.push(Op::Sync(Place::Inbox));
                }
                ops.push(Op::Decide(container));
                ops
            }
        }
    }

    fn seen(&self, claims: &Claims) -> Option<Serial> {
        claims
            .seen
            .filter(|_| self.protocol != Protocol::ForgetsMessageIds)
    }

    /// ② to ⑤, or what is refused leaves the stage.
    pub(super) fn publish(&self, state: &State, container: Container) -> Vec<Op> {
        let claims = self.claims(&state.disk.seen.log);
        let verdict = self
            .real
            .verdict(container, state.clock, self.seen(&claims));
        if verdict != Verdict::Verified && self.protocol != Protocol::JudgesOnce {
            let mut ops = unstage();
            ops.extend(hold(container));
            return ops;
        }
        let line = [
            Op::Do(Change::Append(Line::Publishing(container))),
            Op::Sync(Place::Log),
        ];
        let rename = rename();
        let erase = [
            Op::Do(Change::Erase(container.slot)),
            Op::Sync(Place::Slots),
        ];
        let released = [
            Op::Do(Change::Append(Line::Released(container.slot))),
            Op::Sync(Place::Log),
        ];
        let delete = [Op::Do(Change::RemoveArrived(container))];
        let order: [&[Op]; 5] = match self.protocol {
            Protocol::ErasesBeforeTheLine => [&line, &erase, &rename, &released, &delete],
            Protocol::RenamesBeforeTheLine => [&rename, &line, &released, &erase, &delete],
            _ => [&line, &rename, &released, &erase, &delete],
        };
        order.concat()
    }

    /// Start-up of release, as the table of docs/spool-states.md says.
    pub(super) fn start_release(&self, state: &State) -> Vec<Op> {
        let files = &state.disk.seen;
        let mut ops = vec![Op::Sync(Place::Log)];
        if self.protocol == Protocol::ClearsTheStageFirst {
            ops.extend(unstage());
        }
        for row in &self.claims(&files.log).rows {
            let is_left = self.protocol == Protocol::LeavesAnUnfinishedPublishing;
            if row.claim != Claim::Publishing || is_left {
                continue;
            }
            let container = self.container_of(row);
            for mailbox in mailboxes() {
                let is_gone = files.stage[mailbox].is_none();
                if is_gone && self.protocol == Protocol::PublishesAgain {
                    ops.push(Op::Do(Change::Stage(mailbox, container)));
                }
                ops.push(Op::Do(Change::Publish(mailbox)));
                if !(is_gone && self.protocol == Protocol::TrustsARenameThatIsNotSynced) {
                    ops.push(Op::Sync(Place::Mailbox(mailbox)));
                }
            }
            ops.extend([
                Op::Do(Change::Append(Line::Released(container.slot))),
                Op::Sync(Place::Log),
            ]);
        }
        ops.push(Op::Settle);
        ops
    }

    /// The stage is cleared, slots of what is released or discarded are erased, what is held is moved.
    pub(super) fn settle(&self, state: &State) -> Vec<Op> {
        let files = &state.disk.seen;
        let mut ops = unstage();
        for row in &self.claims(&files.log).rows {
            let container = self.container_of(row);
            match row.claim {
                Claim::Released | Claim::Discarded => ops.extend([
                    Op::Do(Change::Erase(container.slot)),
                    Op::Do(Change::RemoveHeld(container)),
                ]),
                Claim::Quarantined if files.inbox.contains(&container) => {
                    ops.push(Op::Do(Change::Hold(container)));
                }
                Claim::Quarantined | Claim::Publishing => {}
            }
        }
        ops.extend([Op::Sync(Place::Slots), Op::Sync(Place::Quarantine)]);
        ops
    }
}

pub(super) fn mailboxes() -> std::ops::Range<usize> {
    0..MAILBOXES.len()
}

/// ①
fn stage(container: Container) -> Vec<Op> {
    let stage = mailboxes().map(|mailbox| Op::Do(Change::Stage(mailbox, container)));
    stage.chain([Op::Sync(Place::Stage)]).collect()
}

fn unstage() -> Vec<Op> {
    let unstage = mailboxes().map(|mailbox| Op::Do(Change::Unstage(mailbox)));
    unstage.chain([Op::Sync(Place::Stage)]).collect()
}

/// ③
fn rename() -> Vec<Op> {
    let rename = mailboxes().map(|mailbox| Op::Do(Change::Publish(mailbox)));
    let sync = mailboxes().map(|mailbox| Op::Sync(Place::Mailbox(mailbox)));
    rename.chain(sync).collect()
}

fn hold(container: Container) -> Vec<Op> {
    vec![
        Op::Do(Change::Append(Line::Quarantined(container))),
        Op::Sync(Place::Log),
        Op::Do(Change::Hold(container)),
        Op::Sync(Place::Quarantine),
    ]
}
