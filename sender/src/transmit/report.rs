//! The record of transmit's work: its events and progress, its alarms, and once a second its view.

use serde_json::json;
use valise_common::alarm::Alarm;
use valise_common::host::alarms::Alarms;
use valise_common::os::{clock, service};
use valise_common::units::{Mono, Rate};

use super::SECOND_US;
use super::containers::Containers;
use super::outlet::Outlet;
use super::record::{RecordError, Recorder};
use super::session::Session;
use super::view::TransmitView;

/// What is recorded at once, and what gathers until the second is over.
pub(super) struct Report {
    /// Writes to the disk.
    pub recorder: Recorder,
    /// The alarms of this role.
    pub alarms: Alarms,
    rate: Rate,
    began: Mono,
    datagram_count: u64,
    watchdog_at: Option<Mono>,
}

impl Report {
    /// The first second begins now.
    pub(super) fn new(recorder: Recorder, alarms: Alarms, rate: Rate, now: Mono) -> Self {
        Self {
            recorder,
            alarms,
            rate,
            began: now,
            datagram_count: 0,
            watchdog_at: service::watchdog_interval().map(|_| now),
        }
    }

    /// Raises and clears the alarms of link keys and containers. To be called after every change: one that is cleared before
    /// the second is over is recorded too.
    pub(super) fn handle_faults(&mut self, outlet: &Outlet, containers: &Containers) {
        let time = clock::utc_now();
        self.alarms
            .set_text(Alarm::LinkKey, time, outlet.key_alarm());
        self.alarms
            .set_text(Alarm::Container, time, containers.alarm());
    }

    /// Counts datagrams that have left.
    pub(super) fn handle_sent(&mut self, datagram_count: u32) {
        self.datagram_count += u64::from(datagram_count);
    }

    /// Returns whether the second is over.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        now.since_us(self.began) >= SECOND_US
    }

    /// Ends the second: records alarms, progress and the view.
    pub(super) fn end_second(&mut self, now: Mono, outlet: &Outlet, containers: &mut Containers) {
        self.record_alarms(now, outlet);
        let view = self.view(now, outlet, containers);
        let moved = containers.take_left().into_values();
        self.recorder.moved(moved, view);
        self.began = now;
        self.datagram_count = 0;
        if let (Some(at), Some(interval)) = (self.watchdog_at, service::watchdog_interval())
            && now >= at
        {
            service::watchdog();
            self.watchdog_at = Some(now + interval);
        }
    }

    /// Has everything recorded.
    ///
    /// # Errors
    /// What recording ended with.
    pub(super) fn stop(self) -> Result<(), RecordError> {
        self.recorder.stop()
    }

    fn record_alarms(&mut self, now: Mono, outlet: &Outlet) {
        let (link, time) = (outlet.link(), clock::utc_now());
        let alarms = &mut self.alarms;
        alarms.set_text(Alarm::LinkDown, time, link.alarm(now));
        alarms.set_text(Alarm::LinkUnwatched, time, link.unwatched_alarm());
        while let Some(new) = alarms.poll_fresh(now) {
            let word = new.alarm.as_str();
            self.recorder.event("alarm", vec![("alarm", json!(word))]);
        }
    }

    fn view(&self, now: Mono, outlet: &Outlet, containers: &Containers) -> TransmitView {
        let (link, pipeline) = (outlet.link(), containers.pipeline());
        let span_us = now.since_us(self.began).max(1);
        let bits = self.datagram_count * link.medium().wire_bits();
        TransmitView {
            time: clock::utc_now(),
            written: Some(clock::Stamp::now()),
            session: outlet.session().map(Session::view),
            rate: self.rate,
            wire_bytes: link.medium().wire_bytes(),
            rate_achieved_bits: bits.saturating_mul(1_000_000) / span_us,
            sent: pipeline.totals(),
            held_up: link.held_up,
            link: outlet.state(),
            beacon_time_us: pipeline.beacon_time_us(),
            waiting: pipeline.depths(),
            on_link: containers.on_link(),
            alarms: self.alarms.views(),
        }
    }
}
