//! The measurements of docs/benchmarks.md.

use std::process::ExitCode;

use clap::Parser;
use valise_tests::bench::{Options, run};

fn main() -> ExitCode {
    let options = Options::parse();
    let report = match run(&options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("valise-bench: {error}");
            return ExitCode::from(3);
        }
    };
    print!("{}", report.table());
    if let Some(file) = &options.json {
        let written = serde_json::to_vec_pretty(&report)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(file, text));
        if let Err(error) = written {
            eprintln!("valise-bench: write {}: {error}", file.display());
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}
