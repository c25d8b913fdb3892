//! Runs the simulation: one seed with its log, or many.

use std::process::{Command, ExitCode};

use clap::Parser;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use valise_tests::sim::virtual_time::VirtualTime;
use valise_tests::sim::{Log, Run, Site};

/// Simulates both hosts, a line and their people, with faults that follow from a seed.
#[derive(Debug, Parser)]
#[command(name = "valise-sim", version)]
struct Options {
    /// The first seed.
    seed: u64,
    /// Runs so many seeds, and shows the log of those alone that go wrong.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Runs each seed once. Otherwise each runs twice, and the logs must agree.
    #[arg(long)]
    once: bool,
    /// Runs on this processor, counted from 0. What serves a disk is awaited at each step: on one processor that costs half.
    #[arg(long, default_value_t = 0)]
    processor: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("valise-sim: {error}");
            ExitCode::from(3)
        }
    }
}

/// Returns whether nothing was wrong.
fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let Some(time) = VirtualTime::inherited()? else {
        return run_again();
    };
    stay_on(options.processor)?;
    let site = begin(&time)?;
    // Draws whatever a process draws only once: the first run does not differ from a later one.
    one(&site, &time, 0)?;
    let mut bad = 0;
    for seed in options.seed..options.seed.saturating_add(options.count) {
        let log = one(&site, &time, seed)?;
        let differs = match options.once {
            true => None,
            false => difference(&log, &one(&site, &time, seed)?),
        };
        let is_bad = !log.violations().is_empty() || differs.is_some();
        bad += u64::from(is_bad);
        if is_bad || options.count == 1 {
            println!("{}", log.lines().join("\n"));
        }
        if let Some((first, second)) = differs {
            println!("seed {seed}: two runs differ:\n- {first}\n+ {second}");
        }
        for violation in log.violations() {
            println!("seed {seed}: {violation}");
        }
    }
    println!("{} runs, {bad} with faults", options.count);
    Ok(bad == 0)
}

/// Starts this program again with the clocks and random bytes of the simulation.
fn run_again() -> Result<bool, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let time = VirtualTime::make(folder.path())?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .envs(time.environment())
        .status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("the simulation ended with {status}").into()),
    }
}

fn stay_on(processor: usize) -> nix::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let allowed: Vec<usize> = (0..CpuSet::count())
        .filter(|number| allowed.is_set(*number).unwrap_or(false))
        .collect();
    let mut set = CpuSet::new();
    set.set(allowed[processor % allowed.len()])?;
    sched_setaffinity(this, &set)
}

fn begin(time: &VirtualTime) -> Result<Site, Box<dyn std::error::Error>> {
    time.set_utc_us(1_899_999_000_000_000)?;
    time.set_mono_us(1_000_000)?;
    time.set_seed(1)?;
    on_a_thread(Site::make)
}

fn one(site: &Site, time: &VirtualTime, seed: u64) -> Result<Log, Box<dyn std::error::Error>> {
    on_a_thread(|| Run::to_its_end(site, time, seed))
}

/// A thread seeds its hash maps once; each run has its own.
fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, valise_tests::sim::SimError> + Send,
) -> Result<T, Box<dyn std::error::Error>> {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    match done {
        Ok(done) => Ok(done?),
        Err(_) => Err("the simulation panicked".into()),
    }
}

fn difference(first: &Log, second: &Log) -> Option<(String, String)> {
    let (first, second) = (first.lines(), second.lines());
    let place = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at))?;
    let line = |lines: &[String]| lines.get(place).cloned().unwrap_or_default();
    Some((line(first), line(second)))
}
