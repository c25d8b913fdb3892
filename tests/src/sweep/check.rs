//! The checks at the end of a case.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::case::{Case, Fault};
use super::template::{MARK, Template};
use super::way::Way;
use crate::harness::{HarnessError, Host, Released, Result, Role, World, await_condition};

/// The longest time until an alarm or an erasure ends.
const LIMIT: Duration = Duration::from_secs(15);

/// The alarm that lasts until its role starts again: a file that could not be erased is erased at a start.
const RESTART_ENDS: [&str; 1] = ["not-erased"];

/// Alarms that last for a day so that somebody reads them: each reports the fault of the disk, and nothing is lost.
const FOR_A_DAY: [&str; 2] = ["register-rebuilt", "audit-log"];

/// Returns every promise that does not hold.
///
/// # Errors
/// If the harness itself cannot check.
pub fn violations(
    way: &mut Way<'_>,
    template: &Template,
    case: Option<&Case>,
) -> Result<Vec<String>> {
    let mut found = arrivals(way, template)?;
    found.extend(way.wrong_answers());
    found.extend(alarms(way, case)?);
    found.extend(plaintext(&way.world)?);
    found.extend(way.world.audit_faults());
    if let Some(case) = case {
        found.extend(
            way.ends
                .iter()
                .filter_map(|(role, words)| silent_end(case, *role, words)),
        );
    }
    Ok(found)
}

/// Checks that every cable that must arrive is in its mailbox once, complete and with its label, and no other cable.
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

/// Checks that no file with plaintext is left.
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

/// Returns every alarm that does not end. An alarm that reports the fault and that a start of the role ends is not a
/// violation: its role is started again, once, as a person who reads it would do.
fn alarms(way: &mut Way<'_>, case: Option<&Case>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut is_cured = false;
    for host in [Host::Sender, Host::Receiver] {
        let mut left = Vec::new();
        let views = [way.world.state(host).join("view")];
        let waited = await_condition("no alarm", LIMIT, &views, || {
            // The fault may come as late as this.
            case.map_or(Ok(()), |case| way.start_what_ended(case.role))?;
            let Some(alarms) = alarms_of(&way.world, host)? else {
                left = vec!["status: no answer".to_owned()];
                return Ok(None);
            };
            if let Some(case) = case.filter(|case| case.role.host() == host && !is_cured) {
                let words = alarms.iter().filter_map(|alarm| alarm["alarm"].as_str());
                if words.into_iter().any(|word| RESTART_ENDS.contains(&word)) {
                    is_cured = true;
                    way.world.start_again(case.role)?;
                    return Ok(None);
                }
            }
            let line = |alarm: &Value| format!("alarm {}: {}", alarm["alarm"], alarm["text"]);
            let is_new = |alarm: &&Value| !FOR_A_DAY.iter().any(|word| alarm["alarm"] == *word);
            left = alarms.iter().filter(is_new).map(line).collect();
            // Files that are being erased are gone soon, or an alarm reports that they are not.
            let role = if host == Host::Sender {
                Role::Gate
            } else {
                Role::Release
            };
            let tmp = way.world.state(host).join("tmp").join(role.word());
            let mut names = names_in(&tmp).into_iter();
            left.extend(names.find(|name| name.starts_with(".erase-")));
            Ok(left.is_empty().then_some(()))
        });
        if let Err(HarnessError::Timeout { .. }) = waited {
            found.extend(left.iter().map(|text| format!("{host:?} has the {text}")));
        } else {
            waited?;
        }
    }
    Ok(found)
}

/// Returns the alarms of a host; `None` if it does not show them.
fn alarms_of(world: &World, host: Host) -> Result<Option<Vec<Value>>> {
    let answer = world.run(host, &["status", "--check", "--json"])?;
    Ok(serde_json::from_str(&answer.output).ok())
}

/// A role that ended by an error must report the error, and the operation.
fn silent_end(case: &Case, role: Role, words: &str) -> Option<String> {
    if case.fault == Fault::Kill {
        return (!words.contains("SIGKILL")).then(|| format!("{role:?} ended: {words}"));
    }
    let last = words.lines().rev().find(|line| !line.trim().is_empty());
    let line = last.unwrap_or_default();
    let mut messages = case.fault.messages().iter();
    // `valise-HOST: WHAT: MESSAGE`.
    let says = messages.any(|message| {
        let before = line.split_once(message).map(|(before, _)| before);
        let before = before.and_then(|before| before.split_once(": "));
        before.is_some_and(|(_, what)| !what.trim().is_empty())
    });
    (!says).then(|| format!("{role:?} ended and did not say what failed, and where: {line}"))
}
