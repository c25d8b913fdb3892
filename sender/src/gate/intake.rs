//! Which requests are copied now, and which wait: for the worker, because they are large, or for room on the disk.

use std::collections::BTreeMap;

use valise_common::host::requests::{Found, RequestRefused};
use valise_common::os::clock;

use super::error::GateError;
use super::host::Gate;
use super::intake_error::{IntakeError, Refused};
use super::large::{self, Turns};
use super::refusal::is_operator;
use super::request::Prepared;
use super::sealing::LARGE_BODY_BYTES;
use super::worker::{Queue, Work};

/// Requests that share one commit. More would make a FLASH cable wait longer behind them.
const BATCH_REQUESTS_MAX: usize = 256;

/// Large requests of one owner that wait for the worker.
const OWNER_LARGE_MAX: usize = 1_000;

/// Requests on their way to being judged.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Large requests that wait for the worker, by name.
    large: BTreeMap<String, Found>,
    /// Whose large request is next.
    turns: Turns,
    /// The worker has a request.
    is_preparing: bool,
    /// A request that was found at the start waits for room.
    lacks_room: bool,
}

impl Intake {
    /// Copies and reads the next requests, and gives the worker a large one.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub(super) fn next_batch(
        &mut self,
        gate: &mut Gate,
        worker: &mut Queue,
    ) -> Result<Vec<Result<Prepared, Refused>>, GateError> {
        let now = clock::mono_now();
        gate.requests.begin(now)?;
        if let Some(found) = worker.take_back() {
            self.is_preparing = false;
            self.large.insert(found.name.clone(), found);
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_REQUESTS_MAX
            && let Some(one) = gate.requests.next(now)
        {
            let bytes = gate.preparer.requests.size(&one).unwrap_or(0);
            let request = match check_fit(gate, &one, bytes) {
                Err(reason) => Err(refused(one, reason)),
                Ok(()) if bytes > LARGE_BODY_BYTES => {
                    self.add_large(gate, one);
                    continue;
                }
                Ok(()) => gate.preparer.prepare(&one),
            };
            batch.extend(self.unless_it_waits(gate, request));
        }
        self.give_large(gate, worker)?;
        Ok(batch)
    }

    /// Takes a request that the worker has copied.
    pub(super) fn take_prepared(
        &mut self,
        gate: &mut Gate,
        request: Result<Prepared, Refused>,
    ) -> Option<Result<Prepared, Refused>> {
        self.is_preparing = false;
        // Others may have waited for this one to be done.
        gate.requests.look_again();
        self.unless_it_waits(gate, request)
    }

    /// Has requests that lacked room looked at again, if there is room now.
    pub(super) fn keep_up(&mut self, gate: &mut Gate) {
        if self.lacks_room && gate.check_room(0).is_ok() {
            self.lacks_room = false;
            gate.requests.look_at_all();
        }
    }

    /// Holds back the refusal of a request that stood there at the start and lacks room. An earlier gate may have taken the
    /// request, which shows only when it can be copied: no answer may say that nothing was changed.
    fn unless_it_waits(
        &mut self,
        gate: &mut Gate,
        request: Result<Prepared, Refused>,
    ) -> Option<Result<Prepared, Refused>> {
        match request {
            Err(refused)
                if refused.reason.lacks_room()
                    && gate.requests.is_left_over(&refused.found.name) =>
            {
                gate.requests.leave(&refused.found.name);
                self.lacks_room = true;
                None
            }
            request => Some(request),
        }
    }

    /// Keeps a large request until the worker is free. Beyond the bound it is found again by a later pass.
    fn add_large(&mut self, gate: &mut Gate, found: Found) {
        let of_owner = |other: &&Found| other.owner_uid == found.owner_uid;
        if self.large.values().filter(of_owner).count() < OWNER_LARGE_MAX {
            self.large.insert(found.name.clone(), found);
        } else {
            gate.requests.leave(&found.name);
        }
    }

    /// Hands one large request to the worker, unless it has one: the others wait where their authors put them.
    fn give_large(&mut self, gate: &mut Gate, worker: &mut Queue) -> Result<(), GateError> {
        if self.is_preparing || self.large.is_empty() {
            return Ok(());
        }
        let (preparer, requests) = (&gate.preparer, &mut gate.requests);
        self.large.retain(|name, found| {
            let is_there = preparer.requests.is_there(found);
            if !is_there {
                requests.leave(name);
            }
            is_there
        });
        let waiting = self.large.values().cloned().collect();
        let next = self
            .turns
            .choose(waiting, |found| large::precedence_now(preparer, found));
        if let Some((precedence, found)) = next {
            self.large.remove(&found.name);
            self.turns.took(&found);
            self.is_preparing = true;
            worker.add(precedence, Work::Prepare(found))?;
        }
        Ok(())
    }
}

/// Refuses what is not to be copied: a sparse file costs its author nothing.
fn check_fit(gate: &Gate, found: &Found, bytes: u64) -> Result<(), IntakeError> {
    let uid = found.owner_uid;
    let bytes_max = gate.preparer.bytes_max();
    if bytes > bytes_max {
        return Err(RequestRefused::Bytes { bytes_max }.into());
    }
    if bytes > LARGE_BODY_BYTES && gate.authority.person(uid).is_none() && !is_operator(uid) {
        return Err(IntakeError::UnknownUser { uid });
    }
    // The copy, and the container that will be sealed from it.
    let needed_bytes = bytes.saturating_mul(2).saturating_add(bytes / 4);
    gate.check_room(needed_bytes)
        .map_err(|free_bytes| IntakeError::DiskFull {
            free_bytes,
            needed_bytes,
        })
}

fn refused(found: Found, reason: IntakeError) -> Refused {
    Refused {
        found,
        kind: "request",
        reason,
    }
}
