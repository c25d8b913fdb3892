//! `valise-sender`: takes, seals and transmits approved cables over a one-way link.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Erases what is freed. Keys and bodies erase themselves; subjects and file names pass through parsers and strings that do
/// not.
#[global_allocator]
static HEAP: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    valise_sender::cli::main()
}
