//! Writes down what transmit has done, on a thread of its own: a sync may take longer than a burst lasts, and the link does
//! not wait for the disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{RecvError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use valise_common::history::log::{AuditLog, AuditLogError};
use valise_common::host::folders::SenderState;
use valise_common::host::metrics::Metrics;
use valise_common::host::worker::Threading;
use valise_common::ids::Serial;
use valise_common::os::clock;
use valise_common::os::durable::{self, SyncBatch};

use super::view::TransmitView;
use crate::pipeline::{Outlook, PassEnded};
use crate::spool::progress::{self, Progress};

/// So long the passes of many small cables gather before they share their syncs.
const GATHER: Duration = Duration::from_millis(50);

/// Why nothing more can be written down. Transmit ends: what the disk holds is unknown.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The system failed.
    #[error("progress cannot be written down: {0}")]
    Io(#[from] io::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// The thread is gone.
    #[error("the thread that writes progress down has ended")]
    Thread,
}

/// The writer, as the sending thread sees it.
pub(super) struct Recorder {
    shared: Arc<Shared>,
    way: Way,
}

enum Way {
    /// A thread, until it has been joined.
    Beside(Option<JoinHandle<Result<(), RecordError>>>),
    /// The caller's thread, and what writing ended with.
    Caller(Box<Writer>, Option<RecordError>),
}

/// The writer.
struct Writer {
    state: SenderState,
    audit: AuditLog,
    metrics: Metrics,
    /// Made by the first write, and so older than the files in it.
    batch: Option<SyncBatch>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    something: Condvar,
}

/// What is to be written down. Newer views and progress take the place of older ones, so it grows only by passes that end.
#[derive(Default)]
struct Waiting {
    ended: Vec<PassEnded>,
    moved: BTreeMap<Serial, Progress>,
    view: Option<TransmitView>,
    events: Vec<Event>,
    stop: bool,
    /// The thread has ended: nothing is written down any more.
    over: bool,
}

struct Event {
    event: &'static str,
    fields: Vec<(&'static str, Value)>,
    /// Who waits until the line is durable.
    durable: Option<SyncSender<()>>,
}

impl Recorder {
    /// Makes the writer, and its thread if it has one.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(
        threading: Threading,
        state: SenderState,
        audit: AuditLog,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            state,
            audit,
            metrics,
            batch: None,
        };
        let way = match threading {
            Threading::Caller => Way::Caller(Box::new(writer), None),
            Threading::Beside => {
                let theirs = Arc::clone(&shared);
                let work = move || {
                    let ended = run(&theirs, &mut writer);
                    theirs.end();
                    ended
                };
                let builder = thread::Builder::new().name("record".to_owned());
                Way::Beside(Some(builder.spawn(work)?))
            }
        };
        Ok(Self { shared, way })
    }

    /// An event for the audit log.
    pub(super) fn event(&mut self, event: &'static str, fields: Vec<(&'static str, Value)>) {
        self.add_event(event, fields, None);
    }

    /// An event that must be durable before anything comes of it: waits until it is.
    ///
    /// # Errors
    /// What the thread ended with.
    pub(super) fn event_durable(
        &mut self,
        event: &'static str,
        fields: Vec<(&'static str, Value)>,
    ) -> Result<(), RecordError> {
        let (durable, is_durable) = sync_channel(1);
        self.add_event(event, fields, Some(durable));
        match is_durable.recv() {
            Ok(()) => Ok(()),
            Err(RecvError) => self.join(),
        }
    }

    fn add_event(
        &mut self,
        event: &'static str,
        fields: Vec<(&'static str, Value)>,
        durable: Option<SyncSender<()>>,
    ) {
        let event = Event {
            event,
            fields,
            durable,
        };
        self.add(|waiting| waiting.events.push(event));
    }

    /// A pass has been sent to its end: to be made durable.
    pub(super) fn ended(&mut self, ended: PassEnded) {
        self.add(|waiting| {
            waiting.moved.remove(&ended.progress.serial);
            waiting.ended.push(ended);
        });
    }

    /// Containers have moved on, and what there is to see.
    pub(super) fn moved(&mut self, moved: impl Iterator<Item = Progress>, view: TransmitView) {
        self.add(|waiting| {
            waiting
                .moved
                .extend(moved.map(|progress| (progress.serial, progress)));
            waiting.view = Some(view);
        });
    }

    /// Returns whether writing has ended, which only an error brings about.
    pub(super) fn has_failed(&self) -> bool {
        match &self.way {
            Way::Beside(thread) => thread.as_ref().is_none_or(JoinHandle::is_finished),
            Way::Caller(_, failed) => failed.is_some(),
        }
    }

    /// Has everything written down and ends the thread.
    ///
    /// # Errors
    /// What the thread ended with.
    pub(super) fn stop(mut self) -> Result<(), RecordError> {
        self.add(|waiting| waiting.stop = true);
        self.join()
    }

    fn join(&mut self) -> Result<(), RecordError> {
        match &mut self.way {
            Way::Beside(thread) => {
                let thread = thread.take().ok_or(RecordError::Thread)?;
                thread.join().map_err(|_| RecordError::Thread)?
            }
            Way::Caller(_, failed) => failed.take().map_or(Ok(()), Err),
        }
    }

    fn add(&mut self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.over {
            return;
        }
        add(&mut waiting);
        match &mut self.way {
            Way::Beside(_) => {
                drop(waiting);
                self.shared.something.notify_one();
            }
            Way::Caller(writer, failed) => {
                let taken = std::mem::take(&mut *waiting);
                drop(waiting);
                if let Err(error) = writer.write(&taken) {
                    *failed = Some(error);
                    self.shared.end();
                }
            }
        }
    }
}

impl Shared {
    /// Nothing is written down any more. Whoever waits for a line, or would, learns it.
    fn end(&self) {
        *lock(&self.waiting) = Waiting {
            over: true,
            ..Waiting::default()
        };
    }
}

/// Locks. A thread that panicked while it held the lock left plain data behind, whole.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.ended.is_empty()
            && self.moved.is_empty()
            && self.view.is_none()
            && self.events.is_empty()
            && !self.stop
    }

    /// Returns whether somebody waits for it.
    fn is_awaited(&self) -> bool {
        self.stop || self.events.iter().any(|event| event.durable.is_some())
    }
}

