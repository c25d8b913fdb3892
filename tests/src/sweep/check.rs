//! What must hold at the end of a case.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::case::{Case, Fault};
use super::template::{MARK, Template};
use super::way::Way;
use crate::harness::{HarnessError, Host, Released, Result, Role, World, await_condition};

/// An alarm or an erasing that has not ended by then does not end.
const LIMIT: Duration = Duration::from_secs(15);

/// Alarms that stand until a person acts or for a day, each with the fault that it reports: they explain a status of 1.
const STANDING: [(&str, &str); 0] = [];

/// Returns every promise that does not hold.
///
/// # Errors
/// When the harness itself could not look.
pub fn violations(
    way: &mut Way<'_>,
    template: &Template,
    case: Option<&Case>,
) -> Result<Vec<String>> {
    let mut found = arrivals(way, template)?;
    found.extend(way.wrong_answers());
    if let Some(case) = case {
        erase_again(&mut way.world, case.role)?;
    }
    found.extend(plaintext(&way.world)?);
    found.extend(logs(&way.world));
    found.extend(alarms(&way.world)?);
    if let Some(case) = case {
        found.extend(
            way.ends
                .iter()
                .filter_map(|(role, words)| silent_end(case, *role, words)),
        );
    }
    Ok(found)
}

/// Every cable that must arrive is in its mailbox once, whole and with its label, and no other one.
fn arrivals(way: &Way<'_>, template: &Template) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let released = Released::all(&way.world.released_folder())?;
    let mut serials = BTreeSet::new();
    for one in &released {
        if !serials.insert(one.serial) {
            found.push(format!("serial {} was released twice", one.serial));
        }
        let mut all = way.expected.iter();
        let expected = all.find(|expected| expected.id.as_ref() == Some(&one.message_id));
        let Some(expected) = expected else {
            let why = match &one.message_id {
                id if *id == template.withdrawn => "withdrawn",
                id if *id == template.rejected => "rejected",
                id if *id == template.discarded => "discarded",
                _ => "never accepted",
            };
            found.push(format!(
                "cable {} was {why} and is released",
                one.message_id
            ));
            continue;
        };
        let submission = &expected.submission;
        if submission.to != [one.mailbox.clone()] {
            found.push(format!(
                "sent to {:?}, released to {}",
                submission.to, one.mailbox
            ));
        }
        found.extend(one.compare(submission).err().map(|error| error.to_string()));
        let manifest = fs::read_to_string(one.folder.join("manifest.txt")).unwrap_or_default();
        if !manifest.contains(&format!("\nlabel: {}\n", submission.label)) {
            found.push(format!(
                "cable {} has not the label {}",
                one.serial, submission.label
            ));
        }
    }
    for expected in &way.expected {
        let is_of = |one: &&Released| expected.id.as_ref() == Some(&one.message_id);
        let count = released.iter().filter(is_of).count();
        if count != 1 {
            found.push(format!(
                "cable {:?} is released {count} times",
                expected.submission.subject
            ));
        }
    }
    Ok(found)
}

/// Starts a role again that says by its alarm that something was not erased: what is left is erased at a start.
fn erase_again(world: &mut World, role: Role) -> Result<()> {
    let folder = world.state(role.host()).join("tmp").join(role.word());
    let is_left = || {
        let mut names = names_in(&folder).into_iter();
        names.any(|name| name.starts_with(".erase-"))
    };
    let is_told = || -> Result<bool> {
        let shown = alarms_of(world, role.host())?.unwrap_or_default();
        Ok(shown.iter().any(|alarm| alarm["alarm"] == "not-erased"))
    };
    // If neither happens, the look for plaintext reports it.
    let _ = await_condition("the erasing", LIMIT, std::slice::from_ref(&folder), || {
        Ok((!is_left() || is_told()?).then_some(()))
    });
    if is_told()? {
        world.kill(role.word());
        world.start_role(role)?;
    }
    Ok(())
}

