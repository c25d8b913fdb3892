//! The process that takes submissions, collects approvals, judges and seals. It has no network and no key that opens
//! anything.

pub mod acts;
pub mod commission;
pub mod courier;
pub mod error;
pub mod host;
pub mod intake_error;
pub mod judge;
mod large;
pub mod prepare;
mod readers;
pub mod recover;
pub mod refusal;
pub mod request;
pub mod sealing;
pub mod time;
pub mod upkeep;
pub mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use valise_common::alarm::Alarm;
use valise_common::config::SenderConfig;
use valise_common::host::alarms::command::AlarmRunner;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::life::VIEW_EVERY_US;
use valise_common::host::metrics::{self, Metrics};
use valise_common::host::profile;
use valise_common::host::requests::{Found, RequestRefused};
use valise_common::host::worker::Threading;
use valise_common::ids::Serial;
use valise_common::os::clock;
use valise_common::os::durable::{copies_on_write, copies_on_write_text};
use valise_common::os::room::outlast;
use valise_common::os::sandbox;
use valise_common::os::service;
use valise_common::os::signals::{Asked, Signals};
use valise_common::os::watch::{DirIndex, DirWatch, Notice};
use valise_common::precedence::Precedence;
use valise_common::units::Mono;

use crate::model::event::Event;
pub use error::GateError;
use host::Gate;
use intake_error::{IntakeError, Refused};
use refusal::is_operator;
use request::Prepared;
use sealing::{FinishedContainer, LARGE_BODY_BYTES};
use worker::{Done, Queue, Work};

/// Requests that share one commit. More would make a FLASH cable wait longer behind them.
const BATCH_REQUESTS_MAX: usize = 256;

/// Large requests of one owner that wait for the worker.
const OWNER_LARGE_MAX: usize = 1_000;

/// The longest that gate sleeps: time brings expiry and checkpoints.
const SLEEP_MS_MAX: u64 = VIEW_EVERY_US / 1_000;

/// Views that only progress asks for are not written more often.
const PROGRESS_VIEW_US: u64 = 250_000;

/// Upkeep is not done more often.
const UPKEEP_US: u64 = 1_000_000;

/// Runs `gate` until it is told to stop.
///
/// # Errors
/// [`GateError`] when anything that durability rests on fails.
pub fn run(config: &SenderConfig) -> Result<(), GateError> {
    let tmp = SenderState::new(&config.state).tmp(Role::Gate);
    outlast(&tmp, run_once(config))
}

fn run_once(config: &SenderConfig) -> Result<(), GateError> {
    // Before any thread: the worker must inherit the mask and the fences.
    let signals = Signals::new()?;
    // Before the lock, any key and the fences: the alarm command is to have none of them.
    let runner = AlarmRunner::start(&config.alarm.command)?;
    let mut gate = Gate::open(config)?;
    gate.alarms.run_by(runner);
    metrics::make_folder(&config.metrics.folder)?;
    gate.metrics = Some(Metrics::new(
        Role::Gate,
        &config.metrics.folder,
        gate.state.root(),
    ));
    let profile = profile::gate(&gate.state).writing(&config.metrics.folder);
    let confinement = sandbox::enter(&profile, config.sandbox.required)?;
    confinement.log();
    let mut daemon = Daemon::start(gate, confinement.alarms(), Threading::Beside)?;
    tracing::info!(issued = daemon.gate.ledger.issued, "gate takes requests");
    service::ready();
    daemon.serve(&signals)
}

/// Gate's loop, and what it keeps between two turns.
pub struct Daemon {
    gate: Gate,
    worker: Queue,
    watch: DirWatch,
    progress: DirIndex,
    /// The worker has a request.
    is_preparing: bool,
    /// Whose large request is next.
    turns: large::Turns,
    /// Large requests that wait for the worker, by name.
    large: BTreeMap<String, Found>,
    /// A request that stood there at the start waits for room.
    lacks_room: bool,
    view_due: Option<Mono>,
    /// When the view was last written.
    shown: Mono,
    upkeep_done: Mono,
    next_expiry: Option<valise_common::units::UtcTime>,
    /// Something came that may expire before the last upkeep thought.
    upkeep_wanted: bool,
}

