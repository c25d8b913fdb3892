//! Watches over the link: its socket or port, the kernel's drops, and whether this host sends anything itself.

use std::net::SocketAddr;

use valise_common::alarm::Alarm;
use valise_common::host::alarms::Alarms;
use valise_common::os::serial::Fault;
use valise_common::units::{Mono, UtcTime};

use super::ReceiveError;
use super::egress::Egress;
use super::intake::LinkState;
use super::listener::{self, Listening};
use super::shared::Shared;
use crate::spool::net_tables::NetTables;

/// The last known state of the link.
pub(super) struct LinkWatch {
    /// The address of a UDP link.
    listen: Option<SocketAddr>,
    tables: NetTables,
    egress: Egress,
    started: Mono,
    kernel_drops_logged: u64,
    /// The sandbox of a process of root allows only the device that was there at the start.
    pub is_kept: bool,
}

impl LinkWatch {
    /// Creates a link that has not been looked at.
    pub(super) fn new(listen: Option<SocketAddr>, tables: NetTables, now: Mono) -> Self {
        Self {
            listen,
            tables,
            egress: Egress::default(),
            started: now,
            kernel_drops_logged: 0,
            is_kept: false,
        }
    }

    /// Raises and clears the alarms of the link.
    ///
    /// # Errors
    /// [`ReceiveError`] if only another start can bring the link up.
    pub(super) fn look(
        &mut self,
        now: UtcTime,
        mono: Mono,
        shared: &Shared,
        alarms: &mut Alarms,
    ) -> Result<(), ReceiveError> {
        match shared.link() {
            LinkState::Udp(listening) => self.look_at_socket(now, mono, listening, alarms),
            LinkState::Serial(state) => {
                let is_forbidden = matches!(state.fault, Some((Fault::Forbidden, _)));
                if self.is_kept && is_forbidden {
                    return Err(ReceiveError::OtherDevice);
                }
                let cause = state.fault.map(|(_, cause)| cause);
                alarms.set_text(Alarm::LinkDown, now, cause);
                Ok(())
            }
        }
    }

    fn look_at_socket(
        &mut self,
        now: UtcTime,
        mono: Mono,
        listening: Listening,
        alarms: &mut Alarms,
    ) -> Result<(), ReceiveError> {
        if let Some(listen) = self.listen {
            for (code, text) in listener::alarms(listen, listening, &self.tables) {
                alarms.set_text(code, now, text);
            }
            let sent = self.tables.sent(listen.ip());
            self.egress.handle_count(mono, sent);
            alarms.set_text(Alarm::Egress, now, self.egress.alarm(mono));
        }
        let is_late = mono.since_us(self.started) > listener::PASSING_US;
        if listening == Listening::NotPassed && is_late {
            return Err(ReceiveError::NotPassed);
        }
        Ok(())
    }

    /// Logs datagrams that the kernel has dropped since the last call.
    pub(super) fn log_kernel_drops(&mut self, shared: &Shared) {
        let drops = shared.read().kernel_drops;
        if drops > self.kernel_drops_logged {
            let lost = drops - self.kernel_drops_logged;
            tracing::warn!(
                lost,
                "the kernel dropped datagrams: the link is faster than this host"
            );
            self.kernel_drops_logged = drops;
        }
    }
}
