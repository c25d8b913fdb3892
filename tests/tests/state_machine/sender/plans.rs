//! What gate does next, step by step: the product's code decides, and docs/spool-states.md has the order.

use std::collections::BTreeSet;
use std::rc::Rc;

use valise_common::serial_set::SerialSet;
use valise_sender::model::event::Event;
use valise_sender::model::ledger::{Cable, Ledger, Phase};
use valise_sender::steps::resend::{Resending, Retained};

use super::files::{Change, Line, PASSES, Place, Request, Sent, WITHDRAWAL};
use super::{Op, Protocol, Sender, State};
use crate::real::{BOTH, Clock, Container, bundle, drafter, message, person, serial};

impl Sender<'_> {
    pub(super) fn ledger(&self, log: &Vec<Line>) -> Rc<Ledger> {
        self.ledgers.get(log, || {
            let events: Vec<Event> = log.iter().map(|line| self.event(*line)).collect();
            Rc::new(self.real.sender_ledger(&events))
        })
    }

    fn event(&self, line: Line) -> Event {
        let id = message();
        match line {
            Line::Approved(officer) => Event::Approved {
                id,
                by: person(officer),
            },
            Line::Withdrawn => Event::Withdrawn { id, by: drafter() },
            Line::Expired => Event::Expired { id },
            Line::Sealing(slot) => Event::Sealing {
                id,
                serial: serial(slot),
                bundle: bundle(),
            },
            Line::Sealed(container) => Event::Sealed {
                id,
                serial: serial(container.slot),
                container: self.real.hash(container),
                container_bytes: 1,
                passes: PASSES,
            },
            Line::Transmitted(slot) => Event::Transmitted {
                serial: serial(slot),
                passes: PASSES,
            },
            Line::Resent(slot, passes) => Event::Resent {
                serial: serial(slot),
                passes,
                by: "a.person".to_owned(),
                request: None,
            },
            Line::GivenUp(slot) => Event::GivenUp {
                serial: serial(slot),
                reason: "expired".to_owned(),
            },
            Line::Retired(slot) => Event::Retired {
                serial: serial(slot),
            },
        }
    }

    /// Judges requests one after another, seals if the quorum is there, and answers.
    pub(super) fn take(&self, state: &State, requests: &[Request]) -> Vec<Op> {
        let files = &state.disk.seen;
        let (mut log, mut stored) = (files.log.clone(), files.shown);
        let mut answers = Vec::new();
        let mut ops = Vec::new();
        for request in requests {
            let before = (log.len(), stored);
            if self.judge(*request, state.clock, &mut log, &mut stored) {
                answers.push(Op::Accept(*request));
            }
            if stored != before.1 {
                ops.push(Op::Do(Change::Stage(*request)));
            }
        }
        let shown = requests
            .iter()
            .filter(|request| (stored & !files.shown) & 1 << **request != 0);
        if self.protocol == Protocol::AnswersBeforeTheCommit {
            ops.extend(&answers);
        }
        ops.push(Op::Sync(Place::Staged));
        let lines = log[files.log.len()..].iter();
        ops.extend(lines.map(|line| Op::Do(Change::Append(*line))));
        ops.push(Op::Sync(Place::Log));
        ops.extend(shown.map(|request| Op::Do(Change::Show(*request))));
        ops.push(Op::Sync(Place::Pending));
        ops.extend(self.issue(&log, state.clock));
        if log[files.log.len()..].contains(&Line::Withdrawn) {
            ops.push(Op::Do(Change::RemovePending));
        }
        ops.extend(answers);
        ops
    }

    /// Judges one request; returns whether it is accepted.
    fn judge(&self, request: Request, clock: Clock, log: &mut Vec<Line>, stored: &mut u8) -> bool {
        let ledger = self.ledger(log);
        let cable = cable(&ledger);
        let may_withdraw = match cable.phase {
            Phase::Open => true,
            Phase::Sealing | Phase::Sealed => self.protocol == Protocol::WithdrawsWhatIsSealed,
            _ => false,
        };
        if request == WITHDRAWAL {
            if may_withdraw {
                log.push(Line::Withdrawn);
            }
            return may_withdraw || cable.phase == Phase::Withdrawn;
        }
        let signer = u8::from(request == 2);
        let has_approved = cable.approvals.contains(&person(signer));
        if cable.phase != Phase::Open {
            return has_approved;
        }
        if has_approved && *stored & 1 << request != 0 {
            return true;
        }
        let collected = (0..2).filter(|officer| cable.approvals.contains(&person(*officer)));
        let collected = collected.fold(0, |bits, officer| bits | 1 << officer);
        let Some(officer) = self.real.judge(request, collected, clock) else {
            return false;
        };
        log.push(Line::Approved(officer));
        *stored |= 1 << request;
        true
    }

    /// Step ① and those after it, if the cable has its quorum and its proof.
    fn issue(&self, log: &Vec<Line>, clock: Clock) -> Vec<Op> {
        let ledger = self.ledger(log);
        let cable = cable(&ledger);
        let has_quorum = cable.approvals.len() >= usize::from(cable.needed);
        if cable.phase != Phase::Open || !has_quorum || !self.has_proof(cable, clock) {
            return Vec::new();
        }
        let Some((next, _)) = ledger.next_serial() else {
            return Vec::new();
        };
        let slot = slot_of(next);
        vec![
            Op::Do(Change::Append(Line::Sealing(slot))),
            Op::Sync(Place::Log),
            Op::Seal(slot),
        ]
    }

    fn has_proof(&self, cable: &Cable, clock: Clock) -> bool {
        let approvals = (0..2).filter(|officer| cable.approvals.contains(&person(*officer)));
        let approvals = approvals.fold(0, |bits, officer| bits | 1 << officer);
        self.real.has_proof(approvals, clock)
    }

    /// Steps ② to ⑤.
    pub(super) fn seal(&self, state: &State, slot: u8) -> Vec<Op> {
        let container = Container {
            slot,
            number: unused_number(state),
            approvals: BOTH,
        };
        let create = [
            Op::Do(Change::RemoveTmp),
            Op::Sync(Place::Tmp),
            Op::Do(Change::Create(container)),
        ];
        let name = [Op::Sync(Place::Tmp)];
        let line = [
            Op::Do(Change::Append(Line::Sealed(container))),
            Op::Sync(Place::Log),
        ];
        let rename = [Op::Do(Change::Rename(container)), Op::Sync(Place::Outbox)];
        let slot = [Op::Do(Change::Erase(slot)), Op::Sync(Place::Slots)];
        let plaintext = [Op::Do(Change::RemovePending)];
        let order: [&[Op]; 6] = match self.protocol {
            Protocol::ErasesBeforeTheLine => [&create, &name, &slot, &line, &rename, &plaintext],
            Protocol::ErasesPlaintextBeforeTheLine => {
                [&create, &name, &plaintext, &line, &rename, &slot]
            }
            Protocol::RenamesBeforeTheLine => [&create, &name, &rename, &line, &slot, &plaintext],
            Protocol::LeavesTheNameUnsynced => [&create, &[], &line, &rename, &slot, &plaintext],
            _ => [&create, &name, &line, &rename, &slot, &plaintext],
        };
        order.concat()
    }

    /// Start-up, as the table of docs/spool-states.md says.
    pub(super) fn start(&self, state: &State) -> Vec<Op> {
        let files = &state.disk.seen;
        let ledger = self.ledger(&files.log);
        let cable = cable(&ledger);
        let mut ops = vec![Op::Sync(Place::Log)];
        ops.extend(recover_pending(files, cable));
        if cable.phase != Phase::Sealed {
            ops.extend([Op::Do(Change::RemoveTmp), Op::Sync(Place::Tmp)]);
        }
        if files.outbox.is_some() && (cable.phase.is_final() || cable.phase == Phase::Open) {
            ops.push(Op::Do(Change::RemoveOutbox));
        }
        let Some(issued) = &cable.issued else {
            return ops;
        };
        let slot = slot_of(issued.serial);
        let is_erased = files.erased & 1 << slot != 0;
        if cable.phase.is_final() && !is_erased {
            ops.extend([Op::Do(Change::Erase(slot)), Op::Sync(Place::Slots)]);
        }
        if !cable.phase.is_sealed() {
            return ops;
        }
        let hash = issued.container.map(|(hash, _)| hash);
        let is_staged = files.tmp.map(|tmp| self.real.hash(tmp)) == hash;
        match (cable.phase, files.outbox, files.tmp) {
            (Phase::Sealing, _, _) => ops.extend(self.seal_again(state, slot)),
            (_, Some(_), _) => {
                if self.protocol != Protocol::TrustsARenameThatIsNotSynced {
                    ops.push(Op::Sync(Place::Outbox));
                }
                ops.extend(clean_up(slot));
            }
            (_, None, Some(tmp)) if is_staged => {
                ops.extend([Op::Do(Change::Rename(tmp)), Op::Sync(Place::Outbox)]);
                ops.extend(clean_up(slot));
            }
            _ => ops.extend(self.seal_again(state, slot)),
        }
        ops
    }

    /// Seals a cable again under its serial, or gives it up.
    pub(super) fn seal_again(&self, state: &State, slot: u8) -> Vec<Op> {
        let files = &state.disk.seen;
        let ledger = self.ledger(&files.log);
        let has_slot = files.erased & 1 << slot == 0;
        if has_slot && files.has_pending && self.has_proof(cable(&ledger), state.clock) {
            let next = ledger.next_serial().map(|(serial, _)| slot_of(serial));
            return match (self.protocol, next) {
                (Protocol::SealsUnderANewSerial, Some(next)) => vec![
                    Op::Do(Change::Append(Line::Sealing(next))),
                    Op::Sync(Place::Log),
                    Op::Seal(next),
                ],
                _ => vec![Op::Seal(slot)],
            };
        }
        vec![
            Op::Do(Change::Append(Line::GivenUp(slot))),
            Op::Sync(Place::Log),
            Op::Do(Change::Erase(slot)),
            Op::Sync(Place::Slots),
            Op::Do(Change::RemovePending),
        ]
    }

    /// Ends what is late.
    pub(super) fn upkeep(&self, state: &State) -> Vec<Op> {
        let ledger = self.ledger(&state.disk.seen.log);
        let cable = cable(&ledger);
        let append = |line| vec![Op::Do(Change::Append(line)), Op::Sync(Place::Log)];
        let slot = cable.serial().map(slot_of);
        let mut ops = match (cable.phase, slot) {
            (Phase::Open, _) => append(Line::Expired),
            (Phase::Sealed, Some(slot)) => append(Line::GivenUp(slot)),
            (Phase::Transmitted, Some(slot)) => append(Line::Retired(slot)),
            _ => return Vec::new(),
        };
        ops.push(match slot {
            Some(_) => Op::Do(Change::RemoveOutbox),
            None => Op::Do(Change::RemovePending),
        });
        if let (Some(slot), false) = (
            slot,
            self.protocol == Protocol::KeepsWhatExpiresWhileItWaits,
        ) {
            ops.extend(clean_up(slot));
        }
        ops
    }
}