impl Daemon {
    /// Takes up what a crash left, and begins to watch for requests. `fences` are the alarms of the sandbox.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn start(
        mut gate: Gate,
        fences: Vec<(Alarm, String)>,
        threading: Threading,
    ) -> Result<Self, GateError> {
        let software_keys = gate
            .trust
            .as_ref()
            .is_some_and(|list| list.allow_software_keys());
        if software_keys {
            tracing::warn!("the trust list allows software keys: for exercises only");
        }
        gate.record(&Event::Start { software_keys });
        let mut large = gate.recover()?;
        if gate.ledger.trust.is_none() {
            gate.alarm(Alarm::TrustMissing, "no trust list is in force");
        }
        for (alarm, text) in fences {
            gate.alarm(alarm, text);
        }
        if let Some(name) = copies_on_write(gate.state.root())? {
            gate.alarm(
                Alarm::CopiesOnWrite,
                copies_on_write_text(gate.state.root(), name),
            );
        }
        let next_expiry = gate.upkeep()?;
        large.extend(gate.seal_ready(true)?);
        gate.audit.checkpoint(clock::mono_now())?;
        gate.publish_view()?;
        if threading == Threading::Beside {
            gate.eraser.start()?;
        }
        let mut worker = Queue::start(threading, gate.preparer.clone())?;
        for (precedence, work) in large {
            worker.add(precedence, work)?;
        }
        let mut watch = DirWatch::new()?;
        watch.add(&gate.state.requests(), Notice::ArrivalsAndRemovals)?;
        let progress = watch.add(&gate.state.progress(), Notice::Arrivals)?;
        let now = clock::mono_now();
        let mut daemon = Self {
            gate,
            worker,
            watch,
            progress,
            is_preparing: false,
            turns: large::Turns::default(),
            large: BTreeMap::new(),
            lacks_room: false,
            view_due: None,
            shown: now,
            upkeep_done: now,
            next_expiry,
            upkeep_wanted: false,
        };
        // What was written before the watch began shows in no notice.
        let live: Vec<Serial> = daemon.gate.ledger.serials.keys().copied().collect();
        daemon.note_progress(live)?;
        Ok(daemon)
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), GateError> {
        loop {
            while let Some(asked) = signals.take()? {
                if asked == Asked::Stop {
                    service::stopping();
                    return self.stop();
                }
            }
            self.turn()?;
            service::watchdog();
            self.sleep(signals)?;
        }
    }

    /// Does what is due now, and waits for nothing.
    ///
    /// # Errors
    /// [`GateError`]; the process must end.
    pub fn turn(&mut self) -> Result<(), GateError> {
        self.take_changes()?;
        self.take_done()?;
        if self.gate.requests.is_due(clock::mono_now()) {
            self.take_requests()?;
        }
        self.keep_up()?;
        self.gate.erase_what_is_away()
    }

    /// Ends in order.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn stop(&mut self) -> Result<(), GateError> {
        self.gate.alarms.end();
        self.gate.log_alarms();
        self.gate.record(&Event::Stop);
        self.gate.audit.checkpoint(clock::mono_now())?;
        self.gate.publish_view()
    }

    fn sleep(&self, signals: &Signals) -> Result<(), GateError> {
        let timeout_ms = match self.gate.requests.is_due(clock::mono_now()) {
            true => 0,
            false => self.sleep_ms(),
        };
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.worker.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(timeout_ms).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(std::io::Error::from(errno).into()),
        }
    }

    fn sleep_ms(&self) -> u64 {
        let mut sleep_ms = SLEEP_MS_MAX;
        if let Some(interval) = service::watchdog_interval() {
            sleep_ms = sleep_ms.min(u64::try_from(interval.as_millis()).unwrap_or(sleep_ms));
        }
        let now = clock::mono_now();
        let due = self.shown.plus_us(VIEW_EVERY_US);
        sleep_ms = sleep_ms.min(due.since_us(now).div_ceil(1_000));
        if let Some(due) = self.view_due {
            sleep_ms = sleep_ms.min(due.since_us(now).div_ceil(1_000));
        }
        if self.upkeep_wanted {
            let due = self.upkeep_done.plus_us(UPKEEP_US);
            sleep_ms = sleep_ms.min(due.since_us(now).div_ceil(1_000));
        }
        if let Some(expiry) = self.next_expiry {
            let left_s = expiry.plus_s(1).since(clock::utc_now());
            sleep_ms = sleep_ms.min(left_s.saturating_mul(1_000).max(100));
        }
        sleep_ms
    }

    fn take_changes(&mut self) -> Result<(), GateError> {
        let changes = self.watch.drain()?;
        if changes.overflowed {
            self.gate.requests.look_at_all();
        }
        // Those that were not lost are looked at first: nobody's flood of names hides another's request.
        let mut serials = BTreeSet::new();
        for (directory, name) in changes.names {
            if directory == self.progress {
                serials.extend(name.to_str().and_then(|name| name.parse::<Serial>().ok()));
            } else {
                self.gate.requests.notice(&name)?;
            }
        }
        if changes.overflowed {
            let live: Vec<Serial> = self.gate.ledger.serials.keys().copied().collect();
            return self.note_progress(live);
        }
        self.note_progress(serials)
    }

    fn note_progress(
        &mut self,
        serials: impl IntoIterator<Item = Serial>,
    ) -> Result<(), GateError> {
        if self.gate.note_progress(serials)? {
            self.gate.commit()?;
            self.view_due
                .get_or_insert(clock::mono_now().plus_us(PROGRESS_VIEW_US));
        }
        Ok(())
    }

    fn take_done(&mut self) -> Result<(), GateError> {
        while let Some(done) = self.worker.take()? {
            match done {
                Done::Failed(error) => return Err(error.into()),
                Done::Prepared(result) => {
                    self.is_preparing = false;
                    // Others may have waited for this one to be done.
                    self.gate.requests.look_again();
                    let request = self.unless_it_waits(result);
                    let large = self.gate.handle(request.into_iter().collect())?;
                    self.gate.requests.end(clock::mono_now());
                    self.hand_over(large)?;
                    self.upkeep_wanted = true;
                }
                Done::Sealed { id, result } => {
                    match result {
                        Ok((file, sealed)) => {
                            self.gate
                                .finish(vec![FinishedContainer { id, file, sealed }])?;
                        }
                        Err(error) => self.gate.not_sealed(id, error.into())?,
                    }
                    self.gate.publish_view()?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, large: Vec<(Precedence, Work)>) -> Result<(), GateError> {
        for (precedence, work) in large {
            self.worker.add(precedence, work)?;
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), GateError> {
        let now = clock::mono_now();
        self.gate.requests.begin(now)?;
        if let Some(found) = self.worker.take_back() {
            self.is_preparing = false;
            self.large.insert(found.name.clone(), found);
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_REQUESTS_MAX
            && let Some(one) = self.gate.requests.next(now)
        {
            let bytes = self.gate.preparer.requests.size(&one).unwrap_or(0);
            let request = match self.check_fit(&one, bytes) {
                Err(reason) => Err(refused(one, reason)),
                Ok(()) if bytes > LARGE_BODY_BYTES => {
                    self.add_large(one);
                    continue;
                }
                Ok(()) => self.gate.preparer.prepare(&one),
            };
            batch.extend(self.unless_it_waits(request));
        }
        self.take_large()?;
        if !batch.is_empty() {
            let large = self.gate.handle(batch)?;
            self.hand_over(large)?;
            self.upkeep_wanted = true;
        }
        self.gate.requests.end(now);
        Ok(())
    }

    /// Holds back the refusal of a request that stood there at the start and lacks room. An earlier gate may have taken the
    /// request, which shows only when it can be copied: no answer may say that nothing was changed.
    fn unless_it_waits(
        &mut self,
        request: Result<Prepared, Refused>,
    ) -> Option<Result<Prepared, Refused>> {
        match request {
            Err(refused)
                if refused.reason.lacks_room()
                    && self.gate.requests.is_left_over(&refused.found.name) =>
            {
                self.gate.requests.leave(&refused.found.name);
                self.lacks_room = true;
                None
            }
            request => Some(request),
        }
    }

    /// Keeps a large request until the worker is free. Beyond the bound it is found again by a later pass.
    fn add_large(&mut self, found: Found) {
        let of_owner = |other: &&Found| other.owner_uid == found.owner_uid;
        if self.large.values().filter(of_owner).count() < OWNER_LARGE_MAX {
            self.large.insert(found.name.clone(), found);
        } else {
            self.gate.requests.leave(&found.name);
        }
    }

    /// Refuses what is not to be copied: a sparse file costs its author nothing.
    fn check_fit(&self, found: &Found, bytes: u64) -> Result<(), IntakeError> {
        let uid = found.owner_uid;
        let bytes_max = self.gate.preparer.bytes_max();
        if bytes > bytes_max {
            return Err(RequestRefused::Bytes { bytes_max }.into());
        }
        if bytes > LARGE_BODY_BYTES && self.gate.person(uid).is_none() && !is_operator(uid) {
            return Err(IntakeError::UnknownUser { uid });
        }
        // The copy, and the container that will be sealed from it.
        let needed_bytes = bytes.saturating_mul(2).saturating_add(bytes / 4);
        self.gate
            .check_room(needed_bytes)
            .map_err(|free_bytes| IntakeError::DiskFull {
                free_bytes,
                needed_bytes,
            })
    }

    /// Hands one large request to the worker, unless it has one: the others wait where their authors put them.
    fn take_large(&mut self) -> Result<(), GateError> {
        if self.is_preparing || self.large.is_empty() {
            return Ok(());
        }
        let (preparer, requests) = (&self.gate.preparer, &mut self.gate.requests);
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
            self.worker.add(precedence, Work::Prepare(found))?;
        }
        Ok(())
    }

    fn keep_up(&mut self) -> Result<(), GateError> {
        let now = clock::mono_now();
        let mut write_view = self.view_due.is_some_and(|due| due <= now);
        if now.since_us(self.upkeep_done) >= UPKEEP_US {
            self.upkeep_done = now;
            self.upkeep_wanted = false;
            self.next_expiry = self.gate.upkeep()?;
            if self.gate.wants_room && self.gate.check_room(LARGE_BODY_BYTES).is_ok() {
                self.gate.wants_room = false;
                let mut large = self.gate.seal_waiting_for_room()?;
                large.extend(self.gate.seal_ready(true)?);
                self.hand_over(large)?;
            }
            if self.lacks_room && self.gate.check_room(0).is_ok() {
                self.lacks_room = false;
                self.gate.requests.look_at_all();
            }
            self.gate.keep_up_requests(now)?;
            self.gate.watch_neighbour();
            self.gate.commit()?;
            if self.gate.audit.is_checkpoint_due(now) {
                self.gate.audit.checkpoint(now)?;
            }
            write_view |= !self.gate.changed.is_empty() || self.gate.alarms.take_changed();
        }
        if write_view {
            self.view_due = None;
            self.shown = now;
            self.gate.publish_view()?;
        } else if now.since_us(self.shown) >= VIEW_EVERY_US {
            // A sign of life.
            self.shown = now;
            self.gate.write_view()?;
        }
        Ok(())
    }
}

fn refused(found: Found, reason: IntakeError) -> Refused {
    Refused {
        found,
        request: "request",
        reason,
    }
}
