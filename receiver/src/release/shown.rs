//! What release shows of the host: alarms, files that stop it, and metrics.

use std::path::Path;

use valise_common::alarm::{Alarm, Cause};
use valise_common::host::alarms::Alarms;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::metrics::Metrics;
use valise_common::host::neighbour::Neighbour;
use valise_common::os::clock;
use valise_common::units::{Mono, UtcTime};

use crate::release::foreign::{Foreign, Trouble};

/// What persons and monitors see.
pub struct Shown {
    /// What needs a person.
    pub(super) alarms: Alarms,
    /// Receive, as this process sees it.
    pub(super) neighbour: Neighbour,
    /// What a monitor reads; a command that works without the daemon writes none.
    pub(super) metrics: Option<Metrics>,
    /// Files that stop something.
    pub(super) foreign: Foreign,
    /// The alarms of this process's own fences.
    pub(super) fences: Vec<(Alarm, String)>,
    /// When mailboxes were last looked at.
    pub(super) mailboxes_seen: Option<Mono>,
    /// What is shown has changed.
    pub(super) dirty: bool,
}

impl Shown {
    /// Nothing is shown yet.
    pub(super) fn new(state: &ReceiverState) -> Self {
        Self {
            alarms: Alarms::new(Role::Release, state.root()),
            neighbour: Neighbour::new(
                Role::Receive,
                state.lock(Role::Receive),
                state.view_of(Role::Receive),
            ),
            metrics: None,
            foreign: Foreign::default(),
            fences: Vec::new(),
            mailboxes_seen: None,
            dirty: true,
        }
    }

    /// Raises an alarm about something that happened.
    pub(super) fn raise(&mut self, alarm: Alarm, now: UtcTime, cause: impl Into<Cause>) {
        self.alarms.raise(alarm, now, clock::mono_now(), cause);
        self.dirty = true;
    }

    /// Shows a file that stops something; `advice` follows its description.
    pub(super) fn note_foreign(
        &mut self,
        trouble: Trouble,
        path: &Path,
        advice: &str,
        now: UtcTime,
    ) {
        self.foreign.note(trouble, path, advice);
        self.show_foreign(now);
    }

    /// Shows the files that stop something now.
    pub(super) fn show_foreign(&mut self, now: UtcTime) {
        self.foreign.show(&mut self.alarms, now);
        self.dirty = true;
    }
}
