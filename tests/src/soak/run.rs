//! A soak from the first cable to the report.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::load::Load;
use super::measure::Meter;
use super::options::Options;
use super::report::Report;
use crate::harness::{
    HarnessError, Host, Line, Programs, Result, Role, Settings, World, await_condition,
};
use crate::wire::LineConditions;

/// A cable that is still in transit at this time after the last submission is lost.
const LAST_LIMIT: Duration = Duration::from_secs(120);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the operator looks for missing serials.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Runs both hosts for the time in the options, and writes the report.
///
/// # Errors
/// If the harness itself cannot work, or a role ended. A lost cable is in the report instead.
pub fn run(options: &Options) -> Result<Report> {
    let fail = |error| HarnessError::io("make", &options.out, error);
    std::fs::create_dir_all(&options.out).map_err(fail)?;
    let mut world = World::commission(Programs::beside_this()?, settings(options))?;
    world.start_roles()?;
    let mut load = Load::new(options.seed);
    let mut meter = Meter::new(&world)?;
    let mut samples = Vec::new();
    let interval = Duration::from_secs(60) / options.per_minute;
    let begun = Instant::now();
    let (mut next_submission, mut next_sample, mut next_look) =
        (Duration::ZERO, SAMPLE_INTERVAL, LOOK_INTERVAL);
    let folders = folders(&world);
    loop {
        let now = begun.elapsed();
        let is_submitting = now < options.duration();
        if is_submitting && now >= next_submission {
            load.submit(&world)?;
            next_submission += interval;
        }
        load.drive(&world)?;
        if now >= next_sample {
            samples.push(meter.sample(&world)?);
            next_sample = now + SAMPLE_INTERVAL;
        }
        if now >= next_look {
            load.send_missing_again(&world)?;
            next_look = now + LOOK_INTERVAL;
        }
        let is_over = load.missing() == 0 || now > options.duration() + LAST_LIMIT;
        if !is_submitting && is_over {
            break;
        }
        await_news(&mut world, &folders)?;
    }
    let mut failures = std::mem::take(&mut load.failures);
    failures.extend(world.audit_faults());
    let report = Report::new(options, samples, &load, failures, world.wire_statistics());
    report.write(&options.out)?;
    Ok(report)
}

fn settings(options: &Options) -> Settings {
    let conditions = LineConditions {
        loss: options.loss,
        burst: Duration::from_millis(2),
        reorder: valise_common::units::Percent::from_ppm(5_000),
        duplicate: valise_common::units::Percent::from_ppm(2_000),
        corrupt: valise_common::units::Percent::from_ppm(500),
        ..LineConditions::CLEAN
    };
    Settings {
        rate: "100 Mbit/s".to_owned(),
        // With some in reserve: an alarm begins when a fifth is left.
        slots: options.cable_count() + options.cable_count() / 3 + 16,
        line: Line::Wire {
            conditions,
            seed: options.seed,
        },
        ..Settings::default()
    }
}

fn folders(world: &World) -> Vec<PathBuf> {
    let released = world.released_folder();
    let requests = world.state(Host::Sender).join("requests");
    vec![requests, released.join("paris-desk"), released]
}

/// Waits until an answer or a cable comes, or for a tenth of a second. Fails if a role has ended.
fn await_news(world: &mut World, folders: &[PathBuf]) -> Result<()> {
    for role in Role::ALL {
        world.take_ended(role).map_or(Ok(()), Err)?;
    }
    let mut looks = 0;
    await_condition("news", LAST_LIMIT, folders, || {
        looks += 1;
        Ok((looks > 1).then_some(()))
    })
}
