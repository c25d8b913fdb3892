//! `valise-receiver`: receives, verifies and releases cables from a one-way link.

use std::process::ExitCode;

fn main() -> ExitCode {
    valise_receiver::cli::main()
}
