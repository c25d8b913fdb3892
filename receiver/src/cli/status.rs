//! `status`: health at a glance, for a person, a script, or a monitor.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::os::cli::warn;
use valise_common::os::layout::{ReceiverState, Role};
use valise_common::os::life::{Life, Observed};
use valise_common::os::watch::{DirWatch, Notice};

use super::arguments::Status;
use super::{CliError, print_json, print_line};
use crate::io::host::Host;
use crate::io::view::{AlarmView, ReceiveView, ReleaseView, VIEW_BYTES_MAX};

/// What `status` shows.
struct Health {
    receive: Observed<ReceiveView>,
    release: Observed<ReleaseView>,
}

/// Looks at one role: its view, and its signs of life.
pub fn look<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Observed<T>, CliError> {
    let (lock, path) = (state.lock(role), state.view_of(role));
    Observed::look(role, &lock, &path, VIEW_BYTES_MAX).map_err(CliError::system)
}

/// Reads a role's view. Standard error tells if the role does not keep it up to date.
pub fn read_view<T: DeserializeOwned>(
    state: &ReceiverState,
    role: Role,
) -> Result<Option<T>, CliError> {
    let shown = look(state, role)?;
    warn("valise-receiver", shown.warning());
    shown.into_view().map_err(CliError::System)
}

/// `status`
pub fn status(config: &ReceiverConfig, options: &Status) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    Host::read(&state.host())?;
    if options.follow {
        return follow(&state, options);
    }
    let health = Health::read(&state)?;
    if options.check {
        return check(&health, options);
    }
    print(&health, options)
}

/// One line an alarm; any makes the exit status 1.
fn check(health: &Health, options: &Status) -> Result<(), CliError> {
    let alarms = health.alarms();
    if options.json {
        print_json(&alarms)?;
    } else {
        for (code, text) in &alarms {
            print_line(&format!("{code}: {text}"))?;
        }
    }
    match alarms.len() {
        0 => Ok(()),
        1 => Err(CliError::refused(
            "1 alarm; each line above says what to do",
        )),
        count => Err(CliError::Refused(format!(
            "{count} alarms; each line above says what to do"
        ))),
    }
}

/// Shows it anew whenever a daemon rewrites its view, until the reader goes away.
fn follow(state: &ReceiverState, options: &Status) -> Result<(), CliError> {
    let mut watch = DirWatch::new().map_err(CliError::system)?;
    watch
        .add(&state.view(), Notice::Arrivals)
        .map_err(CliError::system)?;
    let mut last = None;
    loop {
        let health = Health::read(state)?;
        let shown = health.shown();
        if last.as_ref() != Some(&shown) {
            print(&health, options)?;
            last = Some(shown);
        }
        // A daemon that ends rewrites nothing: look at the locks now and then.
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(2_000_u16)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(CliError::system(errno)),
        }
        watch.drain().map_err(CliError::system)?;
    }
}

impl Health {
    fn read(state: &ReceiverState) -> Result<Health, CliError> {
        Ok(Health {
            receive: look(state, Role::Receive)?,
            release: look(state, Role::Release)?,
        })
    }

    fn alarms(&self) -> Vec<(String, String)> {
        let mut alarms = self.receive.alarms();
        alarms.extend(self.release.alarms());
        let release = self.release.view.iter().flat_map(|view| &view.alarms);
        alarms.extend(release.map(|AlarmView { code, text, .. }| (code.clone(), text.clone())));
        alarms
    }

    /// Everything, without what changes by itself every second.
    fn shown(&self) -> Value {
        let mut release = json!(self.release.view);
        for key in ["time", "now", "written"] {
            if let Some(view) = release.as_object_mut() {
                view.remove(key);
            }
        }
        let mut receive = json!(self.receive.view);
        for key in ["time", "written"] {
            if let Some(view) = receive.as_object_mut() {
                view.remove(key);
            }
        }
        let words = [self.receive.life.as_str(), self.release.life.as_str()];
        json!({ "words": words, "receive": receive, "release": release })
    }

    fn document(&self) -> Value {
        json!({
            "receive": document_of(&self.receive),
            "release": document_of(&self.release),
            "alarms": self
                .alarms()
                .into_iter()
                .map(|(code, text)| json!({ "code": code, "text": text }))
                .collect::<Vec<_>>(),
        })
    }
}

fn document_of<T: Serialize>(shown: &Observed<T>) -> Value {
    json!({
        "runs": shown.life != Life::NotRunning,
        "state": shown.life.as_str(),
        "age_s": shown.age.map(|age| age.as_secs()),
        "view": shown.view,
    })
}

fn print(health: &Health, options: &Status) -> Result<(), CliError> {
    if options.json {
        if options.follow {
            // One document a line, so that a reader can tell them apart.
            return print_line(&health.document().to_string());
        }
        return print_json(&health.document());
    }
    print_line(&format!("receive is {}", health.receive.line()))?;
    print_line(&format!("release is {}", health.release.line()))?;
    if let Some(view) = &health.release.view {
        print_release(view)?;
    }
    if let Some(view) = &health.receive.view {
        for one in view.assembling.iter().take(10) {
            print_line(&format!(
                "serial {}: {} of {} symbols",
                one.serial, one.have_symbols, one.need_symbols
            ))?;
        }
        if let Some(last) = view.last_datagram {
            print_line(&format!("last datagram at {last}"))?;
        }
    }
    let alarms = health.alarms();
    if alarms.is_empty() {
        return print_line("no alarm");
    }
    for (code, text) in alarms {
        print_line(&format!("ALARM {code}: {text}"))?;
    }
    Ok(())
}

fn print_release(view: &ReleaseView) -> Result<(), CliError> {
    let counts = &view.counts;
    print_line(&format!("channel {}", view.channel))?;
    print_line(&format!(
        "serials up to {}: {} decided, {} in quarantine, {} missing, {} waiting",
        counts.highest, counts.claimed, counts.quarantined, counts.missing, counts.complete
    ))?;
    match view.trust_version {
        Some(version) if view.software_keys => print_line(&format!(
            "trust list {version}, which lets software keys approve: for exercises only"
        ))?,
        Some(version) => print_line(&format!("trust list {version}"))?,
        None => print_line("no trust list")?,
    }
    for bundle in &view.bundles {
        let left = match bundle.void {
            true => "void".to_owned(),
            false => format!("{} of {} slots left", bundle.left, bundle.count),
        };
        print_line(&format!("bundle {}: {left}", bundle.bundle))?;
    }
    let counters = &view.counters;
    print_line(&format!(
        "since the start: {} released, {} quarantined, {} did not open, {} second containers",
        counters.released, counters.quarantined, counters.unopened, counters.second_containers
    ))
}