/// Nothing that held plaintext is left.
fn plaintext(world: &World) -> Result<Vec<String>> {
    let (sender, receiver) = (world.state(Host::Sender), world.state(Host::Receiver));
    let mut found = Vec::new();
    let folders = [
        sender.join("tmp/gate"),
        sender.join("pending"),
        receiver.join("tmp/release"),
        receiver.join("released/.stage"),
    ];
    for folder in folders {
        let empty = || {
            let names = names_in(&folder);
            Ok(names.is_empty().then_some(()))
        };
        let waited = await_condition("no plaintext", LIMIT, std::slice::from_ref(&folder), empty);
        if waited.is_err() {
            found.push(format!(
                "{} holds {:?}",
                folder.display(),
                names_in(&folder)
            ));
        }
    }
    for state in [sender, receiver] {
        let output = Command::new("grep")
            .args([
                "-rlaF",
                "--exclude-dir=released",
                "--exclude-dir=requests",
                "--",
                MARK,
            ])
            .arg(&state)
            .output()
            .map_err(|error| HarnessError::io("run", Path::new("grep"), error))?;
        let files = String::from_utf8_lossy(&output.stdout);
        found.extend(files.lines().map(|file| format!("{file} holds plaintext")));
    }
    Ok(found)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().display().to_string())
        .collect()
}

/// Both hosts' logs verify, and agree on every serial.
fn logs(world: &World) -> Vec<String> {
    let log = world
        .state(Host::Sender)
        .join("audit/gate.log")
        .display()
        .to_string();
    let key = world.auditor_handout().display().to_string();
    let commands: [(Host, &[&str]); 3] = [
        (Host::Sender, &["audit", "verify"]),
        (Host::Receiver, &["audit", "verify"]),
        (Host::Receiver, &["audit", "reconcile", &log, "--key", &key]),
    ];
    let results = commands.map(|(host, words)| world.expect(host, words));
    let errors = results.into_iter().filter_map(Result::err);
    errors.map(|error| error.to_string()).collect()
}

/// Every alarm that does not end, and that no standing one explains.
fn alarms(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for host in [Host::Sender, Host::Receiver] {
        let mut left = Vec::new();
        let views = [world.state(host).join("view")];
        let waited = await_condition("no alarm", LIMIT, &views, || {
            let Some(alarms) = alarms_of(world, host)? else {
                left = vec!["status: no answer".to_owned()];
                return Ok(None);
            };
            let ours = alarms.iter().filter(|alarm| !is_standing(&alarm["alarm"]));
            left = ours
                .map(|alarm| format!("alarm {}: {}", alarm["alarm"], alarm["text"]))
                .collect();
            Ok(left.is_empty().then_some(()))
        });
        if waited.is_err() {
            let line = |text: &String| format!("{host:?} has the {text}");
            found.extend(left.iter().map(line));
        }
    }
    Ok(found)
}

/// Returns the alarms of a host; `None` if it does not show them.
fn alarms_of(world: &World, host: Host) -> Result<Option<Vec<serde_json::Value>>> {
    let answer = world.run(host, &["status", "--check", "--json"])?;
    Ok(serde_json::from_str(&answer.output).ok())
}

fn is_standing(word: &serde_json::Value) -> bool {
    STANDING.iter().any(|(standing, _)| word == standing)
}

/// A role that ended by an error has to say which one, and where.
fn silent_end(case: &Case, role: Role, words: &str) -> Option<String> {
    if case.fault == Fault::Kill {
        return (!words.contains("SIGKILL")).then(|| format!("{role:?} ended: {words}"));
    }
    let last = words.lines().rev().find(|line| !line.trim().is_empty());
    let says = last.is_some_and(|line| line.contains(case.fault.message()) && line.contains(": "));
    (!says).then(|| format!("{role:?} ended without its reason: {words}"))
}