pub(super) fn cable(ledger: &Ledger) -> &Cable {
    &ledger.cables[&message()]
}

pub(super) fn slot_of(serial: valise_common::ids::Serial) -> u8 {
    u8::try_from(serial.get() - 1).expect("a slot")
}

/// Step ⑤.
fn clean_up(slot: u8) -> [Op; 3] {
    [
        Op::Do(Change::Erase(slot)),
        Op::Sync(Place::Slots),
        Op::Do(Change::RemovePending),
    ]
}

fn recover_pending(files: &Sent, cable: &Cable) -> Vec<Op> {
    let is_known = |request: &u8| cable.approvals.contains(&person(u8::from(*request == 2)));
    let is_kept = matches!(cable.phase, Phase::Open | Phase::Sealing);
    let mut ops = Vec::new();
    for request in (0..WITHDRAWAL).filter(|request| files.staged & 1 << request != 0) {
        ops.push(match is_kept && is_known(&request) {
            true => Op::Do(Change::Show(request)),
            false => Op::Do(Change::Unstage(request)),
        });
    }
    // Whatever a power cut brings back is taken away by the next start.
    ops.push(Op::Sync(Place::Staged));
    ops.push(Op::Sync(Place::Pending));
    if !is_kept && cable.phase != Phase::Sealed {
        ops.push(Op::Do(Change::RemovePending));
    }
    let unknown = (0..WITHDRAWAL).filter(|request| files.shown & 1 << request != 0);
    let unknown = unknown.filter(|request| !is_known(request));
    ops.extend(unknown.map(|request| Op::Do(Change::Hide(request))));
    ops
}

