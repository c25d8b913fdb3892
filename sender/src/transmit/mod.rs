//! The process that sends sealed containers. It has the link key and the network, and no key that opens anything.
//!
//! One loop: whatever gate or a signal says is taken in between two batches, so a FLASH waits for one batch at most. The
//! disk is written to by a thread of its own.

mod check;
mod link;
mod load;
mod record;
mod session;
mod settling;
mod unsendable;
pub mod view;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use serde_json::json;
use thiserror::Error;
use valise_common::alarm::Alarm;
use valise_common::config::{LinkKind, SenderConfig};
use valise_common::history::log::{AuditLog, AuditLogError, Recovered};
use valise_common::host::alarms::Alarms;
use valise_common::host::commissioned::HostError;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::life;
use valise_common::host::metrics::{self, Metrics};
use valise_common::host::profile;
use valise_common::host::worker::Threading;
use valise_common::ids::Serial;
use valise_common::os::clock;
use valise_common::os::durable;
use valise_common::os::entropy::EntropyError;
use valise_common::os::lock::HostLock;
use valise_common::os::processor::Aes;
use valise_common::os::room::outlast;
use valise_common::os::sandbox::{self, SandboxError};
use valise_common::os::serial::{Direction, Fault};
use valise_common::os::service;
use valise_common::os::signals::{Asked, Signals};
use valise_common::units::{Mono, Rate};

use crate::pipeline::{Batch, Now, Pipeline, Progress, RefusedContainer, Settings, WarmUp};
use crate::spool::link_key::LinkKeyError;
use crate::spool::outbox::{Outbox, OutboxError};

use check::{Checker, Compared};
use link::{Link, Seen};
use load::{COMPARED_HERE_BYTES, Loader};
use record::{RecordError, Recorder};
use session::Session;
use settling::Settling;
use unsendable::{Unsendable, Why};
use view::{LinkState, OnLinkView, TransmitView};
use watch::{Arrived, SpoolChanges, StateWatch};

/// Views, progress and the watchdog come about so often.
const SECOND_US: u64 = 1_000_000;
/// A wait of so much leaves time to make the repair symbols of a block.
const PREPARE_US: u64 = 300;
/// Time that a stop waits for a batch that has begun to leave.
const FINISH_US: u64 = 1_000_000;
/// Why transmit ended.
#[derive(Debug, Error)]
pub enum TransmitError {
    /// The lock is held.
    #[error("transmit is running already on this state folder")]
    Running,
    /// `init` has not been run.
    #[error(transparent)]
    NotCommissioned(#[from] HostError),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// Noise at an unlimited rate would fill the machine and the link.
    #[error("link.cover = true needs a link.rate in bit/s, not \"unlimited\"")]
    CoverNeedsRate,
    /// The link cannot be opened.
    #[error("link: {0}")]
    Link(io::Error),
    /// As root, the fences allow one device alone.
    #[error(
        "link.device was plugged in, and the fences of root keep transmit from it: it is to be started again"
    )]
    OtherDevice,
    /// The outbox cannot be read.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The link key cannot be used.
    #[error(transparent)]
    Key(#[from] LinkKeyError),
    /// No random session id.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// What was done cannot be written down.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A fence could not be put up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A file, a directory or a system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl TransmitError {
    /// Whether the configuration or the commissioning is at fault, so that starting again would not help.
    pub fn is_configuration(&self) -> bool {
        use TransmitError::{CoverNeedsRate, NotCommissioned};
        matches!(self, NotCommissioned(_) | CoverNeedsRate)
    }
}

/// Names what failed.
trait During<T> {
    fn during(self, what: &'static str) -> Result<T, TransmitError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, TransmitError> {
        self.map_err(|error| TransmitError::Io {
            what,
            source: error.into(),
        })
    }
}

/// Runs `transmit` until it is told to stop.
///
/// # Errors
/// [`TransmitError`]: a wrong configuration at the start; later only what durability rests on. The link being down is none.
pub fn run(config: &SenderConfig) -> Result<(), TransmitError> {
    let tmp = SenderState::new(&config.state).tmp(Role::Transmit);
    outlast(&tmp, run_once(config))
}

