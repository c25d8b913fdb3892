//! `valise-verify`: checks a released cable's folder on any machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    valise_receiver::cli::verify::main()
}
