//! One run of the harness, from the keys to the comparison.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use valise_common::manifest::MediaType;
use valise_common::sshsig::Signature;

use super::options::{LinkKind, Options};
use super::report::{Approval, CableReport, LinkReport, Report, Step};
use crate::harness::{
    HarnessError, Host, Observer, Programs, Released, Result, Role, Settings, Submission, World,
};

/// The interval at which the states of serials are read from the receiver while cables are awaited.
const STATES_INTERVAL: Duration = Duration::from_secs(2);

/// A cable in transit.
struct Travelling {
    submission: Submission,
    report: CableReport,
    approved: Instant,
}

/// Sends all cables of the options and reports the result.
///
/// # Errors
/// If the harness itself cannot work. A cable that did not arrive is in the report instead.
pub fn run(options: &Options) -> Result<Report> {
    options.check()?;
    for file in &options.files {
        let opened = std::fs::File::open(file).and_then(|file| file.metadata());
        let shown = file.display();
        match opened {
            Err(error) => return Err(HarnessError::Usage(format!("{shown}: {error}"))),
            Ok(found) if !found.is_file() => {
                return Err(HarnessError::Usage(format!("{shown} is not a file")));
            }
            Ok(_) => {}
        }
    }
    let progress = Progress::new(options);
    progress.say("making keys and commissioning both hosts");
    let settings = with_media_types_of(options.settings(), &options.files);
    let mut world = World::commission(Programs::beside_this()?, settings)?;
    progress.say("starting the programs and the line");
    world.start()?;
    let sender = world.state(Host::Sender);
    let receiver = world.state(Host::Receiver);
    let observer = Observer::start(
        &[
            sender.join("outbox"),
            sender.join("progress"),
            receiver.join("inbox"),
        ],
        &[receiver.join("released")],
    )?;
    let files = files_to_send(options, &world)?;
    let start = Instant::now();
    let mut travelling = Vec::new();
    for (index, file) in files.iter().enumerate() {
        progress.say(&format!(
            "submitting and approving cable {} of {}",
            index + 1,
            files.len()
        ));
        travelling.push(send_one(&world, options, file, index, start)?);
    }
    let body_bytes = travelling.iter().map(|cable| cable.report.bytes).sum();
    progress.begin(body_bytes);
    let failures = await_all(&mut world, options, &mut travelling, &progress, body_bytes)?;
    progress.say("all cables are released; waiting for the passes that are left");
    await_last_pass(&mut world, options.time_limit(body_bytes))?;
    for cable in &mut travelling {
        complete(&world, &observer, cable, start)?;
    }
    let last = travelling
        .iter()
        .filter_map(|cable| cable.report.steps.last());
    let elapsed_s = last.map(|step| step.at_s).fold(0.0, f64::max);
    progress.finish();
    let cables: Vec<CableReport> = travelling.into_iter().map(|cable| cable.report).collect();
    let settings = world.settings().clone();
    let wire = {
        // The wire writes its final counts when it is stopped.
        world.stop("wire")?;
        world.wire_statistics()
    };
    // The receiver also writes its final counters: while it runs, its view is up to a second old.
    world.stop_host(Host::Receiver)?;
    Ok(Report {
        ok: failures.is_empty() && cables.iter().all(|cable| cable.failure.is_none()),
        cables,
        failures,
        wire,
        body_bytes,
        elapsed_s,
        link: LinkReport::of(&settings),
        passes: settings.passes,
        repair: settings.repair,
        interleave: settings.interleave,
        receiver: world.view(Role::Receive).unwrap_or_default(),
    })
}

fn with_media_types_of(mut settings: Settings, files: &[PathBuf]) -> Settings {
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let media_type = MediaType::for_file_name(&name).to_string();
        if !settings.media_types.contains(&media_type) {
            settings.media_types.push(media_type);
        }
    }
    settings
}

/// Returns the given files, each as often as asked, or generated ones.
fn files_to_send(options: &Options, world: &World) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for number in 0..options.count {
        if options.files.is_empty() {
            let name = format!("generated-{:03}.bin", number + 1);
            let seed = options
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(u64::from(number));
            files.push(world.generate_file(&name, options.size, seed)?);
        } else {
            files.extend_from_slice(&options.files);
        }
    }
    Ok(files)
}

