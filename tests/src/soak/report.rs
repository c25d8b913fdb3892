//! The results of a soak: a summary, two tables and a page.

use std::fmt::Write as _;
use std::path::Path;

use super::load::{Arrival, CLASSES, Load};
use super::measure::Sample;
use super::options::Options;
use super::page;
use super::statistics::{float, percentile, slope};
use crate::harness::{HarnessError, Result, Role};
use crate::wire::WireStatistics;

const MIB: f64 = 1_048_576.0;
const HOUR_S: f64 = 3_600.0;

/// Growth of one role over the second half of the run.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    role: Role,
    memory_mib_per_hour: f64,
    descriptors_per_hour: f64,
}

/// A whole soak.
#[derive(Debug)]
pub struct Report {
    pub(super) samples: Vec<Sample>,
    pub(super) arrivals: Vec<Arrival>,
    growth: Vec<Growth>,
    submitted: u64,
    lost: Vec<String>,
    resent: u64,
    failures: Vec<String>,
    wire: WireStatistics,
    duration_s: f64,
    memory_mib_per_hour_max: f64,
    descriptors_per_hour_max: f64,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        samples: Vec<Sample>,
        load: &Load,
        failures: Vec<String>,
        wire: WireStatistics,
    ) -> Self {
        // The tail, after the last submission, is not part of the load.
        let duration_s = options.duration().as_secs_f64();
        let half = samples
            .iter()
            .filter(|sample| sample.at_s >= duration_s / 2.0 && sample.at_s <= duration_s);
        let half: Vec<&Sample> = half.collect();
        let growth = Role::ALL.into_iter().enumerate().map(|(index, role)| {
            let of = |value: &dyn Fn(&Sample) -> f64| {
                let points = half.iter().map(|sample| (sample.at_s, value(sample)));
                slope(&points.collect::<Vec<_>>()).unwrap_or(0.0) * HOUR_S
            };
            Growth {
                role,
                memory_mib_per_hour: of(&|sample| float(sample.roles[index].memory_bytes)) / MIB,
                descriptors_per_hour: of(&|sample| float(sample.roles[index].descriptors)),
            }
        });
        Self {
            growth: growth.collect(),
            arrivals: load.arrivals.clone(),
            submitted: load.placed(),
            lost: load.lost(),
            resent: load.resent,
            failures,
            wire,
            duration_s,
            memory_mib_per_hour_max: float(options.memory_slope_max.0) / MIB,
            descriptors_per_hour_max: f64::from(options.descriptor_slope_max),
            samples,
        }
    }

    /// Returns whether nothing was lost and nothing grew beyond its bound.
    pub fn is_clean(&self) -> bool {
        let grows = self.growth.iter().any(|growth| {
            growth.memory_mib_per_hour > self.memory_mib_per_hour_max
                || growth.descriptors_per_hour > self.descriptors_per_hour_max
        });
        self.lost.is_empty() && self.failures.is_empty() && !grows
    }

    /// Returns the summary for a person.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} cables submitted in {:.0} s, {} arrived, {} lost; {} serials sent again by hand",
            self.submitted,
            self.duration_s,
            self.arrivals.len(),
            self.lost.len(),
            self.resent,
        );
        let _ = writeln!(
            text,
            "line: {} datagrams, {} lost, {} corrupted, {} dropped by the harness",
            self.wire.received, self.wire.lost, self.wire.corrupted, self.wire.overrun,
        );
        for growth in &self.growth {
            let _ = writeln!(
                text,
                "{:<9} memory {:+8.2} MiB an hour (bound {:.0}), descriptors {:+6.2} an hour (bound {:.0})",
                growth.role.word(),
                growth.memory_mib_per_hour,
                self.memory_mib_per_hour_max,
                growth.descriptors_per_hour,
                self.descriptors_per_hour_max,
            );
        }
        let quarter = self.duration_s / 4.0;
        for (class, (name, ..)) in CLASSES.iter().enumerate() {
            let of = |from: f64, to: f64| {
                let all = self.arrivals.iter().filter(|one| one.class == class);
                let inside = all.filter(|one| one.submitted_s >= from && one.submitted_s < to);
                inside.map(|one| one.seconds).collect::<Vec<f64>>()
            };
            let first = of(0.0, quarter);
            let last = of(3.0 * quarter, f64::INFINITY);
            let _ = writeln!(
                text,
                "{name:<7} seconds to the mailbox (median, 90 %, 99 %): first quarter {}, last quarter {}",
                percentiles(&first),
                percentiles(&last),
            );
        }
        for subject in &self.lost {
            let _ = writeln!(text, "LOST {subject}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "WRONG {failure}");
        }
        text
    }

    /// Writes report.html, samples.csv and cables.csv into a folder.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let files = [
            ("report.html", page::html(self)),
            ("samples.csv", self.samples_csv()),
            ("cables.csv", self.cables_csv()),
        ];
        for (name, text) in files {
            let file = folder.join(name);
            std::fs::write(&file, text).map_err(|error| HarnessError::io("write", &file, error))?;
        }
        Ok(())
    }

    fn samples_csv(&self) -> String {
        let mut text = "at_s".to_owned();
        for role in Role::ALL {
            let word = role.word();
            let _ = write!(
                text,
                ",{word}_memory_bytes,{word}_descriptors,{word}_threads,{word}_cpu"
            );
        }
        text.push_str(",outbox,inbox,link_bits_per_s,loss_share\n");
        for sample in &self.samples {
            let _ = write!(text, "{:.3}", sample.at_s);
            for role in &sample.roles {
                let _ = write!(
                    text,
                    ",{},{},{},{:.4}",
                    role.memory_bytes, role.descriptors, role.threads, role.cpu_share
                );
            }
            let _ = writeln!(
                text,
                ",{},{},{:.0},{:.5}",
                sample.outbox, sample.inbox, sample.link_bits, sample.loss_share
            );
        }
        text
    }

    fn cables_csv(&self) -> String {
        let mut text = "submitted_s,class,seconds\n".to_owned();
        for one in &self.arrivals {
            let class = CLASSES[one.class].0;
            let _ = writeln!(text, "{:.3},{class},{:.3}", one.submitted_s, one.seconds);
        }
        text
    }
}

