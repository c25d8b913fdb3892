//! Runs both hosts for a long time over a bad line.

use std::process::ExitCode;

use clap::Parser;
use valise_tests::harness::HarnessError;
use valise_tests::soak::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(report) => {
            print!("{}", report.summary());
            ExitCode::from(u8::from(!report.is_clean()))
        }
        Err(error) => {
            eprintln!("valise-soak: {error}");
            ExitCode::from(match error {
                HarnessError::Usage(_) => 2,
                HarnessError::Ended { .. } => 1,
                _ => 3,
            })
        }
    }
}
