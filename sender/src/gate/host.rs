//! Gate's parts, and what it does with several of them at a time.

use valise_common::alarm::Alarm;
use valise_common::config::SenderConfig;
use valise_common::history::index::rebuilt_text;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::requests::{RequestService, Requests};
use valise_common::host::trust_store::SignedList;
use valise_common::os::durable::{Eraser, NOT_ERASED, SyncBatch, free_bytes, hold_reserve};
use valise_common::os::lock::HostLock;
use valise_common::units::Mono;

use super::authority::Authority;
use super::error::GateError;
use super::history::History;
use super::outgoing::Outgoing;
use super::prepare::Preparer;
use super::shown::Shown;
use super::waiting::Waiting;

/// Ended cables that stay in memory and in the view; older ones are in the register alone.
pub const ENDED_SHOWN_MAX: usize = 2_000;

/// Bytes that stay free on the disk for the audit log, the register and containers that are already due.
pub const DISK_RESERVE_BYTES: u64 = 32 << 20;

/// Gate: everything that a cable goes through before the link. Each part has an owner; this is where they meet.
pub struct Gate {
    _lock: HostLock,
    /// The configuration.
    pub config: SenderConfig,
    /// The state folder.
    pub state: SenderState,
    /// What has happened.
    pub history: History,
    /// Who may do what.
    pub authority: Authority,
    /// Cables that wait for officers or for sealing.
    pub waiting: Waiting,
    /// Cables on their way to the link.
    pub outgoing: Outgoing,
    /// Alarms, view and metrics.
    pub shown: Shown,
    /// The requests of this host.
    pub requests: RequestService,
    /// Copies and reads requests.
    pub preparer: Preparer,
    /// Many files, one sync. As old as the process.
    pub sync: SyncBatch,
    /// Erases what is put away in gate's `tmp/`: requests that are done, sealed cables' folders, copies.
    pub eraser: Eraser,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("issued", &self.history.ledger().issued)
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
        let (mut history, opened) = History::open(&state, config)?;
        let store = state.trust_store();
        let loaded = match history.ledger().trust {
            Some((_, hash)) => {
                let is_named = |list: &SignedList| list.blake3() == hash;
                Some(store.load(&administrators, is_named)?)
            }
            None => {
                store.discard_what_can_be();
                None
            }
        };
        let (list, fault) = match loaded {
            Some(Ok(verified)) => (Some(verified.list), None),
            Some(Err(fault)) => (None, Some(fault)),
            None => (None, None),
        };
        history.start_with_list(list.as_ref().map(|list| list.issued()));
        let mut shown = Shown::new(&state, history.log_time());
        if opened.is_rebuilt {
            shown.note(Alarm::RegisterRebuilt, rebuilt_text(&state.register()));
        }
        if let Some(fault) = fault {
            shown.alarm(Alarm::TrustDamaged, fault);
        }
        if opened.recovered.torn_bytes > 0 {
            let text = "the audit log ended in a torn line, which was put aside";
            shown.note(Alarm::AuditLog, text);
        }
        let tmp = state.tmp(Role::Gate);
        let requests = Requests::new(state.requests(), tmp.clone());
        // What was found here is logged even if the start fails.
        shown.log_alarms(&mut history);
        history.commit()?;
        Ok(Self {
            _lock: lock,
            config: config.clone(),
            history,
            waiting: Waiting::new(&state),
            outgoing: Outgoing::new(&state),
            shown,
            requests: RequestService::new(requests.clone())?,
            sync: SyncBatch::new(state.root())?,
            eraser: Eraser::new(tmp.clone()),
            preparer: Preparer {
                requests,
                tmp,
                administrators: administrators.clone(),
                submission_bytes_max: config.limits.submission_bytes_max.0,
            },
            authority: Authority::new(administrators, list, &config.persons),
            state,
        })
    }

    /// Makes everything recorded so far durable, and new alarms with it.
    ///
    /// # Errors
    /// [`GateError::Audit`]; the process must end.
    pub fn commit(&mut self) -> Result<(), GateError> {
        self.shown.log_alarms(&mut self.history);
        self.history.commit()?;
        // An alarm is in the log before anybody hears of it.
        self.shown.alarms.run_commands();
        Ok(())
    }

    /// Answers what could not be answered before, and reports whose requests wait and what stays in `requests/`.
    ///
    /// # Errors
    /// A failure of the disk; the process must end.
    pub fn keep_up_requests(&mut self, now: Mono) -> Result<(), GateError> {
        let utc = self.history.log_time();
        Ok(self.requests.keep_up(&mut self.shown.alarms, utc, now)?)
    }

    /// Has what was put away erased, and reports what could not be.
    ///
    /// # Errors
    /// A failure of the disk; the process must end.
    pub fn erase_what_is_away(&mut self) -> Result<(), GateError> {
        self.eraser.wake();
        if self.eraser.take_left()? > 0 {
            self.shown.note(Alarm::NotErased, NOT_ERASED);
        }
        Ok(())
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

    /// Tells transmit what gate knows.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn write_beacon(&self) -> Result<(), GateError> {
        Ok(self.outgoing.write_beacon(self.history.ledger())?)
    }

    /// Writes changed cables to the register and the view: the last step before answers.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn publish_view(&mut self) -> Result<(), GateError> {
        // The register must not know a line that the log may lose: an alarm's line waits for the next commit.
        self.commit()?;
        let cables = self.history.store()?;
        let now = self.history.now();
        self.shown
            .put(&cables, &self.waiting, &self.outgoing, now)?;
        if self.history.forget_ended() {
            self.shown.forget(&self.history);
        }
        self.write_view()
    }

    /// Writes the view alone: nothing has changed but the time.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn write_view(&mut self) -> Result<(), GateError> {
        let (state, history) = (&self.state, &self.history);
        Ok(self
            .shown
            .write(state, history, &self.authority, &self.outgoing)?)
    }
}