fn percentiles(values: &[f64]) -> String {
    let of =
        |percent| percentile(values, percent).map_or("-".to_owned(), |value| format!("{value:.2}"));
    format!("{} {} {} of {}", of(50), of(90), of(99), values.len())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::measure::RoleSample;
    use super::*;

    fn report(memory_per_s: u64, lost: usize) -> Report {
        let options = Options::try_parse_from(["valise-soak"]).expect("the defaults");
        let samples = (0..600).map(|second| {
            let role = RoleSample {
                memory_bytes: 1_000_000 + second * memory_per_s,
                ..RoleSample::default()
            };
            Sample {
                at_s: float(second),
                roles: [role; 4],
                ..Sample::default()
            }
        });
        let samples = samples.collect();
        let failures = vec!["gone".to_owned(); lost];
        let wire = WireStatistics::default();
        Report::new(&options, samples, &Load::new(1), failures, wire)
    }

    #[test]
    fn growth_beyond_its_bound_and_a_lost_cable_are_red() {
        // 64 MiB an hour are 18,641 bytes a second.
        assert!(report(18_600, 0).is_clean());
        assert!(!report(18_700, 0).is_clean());
        assert!(!report(0, 1).is_clean());
        let text = report(18_700, 1).summary();
        assert!(
            text.contains("+64.2") && text.contains("WRONG gone"),
            "{text}"
        );
    }

    #[test]
    fn the_page_needs_nothing_else_and_the_table_has_a_line_for_each_second() {
        let report = report(1, 0);
        let page = page::html(&report);
        assert!(page.contains("<polyline") && page.ends_with("</html>\n"));
        assert!(
            !page.contains("src=") && !page.contains("http"),
            "nothing is fetched"
        );
        assert_eq!(report.samples_csv().lines().count(), 601);
    }
}
