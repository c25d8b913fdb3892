//! The process `receive`: turns datagrams back into containers. It holds link keys and cannot open a container.
//!
//! ```text
//! link ─► reader ─► assembler ─┬─────────────► publisher ─► inbox/
//!         opens     collects   └─► digest ──────┘  syncs
//!                   rebuilds       hashes large ones as they grow
//! ```
//!
//! Nobody waits for a disk but the two on the right; the queues between are bounded, and answers always find room.

mod assemble;
mod digest;
mod egress;
mod forged;
mod handback;
mod intake;
mod keys;
mod listener;
mod publish;
mod reader;
mod shared;
mod slab;
mod start;
pub mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use thiserror::Error;
use valise_common::alarm::Alarm;
use valise_common::config::{LinkKind, ReceiverConfig};
use valise_common::history::log::{AuditLog, AuditLogError};
use valise_common::host::alarms::Alarms;
use valise_common::host::commissioned::{Host, HostError};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::life;
use valise_common::host::metrics::{self, Metrics};
use valise_common::host::profile;
use valise_common::host::worker::Threading;
use valise_common::ids::{BundleId, ChannelId};
use valise_common::os::clock::{mono_now, utc_now};
use valise_common::os::durable::{
    self, Access, Sync, SyncBatch, free_bytes, hold_reserve, is_full, make_dir, refill_reserve,
    replace,
};
use valise_common::os::lock::HostLock;
use valise_common::os::processor::Aes;
use valise_common::os::room::outlast;
use valise_common::os::sandbox::{self, SandboxError};
use valise_common::os::serial::{Direction, Fault};
use valise_common::os::service;
use valise_common::os::signals::{Asked, Signals};
use valise_common::os::watch::{DirIndex, DirWatch, Notice};
use valise_common::units::{Mono, UtcTime};
use valise_common::wire::DatagramBytes;

use crate::pipeline::{Assembler, Tally};
use crate::spool::assembly::AssemblyStore;
use crate::spool::completed::CompletedLog;
use crate::spool::net_tables::NetTables;
use assemble::{Driver, INPUTS_MAX, Input};
use digest::{Digest, GROWTHS_MAX};
use egress::Egress;
use forged::Report;
use intake::{Intake, LinkState};
use keys::LinkKeys;
use listener::Listening;
pub use listener::SOCKET_UNIT;
use publish::{DELIVERIES_MAX, Folders, Publisher};
use reader::Reader;
use shared::{Event, Shared};
use slab::{SLABS, Slab};
use view::{Constants, LineMeter, ReceiveView};

/// The view, the room on the disk and the keys are looked after this often.
const TICK_US: u64 = 1_000_000;

/// Bytes of the disk that are left free, so that the audit logs and `release` can go on.
const RESERVE_BYTES: u64 = 64 << 20;

/// Events that may wait for the main thread; more are not told, only counted.
const EVENTS_MAX: usize = 256;

/// What a thread of `receive` needs of stack; the default would only lock more memory.
const STACK_BYTES: usize = 1 << 20;

