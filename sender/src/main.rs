//! `valise-sender`: takes, seals and transmits approved cables over a one-way link.

use std::process::ExitCode;

fn main() -> ExitCode {
    valise_sender::cli::main()
}
