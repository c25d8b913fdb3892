//! The four roles, each started, turned, killed and ended as its process would be.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use valise_common::host::folders::Role;
use valise_common::host::worker::Threading;
use valise_common::os::clock;
use valise_common::units::Mono;
use valise_receiver::receive::{self, Receive};
use valise_receiver::release::{self, Release};
use valise_receiver::spool::publish::Groups;
use valise_sender::gate;
use valise_sender::transmit::{self, Transmit};

use super::plan::Link;
use super::site::Site;
use super::{Result, wrong};

/// Batches that transmit sends in one turn at most; a datagram of the simulated line takes longer than that many are sent.
const BATCHES_MAX: u32 = 64;

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Gate and transmit.
    Sender,
    /// Receive and release.
    Receiver,
}

impl Address {
    /// The host of a role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Gate | Role::Transmit => Address::Sender,
            Role::Receive | Role::Release => Address::Receiver,
        }
    }
}

/// A role that runs.
pub enum Running {
    /// Gate.
    Gate(Box<gate::Daemon>),
    /// Transmit.
    Transmit(Box<Transmit>),
    /// Receive.
    Receive(Box<Receive>),
    /// Release.
    Release(Box<release::Daemon>),
}

/// How a turn ended that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The role gave up, and why.
    #[error("{0}")]
    Error(String),
    /// The role panicked.
    #[error("panic: {0}")]
    Panic(String),
}

impl Running {
    /// Starts a role as its process does, but for the fences and the signals.
    ///
    /// # Errors
    /// The reason if the role does not start.
    pub fn start(site: &Site, link: Link, role: Role) -> std::result::Result<Self, Ended> {
        guarded(|| {
            Ok(match role {
                Role::Gate => {
                    let gate = gate::host::Gate::open(&site.sender_config(link)?).map_err(wrong)?;
                    let daemon = gate::Daemon::start(gate, Vec::new(), Threading::Caller);
                    Running::Gate(Box::new(daemon.map_err(wrong)?))
                }
                Role::Transmit => {
                    let config = site.sender_config(link)?;
                    let claimed = transmit::Claimed::take(&config).map_err(wrong)?;
                    let started = Transmit::start(&config, claimed, Threading::Caller);
                    Running::Transmit(Box::new(started.map_err(wrong)?))
                }
                Role::Receive => {
                    let config = site.receiver_config(link)?;
                    let claimed = receive::Claimed::take(&config).map_err(wrong)?;
                    let started = Receive::start(&config, claimed, Threading::Caller);
                    Running::Receive(Box::new(started.map_err(wrong)?))
                }
                Role::Release => {
                    let (config, state) = (site.receiver_config(link)?, site.receiver_state());
                    let opened = Release::open(config, state, Groups::default(), Threading::Caller);
                    let daemon = release::Daemon::start(opened.map_err(wrong)?);
                    Running::Release(Box::new(daemon.map_err(wrong)?))
                }
            })
        })
    }

    /// Gives the role its turn. `has_datagrams`: some wait for receive. `after_batch` is called when transmit may have sent.
    /// Returns when transmit wants its next turn.
    ///
    /// # Errors
    /// The reason if the process must end.
    pub fn turn(
        &mut self,
        has_datagrams: bool,
        mut after_batch: impl FnMut() -> Result<()>,
    ) -> std::result::Result<Option<Mono>, Ended> {
        guarded(|| match self {
            Running::Gate(daemon) => daemon.turn().map(|()| None).map_err(wrong),
            Running::Release(daemon) => daemon.turn().map(|()| None).map_err(wrong),
            Running::Receive(receive) => {
                receive.turn().map_err(wrong)?;
                match has_datagrams {
                    true => receive.read_link().map_err(wrong)?,
                    false => receive.pass_on().map_err(wrong)?,
                }
                Ok(None)
            }
            Running::Transmit(transmit) => {
                let mut next = Mono(0);
                for _ in 0..BATCHES_MAX {
                    transmit.take_changes().map_err(wrong)?;
                    let wake = transmit.turn();
                    after_batch()?;
                    let wake = wake.map_err(wrong)?;
                    next = wake.ok_or_else(|| wrong("nothing can be written down"))?;
                    if next > clock::mono_now() {
                        break;
                    }
                }
                Ok(Some(next))
            }
        })
    }

    /// Ends it as SIGTERM does.
    ///
    /// # Errors
    /// The failure.
    pub fn stop(self) -> std::result::Result<(), Ended> {
        guarded(|| match self {
            Running::Gate(mut daemon) => daemon.stop().map_err(wrong),
            Running::Release(mut daemon) => daemon.stop().map_err(wrong),
            Running::Receive(receive) => receive.stop().map_err(wrong),
            Running::Transmit(transmit) => transmit.stop().map_err(wrong),
        })
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Ended> {
    // What a panic leaves behind is dropped with the role.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| Ended::Error(error.to_string())),
        Err(panic) => Err(Ended::Panic(text_of(&*panic))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
