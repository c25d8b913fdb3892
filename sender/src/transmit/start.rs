//! The start of transmit: what must be opened before the sandbox, and the parts of the process.

use nix::sys::prctl;
use serde_json::json;
use valise_common::config::{LinkKind, SenderConfig};
use valise_common::history::log::{AuditLog, Recovered};
use valise_common::host::alarms::Alarms;
use valise_common::host::folders::{Role, SenderState};
use valise_common::host::metrics::Metrics;
use valise_common::host::worker::Threading;
use valise_common::os::clock;
use valise_common::os::durable;
use valise_common::os::lock::HostLock;
use valise_common::os::signals::Signals;
use valise_common::units::Rate;

use super::check::Checker;
use super::containers::Containers;
use super::link::Link;
use super::load::Loader;
use super::outlet::Outlet;
use super::record::Recorder;
use super::report::Report;
use super::view::TransmitView;
use super::watch::{SpoolChanges, StateWatch};
use super::{During as _, Transmit, TransmitError, now};
use crate::pipeline::{Pipeline, Settings, WarmUp};
use crate::spool::outbox::Outbox;

/// The lock, the link and the log, which only one process may have.
pub struct Claimed {
    lock: HostLock,
    pub(super) link: Link,
    audit: AuditLog,
    recovered: Recovered,
}

impl Claimed {
    /// Takes the lock, and opens the link and the log.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn take(config: &SenderConfig) -> Result<Self, TransmitError> {
        let state = SenderState::new(&config.state);
        // Before anything is written: none of the folders may lead to somewhere else.
        state.check_all().during("look at the state's folders")?;
        let lock = HostLock::try_take(&state.lock(Role::Transmit)).during("lock")?;
        let lock = lock.ok_or(TransmitError::Running)?;
        durable::hold_reserve(&state.reserve(Role::Transmit)).during("hold the reserve")?;
        let link = Link::open(config, clock::mono_now())?;
        // Before the sandbox, which keeps this role from the folder of both roles' logs.
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
        let mut pipeline = Pipeline::new(settings(config, &link), now);
        if let Some(last) = TransmitView::of_last_process(&state) {
            pipeline.restore_beacon_time(now, last.beacon_time_us);
        }
        let outbox = || Outbox::new(state.clone());
        let loader = Loader::new(outbox(), link.datagram, config.fec.repair);
        let checker = Checker::start(threading, outbox()).during("start a thread")?;
        let alarms = Alarms::new(Role::Transmit, state.root());
        let mut transmit = Self {
            containers: Containers::new(pipeline, loader, checker),
            outlet: Outlet::new(link, config.link.kind),
            report: Report::new(recorder, alarms, shown_rate(config), now.mono),
            watch: StateWatch::new(&state)?,
            state,
            signals,
            _lock: lock,
        };
        transmit.handle_changes(SpoolChanges::everything())?;
        Ok(transmit)
    }
}

fn settings(config: &SenderConfig, link: &Link) -> Settings {
    Settings {
        datagram: link.datagram,
        wire_bytes: link.medium().wire_bytes(),
        batch_count_max: link.medium().batch_count_max(),
        warm_up: match config.link.kind {
            LinkKind::Udp => WarmUp::Cover,
            LinkKind::Serial => WarmUp::None,
        },
        rate: link.medium().rate(config.link.rate),
        cover: config.link.cover,
        repair: config.fec.repair,
        interleave: config.fec.interleave,
    }
}

/// Returns the rate that the view shows: the configured one, or the baud of a serial line.
fn shown_rate(config: &SenderConfig) -> Rate {
    match config.link.kind {
        LinkKind::Udp => config.link.rate,
        LinkKind::Serial => Rate::BitsPerSecond(config.link.baud.into()),
    }
}
