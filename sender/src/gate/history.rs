//! What has happened on this host: the audit log, the ledger that it adds up to, the register over it, and the time of its
//! next line.

use std::collections::BTreeSet;

use valise_common::config::SenderConfig;
use valise_common::history::log::{AuditLog, AuditLogError, Recovered};
use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::{MessageId, Serial};
use valise_common::os::clock;
use valise_common::units::{Mono, UtcTime};

use super::error::GateError;
use super::host::ENDED_SHOWN_MAX;
use super::time::{Doubt, Reading, Timekeeper, reading};
use crate::model::event::Event;
use crate::model::ledger::{Cable, Ledger};
use crate::spool::register::Register;

/// The history of the sender's host. An event has happened when its line is durable.
pub struct History {
    audit: AuditLog,
    ledger: Ledger,
    register: Register,
    time: Timekeeper,
    /// When the trust list in force was issued.
    issued: Option<UtcTime>,
    /// Cables that changed since the register was written.
    changed: BTreeSet<MessageId>,
}

/// What opening found besides.
pub struct Opened {
    /// The log ended in a torn line.
    pub recovered: Recovered,
    /// The register was damaged or missing, and is built again.
    pub is_rebuilt: bool,
}

impl History {
    /// Opens the log and rolls the register forward. Every cable counts as changed.
    ///
    /// # Errors
    /// [`GateError`]: a log that does not go with its key or its register, or a failing disk.
    pub fn open(state: &SenderState, config: &SenderConfig) -> Result<(Self, Opened), GateError> {
        let (mut audit, recovered) = AuditLog::open(&state.audit(), Role::Gate.as_str())?;
        audit.set_part_bytes(config.audit.file_bytes.0);
        let (register, ledger, is_rebuilt) =
            Register::open(&state.register(), &audit, ENDED_SHOWN_MAX)?;
        let last = audit.last_time();
        let history = Self {
            time: Timekeeper::new(last, reading(None, last), ledger.clock_leapt),
            changed: ledger.cables.keys().copied().collect(),
            issued: None,
            audit,
            ledger,
            register,
        };
        let opened = Opened {
            recovered,
            is_rebuilt,
        };
        Ok((history, opened))
    }

    /// Takes the time of the trust list that is in force from the start.
    pub fn start_with_list(&mut self, issued: Option<UtcTime>) {
        self.issued = issued;
        let last = self.audit.last_time();
        self.time = Timekeeper::new(last, reading(issued, last), self.ledger.clock_leapt);
    }

    /// Takes the time of the trust list that came into force.
    pub fn take_list(&mut self, issued: UtcTime) {
        self.issued = Some(issued);
    }

    /// The state that the log adds up to, with what is not committed yet.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The index, for cables that ended long ago.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// A cable, also one that ended long ago.
    ///
    /// # Errors
    /// [`GateError`] if the register cannot be read.
    pub fn cable(&self, id: &MessageId) -> Result<Option<Cable>, GateError> {
        match self.ledger.cables.get(id) {
            Some(cable) => Ok(Some(cable.clone())),
            None => Ok(self.register.cable(id)?),
        }
    }

    /// Adds an event to the next commit, and to the ledger at once: a commit that fails ends the process.
    pub fn record(&mut self, event: &Event) {
        self.record_at(self.log_time(), event);
    }

    fn record_at(&mut self, time: UtcTime, event: &Event) {
        self.audit.append_event(time, event);
        if let Some(id) = self.ledger.apply(time, event) {
            self.changed.insert(id);
        }
    }

    /// Makes everything recorded so far durable.
    ///
    /// # Errors
    /// [`AuditLogError`]; the process must end.
    pub fn commit(&mut self) -> Result<(), AuditLogError> {
        self.audit.commit()
    }

    /// Commits, and seals the log with a checkpoint.
    ///
    /// # Errors
    /// [`AuditLogError`]; the process must end.
    pub fn checkpoint(&mut self, now: Mono) -> Result<(), AuditLogError> {
        self.audit.checkpoint(now)
    }

    /// Returns whether a checkpoint is due that no lines bring about.
    pub fn is_checkpoint_due(&self, now: Mono) -> bool {
        self.audit.is_checkpoint_due(now)
    }

    /// Notes that what is shown of a cable changed without an event.
    pub fn note_changed(&mut self, id: MessageId) {
        self.changed.insert(id);
    }

    /// Returns whether a cable changed since the register was written.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The cables that changed since the register was written.
    pub fn changed(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.changed.iter().copied()
    }

    /// Writes changed cables to the register, and returns them. Everything must be committed: the register must not know a
    /// line that the log may lose.
    ///
    /// # Errors
    /// [`GateError`] if the register cannot be written.
    pub fn store(&mut self) -> Result<Vec<Cable>, GateError> {
        let changed = std::mem::take(&mut self.changed);
        let cables = changed.iter().filter_map(|id| self.ledger.cables.get(id));
        let cables: Vec<Cable> = cables.cloned().collect();
        self.register
            .store(&self.ledger, cables.iter(), self.audit.next_seq())?;
        Ok(cables)
    }

    /// Forgets the oldest ended cables; the register keeps them. Returns whether there were any.
    pub fn forget_ended(&mut self) -> bool {
        let before = self.ledger.cables.len();
        self.ledger.forget_ended(ENDED_SHOWN_MAX);
        self.ledger.cables.len() < before
    }

    /// Every serial of a cable that is known here.
    pub fn serials(&self) -> Vec<Serial> {
        self.ledger.serials.keys().copied().collect()
    }

    /// "Now": the latest of the clock, the list's `issued` and the last audit time.
    pub fn now(&self) -> UtcTime {
        self.reading().now
    }

    /// Everything that tells the time.
    pub fn reading(&self) -> Reading {
        reading(self.issued, self.audit.last_time())
    }

    /// Returns why the time is not believed, if it is not.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt_of(self.reading())
    }

    /// The same by one look at everything that tells the time.
    pub fn doubt_of(&self, reading: Reading) -> Option<Doubt> {
        self.time.doubt(reading)
    }

    /// Takes the time as right.
    pub fn believe(&mut self, reading: Reading) {
        self.time.believe(reading);
    }

    /// The time of the next audit line: the clock, never back, unless it leapt ahead. A line from the future would keep "now"
    /// there when the clock is put back, and one of the time of a trust list would make the clock seem behind.
    pub fn log_time(&self) -> UtcTime {
        let reading = self.reading();
        match self.time.doubt(reading) {
            Some(Doubt::Ahead { expected }) => {
                expected.max(self.audit.last_time().unwrap_or(UtcTime::EPOCH))
            }
            Some(Doubt::Behind) | None => reading.logged,
        }
    }

    /// Takes the clock as right, as an operator says. The line carries the clock's own time, so that the last audit time goes
    /// back; the checkpoint seals that.
    ///
    /// # Errors
    /// [`AuditLogError`]; the process must end.
    pub fn accept_clock(&mut self, uid: u32) -> Result<(), AuditLogError> {
        let before = self.now();
        self.record_at(clock::utc_now(), &Event::ClockAccepted { before, uid });
        self.audit.checkpoint(clock::mono_now())?;
        self.time.believe(self.reading());
        Ok(())
    }
}
