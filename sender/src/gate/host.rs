//! Gate's state: what it holds in memory of what stands on disk, and how it changes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use valise_common::alarm::{Alarm, Cause};
use valise_common::config::SenderConfig;
use valise_common::history::index::rebuilt_text;
use valise_common::history::log::AuditLog;
use valise_common::host::alarms::Alarms;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::metrics::Metrics;
use valise_common::host::neighbour::Neighbour;
use valise_common::host::requests::{RequestService, Requests};
use valise_common::host::trust_store::SignedList;
use valise_common::ids::{ContainerId, MessageId, PersonId, Serial};
use valise_common::limits;
use valise_common::os::clock;
use valise_common::os::durable::{
    Eraser, NOT_ERASED, SyncBatch, free_bytes, hold_reserve, is_full,
};
use valise_common::os::lock::HostLock;
use valise_common::sshsig::PublicKey;
use valise_common::trust::TrustList;
use valise_common::units::{Mono, UtcTime};

use super::error::GateError;
use super::prepare::Preparer;
use super::time::{self, Timekeeper};
use crate::model::event::Event;
use crate::model::ledger::{Cable, Ledger, Phase};
use crate::spool::outbox::{GivenUp, SpoolBeacon};
use crate::spool::outbox_write::OutboxWriter;
use crate::spool::pending::Pending;
use crate::spool::progress::Progress;
use crate::spool::register::Register;
use crate::spool::slots::SlotStore;
use crate::spool::view::{BundleView, CableView, HostView, ViewWriter, state_word};

/// Ended cables that stay in memory and in the view; older ones are in the register alone.
pub const ENDED_SHOWN_MAX: usize = 2_000;

/// Given-up serials that the beacon still names.
const GIVEN_UP_MAX: usize = 256;

/// Bytes that stay free on the disk for the audit log, the register and containers that are already due.
pub const DISK_RESERVE_BYTES: u64 = 32 << 20;

