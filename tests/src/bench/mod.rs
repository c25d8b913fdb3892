//! What `make bench` measures, and how it says what it measured.
//!
//! Every figure is of the real programs as processes. The rows and their bars are those of
//! docs/benchmarks.md.

mod audit;
mod figure;
mod flash;
mod forged;
mod line;
mod link;
mod many;
mod options;
mod pace;
mod repair;
mod report;
mod whole;

pub use figure::{Bar, Figure};
pub use options::{Options, Place, Rows};
pub use report::Report;

use crate::harness::{Result, Role, World};

/// Measures everything that the options ask for.
///
/// # Errors
/// When the harness could not work. A transfer that failed is counted in its figure.
pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options);
    type Row = (Rows, fn(&Options, &mut Report) -> Result<()>);
    let rows: [Row; 9] = [
        (Rows::Repair, repair::measure),
        (Rows::Line, line::measure),
        (Rows::Link, link::measure),
        (Rows::Whole, whole::measure),
        (Rows::Many, many::measure),
        (Rows::Flash, flash::measure),
        (Rows::Forged, forged::measure),
        (Rows::Pace, pace::measure),
        (Rows::Audit, audit::measure),
    ];
    for (row, measure) in rows {
        if options.wants(row) {
            measure(options, &mut report)?;
        }
    }
    report.add_memory();
    Ok(report)
}

/// Notes the peak memory of every process that runs.
fn note_memory(world: &World, report: &mut Report) {
    for role in Role::ALL {
        if let Some(usage) = world.usage(role) {
            report.note_memory(role, usage.memory_peak_bytes);
        }
    }
}