fn run(shared: &Shared, writer: &mut Writer) -> Result<(), RecordError> {
    loop {
        let mut waiting = lock(&shared.waiting);
        while waiting.is_empty() {
            let woken = shared.something.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let gathered = shared
            .something
            .wait_timeout_while(waiting, GATHER, |more| !more.is_awaited());
        waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let taken = std::mem::take(&mut *waiting);
        drop(waiting);
        writer.write(&taken)?;
        if taken.stop {
            return Ok(());
        }
    }
}

impl Writer {
    fn write(&mut self, taken: &Waiting) -> Result<(), RecordError> {
        let batch = match &mut self.batch {
            Some(batch) => batch,
            // Within the folders that the sandbox leaves; any on this file system will do.
            None => self.batch.insert(SyncBatch::new(&self.state.progress())?),
        };
        let now = clock::utc_now();
        for event in &taken.events {
            self.audit.append(now, event.event, &event.fields);
        }
        for ended in &taken.ended {
            let Progress {
                serial,
                passes_done,
                ..
            } = ended.progress;
            let event = match ended.outlook {
                Outlook::MorePasses => "pass",
                Outlook::Transmitted => "transmitted",
            };
            self.audit.append(
                now,
                event,
                &[("serial", json!(serial)), ("passes", json!(passes_done))],
            );
        }
        if !taken.events.is_empty() || !taken.ended.is_empty() {
            self.audit.commit()?;
        }
        for durable in taken
            .events
            .iter()
            .filter_map(|event| event.durable.as_ref())
        {
            // Who asked waits for nothing else.
            let _ = durable.send(());
        }
        // After the log: gate takes what it reads here as transmitted.
        if !taken.ended.is_empty() {
            // Of a serial whose passes ended in quick succession, the last counts.
            let last: BTreeMap<Serial, &Progress> = taken
                .ended
                .iter()
                .map(|ended| (ended.progress.serial, &ended.progress))
                .collect();
            let all: Vec<Progress> = last.into_values().cloned().collect();
            progress::write_all(&self.state, &all, batch)?;
        }
        // Neither is worth the end: a part of a pass is sent again after a crash, and what is shown is old.
        for moved in taken.moved.values() {
            if_room(progress::write_unsynced(&self.state, moved))?;
        }
        if let Some(view) = &taken.view {
            durable::refill_reserve();
            if_room(view.write(&self.state))?;
        }
        let mono = clock::mono_now();
        if self.audit.is_checkpoint_due(mono) {
            self.audit.checkpoint(mono)?;
        }
        if let Some(view) = &taken.view {
            view.write_metrics(&mut self.metrics);
        }
        if taken.stop {
            // After whatever ended at the last moment.
            let role = [("role", json!("transmit"))];
            self.audit.append(clock::utc_now(), "stop", &role);
            self.audit.checkpoint(clock::mono_now())?;
        }
        Ok(())
    }
}

/// Passes over a full disk.
fn if_room(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if durable::is_full(&error) => {
            tracing::debug!("{error}");
            Ok(())
        }
        written => written,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn nobody_waits_for_a_line_that_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        AuditLog::create(&state.audit(), "transmit", "valise/test/transmit").unwrap();
        let (audit, _) = AuditLog::open(&state.audit(), "transmit").unwrap();
        fs::remove_dir(state.progress()).unwrap();
        let metrics = Metrics::new(
            valise_common::role::Role::Transmit,
            std::path::Path::new(""),
            state.root(),
        );
        let mut recorder = Recorder::start(Threading::Beside, state, audit, metrics).unwrap();
        recorder.event("start", Vec::new());
        let error = recorder.event_durable("session", Vec::new()).unwrap_err();
        assert!(matches!(error, RecordError::Io(_)), "{error}");
        assert!(recorder.has_failed());
        // The thread is gone, and a later line finds nobody either.
        let error = recorder.event_durable("session", Vec::new()).unwrap_err();
        assert!(matches!(error, RecordError::Thread), "{error}");
    }
}
