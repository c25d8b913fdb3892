//! The process: its parts, and the loop that waits for work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;
use valise_common::alarm::{Alarm, Cause};
use valise_common::config::ReceiverConfig;
use valise_common::history::index::{IndexError, rebuilt_text};
use valise_common::host::alarms::command::AlarmRunner;
use valise_common::host::alarms::{Alarms, NewAlarm};
use valise_common::host::commissioned::{Host, HostError};
use valise_common::host::folders::{InboxName, ReceiverState, Role};
use valise_common::host::life;
use valise_common::host::metrics::{self, Metrics};
use valise_common::host::neighbour::Neighbour;
use valise_common::host::profile;
use valise_common::host::requests::{RequestService, Requests};
use valise_common::host::slots::SlotsError;
use valise_common::host::trust_store::VerifiedList;
use valise_common::host::worker::Threading;
use valise_common::ids::{BundleId, ChannelId, MessageId, Serial};
use valise_common::os::durable::{Eraser, NOT_ERASED, SyncBatch, hold_reserve};
use valise_common::os::lock::HostLock;
use valise_common::os::room::outlast;
use valise_common::os::sandbox::{self, SandboxError};
use valise_common::os::signals::{Asked, Signals};
use valise_common::os::watch::{DirIndex, DirWatch, Notice};
use valise_common::os::{clock, service};
use valise_common::units::{Mono, UtcTime};

use crate::model::event::Event;
use crate::release::cables::{Batch, Incoming};
use crate::release::foreign::{Foreign, Trouble};
use crate::release::ledger::{Ledger, now_of};
use crate::release::observe::{PendingGaps, VerifiedBeacon};
use crate::release::worker::{self, Done, Worker};
use crate::spool::bundle_store::BundleStoreError;
use crate::spool::publish::{GroupError, Groups};
use crate::spool::slots::SlotFile;
use crate::spool::slots_key::{self, SlotsKey, SlotsKeyError};
use crate::spool::view::Counters;
use valise_common::serial_set::SerialSet;

/// How often the loop looks at what no descriptor tells of.
const TICK_US: u64 = 1_000_000;