/// Why `receive` does not start, or ended.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The host is not commissioned, or its file is damaged.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Another process is at work.
    #[error("receive is running already; stop it first, or look at its status")]
    Running,
    /// The configuration names no serial port.
    #[error("link.device is missing: a serial link needs a device")]
    NoDevice,
    /// `link.datagram_bytes` is outside of its range.
    #[error("link.datagram_bytes is out of range")]
    DatagramBytes,
    /// As root, the fences allow one device alone.
    #[error(
        "link.device was plugged in, and the fences of root keep receive from it: it is to be started again"
    )]
    OtherDevice,
    /// The configuration names no address to listen on.
    #[error("link.listen is missing: a UDP link needs an address and port")]
    NoAddress,
    /// The service manager passed a socket, but of another address.
    #[error(
        "systemd has bound {passed}, and link.listen is {listen}: run systemctl daemon-reload, then systemctl restart \
         valise-receiver-receive"
    )]
    OtherAddress {
        /// The socket's.
        passed: SocketAddr,
        /// The configuration's.
        listen: SocketAddr,
    },
    /// The service manager passed no socket; it is to try again.
    #[error(
        "systemd has passed no socket; systemctl status {} tells why",
        listener::SOCKET_UNIT
    )]
    NotPassed,
    /// The system makes no socket for the link.
    #[error(
        "link.listen = \"{listen}\": the system makes no socket for it ({source}); look at the kernel's IPv6 and at \
             RestrictAddressFamilies= of the unit"
    )]
    Socket {
        /// The address.
        listen: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// A fence was refused.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A thread failed.
    #[error("{0}")]
    Failed(String),
}

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
    let runs = life::runs(Role::Receive);
    metrics::make_folder(&config.metrics.folder)?;
    let mut profile = profile::receive(&state).writing(&config.metrics.folder);
    profile = match (claimed.intake.socket(), &config.link.device) {
        (Some(socket), _) => profile.with_link(socket),
        (None, Some(device)) if config.link.kind == LinkKind::Serial => {
            profile.with_port(device, Direction::Receive)
        }
        (None, _) => profile,
    };
    let fault = claimed.intake.port_fault();
    let confinement = sandbox::enter(&profile, config.sandbox.required)?;
    confinement.log();
    Aes::detect().log();
    let mut receive = Receive::start(config, claimed, Threading::Beside)?;
    receive.is_kept = confinement.keeps_root_from_ports() && fault != Some(Fault::Forbidden);
    receive.alarms.run_as(runs);
    for (alarm, text) in confinement.alarms() {
        receive.alarms.set(alarm, utc_now(), 1, || text);
    }
    // Whoever sees it ready finds what it shows.
    receive.write_view(utc_now())?;
    service::ready();
    let ended = receive.main_loop(&signals);
    if ended.is_ok() {
        service::stopping();
    }
    let stopped = receive.stop();
    ended.and(stopped)
}

/// The host's lock and log, and the descriptors that must be opened before the fences.
pub struct Claimed {
    host: Host<ChannelId>,
    audit: AuditLog,
    sync: SyncBatch,
    intake: Intake,
    tables: NetTables,
    lock: HostLock,
}

impl Claimed {
    /// Takes it.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn take(config: &ReceiverConfig) -> Result<Self, ReceiveError> {
        let state = ReceiverState::new(&config.state);
        let host = state.read_host()?;
        // Before anything is written: none of them may lead to somewhere else.
        state.check_all()?;
        let lock = HostLock::try_take(&state.lock(Role::Receive))?.ok_or(ReceiveError::Running)?;
        hold_reserve(&state.reserve(Role::Receive))?;
        let (mut audit, recovered) = AuditLog::open(&state.audit(), Role::Receive.as_str())?;
        audit.set_part_bytes(config.audit.file_bytes.0);
        if recovered.torn_bytes > 0 {
            tracing::warn!("the audit log ended in a torn line, which was put aside");
            // Durable with the line of the start.
            let torn_bytes = [("torn_bytes", json!(recovered.torn_bytes))];
            audit.append(utc_now(), "audit-torn", &torn_bytes);
        }
        let sync = SyncBatch::new(state.root())?;
        Ok(Self {
            host,
            audit,
            sync,
            // Inside the fences no socket can be made, and no large buffer be asked for.
            intake: Intake::open(config)?,
            tables: NetTables::open(),
            lock,
        })
    }
}

/// The parts that a datagram passes on its way into the inbox.
struct Way {
    reader: Reader,
    driver: Driver,
    digest: Digest,
    publisher: Publisher,
}

