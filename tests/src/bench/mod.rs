//! The measurements of `make bench`, and their report.
//!
//! Every figure is measured on the real programs as processes. docs/benchmarks.md has the rows and their bars.

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

/// Measures the rows that the options select.
///
/// # Errors
/// If the harness cannot work. A transfer that failed is counted in its figure.
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
