//! The time from the last approval of a FLASH cable to its release.

use std::time::{Duration, Instant};

use super::figure::Figure;
use super::note_memory;
use super::options::Options;
use super::report::Report;
use crate::harness::{Host, Observer, Programs, Result, Settings, Submission, World};

/// Bytes of a FLASH cable.
const FLASH_BYTES: u64 = 4_096;
/// The link's rate.
const RATE: &str = "100 Mbit/s";
/// A cable that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let count = if options.quick { 20 } else { 100 };
    let place = options.one_place();
    let parent = place.folder();
    std::fs::create_dir_all(&parent)
        .map_err(|error| crate::harness::HarnessError::io("make", &parent, error))?;
    let settings = Settings {
        rate: RATE.into(),
        passes: 1,
        slots: 2 * count + 16,
        parent: Some(parent),
        ..Settings::default()
    };
    let with = format!("4 KiB, 1472, {RATE}, 1 pass, {}", place.word());
    let mut world = World::commission(Programs::beside_this()?, settings)?;
    world.start_roles()?;
    let file = world.generate_file("flash.bin", FLASH_BYTES, 3)?;
    // The first cable includes the work that is done only once.
    latencies(&mut world, &file, 1, "warm", Figure::new("", "", ""))?;
    let idle = Figure::new("FLASH on an idle link", "ms", &with).at_most(50.0, 15.0);
    let idle = latencies(&mut world, &file, count, "idle", idle)?;
    let median = idle.median().unwrap_or(f64::NAN);
    let mut slowest = Figure::new("FLASH on an idle link, 99 %", "ms", &with).at_most(150.0, 40.0);
    slowest.samples.extend(idle.quantile(0.99));
    report.add(idle);
    report.add(slowest);

    // A ROUTINE cable that keeps the link busy for the whole measurement.
    let large = world.generate_file("large.bin", 1_000_000_000, 4)?;
    let id = world.send(&Submission::new("large", &[large]))?;
    let progress = world.state(Host::Sender).join("progress");
    let before = std::fs::read_dir(&progress).map_or(0, Iterator::count);
    world.await_alive(
        "the large cable on the link",
        LIMIT,
        std::slice::from_ref(&progress),
        |_| Ok((std::fs::read_dir(&progress).map_or(0, Iterator::count) > before).then_some(())),
    )?;
    let with = format!("{with}; bar 2 × and aim 1.2 × the idle median");
    let beside =
        Figure::new("FLASH beside 1 GB of ROUTINE", "ms", with).at_most(2.0 * median, 1.2 * median);
    let mut beside = latencies(&mut world, &file, count, "beside", beside)?;
    if world.released()?.iter().any(|cable| cable.message_id == id) {
        beside.with.push_str("; the ROUTINE cable ended too early");
    }
    note_memory(&world, report);
    report.add(beside);
    Ok(())
}

fn latencies(
    world: &mut World,
    file: &std::path::Path,
    count: u32,
    prefix: &str,
    mut figure: Figure,
) -> Result<Figure> {
    let released = world.released_folder();
    let observer = Observer::start(&[], std::slice::from_ref(&released))?;
    let mailbox = released.join("paris-desk");
    for number in 0..count {
        let mut submission = Submission::new(&format!("{prefix} {number}"), &[file.to_owned()]);
        submission.precedence = "flash".into();
        let name = format!("{prefix}-{number}");
        let (ids, approvals) = world.prepare_many(std::slice::from_ref(&submission), &name)?;
        let start = Instant::now();
        for approval in &approvals {
            approval.reveal()?;
        }
        let suffix = ids.first().cloned().unwrap_or_default();
        let seen = world.await_alive("release", LIMIT, std::slice::from_ref(&mailbox), |_| {
            Ok(observer.first(&mailbox, |name| name.ends_with(&suffix)))
        });
        match seen {
            Ok(at) => {
                figure
                    .samples
                    .push(at.saturating_duration_since(start).as_secs_f64() * 1e3);
            }
            Err(crate::harness::HarnessError::Timeout { .. }) => figure.failures += 1,
            Err(error) => return Err(error),
        }
        for id in &ids {
            world.await_released(id, &submission, LIMIT)?;
        }
    }
    Ok(figure)
}