fn run_once(config: &SenderConfig) -> Result<(), TransmitError> {
    SenderState::new(&config.state).check_commissioned()?;
    let runs = life::runs(Role::Transmit);
    let claimed = Claimed::take(config)?;
    // Before any thread, which would stay outside of the fences, and behind the lock and the link's device.
    metrics::make_folder(&config.metrics.folder).during("make metrics.folder")?;
    let mut profile =
        profile::transmit(&SenderState::new(&config.state)).writing(&config.metrics.folder);
    profile = match (claimed.link.socket(), &config.link.device) {
        (Some(socket), _) => profile.with_link(socket),
        (None, Some(device)) => profile.with_port(device, Direction::Send),
        (None, None) => profile,
    };
    let fault = claimed.link.port_fault();
    let confinement = sandbox::enter(&profile, config.sandbox.required)?;
    confinement.log();
    Aes::detect().log();
    let mut transmit = Transmit::start(config, claimed, Threading::Beside)?;
    transmit.is_kept = confinement.keeps_root_from_ports() && fault != Some(Fault::Forbidden);
    transmit.alarms.run_as(runs);
    for (alarm, text) in confinement.alarms() {
        transmit.alarms.set(alarm, clock::utc_now(), 1, || text);
    }
    service::ready();
    while transmit.step()? == Flow::GoOn {}
    service::stopping();
    transmit.stop()
}

/// The lock, the link and the log, which only one process may have.
pub struct Claimed {
    lock: HostLock,
    link: Link,
    audit: AuditLog,
    recovered: Recovered,
}

impl Claimed {
    /// Takes it.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn take(config: &SenderConfig) -> Result<Self, TransmitError> {
        let state = SenderState::new(&config.state);
        // Before anything is written: none of them may lead to somewhere else.
        state.check_all().during("look at the state's folders")?;
        let lock = HostLock::try_take(&state.lock(Role::Transmit)).during("lock")?;
        let lock = lock.ok_or(TransmitError::Running)?;
        durable::hold_reserve(&state.reserve(Role::Transmit)).during("hold the reserve")?;
        let link = Link::open(config, clock::mono_now())?;
        // Before the fences, which do not let this role into the folder of both roles' logs.
        let (mut audit, recovered) = AuditLog::open(&state.audit(), Role::Transmit.as_str())?;
        audit.set_part_bytes(config.audit.file_bytes.0);
        Ok(Self {
            lock,
            link,
            audit,
            recovered,
        })
    }
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
    rate: Rate,
    pipeline: Pipeline,
    loader: Loader,
    checker: Checker,
    session: Option<Session>,
    settling: Settling,
    alarms: Alarms,
    unsendable: Unsendable,
    link: Link,
    recorder: Recorder,
    watch: StateWatch,
    signals: Signals,
    batch: Batch,
    // Run by root, the fences allow only the device that was there at the start.
    is_kept: bool,
    // Progress of symbols that have left and are not recorded yet. Composed symbols may still wait for a slow line.
    left: BTreeMap<Serial, Progress>,
    second: Second,
    watchdog_at: Option<Mono>,
    // Freed by the kernel when the process ends.
    _lock: HostLock,
}

/// What is due once a second.
struct Second {
    began: Mono,
    datagrams: u64,
}

