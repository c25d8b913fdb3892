//! From the submission of a large cable to its release.

use std::time::{Duration, Instant};

use super::figure::Figure;
use super::note_memory;
use super::options::Options;
use super::report::Report;
use crate::harness::{Programs, Result, Settings, Submission, World};

/// A cable that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(180);

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    for place in options.places() {
        let parent = place.folder();
        std::fs::create_dir_all(&parent)
            .map_err(|error| crate::harness::HarnessError::io("make", &parent, error))?;
        let settings = Settings {
            rate: "unlimited".into(),
            repair: "5 %".into(),
            passes: 1,
            parent: Some(parent),
            ..Settings::default()
        };
        let with = format!(
            "{} bytes, 1472, repair 5 %, 1 pass, unlimited, {}",
            options.size(),
            place.word()
        );
        let mut figure = Figure::new("submit to released, large cable", "s", with);
        if options.size() == 1_000_000_000 {
            figure = figure.at_most(12.0, 5.0);
        }
        let mut world = World::commission(Programs::beside_this()?, settings)?;
        world.start_roles()?;
        let file = world.generate_file("large.bin", options.size(), 2)?;
        for run in 0..options.runs() {
            let submission = Submission::new(&format!("run {run}"), std::slice::from_ref(&file));
            let start = Instant::now();
            let id = world.send(&submission)?;
            let folder = world.released_folder();
            let folders = [folder.clone(), folder.join("paris-desk")];
            let released = world.await_alive("release", LIMIT, &folders, |world| {
                Ok(world
                    .released()?
                    .into_iter()
                    .find(|cable| cable.message_id == id))
            });
            let seconds = start.elapsed().as_secs_f64();
            match released {
                Ok(cable) => {
                    cable.compare(&submission)?;
                    figure.samples.push(seconds);
                    // A reader takes a cable by moving it; here it is deleted, to make room for the next.
                    let _ = std::fs::remove_dir_all(&cable.folder);
                }
                Err(crate::harness::HarnessError::Timeout { .. }) => figure.failures += 1,
                Err(error) => return Err(error),
            }
        }
        note_memory(&world, report);
        report.add(figure);
    }
    Ok(())
}
