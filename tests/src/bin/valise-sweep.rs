//! Breaks single system calls of each role and checks every promise.

use std::process::ExitCode;

use clap::Parser;
use valise_tests::harness::{HarnessError, Programs};
use valise_tests::sweep::{Options, run};

fn main() -> ExitCode {
    let options = Options::parse();
    match Programs::beside_this().and_then(|programs| run(&options, programs)) {
        Ok(report) => {
            print!("{}", report.table());
            ExitCode::from(u8::from(!report.is_clean()))
        }
        Err(error) => {
            eprintln!("valise-sweep: {error}");
            ExitCode::from(match error {
                HarnessError::Usage(_) => 2,
                _ => 3,
            })
        }
    }
}
