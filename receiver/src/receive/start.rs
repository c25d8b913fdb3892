//! The start of receive: what must be opened before the sandbox, and the parts of the process.

use serde_json::json;
use valise_common::config::{LinkKind, ReceiverConfig};
use valise_common::history::log::AuditLog;
use valise_common::host::alarms::Alarms;
use valise_common::host::commissioned::Host;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::metrics::Metrics;
use valise_common::host::worker::Threading;
use valise_common::ids::ChannelId;
use valise_common::os::clock::{mono_now, utc_now};
use valise_common::os::durable::{SyncBatch, hold_reserve};
use valise_common::os::lock::HostLock;
use valise_common::wire::DatagramBytes;

use super::intake::Intake;
use super::link::LinkWatch;
use super::recover::Recovered;
use super::report::Report;
use super::room::Room;
use super::view::Constants;
use super::watch::StateWatch;
use super::way::Way;
use super::{Receive, ReceiveError};
use crate::spool::net_tables::NetTables;

/// The host's lock and log, and the descriptors that must be opened before the sandbox.
pub struct Claimed {
    pub(super) host: Host<ChannelId>,
    pub(super) audit: AuditLog,
    pub(super) sync: SyncBatch,
    pub(super) intake: Intake,
    pub(super) tables: NetTables,
    pub(super) lock: HostLock,
}

impl Claimed {
    /// Takes the lock, and opens the log and the link.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn take(config: &ReceiverConfig) -> Result<Self, ReceiveError> {
        let state = ReceiverState::new(&config.state);
        let host = state.read_host()?;
        // Before anything is written: none of the folders may lead to somewhere else.
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
            // Inside the sandbox no socket can be made, and no large buffer be asked for.
            intake: Intake::open(config)?,
            tables: NetTables::open(),
            lock,
        })
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
            sync,
            intake,
            tables,
            lock,
        } = claimed;
        let state = ReceiverState::new(&config.state);
        let size =
            DatagramBytes::new(config.datagram_bytes()).ok_or(ReceiveError::DatagramBytes)?;
        let memory_bytes = usize::try_from(config.memory.assembly.0).unwrap_or(usize::MAX);
        let recovered = Recovered::take_up(&state, memory_bytes, sync)?;
        let watch = StateWatch::open(&state, host.channel)?;
        let (now, mono) = (utc_now(), mono_now());
        let listen = config.link.listen;
        let listen = listen.filter(|_| config.link.kind == LinkKind::Udp);
        let constants = Constants {
            started: now,
            socket_buffer_asked: config.link.socket_buffer.0,
        };
        let alarms = Alarms::new(Role::Receive, state.root());
        let metrics = Metrics::new(Role::Receive, &config.metrics.folder, state.root());
        let mut receive = Self {
            way: Way::new(intake, size, memory_bytes, recovered),
            watch,
            room: Room::new(state.clone(), config.spool.bytes_max),
            link: LinkWatch::new(listen, tables, mono),
            report: Report::new(state, audit, alarms, metrics, constants, config),
            tick_at: mono,
            _lock: lock,
        };
        let version = [("version", json!(env!("CARGO_PKG_VERSION")))];
        receive.report.note("started", &version)?;
        receive.report.checkpoint(mono_now())?;
        receive.watch.load_keys(now, &receive.way)?;
        receive.room.tell(&receive.way)?;
        match threading {
            Threading::Beside => receive.way.spawn()?,
            Threading::Caller => {}
        }
        Ok(receive)
    }
}