/// Gate: the one owner of everything that a cable goes through before the link.
pub struct Gate {
    _lock: HostLock,
    /// The configuration.
    pub config: SenderConfig,
    /// Where everything stands.
    pub state: SenderState,
    /// Whose signatures put lists and bundles into force.
    pub administrators: Vec<PublicKey>,
    /// The list in force.
    pub trust: Option<Arc<TrustList>>,
    /// What the audit log adds up to.
    pub ledger: Ledger,
    /// The index.
    pub register: Register,
    /// The commit point.
    pub audit: AuditLog,
    /// The slots.
    pub slots: SlotStore,
    /// Waiting cables.
    pub pending: Pending,
    /// Sealed cables.
    pub outbox: OutboxWriter,
    /// The requests of this host.
    pub requests: RequestService,
    /// Copies and reads requests.
    pub preparer: Preparer,
    /// Many files, one sync. As old as the process.
    pub sync: SyncBatch,
    /// Erases what is put away in gate's `tmp/`: requests that are done, sealed cables' folders, copies.
    pub eraser: Eraser,
    /// How far transmit has come.
    pub progress: BTreeMap<Serial, Progress>,
    /// Serials whose container is not in the outbox yet.
    pub in_sealing: BTreeSet<Serial>,
    /// Why cables with a full quorum are not being sealed.
    pub blocked: BTreeMap<MessageId, String>,
    /// Cables that an alarm of this name is about.
    pub troubled: BTreeMap<MessageId, Alarm>,
    /// What needs a person.
    pub alarms: Alarms,
    /// Transmit, as gate sees it.
    pub neighbour: Neighbour,
    /// What a monitor reads; a command that works without the daemon writes none.
    pub metrics: Option<Metrics>,
    /// Whether the clock is to be believed.
    pub time: Timekeeper,
    /// Cables with a serial whose sealing waits for room on the disk.
    pub waiting_for_room: Vec<MessageId>,
    /// Whether a cable waits for room on the disk.
    pub wants_room: bool,
    /// When the folders of waiting cables are opened to their readers again, if one stayed closed.
    pub share_again: Option<Mono>,
    /// Cables that changed since the register and the view were written.
    pub changed: BTreeSet<MessageId>,
    view: ViewWriter,
    pub(super) persons: BTreeMap<u32, PersonId>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("issued", &self.ledger.issued)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Takes the host's lock, reads everything and rolls the register forward. [`super::recover`] comes next.
    ///
    /// # Errors
    /// [`GateError`]: no state, another gate, or a state that contradicts itself.
    pub fn open(config: &SenderConfig) -> Result<Self, GateError> {
        let state = SenderState::new(&config.state);
        let administrators = state.read_host()?.administrators;
        state.create_all()?;
        let lock = HostLock::try_take(&state.lock(Role::Gate))?.ok_or(GateError::AlreadyRunning)?;
        hold_reserve(&state.reserve(Role::Gate))?;
        let (mut audit, recovered) = AuditLog::open(&state.audit(), Role::Gate.as_str())?;
        audit.set_part_bytes(config.audit.file_bytes.0);
        let (register, ledger, is_rebuilt) =
            Register::open(&state.register(), &audit, ENDED_SHOWN_MAX)?;
        let store = state.trust_store();
        let trust = match ledger.trust {
            Some((_, hash)) => {
                let is_named = |list: &SignedList| list.blake3() == hash;
                Some(store.load(&administrators, is_named)?)
            }
            None => {
                store.discard_what_can_be();
                None
            }
        };
        let (trust, trust_fault) = match trust {
            Some(Ok(verified)) => (Some(verified.list), None),
            Some(Err(fault)) => (None, Some(fault)),
            None => (None, None),
        };
        let last = audit.last_time();
        let time = Timekeeper::new(
            last,
            time::reading(trust.as_deref(), last),
            ledger.clock_leapt,
        );
        let sync = SyncBatch::new(state.root())?;
        let tmp = state.tmp(Role::Gate);
        let requests = Requests::new(state.requests(), tmp.clone());
        let mut gate = Self {
            _lock: lock,
            config: config.clone(),
            trust,
            ledger,
            register,
            audit,
            slots: SlotStore::new(&state),
            pending: Pending::new(&state),
            outbox: OutboxWriter::new(&state),
            requests: RequestService::start(requests.clone())?,
            preparer: Preparer {
                requests,
                tmp,
                administrators: administrators.clone(),
                submission_bytes_max: config.limits.submission_bytes_max.0,
            },
            sync,
            eraser: Eraser::new(state.tmp(Role::Gate)),
            progress: BTreeMap::new(),
            in_sealing: BTreeSet::new(),
            blocked: BTreeMap::new(),
            troubled: BTreeMap::new(),
            alarms: Alarms::new(Role::Gate, state.root()),
            metrics: None,
            neighbour: Neighbour::new(
                Role::Transmit,
                state.lock(Role::Transmit),
                state.view_of(Role::Transmit),
            ),
            time,
            waiting_for_room: Vec::new(),
            wants_room: false,
            share_again: None,
            changed: BTreeSet::new(),
            view: ViewWriter::default(),
            persons: persons_by_uid(&config.persons),
            administrators,
            state,
        };
        if is_rebuilt {
            let text = rebuilt_text(&gate.state.register());
            gate.note(Alarm::RegisterRebuilt, text);
        }
        if let Some(fault) = trust_fault {
            gate.alarm(Alarm::TrustDamaged, fault);
        }
        if recovered.torn_bytes > 0 {
            let text = "the audit log ended in a torn line, which was put aside";
            gate.note(Alarm::AuditLog, text);
        }
        gate.changed
            .extend(gate.ledger.cables.keys().copied().collect::<Vec<_>>());
        Ok(gate)
    }

    /// Adds an event to the next commit, and to the ledger at once: a commit that fails ends the process.
    pub fn record(&mut self, event: &Event) {
        let now = self.log_time();
        self.audit.append_event(now, event);
        if let Some(id) = self.ledger.apply(now, event) {
            self.changed.insert(id);
        }
    }

    /// Makes everything recorded so far durable.
    ///
    /// # Errors
    /// [`GateError::Audit`]; the process must end.
    pub fn commit(&mut self) -> Result<(), GateError> {
        self.audit.commit()?;
        // An alarm is in the log before anybody hears of it.
        self.alarms.run_commands();
        Ok(())
    }

