//! Gate's process: the loop that waits for requests, for the worker and for time.

use std::collections::BTreeSet;
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

use super::error::GateError;
use super::host::Gate;
use super::intake::Intake;
use super::sealing::{FinishedContainer, LARGE_BODY_BYTES};
use super::worker::{Done, Queue, Work};
use crate::model::event::Event;

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
    gate.shown.alarms.run_by(runner);
    metrics::make_folder(&config.metrics.folder)?;
    gate.shown.metrics = Some(Metrics::new(
        Role::Gate,
        &config.metrics.folder,
        gate.state.root(),
    ));
    let profile = profile::gate(&gate.state).writing(&config.metrics.folder);
    let confinement = sandbox::enter(&profile, config.sandbox.required)?;
    confinement.log();
    let mut daemon = Daemon::start(gate, confinement.alarms(), Threading::Beside)?;
    tracing::info!(
        issued = daemon.gate.history.ledger().issued,
        "gate takes requests"
    );
    service::ready();
    daemon.serve(&signals)
}

/// Gate's loop, and what it keeps between two turns.
pub struct Daemon {
    gate: Gate,
    worker: Queue,
    watch: DirWatch,
    progress: DirIndex,
    intake: Intake,
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
            .authority
            .list()
            .is_some_and(|list| list.allow_software_keys());
        if software_keys {
            tracing::warn!("the trust list allows software keys: for exercises only");
        }
        gate.history.record(&Event::Start { software_keys });
        gate.requests.take_over()?;
        let mut large = gate.recover()?;
        gate.shown.set_time(gate.history.log_time());
        if gate.history.ledger().trust.is_none() {
            gate.shown
                .alarm(Alarm::TrustMissing, "no trust list is in force");
        }
        for (alarm, text) in fences {
            gate.shown.alarm(alarm, text);
        }
        if let Some(name) = copies_on_write(gate.state.root())? {
            gate.shown.alarm(
                Alarm::CopiesOnWrite,
                copies_on_write_text(gate.state.root(), name),
            );
        }
        let next_expiry = gate.upkeep()?;
        large.extend(gate.seal_ready(true)?);
        gate.history.checkpoint(clock::mono_now())?;
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
            intake: Intake::default(),
            view_due: None,
            shown: now,
            upkeep_done: now,
            next_expiry,
            upkeep_wanted: false,
        };
        // What was written before the watch began shows in no notice.
        let live: Vec<Serial> = daemon.gate.history.serials();
        daemon.note_progress(live)?;
        Ok(daemon)
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), GateError> {
        let served = self.serve_turns(signals);
        if served.is_err() {
            // The journal has them, although the log no longer does.
            self.gate.shown.log_alarms(&mut self.gate.history);
        }
        served
    }

    fn serve_turns(&mut self, signals: &Signals) -> Result<(), GateError> {
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
        self.gate.shown.set_time(self.gate.history.log_time());
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
        self.gate.shown.alarms.end();
        self.gate.shown.log_alarms(&mut self.gate.history);
        self.gate.history.record(&Event::Stop);
        self.gate.history.checkpoint(clock::mono_now())?;
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
            let live: Vec<Serial> = self.gate.history.serials();
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
                    let request = self.intake.take_prepared(&mut self.gate, result);
                    let large = self.gate.handle(request.into_iter().collect())?;
                    self.gate.requests.end();
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
        let batch = self.intake.next_batch(&mut self.gate, &mut self.worker)?;
        if !batch.is_empty() {
            let large = self.gate.handle(batch)?;
            self.hand_over(large)?;
            self.upkeep_wanted = true;
        }
        self.gate.requests.end();
        Ok(())
    }

    fn keep_up(&mut self) -> Result<(), GateError> {
        let now = clock::mono_now();
        let mut write_view = self.view_due.is_some_and(|due| due <= now);
        if now.since_us(self.upkeep_done) >= UPKEEP_US {
            self.upkeep_done = now;
            self.upkeep_wanted = false;
            self.next_expiry = self.gate.upkeep()?;
            if self.gate.outgoing.wants_room && self.gate.check_room(LARGE_BODY_BYTES).is_ok() {
                self.gate.outgoing.wants_room = false;
                let mut large = self.gate.seal_waiting_for_room()?;
                large.extend(self.gate.seal_ready(true)?);
                self.hand_over(large)?;
            }
            self.intake.keep_up(&mut self.gate);
            self.gate.keep_up_requests(now)?;
            self.gate.shown.watch_neighbour();
            self.gate.commit()?;
            if self.gate.history.is_checkpoint_due(now) {
                self.gate.history.checkpoint(now)?;
            }
            write_view |= self.gate.history.has_changed() || self.gate.shown.alarms.take_changed();
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