impl Transmit {
    /// Takes up what an earlier process left, and begins to watch the outbox.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn start(
        config: &SenderConfig,
        claimed: Claimed,
        threading: Threading,
    ) -> Result<Self, TransmitError> {
        let Claimed {
            lock,
            link,
            audit,
            recovered,
        } = claimed;
        let state = SenderState::new(&config.state);
        // Blocked before the recorder's thread starts, which inherits the mask.
        let signals = Signals::new().during("signals")?;
        durable::clear_tmp(&state.tmp(Role::Transmit), |_| false)
            .and_then(|()| durable::finish_erasing(&state.tmp(Role::Transmit)))
            .during("clear tmp/transmit")?;
        let metrics = Metrics::new(Role::Transmit, &config.metrics.folder, state.root());
        let mut recorder =
            Recorder::start(threading, state.clone(), audit, metrics).during("start a thread")?;
        let torn_bytes = json!(recovered.torn_bytes);
        recorder.event(
            "start",
            vec![("role", json!("transmit")), ("torn_bytes", torn_bytes)],
        );
        // Waits end when they should, not up to 50 us later.
        prctl::set_timerslack(1).during("timer slack")?;
        let now = now();
        let settings = Settings {
            datagram: link.datagram,
            wire_bytes: link.wire_bytes(),
            batch_count_max: link.batch_count_max(),
            warm_up: match config.link.kind {
                LinkKind::Udp => WarmUp::Cover,
                LinkKind::Serial => WarmUp::None,
            },
            rate: link.rate(config.link.rate),
            cover: config.link.cover,
            repair: config.fec.repair,
            interleave: config.fec.interleave,
        };
        let outbox = Outbox::new(state.clone());
        let mut transmit = Self {
            rate: match config.link.kind {
                LinkKind::Udp => config.link.rate,
                LinkKind::Serial => Rate::BitsPerSecond(config.link.baud.into()),
            },
            pipeline: Pipeline::new(settings, now),
            loader: Loader::new(outbox, link.datagram, config.fec.repair),
            checker: Checker::start(threading, Outbox::new(state.clone()))
                .during("start a thread")?,
            session: None,
            settling: Settling::new(match config.link.kind {
                LinkKind::Udp => settling::UDP_US,
                LinkKind::Serial => settling::SERIAL_US,
            }),
            alarms: Alarms::new(Role::Transmit, state.root()),
            unsendable: Unsendable::default(),
            watch: StateWatch::new(&state)?,
            state,
            link,
            recorder,
            signals,
            batch: Batch::default(),
            is_kept: false,
            left: BTreeMap::new(),
            second: Second {
                began: now.mono,
                datagrams: 0,
            },
            watchdog_at: service::watchdog_interval().map(|_| now.mono),
            _lock: lock,
        };
        if let Some(last) = TransmitView::of_last_process(&transmit.state) {
            let time_us = last.beacon_time_us;
            transmit.pipeline.restore_beacon_time(now, time_us);
        }
        transmit.take_changed(SpoolChanges::everything())?;
        Ok(transmit)
    }

    /// One turn, and a wait for whatever happens meanwhile.
    fn step(&mut self) -> Result<Flow, TransmitError> {
        let began = clock::mono_now();
        let Some(wake) = self.turn()? else {
            return Ok(Flow::Stop);
        };
        if wake.since_us(began) >= PREPARE_US && self.loader.prepare(&self.pipeline) {
            return self.wait(Duration::ZERO);
        }
        self.wait(wake - began)
    }

    /// Sends a batch, if one may leave. Returns when there is more to do; `None` if nothing can be written down any more.
    ///
    /// # Errors
    /// [`TransmitError`]; the process must end.
    pub fn turn(&mut self) -> Result<Option<Mono>, TransmitError> {
        let now = now();
        if self.recorder.has_failed() {
            return Ok(None);
        }
        if now.mono.since_us(self.second.began) >= SECOND_US {
            self.second_passed(now);
            if self.is_kept && self.link.port_fault() == Some(Fault::Forbidden) {
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

    /// Ends the process in order: what has left is written down.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn stop(mut self) -> Result<(), TransmitError> {
        self.finish_batch();
        let now = now();
        match self.link.look_now(now.mono) {
            Seen::Nothing | Seen::Down | Seen::Lost => self.handle_link_lost(now),
            Seen::Up => {
                let ended = self.settling.take_all();
                ended
                    .into_iter()
                    .for_each(|ended| self.recorder.ended(ended));
            }
        }
        self.second_passed(now);
        Ok(self.recorder.stop()?)
    }

    /// Sends what may leave now; tells when to go on.
    fn send(&mut self, now: Now) -> Result<Mono, TransmitError> {
        if self.session.is_none() {
            self.link.look_before_key(now.mono);
            return Ok(now.mono.plus_us(SECOND_US));
        }
        match self.link.look(now.mono) {
            Seen::Nothing | Seen::Down => {}
            Seen::Up => {
                while let Some(ended) = self.settling.poll_settled(now.mono) {
                    self.recorder.ended(ended);
                }
            }
            Seen::Lost => self.handle_link_lost(now),
        }
        if self.link.is_blocked() {
            return self.probe(now);
        }
        let Some(session) = &mut self.session else {
            return Ok(now.mono.plus_us(SECOND_US));
        };
        if self.link.is_clear() {
            if !self.pipeline.poll_batch(now, &mut self.batch) {
                return Ok(self.next_wakeup(now));
            }
            if !session.framer.has_room(self.batch.count()) {
                session.renew()?;
                self.recorder.event_durable("session", session.fields())?;
            }
            let buffer = self.link.room(self.batch.count());
            let framer = &mut session.framer;
            let unreadable = self
                .loader
                .fill(&self.batch, &self.pipeline, framer, buffer);
            for one in unreadable {
                match one.error {
                    Some(error) => self.cannot_send(one.serial, &error),
                    // It is gone, and gate knows.
                    None => self.give_up(one.serial),
                }
            }
        }
        if let Some(retry_at) = self.link.send(now.mono) {
            return Ok(retry_at);
        }
        self.handle_batch_left(now);
        Ok(self.next_wakeup(now))
    }

    fn handle_batch_left(&mut self, now: Now) {
        self.second.datagrams += u64::from(self.batch.count());
        self.take_progress();
        while let Some(ended) = self.pipeline.poll_ended() {
            self.loader.close(ended.progress.serial);
            self.left.remove(&ended.progress.serial);
            self.settling.handle_ended(now.mono, ended);
        }
    }

    fn take_progress(&mut self) {
        while let Some(progress) = self.pipeline.poll_progress() {
            self.left.insert(progress.serial, progress);
        }
    }

    /// Waits until the batch has left, at most [`FINISH_US`]. A datagram takes long on a slow line.
    fn finish_batch(&mut self) {
        let end_at = now().mono.plus_us(FINISH_US);
        while !self.link.is_clear() && !self.link.is_blocked() {
            let now = now();
            match self.link.send(now.mono) {
                None => self.handle_batch_left(now),
                Some(retry_at) if retry_at < end_at => {
                    std::thread::sleep(Duration::from_micros(retry_at.since_us(now.mono)));
                }
                Some(_) => return,
            }
        }
    }

    fn next_wakeup(&self, now: Now) -> Mono {
        let next = self.pipeline.next_wakeup(now);
        let due_at = self.settling.due_at();
        due_at.map_or(next, |due_at| {
            next.min(due_at.max(self.link.next_look_at()))
        })
    }

    /// What was sent lately may not have left the host: it is sent again when the link is up.
    fn handle_link_lost(&mut self, now: Now) {
        self.link.forget_unsent();
        self.pipeline
            .handle_link_lost(now, self.settling.take_all());
        self.take_progress();
    }

    /// Sends a datagram of noise now and then where that may bring the link up; no cable leaves.
    fn probe(&mut self, now: Now) -> Result<Mono, TransmitError> {
        if let Some(session) = &mut self.session
            && self.link.is_probe_due(now.mono)
        {
            if !session.framer.has_room(1) {
                session.renew()?;
                self.recorder.event_durable("session", session.fields())?;
            }
            session.framer.cover(self.link.room(1));
            self.link.send_probe();
        }
        Ok(now.mono.plus_us(link::BLOCKED_LOOK_US))
    }

    /// Waits so long, or until something happens, and takes it in.
    fn wait(&mut self, span: Duration) -> Result<Flow, TransmitError> {
        let writable = self.link.writable().filter(|_| self.link.lacks_room);
        let mut ready = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.checker.as_fd(), PollFlags::POLLIN),
        ];
        ready.extend(writable.map(|socket| PollFd::new(socket, PollFlags::POLLOUT)));
        let span = span.min(Duration::from_micros(SECOND_US));
        match ppoll(&mut ready, Some(TimeSpec::from(span)), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Flow::GoOn),
            Ok(_) => {}
            Err(errno) => return Err(errno).during("wait"),
        }
        let is_ready = |place: usize| ready[place].any().unwrap_or(false);
        let (signalled, changed, compared) = (is_ready(0), is_ready(1), is_ready(2));
        if ready.len() > 3 && is_ready(3) {
            self.link.retry_at = Mono(0);
        }
        if signalled {
            while let Some(asked) = self.signals.take().during("signals")? {
                match asked {
                    Asked::Stop => return Ok(Flow::Stop),
                    Asked::Reload | Asked::Child => self.take_changed(SpoolChanges::everything())?,
                }
            }
        }
        if compared {
            self.take_compared()?;
        }
        if changed {
            let changes = self.watch.take()?;
            self.take_changed(changes)?;
        }
        Ok(Flow::GoOn)
    }

    fn take_changed(&mut self, mut changes: SpoolChanges) -> Result<(), TransmitError> {
        if changes.keys {
            self.take_key()?;
        }
        let (now, time) = (now(), clock::utc_now());
        // Gate's knowledge before the containers: a serial that it no longer calls "in sealing" is there by then.
        if let Some(spool) = self.watch.spool(&mut changes)? {
            self.pipeline.handle_spool(spool);
        }
        let known = |serial| self.pipeline.sealed(serial).map(watch::name_of);
        let all = self.pipeline.serials().chain(self.unsendable.serials());
        let found = self.watch.containers(changes, known, all)?;
        for (serial, why) in found.damaged {
            self.unsendable.insert(&mut self.alarms, serial, why, time);
        }
        for serial in found.gone {
            if let Some(sealed) = self.pipeline.sealed(serial) {
                self.checker.forget(sealed.precedence, serial);
            }
            self.give_up(serial);
            self.unsendable.remove(&mut self.alarms, serial, time);
        }
        for arrived in found.arrived {
            self.take_arrived(now, arrived)?;
        }
        Ok(())
    }

    /// Takes a container that is new, or whose wanted passes a resend has raised. A large one that owes a pass is compared
    /// with its hash first; a small one is where it is opened.
    fn take_arrived(&mut self, now: Now, arrived: Arrived) -> Result<(), TransmitError> {
        let Arrived { sealed, progress } = arrived;
        let known = self.pipeline.sealed(sealed.serial);
        let known = known.filter(|known| known.hash == sealed.hash);
        let passes_before = match known {
            Some(known) => known.passes,
            None => progress.as_ref().map_or(0, |progress| progress.passes_done),
        };
        let is_large = sealed.geometry.container_bytes() > COMPARED_HERE_BYTES;
        let must_compare = is_large && passes_before < sealed.passes;
        let taken = match (must_compare, known) {
            (false, _) => self.pipeline.handle_container(now, sealed, progress),
            (true, None) => self.pipeline.handle_unchecked(now, sealed, progress),
            // The passes that it owed before go on meanwhile.
            (true, Some(_)) => Ok(()),
        };
        match taken {
            Ok(()) if must_compare => return self.checker.add(sealed).during("check containers"),
            Ok(()) => self
                .unsendable
                .remove(&mut self.alarms, sealed.serial, clock::utc_now()),
            // It is kept for a resend, and has been sent as it was cut.
            Err(_) if passes_before >= sealed.passes => {}
            Err(refused) => {
                tracing::error!(%refused, "a container cannot be sent");
                let RefusedContainer::SymbolBytes { symbol_bytes, .. } = refused;
                let why = Why::Cut { symbol_bytes };
                self.unsendable
                    .insert(&mut self.alarms, sealed.serial, why, clock::utc_now());
            }
        }
        Ok(())
    }

    /// Takes what has been compared.
    fn take_compared(&mut self) -> Result<(), TransmitError> {
        for (sealed, compared) in self.checker.take().during("check containers")? {
            let serial = sealed.serial;
            let known = self.pipeline.sealed(serial);
            if known.is_none_or(|known| known.hash != sealed.hash) {
                // Deleted meanwhile, or another one.
                continue;
            }
            match compared {
                Compared::Intact => {
                    // It was not refused when it came.
                    let _ = self.pipeline.handle_container(now(), sealed, None);
                    self.pipeline.handle_checked(now(), serial);
                    self.unsendable
                        .remove(&mut self.alarms, serial, clock::utc_now());
                }
                Compared::Gone => self.give_up(serial),
                Compared::Unfit(error) => self.cannot_send(serial, &error),
            }
        }
        Ok(())
    }

    fn cannot_send(&mut self, serial: Serial, error: &OutboxError) {
        tracing::error!(serial = serial.get(), %error, "a container cannot be sent");
        self.unsendable
            .insert(&mut self.alarms, serial, Why::from(error), clock::utc_now());
        self.give_up(serial);
    }

    /// Forgets a container: the receiver learns that the serial is settled, and counts it as missing.
    fn give_up(&mut self, serial: Serial) {
        self.pipeline.handle_gone(serial);
        self.loader.close(serial);
        self.left.remove(&serial);
    }

    fn take_key(&mut self) -> Result<(), TransmitError> {
        let bundle = self.session.as_ref().map(|session| session.bundle);
        match Session::newest(&self.state, self.link.datagram, bundle) {
            Ok(None) => {
                if self.session.is_none() {
                    self.link.state = LinkState::NoKey;
                    tracing::info!("no link key yet: nothing is sent before a bundle is imported");
                }
            }
            Ok(Some(session)) => {
                tracing::info!(bundle = session.bundle.0, "a session begins");
                // Before a datagram of it leaves: an auditor must know every session that was on the link.
                self.recorder.event_durable("session", session.fields())?;
                // The newest is used at once, and no other ever again.
                let older = self.state.handover().drop_older(session.bundle);
                older.during("erase older link keys")?;
                self.session = Some(session);
                self.link.state = LinkState::Up;
                self.alarms.clear(Alarm::LinkKey);
            }
            // The old key still reaches the receiver for a while; without any there is nothing to go on with.
            Err(error)
                if self.session.is_some()
                    || matches!(error, TransmitError::Key(LinkKeyError::Malformed { .. })) =>
            {
                tracing::error!(%error, "the newest link key cannot be used");
                let effect = match self.session {
                    Some(_) => "the one before it is used",
                    None => "nothing is sent",
                };
                let text = format!("the newest link key cannot be used: {error}; {effect}");
                self.alarms
                    .set(Alarm::LinkKey, clock::utc_now(), 1, || text);
                if self.session.is_none() {
                    self.link.state = LinkState::NoKey;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks at the link, and writes new alarms down.
    fn note_alarms(&mut self, now: Now) {
        let time = clock::utc_now();
        let down = self.link.alarm(now.mono);
        self.alarms.set_text(Alarm::LinkDown, time, down);
        let unwatched = self.link.unwatched_alarm();
        self.alarms.set_text(Alarm::LinkUnwatched, time, unwatched);
        while let Some(new) = self.alarms.poll_fresh(now.mono) {
            let word = new.alarm.as_str();
            self.recorder.event("alarm", vec![("alarm", json!(word))]);
        }
    }

    fn second_passed(&mut self, now: Now) {
        self.note_alarms(now);
        let span_us = now.mono.since_us(self.second.began).max(1);
        let bits = self.second.datagrams * self.link.wire_bits();
        let on_link = self.pipeline.on_link().filter_map(|progress| {
            let sealed = self.pipeline.sealed(progress.serial)?;
            Some(OnLinkView {
                serial: progress.serial,
                pass: progress.pass,
                passes: sealed.passes,
                position: progress.position,
                source_symbols: sealed.geometry.symbol_count(),
            })
        });
        let view = TransmitView {
            time: clock::utc_now(),
            written: Some(clock::Stamp::now()),
            session: self.session.as_ref().map(Session::view),
            rate: self.rate,
            wire_bytes: self.link.wire_bytes(),
            rate_achieved_bits: bits.saturating_mul(1_000_000) / span_us,
            sent: self.pipeline.totals(),
            held_up: self.link.held_up,
            link: match self.session {
                Some(_) => self.link.state,
                None => LinkState::NoKey,
            },
            beacon_time_us: self.pipeline.beacon_time_us(),
            waiting: self.pipeline.depths(),
            on_link: on_link.collect(),
            alarms: self.alarms.views(),
        };
        let moved = std::mem::take(&mut self.left).into_values();
        self.recorder.moved(moved, view);
        self.second = Second {
            began: now.mono,
            datagrams: 0,
        };
        if let (Some(at), Some(interval)) = (self.watchdog_at, service::watchdog_interval())
            && now.mono >= at
        {
            service::watchdog();
            self.watchdog_at = Some(now.mono + interval);
        }
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
