//! The command line of `valise-soak`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use valise_common::units::{ByteSize, Percent};

use crate::options::share;

/// Runs both hosts over a lossy line, for minutes or hours, with cables of mixed sizes and precedences. Samples each
/// role every second: memory, open files, threads, processor, queues, the link, and the times of cables.
///
/// Exit status: 0 if every cable arrived once and unchanged and nothing grew beyond its bound, 1 if not, 2 for wrong usage,
/// 3 if the system failed.
///
/// Example: valise-soak --hours 8 --per-minute 120
#[derive(Debug, Clone, Parser)]
#[command(name = "valise-soak", version, verbatim_doc_comment)]
pub struct Options {
    /// The time for which cables are submitted, in minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes: u32,
    /// The same, in hours.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "minutes")]
    pub hours: Option<u32>,
    /// Cables a minute: of ten, seven have 2 kB, two have 200 kB and one has 5 MB.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub per_minute: u32,
    /// The share of datagrams that the line loses, in bursts.
    #[arg(long, default_value = "2%", value_parser = share)]
    pub loss: Percent,
    /// The seed of sizes, precedences, contents, and all random decisions of the line.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The growth of a role's resident memory in an hour that is a failure.
    #[arg(long, default_value = "64 MiB")]
    pub memory_slope_max: ByteSize,
    /// The growth of a role's open descriptors in an hour that is a failure.
    #[arg(long, default_value_t = 20)]
    pub descriptor_slope_max: u32,
    /// The folder for report.html, samples.csv and cables.csv.
    #[arg(long, default_value = "target/soak")]
    pub out: PathBuf,
}

impl Options {
    /// The time for which cables are submitted.
    pub fn duration(&self) -> Duration {
        let minutes = self.hours.map_or(self.minutes, |hours| hours * 60);
        Duration::from_secs(u64::from(minutes) * 60)
    }

    /// The largest number of cables that are submitted.
    pub fn cable_count(&self) -> u32 {
        let minutes = self.hours.map_or(self.minutes, |hours| hours * 60);
        self.per_minute * minutes
    }
}
