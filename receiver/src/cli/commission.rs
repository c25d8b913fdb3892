//! Commissioning: the courier's material, link keys, the clock.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::{Shown, check_reader, confirm_if_attended, needs_root};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::unfinished::Unfinished;
use valise_common::host::worker::Threading;
use valise_common::os::durable::{self, Access};
use valise_common::os::sandbox;
use valise_common::units::{UtcTime, count_of};

use super::arguments::{BundleCreate, BundleVoid, LinkKeyRetire};
use super::request::{ask, ask_and_print, check_reason};
use super::status::read_view;
use super::{CliError, print_done, print_done_json, print_json, print_line};
use crate::model::event::Asker;
use crate::model::reply::BundleMade;
use crate::model::rows::{BundleRow, BundleState};
use crate::release::request::RequestText;
use crate::release::{Release, ReleaseError};
use crate::spool::bundle_store::{BUNDLE_FILE, STATEMENT_FILE};
use crate::spool::publish::Groups;
use crate::spool::register::Register;
use crate::spool::view::ReleaseView;

/// Does a piece of work on the host in this process, if no daemon has it; then as the user of release.
pub(super) fn work_here<T>(
    config: &ReceiverConfig,
    work: impl FnOnce(&mut Release) -> Result<T, CliError>,
) -> Result<Option<T>, CliError> {
    let state = ReceiverState::new(&config.state);
    let groups = Groups::look_up(&config.mailboxes)?;
    sandbox::protect_memory().map_err(CliError::system)?;
    let role = state
        .stand_in(Role::Release, &groups.gids())
        .map_err(CliError::system)?;
    if role.is_foreign() {
        return Ok(None);
    }
    let open_and_work = || match Release::open(config.clone(), state, groups, Threading::Caller) {
        Ok(mut here) => {
            // What opening found, half a line that somebody added to the log for one, would be told nowhere else.
            print_alarms(&here.tell_alarms()?);
            let done = work(&mut here);
            print_alarms(&here.tell_alarms()?);
            done.map(Some)
        }
        Err(ReleaseError::Running(_)) => Ok(None),
        Err(error) => Err(error.into()),
    };
    role.run(open_and_work).map_err(CliError::system)?
}

fn print_alarms(alarms: &[String]) {
    for alarm in alarms {
        eprintln!("valise-receiver: alarm {alarm}");
    }
}

/// `bundle create`
pub(super) fn bundle_create(
    config: &ReceiverConfig,
    options: &BundleCreate,
) -> Result<(), CliError> {
    let out = &options.out;
    let state = ReceiverState::new(&config.state);
    state.check_commissioned()?;
    if state
        .stand_in(Role::Release, &[])
        .map_err(CliError::system)?
        .is_foreign()
    {
        // What release makes for the courier is its own and root's to fetch.
        return Err(needs_root("valise-receiver bundle create"));
    }
    if let Some(old) = options.replaces {
        confirm_if_attended(&format!("Destroy the unused slots of bundle {old}?"))?;
    }
    fs::create_dir_all(out)
        .map_err(|error| CliError::System(format!("{}: {error}", out.display())))?;
    for name in [BUNDLE_FILE, STATEMENT_FILE] {
        if fs::symlink_metadata(out.join(name)).is_ok() {
            return Err(CliError::Refused(format!(
                "{} exists; name another folder, one for each bundle",
                out.join(name).display()
            )));
        }
    }
    let what = RequestText::BundleCreate {
        slots: options.slots,
        replaces: options.replaces,
    };
    let make = |here: &mut Release| {
        let by = Asker::user(nix::unistd::getuid().as_raw());
        match here.plan_bundle(options.slots, options.replaces)? {
            Ok(plan) => Ok(here.make_for_courier(&plan, by)?),
            Err(reason) => {
                here.refuse_here(&what, &reason, by)?;
                Err(CliError::Refused(reason))
            }
        }
    };
    let plan = match work_here(config, make)? {
        Some(made) => made,
        None => serde_json::from_str::<BundleMade>(&ask(config, &what, &[])?)
            .map_err(CliError::system)?,
    };
    let from = ReceiverState::new(&config.state).root().join(&plan.folder);
    fetch(&from, out).map_err(|error| {
        CliError::System(format!(
            "bundle {} is made, but its files stay in {}, and nothing of them in {}: {error}; copy both from there, and \
             erase them there when they are on a medium that works",
            plan.bundle,
            from.display(),
            out.display()
        ))
    })?;
    let sha256 = plan.sha256;
    if options.json {
        return print_done_json(&json!({
            "bundle": plan.bundle, "first": plan.first, "count": plan.count,
            "link_key": plan.link_key, "sha256": sha256, "out": out.display().to_string(),
        }));
    }
    let shown = out.display();
    print_done(&format!(
        "bundle {}: {} from serial {}, link key {}, in {shown}",
        plan.bundle,
        count_of(plan.count, "slot"),
        plan.first,
        plan.link_key
    ))?;
    print_done(&format!(
        "two administrators sign it: ssh-keygen -Y sign -n bundle@valise -f KEY {shown}/{STATEMENT_FILE}"
    ))?;
    print_done(&format!(
        "and rename the signatures to {STATEMENT_FILE}.1.sig and {STATEMENT_FILE}.2.sig; \
         the folder is secret, and destroyed when the sender has imported it"
    ))
}

