//! The process: its parts, and the loop that waits for work.

use std::io;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use valise_common::config::ReceiverConfig;
use valise_common::host::alarms::command::AlarmRunner;
use valise_common::host::folders::{InboxName, ReceiverState, Role};
use valise_common::host::life;
use valise_common::host::metrics::{self, Metrics};
use valise_common::host::profile;
use valise_common::host::worker::Threading;
use valise_common::os::room::outlast;
use valise_common::os::sandbox;
use valise_common::os::signals::{Asked, Signals};
use valise_common::os::watch::{DirIndex, DirWatch, Notice};
use valise_common::os::{clock, service};
use valise_common::units::Mono;

use super::error::ReleaseError;
use super::host::Release;
use crate::spool::publish::Groups;
use crate::spool::slots_key;

/// How often the loop looks at what no descriptor tells of.
const TICK_US: u64 = 1_000_000;

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
    release.shown.fences = confinement.alarms();
    release.shown.alarms.run_by(runner);
    release.shown.alarms.run_as(runs);
    release.shown.metrics = Some(metrics);
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
            if !release.worker.is_busy() {
                release.requests.look_again();
            }
            release.publish_blocked(mono)?;
            release.observe()?;
        }
        release.log_alarms()?;
        if release.shown.dirty {
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