/// The running process.
pub struct Receive {
    state: ReceiverState,
    spool_bytes_max: u64,
    listen: Option<SocketAddr>,
    shared: Arc<Shared>,
    // From the last one of a datagram's way to the first.
    threads: Vec<JoinHandle<()>>,
    // The same, if there are no threads.
    here: Option<Box<Way>>,
    input: SyncSender<Input>,
    events: Receiver<Event>,
    keys: LinkKeys,
    watch: DirWatch,
    damaged: DirIndex,
    // Something was handed back, and the assembler does not know it.
    handed_back: bool,
    // Bundles whose keys are in force and the highest serial with a slot, while the assembler does not know it.
    keys_untold: Option<(Vec<BundleId>, u64)>,
    audit: AuditLog,
    kernel_drops_told: u64,
    alarms: Alarms,
    metrics: Metrics,
    datagram_bytes: u16,
    egress: Egress,
    tables: NetTables,
    line: LineMeter,
    // Run by root, the fences allow only the device that was there at the start.
    is_kept: bool,
    constants: Constants,
    started: Mono,
    tick_at: Mono,
    // Held to the end.
    _lock: HostLock,
}

impl Way {
    /// Does what waits, in each part once; returns whether anything did.
    fn turn(&mut self, shared: &Shared) -> io::Result<bool> {
        let assembled = self.driver.turn(shared)?;
        let hashed = self.digest.turn()?;
        let published = self.publisher.turn()?;
        Ok(assembled || hashed || published)
    }
}

