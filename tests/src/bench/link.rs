//! The link alone: a container in the outbox until the same container is durable in the inbox.

use std::path::Path;
use std::time::{Duration, Instant};

use valise_common::units::Percent;

use super::figure::Figure;
use super::note_memory;
use super::options::{Options, Place};
use super::report::Report;
use crate::harness::{
    Host, Line, Programs, Result, Role, Settings, Submission, World, await_condition,
};
use crate::wire::LineConditions;

/// A transfer that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// One row's conditions.
struct Conditions {
    datagram_bytes: u16,
    loss_percent: u32,
    bar: Option<(f64, f64)>,
}

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let rows = [
        (1472, 0, Some((400.0, 680.0))),
        (8972, 0, Some((590.0, 1000.0))),
        (1472, 1, None),
        (8972, 1, None),
        (1472, 5, Some((275.0, 460.0))),
        (8972, 5, Some((415.0, 690.0))),
    ];
    for place in options.places() {
        for (datagram_bytes, loss_percent, bar) in rows {
            // On disk only the rows without loss: loss does not change the data that are written.
            if place == Place::Disk && loss_percent > 0 && options.places().len() > 1 {
                continue;
            }
            if !options.wants_link(datagram_bytes, loss_percent) {
                continue;
            }
            row(
                options,
                place,
                &Conditions {
                    datagram_bytes,
                    loss_percent,
                    bar,
                },
                report,
            )?;
        }
    }
    Ok(())
}

fn row(
    options: &Options,
    place: Place,
    conditions: &Conditions,
    report: &mut Report,
) -> Result<()> {
    let Conditions {
        datagram_bytes,
        loss_percent,
        bar,
    } = *conditions;
    let lossless = loss_percent == 0;
    let line = match lossless {
        true => Line::Direct,
        false => Line::Wire {
            conditions: LineConditions {
                loss: Percent::from_ppm(loss_percent * 10_000),
                ..LineConditions::CLEAN
            },
            seed: 1,
        },
    };
    let parent = place.folder();
    std::fs::create_dir_all(&parent)
        .map_err(|error| crate::harness::HarnessError::io("make", &parent, error))?;
    let settings = Settings {
        rate: if lossless {
            "unlimited".into()
        } else {
            options.lossy_rate.clone()
        },
        datagram_bytes,
        repair: if lossless {
            "5 %".into()
        } else {
            "15 %".into()
        },
        passes: 1,
        line,
        parent: Some(parent),
        ..Settings::default()
    };
    let with = format!(
        "{datagram_bytes}, loss {loss_percent} %, repair {}, 1 pass, {}, {}",
        settings.repair,
        settings.rate,
        place.word()
    );
    let mut goodput = Figure::new("link goodput", "MB/s", &with);
    if let Some((least, aim)) = bar {
        goodput = goodput.at_least(least, aim);
    }
    let (cpu_bar, cpu_aim) = if datagram_bytes < 2000 {
        (5.4, 2.7)
    } else {
        (3.8, 1.9)
    };
    let mut cpu = Figure::new("CPU of both link processes", "s/GB", &with);
    if lossless {
        cpu = cpu.at_most(cpu_bar, cpu_aim);
    }
    let mut world = World::commission(Programs::beside_this()?, settings)?;
    world.start_wire()?;
    world.start_role(Role::Receive)?;
    world.start_role(Role::Gate)?;
    let file = world.generate_file("large.bin", options.size(), 1)?;
    for run in 0..options.runs() {
        let submission = Submission::new(&format!("run {run}"), std::slice::from_ref(&file));
        world.send(&submission)?;
        let outbox = world.state(Host::Sender).join("outbox");
        // The newest container is the one that transmit has not sent yet.
        let wanted = usize::try_from(run).unwrap_or(usize::MAX) + 1;
        await_condition("sealing", LIMIT, std::slice::from_ref(&outbox), || {
            Ok((containers(&outbox).len() >= wanted).then_some(()))
        })?;
        match transfer(&mut world) {
            Ok(Some((bytes, seconds, cpu_s))) => {
                goodput.samples.push(bytes / 1e6 / seconds);
                cpu.samples.push(cpu_s * 1e9 / bytes);
            }
            Ok(None) => goodput.failures += 1,
            Err(error) => return Err(error),
        }
        note_memory(&world, report);
        world.kill("transmit");
    }
    if let Some(view) = world.view(Role::Receive) {
        for key in ["socket_buffer", "socket_buffer_granted", "granted"] {
            if let Some(granted) = view.get(key) {
                report.note("socket buffer granted", granted.to_string());
            }
        }
    }
    let overrun = world.wire_statistics().overrun;
    if overrun > 0 {
        let part = format!(", {overrun} batches overran the wire");
        goodput.with.push_str(&part);
    }
    report.add(goodput);
    report.add(cpu);
    Ok(())
}

/// Starts transmit and waits until the inbox has the container: returns its bytes, the time, the CPU time. `None` if it
/// did not arrive.
fn transfer(world: &mut World) -> Result<Option<(f64, f64, f64)>> {
    let inbox = world.state(Host::Receiver).join("inbox");
    let cpu = |world: &World| -> f64 {
        [Role::Transmit, Role::Receive]
            .into_iter()
            .filter_map(|role| world.usage(role))
            .map(|usage| usage.cpu_s)
            .sum()
    };
    let cpu_before = cpu(world);
    let start = Instant::now();
    world.launch_role(Role::Transmit)?;
    let arrived = world.await_alive("arrival", LIMIT, std::slice::from_ref(&inbox), |_| {
        Ok(containers(&inbox).pop())
    });
    let seconds = start.elapsed().as_secs_f64();
    match arrived {
        Ok(path) => {
            let cpu_s = cpu(world) - cpu_before;
            let bytes = path
                .metadata()
                .map_err(|error| crate::harness::HarnessError::io("look at", &path, error))?
                .len();
            std::fs::remove_file(&path)
                .map_err(|error| crate::harness::HarnessError::io("remove", &path, error))?;
            #[allow(clippy::as_conversions)] // Far below 2^53.
            Ok(Some((bytes as f64, seconds, cpu_s)))
        }
        Err(crate::harness::HarnessError::Timeout { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn containers(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "container")
        })
        .collect()
}
