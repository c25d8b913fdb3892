//! The record of receive's work: its audit log, its alarms, and once a second its view.

use std::io;

use serde_json::json;
use valise_common::audit::Fields;
use valise_common::config::ReceiverConfig;
use valise_common::history::log::{AuditLog, AuditLogError};
use valise_common::host::alarms::Alarms;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::metrics::Metrics;
use valise_common::os::clock::{mono_now, utc_now};
use valise_common::os::durable::{Access, Sync, is_full, replace};
use valise_common::units::{Mono, UtcTime};

use super::forged;
use super::intake::LinkState;
use super::shared::Shared;
use super::view::{Constants, LineMeter, view_of};

/// Everything that receive records and shows.
pub(super) struct Report {
    state: ReceiverState,
    audit: AuditLog,
    /// The alarms of this role.
    pub alarms: Alarms,
    metrics: Metrics,
    datagram_bytes: u16,
    line: LineMeter,
    constants: Constants,
}

impl Report {
    /// Nothing recorded yet.
    pub(super) fn new(
        state: ReceiverState,
        audit: AuditLog,
        alarms: Alarms,
        metrics: Metrics,
        constants: Constants,
        config: &ReceiverConfig,
    ) -> Self {
        Self {
            state,
            audit,
            alarms,
            metrics,
            datagram_bytes: config.datagram_bytes(),
            line: LineMeter::new(config.link.baud, mono_now()),
            constants,
        }
    }

    /// Appends an event to the audit log, and makes it durable.
    ///
    /// # Errors
    /// Those of the log.
    pub(super) fn note(&mut self, event: &str, fields: Fields<'_>) -> Result<(), AuditLogError> {
        self.audit.append(utc_now(), event, fields);
        self.audit.commit()
    }

    /// Records sets with forged symbols, if some are to be reported.
    ///
    /// # Errors
    /// Those of the log.
    pub(super) fn note_forged(
        &mut self,
        report: Option<forged::Report>,
    ) -> Result<(), AuditLogError> {
        let Some(forged::Report { serials, sets }) = report else {
            return Ok(());
        };
        tracing::warn!(
            sets,
            "discarded sets with forged symbols: somebody else has the link key"
        );
        let fields = [("serials", json!(serials)), ("sets", json!(sets))];
        self.note("poisoned", &fields)
    }

    /// Appends a checkpoint to the audit log.
    ///
    /// # Errors
    /// Those of the log.
    pub(super) fn checkpoint(&mut self, now: Mono) -> Result<(), AuditLogError> {
        self.audit.checkpoint(now)
    }

    /// Appends a checkpoint to the audit log, if one is due.
    ///
    /// # Errors
    /// Those of the log.
    pub(super) fn checkpoint_if_due(&mut self, now: Mono) -> Result<(), AuditLogError> {
        match self.audit.is_checkpoint_due(now) {
            true => self.audit.checkpoint(now),
            false => Ok(()),
        }
    }

    /// Writes the view and the metrics.
    ///
    /// # Errors
    /// Those of the disk, but for a full one: the view's time shows its age.
    pub(super) fn write_view(&mut self, now: UtcTime, shared: &Shared) -> io::Result<()> {
        let link = shared.link();
        let line = match &link {
            LinkState::Udp(_) => None,
            LinkState::Serial(state) => Some(self.line.look(&state.figures, mono_now())),
        };
        let view = view_of(
            now,
            self.constants,
            &shared.read(),
            &shared.assembly(),
            (&link, line),
            self.alarms.views(),
        );
        view.write_metrics(&mut self.metrics, self.datagram_bytes);
        let text = serde_json::to_vec(&view).map_err(io::Error::other)?;
        let path = self.state.view_of(Role::Receive);
        let tmp = self.state.tmp(Role::Receive);
        match replace(&tmp, &path, &text, Access::Everyone, Sync::No) {
            Err(error) if is_full(&error) => Ok(()),
            result => result,
        }
    }
}
