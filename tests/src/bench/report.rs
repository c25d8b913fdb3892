//! The table and the JSON document of a measurement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use super::figure::{Bar, Figure};
use super::options::Options;
use crate::harness::Role;

/// All results of a measurement.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: BTreeMap<&'static str, String>,
    /// The rows.
    pub figures: Vec<Figure>,
    #[serde(skip)]
    memory: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        let mut machine = BTreeMap::new();
        let first_line = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        machine.insert("cores", cores.to_string());
        machine.insert("processor", processor());
        machine.insert("kernel", first_line("/proc/sys/kernel/osrelease"));
        machine.insert(
            "net.core.rmem_max",
            first_line("/proc/sys/net/core/rmem_max"),
        );
        machine.insert("runs", options.runs().to_string());
        machine.insert("large cable", format!("{} bytes", options.size()));
        machine.insert("version", env!("CARGO_PKG_VERSION").to_owned());
        Self {
            machine,
            figures: Vec::new(),
            memory: BTreeMap::new(),
        }
    }

    /// Adds a finished row, and prints it for the person who waits.
    pub(super) fn add(&mut self, figure: Figure) {
        eprintln!("{}", line(&figure, &[44, 46, 12, 20, 15]));
        self.figures.push(figure);
    }

    pub(super) fn note(&mut self, what: &'static str, text: String) {
        self.machine.insert(what, text);
    }

    pub(super) fn note_memory(&mut self, role: Role, bytes: u64) {
        let peak = self.memory.entry(role.word()).or_default();
        *peak = bytes.max(*peak);
    }

    pub(super) fn add_memory(&mut self) {
        for (role, bytes) in std::mem::take(&mut self.memory) {
            let mut figure =
                Figure::new(format!("peak memory of {role}"), "MiB", "all of the above")
                    .at_most(128.0, 48.0);
            figure.samples.push(mebibytes(bytes));
            self.add(figure);
        }
    }

    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.machine {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what}: {value}");
        }
        let _ = writeln!(text, "\n| figure | with | median | range | bar · aim | |");
        let _ = writeln!(text, "|---|---|---|---|---|---|");
        for figure in &self.figures {
            let _ = writeln!(text, "| {} |", cells(figure).join(" | "));
        }
        text
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']))
        .to_owned()
}

fn mebibytes(bytes: u64) -> f64 {
    #[allow(clippy::as_conversions)] // Shown with three digits.
    let bytes = bytes as f64;
    bytes / 1_048_576.0
}

fn cells(figure: &Figure) -> [String; 6] {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), shown);
    let bar = match figure.bar {
        Bar::AtLeast { bar, aim } => format!("≥ {} · {}", shown(bar), shown(aim)),
        Bar::AtMost { bar, aim } => format!("≤ {} · {}", shown(bar), shown(aim)),
        Bar::None => String::new(),
    };
    let failed = match figure.failures {
        0 => String::new(),
        count => format!(", {count} failed"),
    };
    [
        figure.name.clone(),
        figure.with.clone(),
        format!("{} {}", number(figure.median()), figure.unit),
        format!(
            "{} to {}{failed}",
            number(figure.quantile(0.0)),
            number(figure.quantile(1.0))
        ),
        bar,
        figure.verdict().to_owned(),
    ]
}

fn line(figure: &Figure, widths: &[usize; 5]) -> String {
    let cells = cells(figure);
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths.iter().chain([&0])) {
        let _ = write!(text, "{cell:width$}  ");
    }
    text.trim_end().to_owned()
}

/// Three significant digits, or all digits of a larger number.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100_000.0 => grouped(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_table_has_a_line_a_figure() {
        let mut report = Report::new(&Options::parse_from(["valise-bench"]));
        let mut figure = Figure::new("goodput", "MB/s", "1472 bytes").at_least(400.0, 680.0);
        figure.samples = vec![410.0, 420.0, 405.0];
        report.figures.push(figure);
        report.note_memory(Role::Gate, 1 << 24);
        report.note_memory(Role::Gate, 1 << 20);
        report.add_memory();
        let table = report.table();
        let row = "| goodput | 1472 bytes | 410 MB/s | 405 to 420 | ≥ 400 · 680 | bar reached |";
        assert!(table.contains(row), "{table}");
        assert!(
            table.contains("| peak memory of gate | all of the above | 16.0 MiB |"),
            "{table}"
        );
    }

    #[test]
    fn numbers_are_shown_with_three_digits() {
        assert_eq!(shown(1.234), "1.23");
        assert_eq!(shown(12.34), "12.3");
        assert_eq!(shown(1234.5), "1234");
        assert_eq!(shown(1_234_567.0), "1,234,567");
    }
}
