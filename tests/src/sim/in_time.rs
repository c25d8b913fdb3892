//! What must have happened by now, because nothing hindered it: no operator asks for it.
//!
//! | from | to | at most |
//! |---|---|---|
//! | a cable has its quorum | each of its passes has left whole | what all passes of all cables take on the link, and [`SENDING_US`] |
//! | enough symbols of each block have arrived | the cable is released | [`RELEASING_US`] |
//! | a beacon has arrived that calls a serial sent | the serial is here, or release reports it | [`REPORTING_US`] |
//!
//! A host is hindered while a role of it is dead, stalled, or its disk fails or is full. What it had begun then counts from its
//! recovery, and what receive had collected does not count: it may have to come again.

use std::fs;

use serde_json::Value;
use valise_common::host::folders::Role;
use valise_receiver::spool::view::{ReleaseView, set_of};

use super::cables::Cable;
use super::host::Address;
use super::plan::PASSES;
use super::run::Run;
use super::{Result, wrong};

/// Gate and transmit look at least once a second at what they may have missed.
const SENDING_US: u64 = 2_000_000;

/// A disk takes no time here, and nothing between receive and a mailbox waits: a turn of each role, or one second more.
const RELEASING_US: u64 = 1_500_000;

/// Release tries again so long after its disk had no room.
const ROOM_RETRY_US: u64 = 30_000_000;

/// Release looks once a second, and reports what stays missing for five seconds. Serials that come into doubt wait until the
/// five seconds of those before them are over.
const REPORTING_US: u64 = 5_000_000 + 5_000_000 + 3 * 1_000_000;

/// The checks are made so often.
const CHECK_EVERY_US: u64 = 250_000;

/// Bytes of a manifest, its approvals and the container's own.
const FRAMING_BYTES: u64 = 10_000;

impl Run<'_> {
    /// Notes that a host is hindered at its work.
    pub(super) fn hinder(&mut self, host: Address) {
        self.unhindered_at_us.insert(host, self.now_us);
        if host == Address::Receiver {
            self.line.arrivals.forget_arrived();
        }
    }

    /// Checks what is due.
    pub(super) fn check_in_time(&mut self) -> Result<()> {
        if self.now_us < self.in_time_at_us {
            return Ok(());
        }
        self.in_time_at_us = self.now_us + CHECK_EVERY_US;
        if self
            .cables
            .iter()
            .any(|cable| cable.serial.is_none() && cable.quorum_at_us.is_some())
        {
            self.note_serials()?;
        }
        self.check_sent()?;
        self.check_released();
        self.check_reported()
    }

    fn note_serials(&mut self) -> Result<()> {
        let serials = self.serials()?;
        for cable in &mut self.cables {
            let id = cable.id.map(|id| id.to_string()).unwrap_or_default();
            cable.serial = cable.serial.or(serials.get(&id).copied());
        }
        Ok(())
    }

    fn check_sent(&mut self) -> Result<()> {
        if !self.rotten.is_empty() || self.clock_was_wrong {
            return Ok(());
        }
        let datagrams = self.cables.iter().map(|cable| self.datagrams(cable)).sum();
        // One datagram of sixteen may be a beacon.
        let span_us = self.link.time_us(datagrams) * 17 / 16 + SENDING_US;
        let unhindered_us = self.unhindered_since(Address::Sender);
        for number in 0..self.cables.len() {
            let cable = &self.cables[number];
            let Some(quorum_us) = cable.quorum_at_us.filter(|_| !cable.was_sent) else {
                continue;
            };
            let since_us = quorum_us.max(unhindered_us);
            let arrivals = &self.line.arrivals;
            if cable
                .serial
                .is_some_and(|serial| arrivals.is_sent(serial, PASSES))
            {
                self.cables[number].was_sent = true;
            } else if self.now_us > since_us + span_us && !self.is_container_reported()? {
                let text = format!("cable {number} has not been sent after {span_us} us");
                self.log.violation(self.now_us, text);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns whether transmit reports a container that it could not read. It waits for an operator then.
    fn is_container_reported(&self) -> Result<bool> {
        if self.lacked_room_at_us.is_none() {
            return Ok(false);
        }
        let view = fs::read(self.site.sender_state().view_of(Role::Transmit)).map_err(wrong)?;
        let view: Value = serde_json::from_slice(&view).map_err(wrong)?;
        let mut alarms = view["alarms"].as_array().into_iter().flatten();
        Ok(alarms.any(|alarm| alarm["alarm"] == "container"))
    }

    /// Datagrams that a cable may need in all its passes.
    fn datagrams(&self, cable: &Cable) -> u64 {
        if cable.quorum_at_us.is_none() {
            return 0;
        }
        let bytes = cable.plan.parts.iter().sum::<u64>() + FRAMING_BYTES;
        // Padding adds an eighth at most.
        let symbols = bytes * 9 / 8 / u64::from(self.link.datagram_bytes() - 72) + 1;
        let repair = symbols / 4 + 5 * symbols.div_ceil(384);
        (symbols + repair) * (u64::from(PASSES) + cable.resends)
    }

    fn check_released(&mut self) {
        let retry_us = self
            .lacked_room_at_us
            .map_or(0, |at_us| at_us + ROOM_RETRY_US);
        if self.now_us < retry_us + RELEASING_US || !self.rotten.is_empty() || self.clock_was_wrong
        {
            return;
        }
        let late: Vec<u64> = self
            .line
            .arrivals
            .whole()
            .filter(|(_, at_us)| self.now_us > at_us + RELEASING_US)
            .map(|(serial, _)| serial)
            .collect();
        for number in 0..self.cables.len() {
            let cable = &self.cables[number];
            let is_late = cable.serial.is_some_and(|serial| late.contains(&serial));
            if is_late && !cable.has_arrived() {
                let text = format!("all of cable {number} has arrived, and it is not released");
                self.log.violation(self.now_us, text);
            }
        }
    }

    fn check_reported(&mut self) -> Result<()> {
        let is_seen = |serial: u64| {
            let mut cables = self.cables.iter();
            cables.any(|cable| cable.serial == Some(serial) && !cable.seen.is_empty())
        };
        let due: Vec<u64> = self
            .line
            .arrivals
            .covered()
            .filter(|(serial, at_us)| self.now_us > at_us + REPORTING_US && !is_seen(*serial))
            .map(|(serial, _)| serial)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let view = fs::read(self.site.receiver_state().view_of(Role::Release)).map_err(wrong)?;
        let view: ReleaseView = serde_json::from_slice(&view).map_err(wrong)?;
        if view.counts.quarantined > 0 {
            // Those are claimed, and the alarm reports them.
            return Ok(());
        }
        let sets = [&view.gaps, &view.complete, &view.opened, &view.not_sent].map(set_of);
        for serial in due {
            let known = valise_common::ids::Serial::new(serial)
                .is_some_and(|serial| sets.iter().any(|set| set.contains(serial)));
            if !known {
                let text = format!("serial {serial} is lost, and release does not report it");
                self.log.violation(self.now_us, text);
            }
        }
        Ok(())
    }

    fn unhindered_since(&self, host: Address) -> u64 {
        self.unhindered_at_us.get(&host).copied().unwrap_or(0)
    }
}
