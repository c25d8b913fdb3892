//! The harness for ordinary PCs: real programs, real files, a lossy line, one command.

use std::process::ExitCode;

use clap::Parser;
use valise_tests::harness::HarnessError;
use valise_tests::loopback::{Options, run};

fn main() -> ExitCode {
    let options = Options::parse();
    let report = match run(&options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("valise-loopback: {error}");
            return ExitCode::from(status_of(&error));
        }
    };
    if options.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("valise-loopback: {error}"),
        }
    } else {
        print!("{}", report.summary());
    }
    if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn status_of(error: &HarnessError) -> u8 {
    match error {
        HarnessError::Usage(_) => 2,
        HarnessError::Wrong(_) | HarnessError::Command { .. } => 1,
        _ => 3,
    }
}