impl Receive {
    /// Takes up what an earlier process left, and begins to watch for keys.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn start(
        config: &ReceiverConfig,
        claimed: Claimed,
        threading: Threading,
    ) -> Result<Self, ReceiveError> {
        let Claimed {
            host,
            audit,
            mut sync,
            intake,
            tables,
            lock,
        } = claimed;
        let state = &ReceiverState::new(&config.state);
        let size =
            DatagramBytes::new(config.datagram_bytes()).ok_or(ReceiveError::DatagramBytes)?;
        let tmp = state.tmp(Role::Receive);
        let folders = Folders {
            assembly: state.assembly(),
            tmp: tmp.clone(),
            inbox: state.inbox(),
            beacon: state.inbox_beacon(),
            damaged: state.damaged(),
        };
        make_dir(&folders.damaged, 0o2770)?;
        let memory_bytes = usize::try_from(config.memory.assembly.0).unwrap_or(usize::MAX);
        let mut assembler = Assembler::new(memory_bytes);
        let mut store = AssemblyStore::new(state.assembly(), tmp.clone());
        let (mut completed, records) = CompletedLog::open(state.completed(), tmp.clone())?;
        let found = start::recover(
            mono_now(),
            &folders,
            (&mut completed, &records),
            &mut store,
            &mut sync,
            &mut assembler,
        )?;
        drop(records);
        tracing::info!(
            published = found.published,
            resumed = found.resumed,
            "took up what was there"
        );

        let mut watch = DirWatch::new()?;
        watch.add(&state.link_keys(), Notice::ArrivalsAndRemovals)?;
        watch.add(&state.handover_folder(), Notice::Arrivals)?;
        let damaged = watch.add(&state.damaged(), Notice::Arrivals)?;
        let verified = state.assembly().join("link-keys");
        let keys = LinkKeys::open(
            (state.link_keys(), state.handover()),
            host.channel,
            verified,
            tmp,
        )?;

        let (tell, events) = sync_channel(EVENTS_MAX);
        let (input, inputs) = sync_channel(INPUTS_MAX);
        let (free, free_slabs) = sync_channel(SLABS);
        let (grow, growth) = sync_channel(GROWTHS_MAX);
        let (publish, deliveries) = sync_channel(DELIVERIES_MAX);
        for _ in 0..SLABS - 1 {
            let _ = free.try_send(Slab::new());
        }
        let shared = Arc::new(Shared::new(tell));
        shared.set_link(intake.state());
        let reader = Reader::new(intake, size, free_slabs, input.clone());
        let driver = Driver {
            assembler,
            store,
            symbol_bytes: usize::from(size.symbol_bytes()),
            input: inputs,
            free,
            digest: grow,
            publish: publish.clone(),
            in_flight: assemble::InFlight::new(memory_bytes),
            growing: assemble::Growing::default(),
            looking: handback::Looking::default(),
            tally: Tally::default(),
            shown: Mono(0),
        };
        let assembly = folders.assembly.clone();
        let digest = Digest::new(assembly, growth, publish, input.clone());
        let publisher = Publisher {
            folders,
            completed,
            sync,
            deliveries,
            assembler: input.clone(),
        };
        let now = utc_now();
        let mut receive = Self {
            state: state.clone(),
            spool_bytes_max: config.spool.bytes_max.0,
            listen: config
                .link
                .listen
                .filter(|_| config.link.kind == LinkKind::Udp),
            shared,
            threads: Vec::new(),
            here: None,
            input,
            events,
            keys,
            watch,
            damaged,
            // What came between start-up's look and the watch.
            handed_back: true,
            keys_untold: None,
            audit,
            kernel_drops_told: 0,
            metrics: Metrics::new(Role::Receive, &config.metrics.folder, state.root()),
            datagram_bytes: config.datagram_bytes(),
            alarms: Alarms::new(Role::Receive, state.root()),
            egress: Egress::default(),
            tables,
            line: LineMeter::new(config.link.baud, mono_now()),
            is_kept: false,
            constants: Constants {
                started: now,
                socket_buffer_asked: config.link.socket_buffer.0,
            },
            started: mono_now(),
            tick_at: mono_now(),
            _lock: lock,
        };
        receive.note("started", &[("version", json!(env!("CARGO_PKG_VERSION")))])?;
        receive.audit.checkpoint(mono_now())?;
        receive.load_keys(now)?;
        receive.tell_room()?;
        match threading {
            Threading::Beside => {
                receive.spawn("publisher", move |_| publisher.run())?;
                receive.spawn("digest", move |_| digest.run())?;
                receive.spawn("assembler", move |shared| driver.run(shared))?;
                receive.spawn("reader", move |shared| reader.run(shared))?;
            }
            Threading::Caller => {
                receive.here = Some(Box::new(Way {
                    reader,
                    driver,
                    digest,
                    publisher,
                }));
            }
        }
        Ok(receive)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread_name = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                if let Err(error) = work(&shared) {
                    shared.tell(Event::Failed(format!("the {thread_name} failed: {error}")));
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    fn main_loop(&mut self, signals: &Signals) -> Result<(), ReceiveError> {
        loop {
            self.turn()?;
            self.wait(signals)?;
            while let Some(asked) = signals.take()? {
                match asked {
                    Asked::Stop => return Ok(()),
                    Asked::Reload => self.load_keys(utc_now())?,
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
        let changes = self.watch.drain()?;
        let is_damaged = |(folder, _): &(DirIndex, _)| *folder == self.damaged;
        self.handed_back |= changes.overflowed || changes.names.iter().any(is_damaged);
        if changes.overflowed || !changes.names.iter().all(is_damaged) {
            self.load_keys(utc_now())?;
        }
        self.tell_keys();
        // If the assembler has no room for a word, a tenth of a second later will do.
        if self.handed_back && self.input.try_send(Input::HandedBack).is_ok() {
            self.handed_back = false;
        }
        while let Ok(event) = self.events.try_recv() {
            self.handle_event(event)?;
        }
        Ok(())
    }

    /// Without threads: reads datagrams once, which waits a tenth of a second if there are none.
    ///
    /// # Errors
    /// [`ReceiveError`]; the process must end.
    pub fn read_link(&mut self) -> Result<(), ReceiveError> {
        if let Some(way) = &mut self.here {
            way.reader.turn(&self.shared)?;
        }
        self.pass_on()
    }

    /// Without threads: takes what was read as far as it goes.
    ///
    /// # Errors
    /// [`ReceiveError`]; the process must end.
    pub fn pass_on(&mut self) -> Result<(), ReceiveError> {
        if let Some(way) = &mut self.here {
            while way.turn(&self.shared)? {}
        }
        Ok(())
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

    fn handle_event(&mut self, event: Event) -> Result<(), ReceiveError> {
        match event {
            Event::Failed(text) => return Err(ReceiveError::Failed(text)),
            Event::KeyVerified(bundle) => {
                if self.keys.is_new(bundle) {
                    tracing::info!(%bundle, "the link key of this bundle is in use; older ones end in 24 hours");
                    // First the line, then what ends older keys. A kill between the two costs a second line.
                    self.note("link-key-in-use", &[("bundle", json!(bundle))])?;
                    self.keys.handle_verified(bundle, utc_now())?;
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), ReceiveError> {
        let now = utc_now();
        self.look_at_link(now)?;
        // Release has a log and a command for them: here they only go to the journal.
        while self.alarms.poll_fresh(mono_now()).is_some() {}
        refill_reserve();
        self.write_view(now)?;
        self.tell_room()?;
        self.load_keys_if_due(now)?;
        let mono = mono_now();
        let report = self.shared.forged().poll(mono);
        self.note_forged(report)?;
        if self.audit.is_checkpoint_due(mono) {
            self.audit.checkpoint(mono)?;
        }
        let drops = self.shared.read().kernel_drops;
        if drops > self.kernel_drops_told {
            let lost = drops - self.kernel_drops_told;
            tracing::warn!(
                lost,
                "the kernel dropped datagrams: the link is faster than this host"
            );
            self.kernel_drops_told = drops;
        }
        service::watchdog();
        Ok(())
    }

    fn look_at_link(&mut self, now: UtcTime) -> Result<(), ReceiveError> {
        let mono = mono_now();
        let listening = match self.shared.link() {
            LinkState::Udp(listening) => listening,
            LinkState::Serial(state) => {
                let is_forbidden = matches!(state.fault, Some((Fault::Forbidden, _)));
                if self.is_kept && is_forbidden {
                    return Err(ReceiveError::OtherDevice);
                }
                let cause = state.fault.map(|(_, cause)| cause);
                self.alarms.set_text(Alarm::LinkDown, now, cause);
                return Ok(());
            }
        };
        if let Some(listen) = self.listen {
            for (code, text) in listener::alarms(listen, listening, &self.tables) {
                self.alarms.set_text(code, now, text);
            }
            self.egress
                .handle_count(mono, self.tables.sent(listen.ip()));
            self.alarms
                .set_text(Alarm::Egress, now, self.egress.alarm(mono));
        }
        let is_late = mono.since_us(self.started) > listener::PASSING_US;
        if listening == Listening::NotPassed && is_late {
            return Err(ReceiveError::NotPassed);
        }
        Ok(())
    }

    fn write_view(&mut self, now: UtcTime) -> Result<(), ReceiveError> {
        let link = self.shared.link();
        let line = match &link {
            LinkState::Udp(_) => None,
            LinkState::Serial(state) => Some(self.line.look(&state.figures, mono_now())),
        };
        let view = ReceiveView::new(
            now,
            self.constants,
            &self.shared.read(),
            &self.shared.assembly(),
            (&link, line),
            self.alarms.views(),
        );
        view.write_metrics(&mut self.metrics, self.datagram_bytes);
        let text = serde_json::to_vec(&view).map_err(io::Error::other)?;
        let path = self.state.view_of(Role::Receive);
        match replace(
            &self.state.tmp(Role::Receive),
            &path,
            &text,
            Access::Everyone,
            Sync::No,
        ) {
            // A view is worth no stop: what is shown is old, and its time says so.
            Err(error) if is_full(&error) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Tells the assembler how many bytes it may have on disk.
    fn tell_room(&self) -> Result<(), ReceiveError> {
        let mut inbox_bytes = 0_u64;
        for entry in durable::list(&self.state.inbox())? {
            // Release takes containers away meanwhile.
            let bytes = entry?.metadata().map_or(0, |metadata| metadata.len());
            inbox_bytes = inbox_bytes.saturating_add(bytes);
        }
        let free = free_bytes(self.state.root())?.saturating_sub(RESERVE_BYTES);
        let by_disk = free.saturating_add(self.shared.assembly().disk_bytes);
        let by_config = self.spool_bytes_max.saturating_sub(inbox_bytes);
        // If the assembler is so busy that there is no room for a word, the next second will do.
        let _ = self.input.try_send(Input::Room(by_disk.min(by_config)));
        Ok(())
    }

    fn load_keys_if_due(&mut self, now: UtcTime) -> Result<(), ReceiveError> {
        // An old key ends by the clock; a minute more or less does not matter.
        if now.as_s().is_multiple_of(60) {
            self.load_keys(now)
        } else {
            Ok(())
        }
    }

    fn load_keys(&mut self, now: UtcTime) -> Result<(), ReceiveError> {
        let in_force = self.keys.load(now)?;
        let fault = in_force
            .faults
            .first()
            .map(|fault| format!("{fault}; what is sent under such a key is not taken"));
        self.alarms.set_text(Alarm::LinkKey, now, fault);
        if in_force.keys.is_empty() {
            tracing::debug!("there is no link key: run bundle create");
        }
        let bundles = in_force.keys.iter().map(|key| key.bundle).collect();
        self.keys_untold = Some((bundles, in_force.issued_last));
        self.shared.set_keys(in_force.keys, in_force.issued_last);
        self.tell_keys();
        Ok(())
    }

    /// Tells the assembler which keys are in force. If it is so busy that there is no room for a word, a tenth of a second
    /// later will do; but it must be told, or a beacon would outlive its key.
    fn tell_keys(&mut self) {
        let Some((in_force, issued_last)) = self.keys_untold.take() else {
            return;
        };
        let untold = Some((in_force.clone(), issued_last));
        let keys = Input::Keys {
            in_force,
            issued_last,
        };
        if let Err(TrySendError::Full(_)) = self.input.try_send(keys) {
            self.keys_untold = untold;
        }
    }

    fn note_forged(&mut self, report: Option<Report>) -> Result<(), ReceiveError> {
        let Some(Report { serials, sets }) = report else {
            return Ok(());
        };
        tracing::warn!(
            sets,
            "discarded sets with forged symbols: somebody else has the link key"
        );
        let fields = [("serials", json!(serials)), ("sets", json!(sets))];
        self.note("poisoned", &fields)
    }

    fn note(
        &mut self,
        event: &str,
        fields: valise_common::audit::Fields<'_>,
    ) -> Result<(), ReceiveError> {
        self.audit.append(utc_now(), event, fields);
        Ok(self.audit.commit()?)
    }

    /// Ends the threads from front to back; everything that is in memory goes to disk.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn stop(mut self) -> Result<(), ReceiveError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.pass_on()?;
        if let Some(way) = self.here.take() {
            let Way {
                driver,
                mut digest,
                mut publisher,
                ..
            } = *way;
            driver.end(&self.shared)?;
            while digest.turn()? || publisher.turn()? {}
        }
        for (place, thread) in self.threads.drain(..).rev().enumerate() {
            if thread.join().is_err() {
                return Err(ReceiveError::Failed("a thread panicked".to_owned()));
            }
            if place == 0 {
                // The reader has handed over its last slab.
                let _ = self.input.send(Input::Stop);
            }
        }
        while let Ok(event) = self.events.try_recv() {
            self.handle_event(event)?;
        }
        self.write_view(utc_now())?;
        let report = self.shared.forged().take();
        self.note_forged(report)?;
        self.note("stopped", &[])?;
        Ok(self.audit.checkpoint(mono_now())?)
    }
}

#[cfg(test)]
mod tests;
