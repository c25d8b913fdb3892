//! The process that sends sealed containers. It has the link key and the network, and no key that opens anything.
//!
//! | file | owns |
//! |---|---|
//! | `containers` | which containers there are, whether they are intact, how far each has been sent |
//! | `outlet` | the link, the session on it, the passes that have just left |
//! | `report` | events, progress, alarms, the view; `record` writes them, on a thread of its own |
//!
//! One loop connects them. Changes of the outbox and signals are taken in between two batches, so a FLASH cable waits for one
//! batch at most.

mod check;
mod containers;
mod error;
mod link;
mod load;
mod medium;
mod outlet;
mod record;
mod report;
mod session;
mod settling;
mod start;
mod unsendable;
pub mod view;
mod watch;

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use valise_common::config::SenderConfig;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::link_role::{OpenLink, confine};
use valise_common::host::metrics;
use valise_common::host::profile;
use valise_common::host::worker::Threading;
use valise_common::os::clock;
use valise_common::os::lock::HostLock;
use valise_common::os::room::outlast;
use valise_common::os::serial::Direction;
use valise_common::os::service;
use valise_common::os::signals::{Asked, Signals};
use valise_common::units::Mono;

use crate::pipeline::Now;

use containers::Containers;
use error::During;
pub use error::TransmitError;
use medium::Seen;
use outlet::Outlet;
use report::Report;
pub use start::Claimed;
use watch::{SpoolChanges, StateWatch};

/// Interval of the view, of progress on the disk, and of the longest wait.
const SECOND_US: u64 = 1_000_000;
/// A wait of at least this long leaves time to make the repair symbols of a block.
const PREPARE_US: u64 = 300;
/// Time that a stop waits for a batch that has begun to leave.
const FINISH_US: u64 = 1_000_000;

/// Runs transmit until SIGTERM.
///
/// # Errors
/// [`TransmitError`]: a wrong configuration at the start, later only a failure of the disk or the kernel. A link that is down
/// is not an error.
pub fn run(config: &SenderConfig) -> Result<(), TransmitError> {
    let tmp = SenderState::new(&config.state).tmp(Role::Transmit);
    outlast(&tmp, run_once(config))
}