fn send_one(
    world: &World,
    options: &Options,
    file: &std::path::Path,
    index: usize,
    start: Instant,
) -> Result<Travelling> {
    let mut submission =
        Submission::new(&format!("Loopback cable {}", index + 1), &[file.to_owned()]);
    submission.precedence.clone_from(&options.precedence);
    let bytes = submission.body_bytes()?;
    let step = |state: &str| Step {
        state: state.to_owned(),
        at_s: start.elapsed().as_secs_f64(),
    };
    let message_id = world.submit(&submission)?;
    let mut steps = vec![step("submitted")];
    for (index, officer) in world.roster.officers[..2].iter().enumerate() {
        world.approve(&message_id, officer)?;
        steps.push(step(&format!("approved {} of 2", index + 1)));
    }
    let report = CableReport {
        file: file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        bytes,
        precedence: options.precedence.clone(),
        message_id,
        serial: None,
        steps,
        approvals: Vec::new(),
        seconds: None,
        link_seconds: None,
        failure: None,
    };
    Ok(Travelling {
        submission,
        report,
        approved: Instant::now(),
    })
}

/// Waits until every cable is released, or is known not to arrive, or time is up.
fn await_all(
    world: &mut World,
    options: &Options,
    travelling: &mut [Travelling],
    progress: &Progress,
    body_bytes: u64,
) -> Result<Vec<String>> {
    let released_folder = world.released_folder();
    let folders = [released_folder.clone(), released_folder.join("paris-desk")];
    let sizes: BTreeMap<String, u64> = travelling
        .iter()
        .map(|cable| (cable.report.message_id.clone(), cable.report.bytes))
        .collect();
    let mut asked = Instant::now();
    let mut refused = None;
    let result = world.await_alive(
        "all cables",
        options.time_limit(body_bytes),
        &folders,
        |world| {
            let released = world.released()?;
            let arrived: u64 = released
                .iter()
                .filter_map(|cable| sizes.get(&cable.message_id))
                .sum();
            progress.show(arrived, released.len(), sizes.len(), world);
            if released.len() >= sizes.len() {
                return Ok(Some(()));
            }
            if asked.elapsed() > STATES_INTERVAL {
                asked = Instant::now();
                refused = unreleased(world)?;
                return Ok(refused.is_some().then_some(()));
            }
            Ok(None)
        },
    );
    match result {
        Ok(()) => Ok(refused.into_iter().collect()),
        Err(error @ HarnessError::Timeout { .. }) => Ok(vec![error.to_string()]),
        Err(error) => Err(error),
    }
}

/// Waits until the sender has sent all of its passes: a cable that came once must not come again with a later pass.
/// Cables that never arrive are not waited for.
fn await_last_pass(world: &mut World, limit: Duration) -> Result<()> {
    let view = world.state(Host::Sender).join("view");
    let waited = world.await_alive("the last pass", limit, &[view], |world| {
        let list = world.json(Host::Sender, &["list"])?;
        let states = list
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter();
        let under_way = |state: &str| matches!(state, "sealed" | "queued" | "transmitting");
        let mut states = states.map(|entry| entry["state"].as_str().unwrap_or_default());
        Ok((!states.any(under_way)).then_some(()))
    });
    match waited {
        Err(HarnessError::Timeout { .. }) => Ok(()),
        other => other,
    }
}

/// Returns the receiver's report of serials that will not be released by themselves, if none of the others is still in
/// transit.
fn unreleased(world: &World) -> Result<Option<String>> {
    let list = world.json(Host::Receiver, &["list"])?;
    let mut stuck = Vec::new();
    for entry in list.as_array().map(Vec::as_slice).unwrap_or_default() {
        match entry["state"].as_str().unwrap_or_default() {
            "released" => {}
            "missing" | "quarantined" | "discarded" | "not-sent" | "void" => {
                let reason = entry["reason"].as_str().unwrap_or("no reason given");
                stuck.push(format!(
                    "serial {} is {}: {reason}",
                    entry["serial"], entry["state"]
                ));
            }
            _ => return Ok(None),
        }
    }
    Ok((!stuck.is_empty()).then(|| stuck.join("; ")))
}

