//! Release's parts, and what it does with several of them at a time.

use std::path::Path;

use valise_common::alarm::{Alarm, Cause};
use valise_common::config::ReceiverConfig;
use valise_common::history::index::rebuilt_text;
use valise_common::host::alarms::NewAlarm;
use valise_common::host::commissioned::Host;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::requests::{RequestService, Requests};
use valise_common::host::trust_store::VerifiedList;
use valise_common::host::worker::Threading;
use valise_common::ids::ChannelId;
use valise_common::os::clock;
use valise_common::os::durable::{Eraser, NOT_ERASED, SyncBatch, hold_reserve};
use valise_common::os::lock::HostLock;
use valise_common::units::{Mono, UtcTime};

use crate::model::event::Event;
use crate::release::commit::Batch;
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::inbox::{Inbox, LARGE_BYTES};
use crate::release::ledger::{Ledger, now_of};
use crate::release::link::Link;
use crate::release::shown::Shown;
use crate::release::slots::Slots;
use crate::release::worker::{self, Done, Worker};
use crate::spool::publish::Groups;
use crate::spool::slots_key::SlotsKey;

/// Release: everything that a container goes through after the link. Each part has an owner; this is where they meet.
pub struct Release {
    pub(super) config: ReceiverConfig,
    pub(super) state: ReceiverState,
    pub(super) host: Host<ChannelId>,
    /// What has happened.
    pub(super) ledger: Ledger,
    /// The list in force.
    pub(super) trust: Option<VerifiedList>,
    pub(super) groups: Groups,
    pub(super) slots: Slots,
    pub(super) inbox: Inbox,
    pub(super) link: Link,
    pub(super) shown: Shown,
    pub(super) requests: RequestService,
    pub(super) worker: Worker,
    /// Many files, one sync. As old as the process.
    pub(super) sync: SyncBatch,
    /// Erases what is put away in `tmp/release`: bodies that are not released, requests that are done.
    pub(super) eraser: Eraser,
    // Held to the end.
    _lock: HostLock,
}

