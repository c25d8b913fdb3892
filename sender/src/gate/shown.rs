//! What gate shows of the host: alarms, the view that commands read, and metrics.

use std::collections::BTreeMap;
use std::io;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::alarms::Alarms;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::metrics::Metrics;
use valise_common::host::neighbour::Neighbour;
use valise_common::os::clock;
use valise_common::os::durable::{free_bytes, is_full};
use valise_common::units::UtcTime;

use super::authority::Authority;
use super::history::History;
use super::outgoing::Outgoing;
use super::waiting::Waiting;
use crate::model::event::Event;
use crate::model::ledger::Cable;
use crate::spool::view::{BundleView, CableView, HostView, ViewWriter, state_word};

/// What persons and monitors see.
pub struct Shown {
    /// What needs a person.
    pub alarms: Alarms,
    /// Transmit, as gate sees it.
    neighbour: Neighbour,
    /// What a monitor reads; a command that works without the daemon writes none.
    pub metrics: Option<Metrics>,
    view: ViewWriter,
    /// The time of alarms: that of the next audit line.
    now: UtcTime,
}

impl Shown {
    /// Nothing is shown yet.
    pub fn new(state: &SenderState, now: UtcTime) -> Self {
        Self {
            alarms: Alarms::new(Role::Gate, state.root()),
            neighbour: Neighbour::new(
                Role::Transmit,
                state.lock(Role::Transmit),
                state.view_of(Role::Transmit),
            ),
            metrics: None,
            view: ViewWriter::default(),
            now,
        }
    }

    /// Sets the time of the alarms to come.
    pub fn set_time(&mut self, now: UtcTime) {
        self.now = now;
    }

    /// Raises an alarm that lasts until it is cleared.
    pub fn alarm(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        self.alarms.set(alarm, self.now, 1, || cause);
    }

    /// Raises an alarm about something that happened.
    pub fn note(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        self.alarms.raise(alarm, self.now, clock::mono_now(), cause);
    }

    /// Reports the alarms of transmit, and those about it.
    pub fn watch_neighbour(&mut self) {
        let (now, mono) = (clock::utc_now(), clock::mono_now());
        self.neighbour.watch(&mut self.alarms, now, mono);
    }

    /// Adds the new alarms that are due to the next commit.
    pub fn log_alarms(&mut self, history: &mut History) {
        while let Some(new) = self.alarms.poll_fresh(clock::mono_now()) {
            history.record(&Event::Alarm {
                alarm: new.alarm.as_str().to_owned(),
            });
        }
    }

    /// Takes changed cables into the view. Returns an error of the view alone.
    ///
    /// # Errors
    /// If a cable cannot be encoded.
    pub fn put(
        &mut self,
        cables: &[Cable],
        waiting: &Waiting,
        outgoing: &Outgoing,
        now: UtcTime,
    ) -> io::Result<()> {
        for cable in cables {
            let progress = cable
                .serial()
                .and_then(|serial| outgoing.progress.get(&serial));
            let shown = CableView::new(cable, progress, waiting.blocked(&cable.id), now);
            self.view.put(&shown).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Takes cables that are known no more out of the view.
    pub fn forget(&mut self, history: &History) {
        self.view
            .retain(|id| history.ledger().cables.contains_key(id));
    }

    /// Writes view and metrics.
    ///
    /// # Errors
    /// Any error of the system, but a full disk: what is shown is old then, and `status` reports that.
    pub fn write(
        &mut self,
        state: &SenderState,
        history: &History,
        authority: &Authority,
        outgoing: &Outgoing,
    ) -> io::Result<()> {
        let now = history.now();
        let host = self.host_view(state, history, authority);
        self.write_metrics(&host, history, outgoing, now);
        match self.view.write(state, &host) {
            Err(error) if is_full(&error) => {
                tracing::warn!("the view cannot be written: {error}");
                Ok(())
            }
            written => written,
        }
    }

    fn write_metrics(
        &mut self,
        host: &HostView,
        history: &History,
        outgoing: &Outgoing,
        now: UtcTime,
    ) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        metrics.write(&host.alarms, |sheet| {
            let mut cables = BTreeMap::<_, u64>::new();
            for cable in history.ledger().cables.values() {
                let progress = cable
                    .serial()
                    .and_then(|serial| outgoing.progress.get(&serial));
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

    fn host_view(&self, state: &SenderState, history: &History, authority: &Authority) -> HostView {
        let ledger = history.ledger();
        let issued = ledger.issued;
        let bundles = ledger.bundles.iter().map(|(id, held)| {
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
        let (slots_left, slots_total) = ledger.slots_left();
        HostView {
            time: history.now(),
            written: Some(clock::Stamp::now()),
            channel: ledger.channel,
            trust_version: ledger.trust.map(|(version, _)| version),
            software_keys: authority
                .list()
                .is_some_and(|list| list.allow_software_keys()),
            issued,
            lowest_retained: ledger.lowest_retained(),
            slots_left,
            slots_total,
            bundles: bundles.collect(),
            disk_free_bytes: free_bytes(state.root()).unwrap_or(0),
            alarms: self.alarms.views(),
        }
    }
}
