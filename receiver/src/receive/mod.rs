//! The process `receive`: turns datagrams back into containers. It holds link keys and cannot open a container.
//!
//! ```text
//! link ─► reader ─► assembler ─┬─────────────► publisher ─► inbox/
//!         opens     collects   └─► digest ──────┘  syncs
//!                   rebuilds       hashes large ones as they grow
//! ```
//!
//! Only digest and publisher wait for a disk. The queues between the parts are bounded, and answers always find room.
//!
//! | file | owns |
//! |---|---|
//! | `way` | the four parts above, their threads and queues |
//! | `watch` | what release changes on the disk: link keys, containers that it hands back |
//! | `room` | how much of the disk incomplete containers may take |
//! | `link` | the state of the link, and its alarms |
//! | `report` | the audit log, alarms, the view |

mod assemble;
mod digest;
mod egress;
mod error;
mod forged;
mod handback;
mod intake;
mod keys;
mod link;
mod listener;
mod publish;
mod reader;
mod recover;
mod report;
mod room;
mod shared;
mod slab;
mod start;
pub mod view;
mod watch;
mod way;

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use valise_common::alarm::Alarm;
use valise_common::config::{LinkKind, ReceiverConfig};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::link_role::{OpenLink, confine};
use valise_common::host::metrics;
use valise_common::host::profile;
use valise_common::host::worker::Threading;
use valise_common::os::clock::{mono_now, utc_now};
use valise_common::os::durable::refill_reserve;
use valise_common::os::lock::HostLock;
use valise_common::os::room::outlast;
use valise_common::os::serial::Direction;
use valise_common::os::service;
use valise_common::os::signals::{Asked, Signals};
use valise_common::units::{Mono, UtcTime};

pub use error::ReceiveError;
use link::LinkWatch;
pub use listener::SOCKET_UNIT;
use report::Report;
use room::Room;
use shared::Event;
pub use start::Claimed;
use watch::StateWatch;
use way::Way;

/// Interval of the view, and of the looks at the disk, the link and the keys.
const TICK_US: u64 = 1_000_000;

/// Receives until SIGTERM.
///
/// # Errors
/// Why it could not start, or had to end. What is durable by then is taken up at the next start.
pub fn run(config: &ReceiverConfig) -> Result<(), ReceiveError> {
    let tmp = ReceiverState::new(&config.state).tmp(Role::Receive);
    outlast(&tmp, run_once(config))
}

fn run_once(config: &ReceiverConfig) -> Result<(), ReceiveError> {
    // Before any thread: only threads that inherit the mask leave signals to the descriptor.
    let signals = Signals::new()?;
    let state = ReceiverState::new(&config.state);
    let claimed = Claimed::take(config)?;
    metrics::make_folder(&config.metrics.folder)?;
    let profile = profile::receive(&state).writing(&config.metrics.folder);
    let device = config.link.device.as_deref();
    let link = OpenLink {
        socket: claimed.intake.socket(),
        port: device.filter(|_| config.link.kind == LinkKind::Serial),
        direction: Direction::Receive,
        fault: claimed.intake.port_fault(),
    };
    let confined = confine(profile, &link, config.sandbox.required)?;
    let mut receive = Receive::start(config, claimed, Threading::Beside)?;
    receive.link.is_kept = confined.is_kept;
    confined.report(&mut receive.report.alarms);
    // A role that is ready has a view.
    receive.write_view(utc_now())?;
    service::ready();
    let ended = receive.main_loop(&signals);
    if ended.is_ok() {
        service::stopping();
    }
    let stopped = receive.stop();
    ended.and(stopped)
}

/// The running process.
pub struct Receive {
    way: Way,
    watch: StateWatch,
    room: Room,
    link: LinkWatch,
    report: Report,
    tick_at: Mono,
    // Held to the end.
    _lock: HostLock,
}

impl Receive {
    fn main_loop(&mut self, signals: &Signals) -> Result<(), ReceiveError> {
        loop {
            self.turn()?;
            self.wait(signals)?;
            while let Some(asked) = signals.take()? {
                match asked {
                    Asked::Stop => return Ok(()),
                    Asked::Reload => self.watch.load_keys(utc_now(), &self.way)?,
                    Asked::Child => {}
                }
            }
        }
    }

    /// Does what is due now and is not on a datagram's way, and waits for nothing.
    ///
    /// # Errors
    /// [`ReceiveError`]; the process must end.
    pub fn turn(&mut self) -> Result<(), ReceiveError> {
        let now = mono_now();
        if now >= self.tick_at {
            self.tick()?;
            self.tick_at = now.plus_us(TICK_US);
        }
        self.watch.take_changes(utc_now(), &self.way)?;
        self.take_events()
    }

    /// Without threads: reads datagrams once, which waits a tenth of a second if there are none, and passes them on.
    ///
    /// # Errors
    /// [`ReceiveError`]; the process must end.
    pub fn read_link(&mut self) -> Result<(), ReceiveError> {
        self.way.read_link()?;
        self.pass_on()
    }

    /// Without threads: takes what was read as far as it goes.
    ///
    /// # Errors
    /// [`ReceiveError`]; the process must end.
    pub fn pass_on(&mut self) -> Result<(), ReceiveError> {
        Ok(self.way.pass_on()?)
    }

    /// Waits for a signal or a changed key, at most until the tick or a tenth of a second: events have no descriptor.
    fn wait(&self, signals: &Signals) -> Result<(), ReceiveError> {
        let wait = Duration::from_micros(self.tick_at.since_us(mono_now()));
        let wait = wait.min(Duration::from_millis(100));
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, wait) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    fn take_events(&mut self) -> Result<(), ReceiveError> {
        while let Some(event) = self.way.poll_event() {
            match event {
                Event::Failed(text) => return Err(ReceiveError::Failed(text)),
                Event::KeyVerified(bundle) => {
                    if self.watch.is_new(bundle) {
                        tracing::info!(%bundle, "the link key of this bundle is in use; older ones end in 24 hours");
                        // First the line, then what ends older keys. A kill between the two costs a second line.
                        let fields = [("bundle", json!(bundle))];
                        self.report.note("link-key-in-use", &fields)?;
                        self.watch.handle_verified(bundle, utc_now())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), ReceiveError> {
        let (now, mono) = (utc_now(), mono_now());
        let shared = self.way.shared();
        let alarms = &mut self.report.alarms;
        self.link.look(now, mono, shared, alarms)?;
        alarms.set_text(Alarm::LinkKey, now, self.watch.key_alarm());
        // Release has a log and a command for alarms: here they only go to the journal.
        while alarms.poll_fresh(mono).is_some() {}
        refill_reserve();
        self.write_view(now)?;
        self.room.tell(&self.way)?;
        self.watch.load_keys_if_due(now, &self.way)?;
        let forged = self.way.shared().forged().poll(mono);
        self.report.note_forged(forged)?;
        self.report.checkpoint_if_due(mono)?;
        self.link.log_kernel_drops(self.way.shared());
        service::watchdog();
        Ok(())
    }

    fn write_view(&mut self, now: UtcTime) -> Result<(), ReceiveError> {
        Ok(self.report.write_view(now, self.way.shared())?)
    }

    /// Ends the threads from front to back; everything that is in memory goes to disk.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn stop(mut self) -> Result<(), ReceiveError> {
        self.way.stop()?;
        self.take_events()?;
        self.write_view(utc_now())?;
        let forged = self.way.shared().forged().take();
        self.report.note_forged(forged)?;
        self.report.note("stopped", &[])?;
        Ok(self.report.checkpoint(mono_now())?)
    }
}

#[cfg(test)]
mod tests;
