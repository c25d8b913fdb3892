//! The command line of `valise-loopback`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use valise_common::precedence::Precedence;
use valise_common::units::{ByteSize, Percent, Rate, Span};

use crate::harness::{HarnessError, Line, Settings};
use crate::options::{baud, datagram_bytes, interleave, rate, repair, share};
use crate::wire::LineConditions;

/// The number of mean bursts that interleaving covers: bursts have random lengths, and their long tail must be covered
/// too.
const BURSTS_COVERED: u32 = 4;
/// The default of the configuration.
const INTERLEAVE_MIN: Duration = Duration::from_millis(20);
const BAUD: u32 = 115_200;
const RATE: Rate = Rate::BitsPerSecond(100_000_000);

/// The kind of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinkKind {
    /// UDP datagrams.
    Udp,
    /// A serial line, between two pseudo-terminals.
    Serial,
}

/// Sends cables the whole way on this machine: makes keys, commissions both hosts in a temporary
/// folder, starts the real programs with a seeded lossy line between them, submits the files (or
/// generated ones), approves them as two officers, waits, and compares every released byte.
///
/// Exit status: 0 if every cable arrived once and unchanged, 1 if not, 2 for wrong usage, 3 if the
/// system failed.
///
/// Examples:
///   valise-loopback cable.txt annex.pdf --loss 5% --burst 20ms --reorder 2%
///   valise-loopback cable.txt --link serial --baud 9600 --loss 0.01% --corrupt 0.01%
#[derive(Debug, Clone, Parser)]
#[command(name = "valise-loopback", version, verbatim_doc_comment)]
pub struct Options {
    /// Files to send, each as a cable of its own; without any, generated ones are sent.
    pub files: Vec<PathBuf>,
    /// The number of generated cables, or of times that each file is sent.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Bytes of a generated cable, as a number or as "200 MiB".
    #[arg(long, default_value = "1048576", value_parser = parse_size)]
    pub size: u64,
    /// The kind of the link.
    #[arg(long, value_enum, default_value = "udp")]
    pub link: LinkKind,
    /// The speed of a serial line, in bits a second; 115200 if not given.
    #[arg(long, value_parser = baud)]
    pub baud: Option<u32>,
    /// The share of datagrams that the line loses; on a serial line, the share of bytes.
    #[arg(long, default_value = "0%", value_parser = share)]
    pub loss: Percent,
    /// The mean length of a burst of loss; without it, losses are independent.
    #[arg(long, default_value = "0ms")]
    pub burst: Span,
    /// The share that later datagrams overtake; a serial line keeps its order.
    #[arg(long, default_value = "0%", value_parser = share)]
    pub reorder: Percent,
    /// The share that arrives twice; on a serial line, bytes that nobody sent.
    #[arg(long, default_value = "0%", value_parser = share)]
    pub duplicate: Percent,
    /// The share that arrives with flipped bits.
    #[arg(long, default_value = "0%", value_parser = share)]
    pub corrupt: Percent,
    /// The seed of all random decisions of the line, and of all generated content: one seed, one run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The sender's rate on the link, such as "100 Mbit/s" (the default of UDP) or "unlimited".
    #[arg(long, value_parser = rate)]
    pub rate: Option<Rate>,
    /// flash, immediate, priority or routine.
    #[arg(long, default_value = "routine", value_parser = parse_precedence)]
    pub precedence: String,
    /// Keep keys, configurations, state and logs in this new folder.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Print one JSON document instead of the summary.
    #[arg(long)]
    pub json: bool,
    /// Bytes of a datagram; 1472 over UDP and 584 on a serial line if not given.
    #[arg(long, value_parser = datagram_bytes)]
    pub datagram_bytes: Option<u16>,
    /// Repair symbols of each pass, for each source symbol.
    #[arg(long, default_value = "25%", value_parser = repair)]
    pub repair: Percent,
    /// The number of times that the source symbols are sent.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub passes: u8,
    /// The burst that interleaving must survive; four times --burst, and at least 20ms, if not given.
    #[arg(long, value_parser = interleave)]
    pub interleave: Option<Span>,
    /// Send at a constant rate, with noise when there is nothing to send.
    #[arg(long)]
    pub cover: bool,
    /// Give up after this time; if not given, it depends on the amount of data and the rate.
    #[arg(long)]
    pub timeout: Option<Span>,
}

