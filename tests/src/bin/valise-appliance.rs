//! The appliance test: two installed hosts under systemd, used by the steps of the documents.

use std::process::ExitCode;

use clap::Parser as _;
use valise_tests::appliance::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("valise-appliance: {error}");
            ExitCode::from(1)
        }
    }
}