impl Release {
    /// Everything that `release` is made of, with what a crash left taken up. A command may have it too while no daemon
    /// does.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn open(
        config: ReceiverConfig,
        state: ReceiverState,
        groups: Groups,
        threading: Threading,
    ) -> Result<Release, ReleaseError> {
        let host = state.read_host()?;
        let lock = HostLock::try_take(&state.lock(Role::Release))?
            .ok_or_else(|| ReleaseError::Running(state.root().to_owned()))?;
        state.create_all()?;
        hold_reserve(&state.reserve(Role::Release))?;
        let slots_key = match config.release.slots_credential {
            true => Some(SlotsKey::load()?),
            false => None,
        };
        let (ledger, recovered) = Ledger::open(&state, config.audit)?;
        let requests = Requests::new(state.requests(), state.tmp(Role::Release));
        let mut release = Release {
            sync: SyncBatch::new(state.root())?,
            eraser: Eraser::new(state.tmp(Role::Release)),
            requests: RequestService::new(requests)?,
            worker: worker::start(threading, state.clone(), slots_key.clone())?,
            config,
            host,
            ledger,
            trust: None,
            groups,
            slots: Slots::new(slots_key),
            inbox: Inbox::default(),
            link: Link::default(),
            shown: Shown::new(&state),
            state,
            _lock: lock,
        };
        if recovered.torn_bytes > 0 {
            let text = format!(
                "the audit log ended in {} bytes of a line that was never committed; they were put aside",
                recovered.torn_bytes
            );
            release.raise(Alarm::AuditLog, text);
        }
        if release.ledger.is_rebuilt() {
            let text = rebuilt_text(&release.state.register());
            release.raise(Alarm::RegisterRebuilt, text);
        }
        release.start_up()?;
        if threading == Threading::Beside {
            release.eraser.start()?;
        }
        Ok(release)
    }

    pub(super) fn take_done(&mut self) -> Result<(), ReleaseError> {
        let Some(done) = self.worker.take()? else {
            return Ok(());
        };
        self.shown.dirty = true;
        self.inbox.in_work = None;
        self.requests.look_again();
        let mut batch = Batch::default();
        match done {
            Done::Opened(incoming, opened) => self.take_opened(incoming, opened, &mut batch)?,
            Done::Staged(incoming, cable, names) => {
                self.take_staged(incoming, cable, names, &mut batch)?;
            }
            Done::Bundle(plan, out, request, by, made) => {
                self.take_bundle(plan, out, &request, by, made)?;
            }
        }
        self.commit(batch)?;
        Ok(self.requests.finish()?)
    }

    /// Answers what could not be answered before, and reports whose requests wait and what stays in `requests/`.
    pub(super) fn keep_up_requests(&mut self, mono: Mono) -> Result<(), ReleaseError> {
        let now = self.now();
        Ok(self.requests.keep_up(&mut self.shown.alarms, now, mono)?)
    }

    /// Has what was put away erased, and reports what could not be.
    pub(super) fn erase_what_is_away(&mut self) -> Result<(), ReleaseError> {
        self.eraser.wake();
        if self.eraser.take_left()? > 0 {
            self.raise(Alarm::NotErased, NOT_ERASED.to_owned());
        }
        Ok(())
    }

    pub(super) fn recheck_some(&mut self) -> Result<(), ReleaseError> {
        let batch = self.next_recheck()?;
        self.commit(batch)?;
        Ok(self.requests.finish()?)
    }

    /// Opens the next quarantined container that an operator wants judged again, if there is one.
    pub(super) fn next_recheck(&mut self) -> Result<Batch, ReleaseError> {
        let mut batch = Batch::default();
        let large = LARGE_BYTES;
        let next = self.inbox.rechecks.front();
        let ready = next.is_some_and(|next| next.bytes <= large || !self.worker.is_busy());
        if ready && let Some(incoming) = self.inbox.rechecks.pop_front() {
            self.take_in(incoming, &mut batch)?;
        }
        Ok(batch)
    }

    pub(super) fn stop(&mut self) -> Result<(), ReleaseError> {
        self.shown.alarms.end();
        self.log_alarms()?;
        let now = self.now();
        self.ledger.append(now, Event::Stopped);
        self.ledger.checkpoint(self.mono())?;
        self.show();
        Ok(())
    }

    /// "Now" for judging.
    pub(super) fn now(&self) -> UtcTime {
        let issued = self.trust.as_ref().map(|signed| signed.list.issued());
        now_of(clock::utc_now(), issued, self.ledger.last_time())
    }

    pub(super) fn mono(&self) -> Mono {
        clock::mono_now()
    }

    /// Raises an alarm about something that happened.
    pub(super) fn raise(&mut self, alarm: Alarm, cause: impl Into<Cause>) {
        let now = self.now();
        self.shown.raise(alarm, now, cause);
    }

    /// Shows a file that stops something; `advice` follows its description.
    pub(super) fn note_foreign(&mut self, trouble: Trouble, path: &Path, advice: &str) {
        let now = self.now();
        self.shown.note_foreign(trouble, path, advice, now);
    }

    pub(super) fn log_alarms(&mut self) -> Result<(), ReleaseError> {
        self.commit_alarms()?;
        self.shown.alarms.run_commands();
        Ok(())
    }

    /// Logs every new alarm for a command that has no daemon, and returns them for the person who called it. The alarm
    /// command is not run: root's command would run it with more rights than the daemon has.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn tell_alarms(&mut self) -> Result<Vec<String>, ReleaseError> {
        self.shown.alarms.end();
        self.commit_alarms()
    }

    fn commit_alarms(&mut self) -> Result<Vec<String>, ReleaseError> {
        let (now, mono) = (self.now(), self.mono());
        let mut lines = Vec::new();
        while let Some(NewAlarm { alarm, text, line }) = self.shown.alarms.poll_fresh(mono) {
            lines.push(line);
            let code = alarm.as_str().to_owned();
            self.ledger.append(now, Event::Alarm { code, text });
            self.shown.dirty = true;
        }
        self.ledger.commit()?;
        Ok(lines)
    }
}