/// Moves the courier's files from where the daemon left them, to another file system if need be: they are copied, and the
/// daemon's erased. If a copy fails, what was written of the copies is erased, and the daemon's stay.
fn fetch(from: &Path, out: &Path) -> io::Result<()> {
    let files = [
        (BUNDLE_FILE, Access::Owner),
        (STATEMENT_FILE, Access::Everyone),
    ];
    let copy = |(name, access): (&str, Access)| {
        let dest = out.join(name);
        let mut copy = durable::StagedFile::create(out)?;
        let (staged, shown) = (
            Unfinished::on_signal(copy.path())?,
            Unfinished::on_signal(&dest)?,
        );
        copy.set_access(access)?;
        io::copy(&mut fs::File::open(from.join(name))?, &mut copy)?;
        copy.finish()?.publish_or_erase(&dest)?;
        staged.done();
        shown.done();
        Ok(())
    };
    let copied = files
        .into_iter()
        .try_for_each(copy)
        .and_then(|()| durable::sync_dir(out));
    if let Err(error) = copied {
        // None of these names was taken before.
        for (name, _) in files {
            if let Err(left) = durable::erase(&out.join(name)) {
                return Err(io::Error::other(format!(
                    "{error}; the secret that was written there could not be erased ({left}): destroy the medium"
                )));
            }
        }
        return Err(error);
    }
    durable::erase(from).map(drop)
}

/// `bundle void`
pub(super) fn bundle_void(config: &ReceiverConfig, options: &BundleVoid) -> Result<(), CliError> {
    let what = RequestText::BundleVoid {
        bundle: options.bundle,
        reason: options.reason.clone(),
    };
    check_reason(&options.reason)?;
    confirm_if_attended(&format!(
        "Destroy the link key and the unused slots of bundle {}?",
        options.bundle
    ))?;
    ask_and_print(config, &what, &[], options.json, |_| {
        bundle_json(config, |row| row.bundle == options.bundle)
    })
}

/// Returns the newest bundle of which something is true, as the register has it.
fn bundle_json(
    config: &ReceiverConfig,
    is_meant: impl Fn(&BundleRow) -> bool,
) -> Result<Value, CliError> {
    let state = ReceiverState::new(&config.state);
    let register = Register::open_to_read(&state.register()).map_err(CliError::system)?;
    let bundles = register.bundles().map_err(CliError::system)?;
    let bundle = bundles.into_iter().rev().find(is_meant);
    Ok(json!(bundle.map(|row| json!({
        "bundle": row.bundle, "first": row.first, "last": row.last, "count": row.count,
        "link_key": row.link_key, "void": row.state == BundleState::Void,
    }))))
}

/// `bundle status`
pub(super) fn bundle_status(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    state.check_commissioned()?;
    check_reader(&state.view(), &state.requests())?;
    let bundles = match Register::open_to_read(&state.register()) {
        Ok(register) => register.bundles().map_err(CliError::system)?,
        // No bundle was ever made.
        Err(_) if !state.register().exists() => Vec::new(),
        Err(error) => return Err(CliError::system(error)),
    };
    let view: Option<ReleaseView> = read_view(&state, Role::Release)?;
    let highest = view.map_or(0, |view| view.counts.highest);
    let left = |first: u64, last: u64| last.saturating_sub(highest.max(first.saturating_sub(1)));
    let rows: Vec<_> = bundles
        .iter()
        .map(|row| {
            let void = row.state == BundleState::Void;
            let left = if void {
                0
            } else {
                left(row.first.get(), row.last.get())
            };
            json!({
                "bundle": row.bundle, "first": row.first, "last": row.last, "count": row.count,
                "link_key": row.link_key, "void": void, "left": left,
            })
        })
        .collect();
    if options.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return print_line("no bundle yet; run valise-receiver bundle create");
    }
    for (row, shown) in bundles.iter().zip(&rows) {
        let left = if row.state == BundleState::Void {
            "void".to_owned()
        } else {
            format!("{} of {} left", shown["left"], count_of(row.count, "slot"))
        };
        print_line(&format!(
            "bundle {}: serials {} to {}, link key {}, {left}",
            row.bundle, row.first, row.last, row.link_key
        ))?;
    }
    Ok(())
}

/// `link-key retire`
pub(super) fn link_key_retire(
    config: &ReceiverConfig,
    options: &LinkKeyRetire,
) -> Result<(), CliError> {
    confirm_if_attended(&format!("Destroy link key {}?", options.link_key))?;
    ask_and_print(
        config,
        &RequestText::LinkKeyRetire {
            link_key: options.link_key,
        },
        &[],
        options.json,
        |_| bundle_json(config, |row| row.link_key == options.link_key),
    )
}

/// `clock accept`
pub(super) fn clock_accept(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    confirm_if_attended(
        "Take the clock of this host as right? What is over by it is quarantined.",
    )?;
    ask_and_print(
        config,
        &RequestText::ClockAccept {},
        &[],
        options.json,
        |answer| {
            // The view is written after the answer, which ends in the new time or has it before a comma.
            let now = answer.rsplit("now is ").next().unwrap_or_default();
            let now = now
                .split(',')
                .next()
                .and_then(|now| now.parse::<UtcTime>().ok());
            Ok(json!({ "now": now }))
        },
    )
}