/// Compares a cable that arrived, and fills in its states.
fn complete(
    world: &World,
    observer: &Observer,
    cable: &mut Travelling,
    start: Instant,
) -> Result<()> {
    let mut found = world.released()?;
    found.retain(|released| released.message_id == cable.report.message_id);
    let released: &Released = match found.as_slice() {
        [one] => one,
        [] => {
            cable.report.failure = Some("it was not released".to_owned());
            return Ok(());
        }
        several => {
            cable.report.failure = Some(format!("it was released {} times", several.len()));
            return Ok(());
        }
    };
    cable.report.serial = Some(released.serial);
    if let Err(error) = released.compare(&cable.submission) {
        cable.report.failure = Some(error.to_string());
    }
    let serial = released.serial.to_string();
    let sender = world.state(Host::Sender);
    let in_outbox = |name: &str| {
        name.ends_with(".container") && name.split('-').nth(1) == Some(serial.as_str())
    };
    let in_inbox = |name: &str| {
        name.ends_with(".container") && name.split('-').next() == Some(serial.as_str())
    };
    let inbox = world.state(Host::Receiver).join("inbox");
    let mailbox = released.folder.parent().unwrap_or(&released.folder);
    let name = released
        .folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let at = observer.first(mailbox, |seen| *seen == *name);
    let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let sealed = observer.first(&sender.join("outbox"), in_outbox);
    let complete = observer.first(&inbox, in_inbox);
    // The command that brought the last approval ends a little after gate has taken the approval. All later states
    // follow from the approval, so the earliest of them is the upper bound.
    if let Some(next) = [sealed, complete, at].into_iter().flatten().min() {
        cable.approved = cable.approved.min(next);
        for step in &mut cable.report.steps {
            step.at_s = step.at_s.min(seconds(next));
        }
    }
    cable.report.approvals = approvals_of(&released.folder)?;
    for (state, seen) in [("sealed", sealed), ("complete", complete), ("released", at)] {
        if let Some(seen) = seen {
            cable.report.steps.push(Step {
                state: state.to_owned(),
                at_s: seconds(seen),
            });
        }
    }
    if let (Some(at), Some(first)) = (at, cable.report.steps.first()) {
        let submitted = start + Duration::try_from_secs_f64(first.at_s).unwrap_or_default();
        let since = |earlier| at.saturating_duration_since(earlier).as_secs_f64();
        cable.report.seconds = Some(since(submitted));
        cable.report.link_seconds = Some(since(cable.approved));
    }
    Ok(())
}

/// Returns the approvals of a released cable, and the kinds of their keys.
fn approvals_of(folder: &std::path::Path) -> Result<Vec<Approval>> {
    let folder = folder.join("approvals");
    let io = |error| HarnessError::io("read", &folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let armour = std::fs::read_to_string(&path).map_err(io)?;
        let signature = Signature::from_armor(&armour)
            .map_err(|error| HarnessError::Wrong(error.to_string()))?;
        found.push(Approval {
            person: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            key_kind: signature.public_key().kind().as_str().to_owned(),
        });
    }
    found.sort_by(|one, other| one.person.cmp(&other.person));
    Ok(found)
}

/// The progress for a person: bars on a terminal, lines elsewhere, nothing with `--json`.
struct Progress {
    bar: ProgressBar,
    lines: bool,
    /// The unit of the line's counts.
    units: &'static str,
}

impl Progress {
    fn new(options: &Options) -> Self {
        let terminal = std::io::stderr().is_terminal() && !options.json;
        let bar = ProgressBar::with_draw_target(
            None,
            if terminal {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        bar.set_style(style("{spinner} {msg}"));
        Self {
            bar,
            lines: !terminal && !options.json,
            units: match options.link {
                LinkKind::Udp => "datagrams",
                LinkKind::Serial => "bytes of the line",
            },
        }
    }

    fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        self.bar.tick();
        if self.lines {
            eprintln!("{text}");
        }
    }

    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style(
            "{elapsed:>4} [{bar:40}] {bytes}/{total_bytes}  {msg}",
        ));
        if self.lines {
            eprintln!("waiting for the release of all cables");
        }
    }

    fn show(&self, released_bytes: u64, released: usize, all: usize, world: &World) {
        let under_way = world
            .view(Role::Receive)
            .map_or(0, |view| assembled_bytes(&view));
        self.bar.set_position(released_bytes + under_way);
        let wire = world.wire_statistics();
        self.bar.set_message(format!(
            "released {released} of {all}; {} {}, {} lost",
            wire.received, self.units, wire.lost
        ));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Returns the bytes of the containers that `receive` is collecting, as far as their symbols have come.
fn assembled_bytes(view: &serde_json::Value) -> u64 {
    let sets = view["assembling"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let bytes = |set: &serde_json::Value| -> Option<u64> {
        let (have, need) = (set["have_symbols"].as_u64()?, set["need_symbols"].as_u64()?);
        let whole = set["container_bytes"].as_u64()?;
        u64::try_from(u128::from(whole) * u128::from(have.min(need)) / u128::from(need.max(1))).ok()
    };
    sets.iter().filter_map(bytes).sum()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_counted_by_its_symbols() {
        let view = serde_json::json!({"assembling": [
            {"serial": 1, "container_bytes": 1000, "have_symbols": 5, "need_symbols": 10},
            {"serial": 2, "container_bytes": 1000, "have_symbols": 30, "need_symbols": 10},
        ]});
        assert_eq!(assembled_bytes(&view), 1500);
        assert_eq!(assembled_bytes(&serde_json::Value::Null), 0);
    }

    #[test]
    fn the_media_types_of_the_files_are_allowed_by_the_trust_list() {
        let settings = with_media_types_of(Settings::default(), &["a.odt".into(), "b.txt".into()]);
        let added = |wanted: &str| settings.media_types.iter().filter(|t| *t == wanted).count();
        assert_eq!(added("application/vnd.oasis.opendocument.text"), 1);
        assert_eq!(added("text/plain"), 1);
    }
}