    /// Raises an alarm that lasts until it is cleared.
    pub fn alarm(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        let now = self.log_time();
        self.alarms.set(alarm, now, 1, || cause);
        self.log_alarms();
    }

    /// Raises an alarm about something that happened.
    pub fn note(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        let (now, mono) = (self.log_time(), clock::mono_now());
        self.alarms.raise(alarm, now, mono, cause);
        self.log_alarms();
    }

    /// Writes down the new alarms that are due.
    pub fn log_alarms(&mut self) {
        while let Some(new) = self.alarms.poll_fresh(clock::mono_now()) {
            self.record(&Event::Alarm {
                alarm: new.alarm.as_str().to_owned(),
            });
        }
    }

    /// Reports the alarms of transmit, and those about it.
    pub fn watch_neighbour(&mut self) {
        let (now, mono) = (clock::utc_now(), clock::mono_now());
        self.neighbour.watch(&mut self.alarms, now, mono);
        self.log_alarms();
    }

    /// Answers what could not be answered before, and reports whose requests wait and what stays in `requests/`.
    ///
    /// # Errors
    /// A failure of the disk; the process must end.
    pub fn keep_up_requests(&mut self, now: Mono) -> Result<(), GateError> {
        let utc = self.log_time();
        self.requests.keep_up(&mut self.alarms, utc, now)?;
        self.log_alarms();
        Ok(())
    }

    /// Has what was put away erased, and reports what could not be.
    ///
    /// # Errors
    /// A failure of the disk; the process must end.
    pub fn erase_what_is_away(&mut self) -> Result<(), GateError> {
        self.eraser.wake();
        if self.eraser.take_left()? > 0 {
            self.note(Alarm::NotErased, NOT_ERASED);
        }
        Ok(())
    }

    /// The person that a local user is.
    pub fn person(&self, uid: u32) -> Option<PersonId> {
        self.persons.get(&uid).cloned()
    }

    /// Who asked, for the audit log.
    pub fn asker(&self, uid: u32) -> String {
        self.person(uid)
            .map_or_else(|| format!("uid {uid}"), |person| person.to_string())
    }

    /// Tells whether the disk takes so many more bytes; `Err` holds what is free.
    ///
    /// # Errors
    /// The free bytes, if they are too few.
    pub fn check_room(&self, bytes: u64) -> Result<(), u64> {
        let free = free_bytes(self.state.root()).unwrap_or(0);
        if free < bytes.saturating_add(DISK_RESERVE_BYTES) {
            Err(free)
        } else {
            Ok(())
        }
    }

    /// What transmit is to know now.
    pub fn beacon(&self) -> SpoolBeacon {
        SpoolBeacon {
            issued: self.ledger.issued,
            lowest_retained: self.ledger.lowest_retained(),
            trust_version: self.ledger.trust.map_or(0, |(version, _)| version),
            in_sealing: self.in_sealing.iter().copied().collect(),
            given_up: self.given_up().into(),
        }
    }

    fn given_up(&self) -> VecDeque<GivenUp> {
        let mut given_up = VecDeque::new();
        for (serial, id) in self.ledger.serials.iter().rev() {
            let Some(cable) = self.ledger.cables.get(id) else {
                continue;
            };
            if cable.phase != Phase::Expired {
                continue;
            }
            let container = cable.issued.as_ref().and_then(|issued| issued.container);
            given_up.push_front(match container {
                Some((hash, bytes)) => GivenUp {
                    serial: *serial,
                    container: hash.id(),
                    container_bytes: bytes,
                },
                // It never had a container; the length is that of the smallest.
                None => GivenUp {
                    serial: *serial,
                    container: ContainerId::from_bytes([0; 12]),
                    container_bytes: valise_common::seal::container_bytes(
                        limits::PACKAGE_BYTES_MIN_PADDED,
                    ),
                },
            });
            if given_up.len() == GIVEN_UP_MAX {
                break;
            }
        }
        given_up
    }

