//! The command line of `valise-bench`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::options::{datagram_bytes, rate};

/// A group of rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Goodput of the link alone, CPU and memory.
    Link,
    /// Submission to release of a large cable.
    Whole,
    /// A thousand small cables.
    Many,
    /// FLASH, on an idle link and during a large ROUTINE cable.
    Flash,
    /// Forged datagrams.
    Forged,
    /// The precision with which the sender keeps its rate.
    Pace,
    /// The repair that a cable needs, by calculation.
    Repair,
    /// The payload of a serial line, by its errors and the size of datagrams.
    Line,
    /// Verifying a long audit log.
    Audit,
}

/// The place of both hosts' state during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// `target/bench` below the current folder, on its disk.
    Disk,
    /// `/dev/shm`.
    Tmpfs,
}

/// Measures Valise on this machine and compares with its targets.
///
/// Example: valise-bench --quick --rows link,flash
#[derive(Debug, Clone, Parser)]
#[command(name = "valise-bench", version, verbatim_doc_comment)]
pub struct Options {
    /// Fewer runs of smaller cables: a minute or two instead of a quarter of an hour.
    #[arg(long)]
    pub quick: bool,
    /// Runs of each row; 5, or 2 with --quick, if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Bytes of the large cable; 10^9, or 2·10^8 with --quick, if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub size: Option<u64>,
    /// Only these rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub rows: Vec<Rows>,
    /// The place of the state; both if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub places: Vec<Place>,
    /// Only link rows of these datagram sizes; all if not given.
    #[arg(long, value_delimiter = ',', value_parser = datagram_bytes)]
    pub datagram: Vec<u16>,
    /// Only link rows with this loss in per cent; all if not given.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=100))]
    pub loss: Vec<u32>,
    /// The sender's rate in rows with loss. The wire is a third process on the machine's cores: datagrams that are sent
    /// faster than it can carry are lost in addition to the configured share.
    #[arg(long, default_value = "unlimited", value_parser = parse_rate)]
    pub lossy_rate: String,
    /// Write the figures as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

fn parse_rate(text: &str) -> Result<String, String> {
    rate(text).map(|_| text.to_owned())
}

impl Options {
    /// Returns whether these rows are selected.
    pub fn wants(&self, rows: Rows) -> bool {
        self.rows.is_empty() || self.rows.contains(&rows)
    }

    /// Returns whether the link is measured under these conditions.
    pub fn wants_link(&self, datagram_bytes: u16, loss_percent: u32) -> bool {
        let sized = self.datagram.is_empty() || self.datagram.contains(&datagram_bytes);
        sized && (self.loss.is_empty() || self.loss.contains(&loss_percent))
    }

    /// Runs of each row.
    pub fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 2 } else { 5 })
    }

    /// Bytes of the large cable.
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(if self.quick {
            200_000_000
        } else {
            1_000_000_000
        })
    }

    /// The places of the measurement.
    pub fn places(&self) -> Vec<Place> {
        if self.places.is_empty() {
            vec![Place::Tmpfs, Place::Disk]
        } else {
            self.places.clone()
        }
    }

    /// The place for rows that are measured at only one: the disk, unless only tmpfs is selected.
    pub fn one_place(&self) -> Place {
        if self.places == [Place::Tmpfs] {
            Place::Tmpfs
        } else {
            Place::Disk
        }
    }
}

impl Place {
    /// The folder below which worlds are made.
    pub fn folder(self) -> PathBuf {
        match self {
            Self::Tmpfs => PathBuf::from("/dev/shm"),
            Self::Disk => PathBuf::from("target/bench"),
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_runs_are_fewer_and_smaller() {
        let quick = Options::parse_from(["valise-bench", "--quick"]);
        let whole = Options::parse_from(["valise-bench"]);
        assert!(quick.runs() < whole.runs() && quick.size() < whole.size());
        assert!(whole.wants(Rows::Forged));
        let some = Options::parse_from(["valise-bench", "--rows", "link,flash"]);
        assert!(some.wants(Rows::Flash) && !some.wants(Rows::Many));
        assert!(some.wants_link(1472, 5));
        let some = Options::parse_from(["valise-bench", "--datagram", "8972", "--loss", "0,5"]);
        assert!(some.wants_link(8972, 5) && !some.wants_link(8972, 1) && !some.wants_link(1472, 0));
    }
}