fn run_once(config: &SenderConfig) -> Result<(), TransmitError> {
    SenderState::new(&config.state).check_commissioned()?;
    let claimed = Claimed::take(config)?;
    metrics::make_folder(&config.metrics.folder).during("make metrics.folder")?;
    let profile = profile::transmit(&SenderState::new(&config.state));
    let medium = claimed.link.medium();
    let link = OpenLink {
        socket: medium.socket(),
        port: config.link.device.as_deref(),
        direction: Direction::Send,
        fault: medium.port_fault(),
    };
    let profile = profile.writing(&config.metrics.folder);
    let confined = confine(profile, &link, config.sandbox.required)?;
    let mut transmit = Transmit::start(config, claimed, Threading::Beside)?;
    transmit.outlet.is_kept = confined.is_kept;
    confined.report(&mut transmit.report.alarms);
    service::ready();
    while transmit.step()? == Flow::GoOn {}
    service::stopping();
    transmit.stop()
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

/// The running process.
pub struct Transmit {
    state: SenderState,
    containers: Containers,
    outlet: Outlet,
    report: Report,
    watch: StateWatch,
    signals: Signals,
    // Freed by the kernel when the process ends.
    _lock: HostLock,
}

impl Transmit {
    /// Takes one turn, and waits until the next is due or something changes.
    fn step(&mut self) -> Result<Flow, TransmitError> {
        let began = clock::mono_now();
        let Some(wake) = self.turn()? else {
            return Ok(Flow::Stop);
        };
        if wake.since_us(began) >= PREPARE_US && self.containers.prepare() {
            return self.wait(Duration::ZERO);
        }
        self.wait(wake - began)
    }

    /// Sends a batch, if one may leave. Returns when there is more to do; `None` if nothing can be recorded any more.
    ///
    /// # Errors
    /// [`TransmitError`]; the process must end.
    pub fn turn(&mut self) -> Result<Option<Mono>, TransmitError> {
        let now = now();
        if self.report.recorder.has_failed() {
            return Ok(None);
        }
        if self.report.is_due(now.mono) {
            self.end_second(now);
            if self.outlet.is_other_device() {
                return Err(TransmitError::OtherDevice);
            }
        }
        self.send(now).map(Some)
    }

    /// Takes in what gate has changed, and what has been compared, without waiting.
    ///
    /// # Errors
    /// [`TransmitError`]; the process must end.
    pub fn take_changes(&mut self) -> Result<(), TransmitError> {
        self.wait(Duration::ZERO).map(drop)
    }

    /// Ends the process in order: what has left is recorded.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn stop(mut self) -> Result<(), TransmitError> {
        self.finish_batch();
        let now = now();
        match self.outlet.link_mut().look_now(now.mono) {
            Seen::Nothing | Seen::Down | Seen::Lost => self.handle_link_lost(now),
            Seen::Up => {
                for ended in self.outlet.take_settling() {
                    self.report.recorder.ended(ended);
                }
            }
        }
        self.end_second(now);
        Ok(self.report.stop()?)
    }

    /// Sends what may leave now, and returns when to go on.
    fn send(&mut self, now: Now) -> Result<Mono, TransmitError> {
        if self.outlet.session().is_none() {
            self.outlet.link_mut().look_before_key(now.mono);
            return Ok(now.mono.plus_us(SECOND_US));
        }
        match self.outlet.link_mut().look(now.mono) {
            Seen::Nothing | Seen::Down => {}
            Seen::Up => {
                while let Some(ended) = self.outlet.poll_settled(now.mono) {
                    self.report.recorder.ended(ended);
                }
            }
            Seen::Lost => self.handle_link_lost(now),
        }
        if self.outlet.link().is_blocked() {
            return self.outlet.probe(now.mono, &mut self.report.recorder);
        }
        if self.outlet.link().is_clear() {
            let Some(count) = self.containers.poll_batch(now) else {
                return Ok(self.next_wakeup(now));
            };
            let room = self.outlet.room(count, &mut self.report.recorder)?;
            if let Some((framer, buffer)) = room {
                self.containers.fill(framer, buffer);
            }
            self.handle_faults();
        }
        if let Some(retry_at) = self.outlet.link_mut().send(now.mono) {
            return Ok(retry_at);
        }
        self.handle_batch_left(now);
        Ok(self.next_wakeup(now))
    }

    fn handle_batch_left(&mut self, now: Now) {
        self.report.handle_sent(self.containers.handle_batch_left());
        while let Some(ended) = self.containers.poll_ended() {
            self.outlet.handle_ended(now.mono, ended);
        }
    }

    /// Waits until the batch has left, at most [`FINISH_US`]. A datagram takes long on a slow line.
    fn finish_batch(&mut self) {
        let end_at = now().mono.plus_us(FINISH_US);
        while !self.outlet.link().is_clear() && !self.outlet.link().is_blocked() {
            let now = now();
            match self.outlet.link_mut().send(now.mono) {
                None => self.handle_batch_left(now),
                Some(retry_at) if retry_at < end_at => {
                    std::thread::sleep(Duration::from_micros(retry_at.since_us(now.mono)));
                }
                Some(_) => return,
            }
        }
    }

    fn next_wakeup(&self, now: Now) -> Mono {
        let next = self.containers.next_wakeup(now);
        self.outlet.due_at().map_or(next, |due_at| next.min(due_at))
    }

    /// Datagrams of the last moments may not have left the host: their passes begin again when the link is up.
    fn handle_link_lost(&mut self, now: Now) {
        let lost = self.outlet.take_lost();
        self.containers.handle_link_lost(now, lost);
    }

    /// Waits this long, or until something happens, and takes it in.
    fn wait(&mut self, span: Duration) -> Result<Flow, TransmitError> {
        let mut ready = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.containers.as_fd(), PollFlags::POLLIN),
        ];
        let room = self.outlet.link().awaits_room();
        ready.extend(room.map(|socket| PollFd::new(socket, PollFlags::POLLOUT)));
        let span = span.min(Duration::from_micros(SECOND_US));
        match ppoll(&mut ready, Some(TimeSpec::from(span)), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Flow::GoOn),
            Ok(_) => {}
            Err(errno) => return Err(errno).during("wait"),
        }
        let is_ready = |place: usize| {
            let ready: Option<&PollFd<'_>> = ready.get(place);
            ready.is_some_and(|ready| ready.any().unwrap_or(false))
        };
        let [signalled, changed, compared, has_room] = [0, 1, 2, 3].map(is_ready);
        if has_room {
            self.outlet.link_mut().retry_now();
        }
        if signalled {
            while let Some(asked) = self.signals.take().during("signals")? {
                match asked {
                    Asked::Stop => return Ok(Flow::Stop),
                    Asked::Reload | Asked::Child => {
                        self.handle_changes(SpoolChanges::everything())?;
                    }
                }
            }
        }
        if compared {
            self.containers
                .handle_compared(now())
                .during("check containers")?;
            self.handle_faults();
        }
        if changed {
            let changes = self.watch.take()?;
            self.handle_changes(changes)?;
        }
        Ok(Flow::GoOn)
    }

    fn handle_changes(&mut self, changes: SpoolChanges) -> Result<(), TransmitError> {
        if changes.keys {
            self.outlet
                .take_key(&self.state, &mut self.report.recorder)?;
        }
        self.containers
            .handle_changes(now(), &mut self.watch, changes)?;
        self.handle_faults();
        Ok(())
    }

    fn handle_faults(&mut self) {
        self.report.handle_faults(&self.outlet, &self.containers);
    }

    fn end_second(&mut self, now: Now) {
        self.report
            .end_second(now.mono, &self.outlet, &mut self.containers);
    }
}

fn now() -> Now {
    Now {
        mono: clock::mono_now(),
        utc_us: clock::utc_now_us(),
    }
}

#[cfg(test)]
mod tests;