/// Why `release` ends, or does not begin.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The system failed. After a failed sync what the disk holds is unknown, so that the process ends and starts anew.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The audit log or the register.
    #[error("{0}")]
    Register(#[from] IndexError),
    /// The slots.
    #[error("{0}")]
    Slots(#[from] SlotsError),
    /// The key that covers them.
    #[error("{0}")]
    SlotsKey(#[from] SlotsKeyError),
    /// The host was not commissioned.
    #[error("{0}")]
    Host(#[from] HostError),
    /// A bundle could not be made.
    #[error("{0}")]
    Bundle(#[from] BundleStoreError),
    /// `[mailboxes]`.
    #[error("{0}")]
    Groups(#[from] GroupError),
    /// The sandbox.
    #[error("{0}")]
    Sandbox(#[from] SandboxError),
    /// Another one runs.
    #[error("another release works in {0}: stop it first")]
    Running(PathBuf),
}

/// When a container may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// Behind this time: the disk was full.
    Room(Mono),
    /// After this time: something else is in its place.
    Readable(Mono),
    /// After this time: it is there, and `release` has no right to read it.
    Permitted(Mono),
}

impl Due {
    pub(super) fn is_at(self, mono: Mono) -> bool {
        match self {
            Due::Now => true,
            Due::Room(due) | Due::Readable(due) | Due::Permitted(due) => due <= mono,
        }
    }
}

/// A container that waits in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its length.
    pub bytes: u64,
    /// When it may be tried.
    pub due: Due,
}

/// The process.
pub struct Release {
    pub(super) config: ReceiverConfig,
    pub(super) state: ReceiverState,
    pub(super) host: Host<ChannelId>,
    pub(super) ledger: Ledger,
    pub(super) trust: Option<VerifiedList>,
    pub(super) groups: Groups,
    pub(super) slots: BTreeMap<BundleId, SlotFile>,
    /// What covers new ones on the disk, if the operator wants that.
    pub(super) slots_key: Option<SlotsKey>,
    pub(super) sync: SyncBatch,
    /// Erases what is put away in `tmp/release`: bodies that are not released, requests that are done.
    pub(super) eraser: Eraser,
    pub(super) requests: RequestService,
    pub(super) worker: Worker,
    /// Containers in the inbox, by serial.
    pub(super) waiting: BTreeMap<InboxName, Waiting>,
    /// Quarantined containers that an operator wants verified again.
    pub(super) rechecks: VecDeque<Incoming>,
    /// The serial that the second thread works on.
    pub(super) in_work: Option<Serial>,
    /// Message-ids that are verified and not yet committed.
    pub(super) reserved: BTreeMap<MessageId, Serial>,
    /// Serials that are being published and whose name in a mailbox someone keeps taking.
    pub(super) blocked: BTreeSet<Serial>,
    /// When to try them again.
    pub(super) blocked_until: Mono,
    /// Something stands in the way of what `receive` is told of link keys.
    pub(super) handover_is_behind: bool,
    pub(super) beacon: Option<VerifiedBeacon>,
    pub(super) pending_gaps: PendingGaps,
    pub(super) alarms: Alarms,
    /// Receive, as this process sees it.
    pub(super) neighbour: Neighbour,
    /// What a monitor reads; a command that works without the daemon writes none.
    pub(super) metrics: Option<Metrics>,
    /// What is in the way.
    pub(super) foreign: Foreign,
    /// The alarms of this process's own fences.
    pub(super) fences: Vec<(Alarm, String)>,
    pub(super) counters: Counters,
    pub(super) noted_unopened: SerialSet,
    pub(super) noted_second: SerialSet,
    /// Serials whose container was damaged on the disk and has not come again.
    pub(super) damaged: SerialSet,
    /// What is shown has changed.
    pub(super) dirty: bool,
    // Held to the end.
    _lock: HostLock,
}

/// Release's loop, and what it keeps between two turns.
pub struct Daemon {
    release: Release,
    watch: DirWatch,
    inbox: DirIndex,
    requests: DirIndex,
    ticked: Mono,
    /// Containers wait that can be released now.
    more: bool,
}

/// Runs until a signal asks to stop.
///
/// # Errors
/// [`ReleaseError`] when the process cannot begin or go on.
pub fn run(config: &ReceiverConfig) -> Result<(), ReleaseError> {
    let tmp = ReceiverState::new(config.state.clone()).tmp(Role::Release);
    outlast(&tmp, run_once(config))
}

fn run_once(config: &ReceiverConfig) -> Result<(), ReleaseError> {
    let signals = Signals::new()?;
    let state = ReceiverState::new(config.state.clone());
    // Before any key, the lock and the fences: the alarm command is to have none of them.
    let runner = AlarmRunner::start(&config.alarm.command)?;
    let runs = life::runs(Role::Release);
    let groups = Groups::look_up(&config.mailboxes)?;
    metrics::make_folder(&config.metrics.folder)?;
    let metrics = Metrics::new(Role::Release, &config.metrics.folder, state.root());
    let profile = profile::release(&state)
        .reading(slots_key::credential())
        .writing(&config.metrics.folder);
    let confinement = sandbox::enter(&profile, config.sandbox.required)?;
    confinement.log();
    let mut release = Release::open(config.clone(), state, groups, Threading::Beside)?;
    release.fences = confinement.alarms();
    release.alarms.run_by(runner);
    release.alarms.run_as(runs);
    release.metrics = Some(metrics);
    let mut daemon = Daemon::start(release)?;
    service::ready();
    daemon.serve(&signals)
}

impl Daemon {
    /// Logs the start, begins to watch for containers and requests, and takes up what is there.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn start(mut release: Release) -> Result<Self, ReleaseError> {
        release.start_log()?;
        let mut watch = DirWatch::new()?;
        let inbox = watch.add(&release.state.inbox(), Notice::Arrivals)?;
        let requests = watch.add(&release.state.requests(), Notice::ArrivalsAndRemovals)?;
        // What came before the watch began.
        release.scan_inbox()?;
        release.read_beacon()?;
        release.serve_requests()?;
        release.observe()?;
        // Whoever sees it ready finds what it shows.
        release.show();
        Ok(Self {
            ticked: release.mono(),
            release,
            watch,
            inbox,
            requests,
            more: true,
        })
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), ReleaseError> {
        loop {
            self.sleep(signals)?;
            while let Some(asked) = signals.take()? {
                match asked {
                    Asked::Stop => {
                        service::stopping();
                        return self.stop();
                    }
                    Asked::Reload | Asked::Child => {}
                }
            }
            let ticked = self.ticked;
            self.turn()?;
            if self.ticked != ticked {
                service::watchdog();
            }
        }
    }

    /// Does what is due now, and waits for nothing.
    ///
    /// # Errors
    /// [`ReleaseError`]; the process must end.
    pub fn turn(&mut self) -> Result<(), ReleaseError> {
        let has_beacon = self.take_changes()?;
        let release = &mut self.release;
        if has_beacon {
            release.read_beacon()?;
        }
        release.take_done()?;
        if release.requests.is_due(release.mono()) {
            release.serve_requests()?;
        }
        self.more = release.release_some()?;
        release.recheck_some()?;
        release.erase_what_is_away()?;
        let mono = release.mono();
        if mono.since_us(self.ticked) >= TICK_US {
            self.ticked = mono;
            release.keep_up_requests(mono)?;
            release.publish_blocked(mono)?;
            release.observe()?;
        }
        release.log_alarms()?;
        if release.dirty {
            release.show();
        }
        Ok(())
    }

    /// Ends in order.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn stop(&mut self) -> Result<(), ReleaseError> {
        self.release.stop()
    }

    /// Waits until there is work, or for the tick.
    fn sleep(&self, signals: &Signals) -> Result<(), ReleaseError> {
        let mut fds = [
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.release.worker.as_fd(), PollFlags::POLLIN),
        ];
        let timeout_us = match self.more || self.release.requests.is_due(clock::mono_now()) {
            true => 0,
            false => TICK_US,
        };
        let timeout = u16::try_from(timeout_us / 1_000).map_or(PollTimeout::MAX, PollTimeout::from);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Takes note of what changed in the spools. Returns whether the beacon may be another one.
    fn take_changes(&mut self) -> Result<bool, ReleaseError> {
        let mut has_beacon = false;
        let changes = self.watch.drain()?;
        let release = &mut self.release;
        for (folder, name) in &changes.names {
            if *folder == self.inbox {
                match InboxName::of_container(name) {
                    Some(name) => release.arrive(name)?,
                    None => has_beacon = true,
                }
            } else if *folder == self.requests {
                release.requests.notice(name)?;
            }
        }
        if changes.overflowed {
            release.requests.look_at_all();
            release.scan_inbox()?;
            has_beacon = true;
        }
        Ok(has_beacon)
    }
}

impl Release {
    /// Everything that `release` is made of, with what a crash left taken up. A command may have it too while no daemon
    /// does.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn open(
        config: ReceiverConfig,
        state: ReceiverState,
        groups: Groups,
        threading: Threading,
    ) -> Result<Release, ReleaseError> {
        let host = state.read_host()?;
        let lock = HostLock::try_take(&state.lock(Role::Release))?
            .ok_or_else(|| ReleaseError::Running(state.root().to_owned()))?;
        state.create_all()?;
        hold_reserve(&state.reserve(Role::Release))?;
        let slots_key = match config.release.slots_credential {
            true => Some(SlotsKey::load()?),
            false => None,
        };
        let (ledger, recovered) = Ledger::open(&state, config.audit)?;
        let root = state.root().to_owned();
        let requests = Requests::new(state.requests(), state.tmp(Role::Release));
        let (lock_of_receive, view_of_receive) =
            (state.lock(Role::Receive), state.view_of(Role::Receive));
        let mut release = Release {
            sync: SyncBatch::new(state.root())?,
            eraser: Eraser::new(state.tmp(Role::Release)),
            requests: RequestService::start(requests)?,
            worker: worker::start(threading, state.clone(), slots_key.clone())?,
            config,
            state,
            host,
            ledger,
            trust: None,
            groups,
            slots: BTreeMap::new(),
            slots_key,
            waiting: BTreeMap::new(),
            rechecks: VecDeque::new(),
            in_work: None,
            reserved: BTreeMap::new(),
            blocked: BTreeSet::new(),
            blocked_until: clock::mono_now(),
            handover_is_behind: false,
            beacon: None,
            pending_gaps: PendingGaps::default(),
            alarms: Alarms::new(Role::Release, &root),
            metrics: None,
            neighbour: Neighbour::new(Role::Receive, lock_of_receive, view_of_receive),
            foreign: Foreign::default(),
            fences: Vec::new(),
            counters: Counters::default(),
            noted_unopened: SerialSet::new(),
            noted_second: SerialSet::new(),
            damaged: SerialSet::new(),
            dirty: true,
            _lock: lock,
        };
        if recovered.torn_bytes > 0 {
            let text = format!(
                "the audit log ended in {} bytes of a line that was never committed; they were put aside",
                recovered.torn_bytes
            );
            release.raise(Alarm::AuditLog, text);
        }
        if release.ledger.is_rebuilt() {
            let text = rebuilt_text(&release.state.register());
            release.raise(Alarm::RegisterRebuilt, text);
        }
        release.start_up()?;
        if threading == Threading::Beside {
            release.eraser.start()?;
        }
        Ok(release)
    }

    fn take_done(&mut self) -> Result<(), ReleaseError> {
        let Some(done) = self.worker.take()? else {
            return Ok(());
        };
        self.dirty = true;
        self.in_work = None;
        self.requests.look_again();
        let mut batch = Batch::default();
        match done {
            Done::Opened(incoming, opened) => self.take_opened(incoming, opened, &mut batch)?,
            Done::Staged(incoming, cable, names) => {
                self.take_staged(incoming, cable, names, &mut batch)?;
            }
            Done::Bundle(plan, out, request, by, made) => {
                self.take_bundle(plan, out, &request, by, made)?;
            }
        }
        self.commit(batch)?;
        Ok(self.requests.finish()?)
    }

    /// Waits for the second thread, where a test has no loop.
    #[cfg(test)]
    pub(super) fn await_worker(&mut self) {
        let mut fds = [PollFd::new(self.worker.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).expect("poll");
        self.take_done().expect("the second thread's work");
    }

    /// Answers what could not be answered before, and reports whose requests wait and what stays in `requests/`.
    pub(super) fn keep_up_requests(&mut self, mono: Mono) -> Result<(), ReleaseError> {
        let now = self.now();
        Ok(self.requests.keep_up(&mut self.alarms, now, mono)?)
    }

    /// Has what was put away erased, and reports what could not be.
    fn erase_what_is_away(&mut self) -> Result<(), ReleaseError> {
        self.eraser.wake();
        if self.eraser.take_left()? > 0 {
            self.raise(Alarm::NotErased, NOT_ERASED.to_owned());
        }
        Ok(())
    }

    pub(super) fn recheck_some(&mut self) -> Result<(), ReleaseError> {
        let batch = self.next_recheck()?;
        self.commit(batch)?;
        Ok(self.requests.finish()?)
    }

    /// Opens the next quarantined container that an operator wants judged again, if there is one.
    pub(super) fn next_recheck(&mut self) -> Result<Batch, ReleaseError> {
        let mut batch = Batch::default();
        let large = crate::release::cables::LARGE_BYTES;
        let next = self.rechecks.front();
        let ready = next.is_some_and(|next| next.bytes <= large || !self.worker.is_busy());
        if ready && let Some(incoming) = self.rechecks.pop_front() {
            self.take_in(incoming, &mut batch)?;
        }
        Ok(batch)
    }

    pub(super) fn stop(&mut self) -> Result<(), ReleaseError> {
        self.alarms.end();
        self.log_alarms()?;
        let now = self.now();
        self.ledger.append(now, Event::Stopped);
        self.ledger.checkpoint(self.mono())?;
        self.show();
        Ok(())
    }

    /// "Now" for judging.
    pub(super) fn now(&self) -> UtcTime {
        let issued = self.trust.as_ref().map(|signed| signed.list.issued());
        now_of(clock::utc_now(), issued, self.ledger.last_time())
    }

    pub(super) fn mono(&self) -> Mono {
        clock::mono_now()
    }

    /// Raises an alarm about something that happened.
    pub(super) fn raise(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        let (now, mono) = (self.now(), self.mono());
        self.alarms.raise(alarm, now, mono, cause);
        self.dirty = true;
    }

    /// Shows a file that stops something; `advice` follows its description.
    pub(super) fn note_foreign(&mut self, trouble: Trouble, path: &Path, advice: &str) {
        self.foreign.note(trouble, path, advice);
        self.show_foreign();
    }

    /// Shows the files that stop something now.
    pub(super) fn show_foreign(&mut self) {
        let now = self.now();
        self.foreign.show(&mut self.alarms, now);
        self.dirty = true;
    }

    pub(super) fn log_alarms(&mut self) -> Result<(), ReleaseError> {
        self.commit_alarms()?;
        self.alarms.run_commands();
        Ok(())
    }

    /// Logs every new alarm for a command that has no daemon, and returns them for the person who called it. The alarm
    /// command is not run: root's command would run it with more rights than the daemon has.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn tell_alarms(&mut self) -> Result<Vec<String>, ReleaseError> {
        self.alarms.end();
        self.commit_alarms()
    }

    fn commit_alarms(&mut self) -> Result<Vec<String>, ReleaseError> {
        let (now, mono) = (self.now(), self.mono());
        let mut lines = Vec::new();
        while let Some(NewAlarm { alarm, text, line }) = self.alarms.poll_fresh(mono) {
            lines.push(line);
            let code = alarm.as_str().to_owned();
            self.ledger.append(now, Event::Alarm { code, text });
            self.dirty = true;
        }
        self.ledger.commit()?;
        Ok(lines)
    }
}