    /// Tells transmit what gate knows.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn write_beacon(&self) -> Result<(), GateError> {
        Ok(self.outbox.write_beacon(&self.beacon())?)
    }

    /// Writes changed cables to the register and the view: the last step before answers.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn publish_view(&mut self) -> Result<(), GateError> {
        // The register must not know a line that the log may lose: an alarm's line waits for the next commit.
        self.commit()?;
        let now = self.now();
        let changed = std::mem::take(&mut self.changed);
        let cables: Vec<&Cable> = changed
            .iter()
            .filter_map(|id| self.ledger.cables.get(id))
            .collect();
        self.register
            .store(&self.ledger, cables.iter().copied(), self.audit.next_seq())?;
        for cable in cables {
            let progress = cable.serial().and_then(|serial| self.progress.get(&serial));
            let blocked = self.blocked.get(&cable.id);
            let shown = CableView::new(cable, progress, blocked, now);
            self.view.put(&shown).map_err(std::io::Error::other)?;
        }
        let before = self.ledger.cables.len();
        self.ledger.forget_ended(ENDED_SHOWN_MAX);
        if self.ledger.cables.len() < before {
            let cables = &self.ledger.cables;
            self.view.retain(|id| cables.contains_key(id));
        }
        self.write_view()
    }

    /// Writes the view alone: nothing has changed but the time.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn write_view(&mut self) -> Result<(), GateError> {
        let now = self.now();
        let host = self.host_view(now);
        self.write_metrics(&host, now);
        match self.view.write(&self.state, &host) {
            // Not worth the end: what is shown is old, and `status` says so.
            Err(error) if is_full(&error) => {
                tracing::warn!("the view cannot be written: {error}");
                Ok(())
            }
            written => Ok(written?),
        }
    }

    fn write_metrics(&mut self, host: &HostView, now: UtcTime) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        let (ledger, progress) = (&self.ledger, &self.progress);
        metrics.write(&host.alarms, |sheet| {
            let mut cables = BTreeMap::<_, u64>::new();
            for cable in ledger.cables.values() {
                let progress = cable.serial().and_then(|serial| progress.get(&serial));
                *cables.entry(state_word(cable, progress, now)).or_default() += 1;
            }
            let cables = cables.into_iter();
            sheet.gauges(
                "cables",
                "Cables by state",
                cables.map(|(state, count)| (vec![("state", state.to_owned())], count)),
            );
            sheet.gauge("serial_highest", "Highest serial issued", host.issued);
            sheet.gauge("slots_left", "Slots left in all bundles", host.slots_left);
            sheet.gauge(
                "slots",
                "Slots of the bundles that have some left",
                host.slots_total,
            );
            sheet.gauge(
                "trust_list_version",
                "Version of the trust list in force, 0 for none",
                host.trust_version.unwrap_or(0).into(),
            );
        });
    }

    fn host_view(&self, now: UtcTime) -> HostView {
        let issued = self.ledger.issued;
        let bundles = self.ledger.bundles.iter().map(|(id, held)| {
            let first_unused = held.first.get().max(issued.saturating_add(1));
            let left = (held.last().get() + 1).saturating_sub(first_unused);
            BundleView {
                bundle: *id,
                first_serial: held.first,
                last_serial: held.last(),
                left: if held.void { 0 } else { left },
                void: held.void,
            }
        });
        let (slots_left, slots_total) = self.ledger.slots_left();
        HostView {
            time: now,
            written: Some(clock::Stamp::now()),
            channel: self.ledger.channel,
            trust_version: self.ledger.trust.map(|(version, _)| version),
            software_keys: self
                .trust
                .as_ref()
                .is_some_and(|list| list.allow_software_keys()),
            issued,
            lowest_retained: self.ledger.lowest_retained(),
            slots_left,
            slots_total,
            bundles: bundles.collect(),
            disk_free_bytes: free_bytes(self.state.root()).unwrap_or(0),
            alarms: self.alarms.views(),
        }
    }
}

/// The persons of the configuration by their users' numbers; a user may be named by number where the system knows no name.
/// Read once: the sandbox closes the system's list of users.
pub fn persons_by_uid(persons: &BTreeMap<String, PersonId>) -> BTreeMap<u32, PersonId> {
    let uid_of = |user: &String| {
        let known = nix::unistd::User::from_name(user).ok().flatten();
        known
            .map(|user| user.uid.as_raw())
            .or_else(|| user.parse().ok())
    };
    let by_uid = persons
        .iter()
        .filter_map(|(user, person)| Some((uid_of(user)?, person.clone())));
    by_uid.collect()
}