/// An operator has the cable sent again.
pub(super) fn resend(cable: &Cable, passes_done: u8) -> Option<Vec<Op>> {
    let issued = cable.issued.as_ref()?;
    if !matches!(cable.phase, Phase::Sealed | Phase::Transmitted) {
        return None;
    }
    let mut wanted = SerialSet::new();
    wanted.insert(issued.serial);
    let retained = Retained {
        serial: issued.serial,
        passes: issued.passes,
        passes_done,
        is_repeated: false,
    };
    let resending = Resending::of(&wanted, &[retained], PASSES);
    let passes = resending.raised.get(&issued.serial)?;
    let line = Line::Resent(slot_of(issued.serial), *passes);
    Some(vec![Op::Do(Change::Append(line)), Op::Sync(Place::Log)])
}

/// The lowest number that no container has, of which anything is left.
fn unused_number(state: &State) -> u8 {
    let (seen, durable) = (&state.disk.seen, state.disk.durable());
    let logged = seen.log.iter().filter_map(|line| match line {
        Line::Sealed(container) => Some(*container),
        _ => None,
    });
    let used: BTreeSet<u8> = logged
        .chain([seen.tmp, seen.outbox].into_iter().flatten())
        .chain([durable.tmp, durable.outbox].into_iter().flatten())
        .chain(state.left.iter().copied())
        .map(|container| container.number)
        .collect();
    (0..)
        .find(|number| !used.contains(number))
        .expect("a number")
}
