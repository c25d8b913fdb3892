//! A thousand small cables: from the first of the last approvals to the last release.

use std::time::{Duration, Instant};

use super::figure::Figure;
use super::note_memory;
use super::options::Options;
use super::report::Report;
use crate::harness::{Programs, Result, Settings, Submission, World};

/// Cables of one run.
const CABLE_COUNT: u32 = 1_000;
/// Bytes of each.
const CABLE_BYTES: u64 = 4_096;
/// A run that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let count = if options.quick {
        CABLE_COUNT / 5
    } else {
        CABLE_COUNT
    };
    for place in options.places() {
        let parent = place.folder();
        std::fs::create_dir_all(&parent)
            .map_err(|error| crate::harness::HarnessError::io("make", &parent, error))?;
        let settings = Settings {
            rate: "unlimited".into(),
            passes: 1,
            slots: count * options.runs() + 16,
            parent: Some(parent),
            ..Settings::default()
        };
        let with = format!(
            "{count} cables of 4 KiB, 1472, 1 pass, unlimited, {}",
            place.word()
        );
        let mut figure =
            Figure::new("cables released, all synced", "cables/s", with).at_least(400.0, 2000.0);
        let mut world = World::commission(Programs::beside_this()?, settings)?;
        world.start_roles()?;
        for run in 0..options.runs() {
            let mut submissions = Vec::new();
            for number in 0..count {
                let name = format!("small-{run}-{number}.bin");
                let file = world.generate_file(&name, CABLE_BYTES, u64::from(number))?;
                submissions.push(Submission::new(&name, &[file]));
            }
            let (ids, approvals) = world.prepare_many(&submissions, &format!("many-{run}"))?;
            let wanted = ids.len() * usize::try_from(run + 1).unwrap_or(1);
            let start = Instant::now();
            for approval in &approvals {
                approval.reveal()?;
            }
            let folder = world.released_folder();
            let folders = [folder.clone(), folder.join("paris-desk")];
            let mailbox = folder.join("paris-desk");
            let all = world.await_alive("release", LIMIT, &folders, |_| {
                // The folders are only counted: opening a thousand of them would be work of the harness.
                let released = std::fs::read_dir(&mailbox).map_or(0, Iterator::count);
                Ok((released >= wanted).then_some(()))
            });
            match all {
                Ok(()) => figure
                    .samples
                    .push(f64::from(count) / start.elapsed().as_secs_f64()),
                Err(crate::harness::HarnessError::Timeout { .. }) => figure.failures += 1,
                Err(error) => return Err(error),
            }
            for (id, submission) in ids.iter().zip(&submissions) {
                world.await_released(id, submission, Duration::ZERO)?;
            }
        }
        note_memory(&world, report);
        report.add(figure);
    }
    Ok(())
}