fn parse_precedence(text: &str) -> Result<String, String> {
    let precedence = Precedence::parse_relaxed(text);
    precedence
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn parse_size(text: &str) -> Result<u64, String> {
    if let Ok(bytes) = text.parse::<u64>() {
        return Ok(bytes);
    }
    text.parse::<ByteSize>()
        .map(|size| size.0)
        .map_err(|error| error.to_string())
}

impl Options {
    /// The number of cables to send.
    pub fn cable_count(&self) -> u32 {
        let files = u32::try_from(self.files.len().max(1)).unwrap_or(u32::MAX);
        files.saturating_mul(self.count)
    }

    /// Refuses options that have no meaning on the chosen link.
    ///
    /// # Errors
    /// [`HarnessError::Usage`] with what to do about it.
    pub fn check(&self) -> Result<(), HarnessError> {
        let text = match self.link {
            LinkKind::Serial if self.rate.is_some() => {
                "--rate has no meaning on a serial line; its speed is --baud"
            }
            LinkKind::Serial if self.reorder.ppm() > 0 => {
                "--reorder has no meaning on a serial line, which keeps its order; leave it out"
            }
            LinkKind::Udp if self.baud.is_some() => "--baud is of a serial line; add --link serial",
            _ => return Ok(()),
        };
        Err(HarnessError::Usage(text.to_owned()))
    }

    /// The settings of the hosts and the line.
    pub fn settings(&self) -> Settings {
        let interleave = match self.interleave {
            Some(span) => span,
            None => Span((self.burst.0 * BURSTS_COVERED).max(INTERLEAVE_MIN)),
        };
        let conditions = LineConditions {
            loss: self.loss,
            burst: self.burst.0,
            reorder: self.reorder,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            ..LineConditions::CLEAN
        };
        let base = match self.link {
            LinkKind::Udp => Settings {
                rate: self.rate.unwrap_or(RATE).to_string(),
                ..Settings::default()
            },
            LinkKind::Serial => Settings::serial(self.baud.unwrap_or(BAUD)),
        };
        Settings {
            datagram_bytes: self.datagram_bytes.unwrap_or(base.datagram_bytes),
            cover: self.cover,
            repair: self.repair.to_string(),
            passes: self.passes,
            interleave: interleave.to_string(),
            slots: self.cable_count().saturating_add(16).max(64),
            line: Line::Wire {
                conditions,
                seed: self.seed,
            },
            keep: self.keep.clone(),
            ..base
        }
    }

    /// The longest time for the whole run.
    pub fn time_limit(&self, body_bytes: u64) -> Duration {
        match self.timeout {
            Some(span) => span.0,
            None => self.settings().time_limit(self.cable_count(), body_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Options {
        let words = std::iter::once("valise-loopback").chain(arguments.split_whitespace());
        Options::try_parse_from(words).expect("a valid command line")
    }

    #[test]
    fn the_line_of_the_manual_is_understood() {
        let options = parse(
            "a.txt b.pdf --count 2 --size 4096 --link udp --loss 5% --burst 20ms --reorder 2% \
             --duplicate 1% --corrupt 0.1% --seed 7 --rate 1Gbit/s --precedence flash --keep /tmp/x",
        );
        assert_eq!(options.cable_count(), 4);
        let settings = options.settings();
        assert_eq!(settings.interleave, "80 ms");
        let Line::Wire { conditions, seed } = settings.line else {
            panic!("a wire")
        };
        assert_eq!(
            (conditions.loss.ppm(), conditions.corrupt.ppm(), seed),
            (50_000, 1_000, 7)
        );
    }

    #[test]
    fn values_are_numbers_or_quantities_that_mean_something() {
        assert_eq!(parse("--size 4096").size, 4096);
        assert_eq!(parse("--size 1KiB").size, 1024);
        for (option, value) in [
            ("--size", "big"),
            ("--loss", "150%"),
            ("--corrupt", "101 %"),
            ("--repair", "301%"),
            ("--passes", "0"),
            ("--passes", "17"),
            ("--count", "0"),
            ("--datagram-bytes", "1471"),
            ("--interleave", "11s"),
            ("--rate", "1 bit/s"),
            ("--baud", "299"),
            ("--precedence", "soon"),
        ] {
            let wrong = Options::try_parse_from(["valise-loopback", option, value]);
            assert!(wrong.is_err(), "{option} {value}");
        }
    }

    #[test]
    fn a_serial_line_has_the_speed_and_the_datagrams_of_a_configuration() {
        let settings = parse("--link serial").settings();
        let link = crate::harness::Link::Serial { baud: 115_200 };
        assert_eq!((settings.link, settings.datagram_bytes), (link, 584));
        let settings = parse("--link serial --baud 9600 --datagram-bytes 200").settings();
        let link = crate::harness::Link::Serial { baud: 9_600 };
        assert_eq!((settings.link, settings.datagram_bytes), (link, 200));
        assert_eq!(parse("").settings().datagram_bytes, 1472);
        assert_eq!(parse("").settings().rate, "100 Mbit/s");
    }

    #[test]
    fn options_without_a_meaning_on_the_link_are_refused_by_their_name() {
        for (arguments, name) in [
            ("--link serial --rate 1Mbit/s", "--rate"),
            ("--link serial --reorder 1%", "--reorder"),
            ("--baud 9600", "--baud"),
        ] {
            let error = parse(arguments).check().expect_err(arguments);
            assert!(matches!(error, HarnessError::Usage(_)), "{error:?}");
            assert!(error.to_string().starts_with(name), "{error}");
        }
        for right in [
            "--rate 1Mbit/s --reorder 1%",
            "--link serial --baud 9600 --loss 1%",
        ] {
            assert!(parse(right).check().is_ok(), "{right}");
        }
    }

    #[test]
    fn the_time_limit_grows_with_the_amount_and_shrinks_with_the_rate() {
        let slow = parse("--rate 1Mbit/s").time_limit(1 << 30);
        let fast = parse("--rate 1Gbit/s").time_limit(1 << 30);
        assert!(slow > fast && fast > Duration::from_secs(60));
        assert_eq!(
            parse("--timeout 5s").time_limit(1 << 40),
            Duration::from_secs(5)
        );
    }
}
