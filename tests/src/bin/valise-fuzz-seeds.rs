//! Writes the first inputs of each fuzz target, made from the test vectors: `valise-fuzz-seeds FOLDER`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;
use valise_tests::fuzz::TARGETS;

/// Writes the first inputs of each fuzz target, made from the test vectors.
#[derive(Debug, Parser)]
#[command(name = "valise-fuzz-seeds", version)]
struct Options {
    /// The folder, which gets one folder for each target.
    folder: PathBuf,
}

fn main() -> ExitCode {
    match write(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("valise-fuzz-seeds: {error}");
            ExitCode::from(3)
        }
    }
}

fn write(options: &Options) -> io::Result<()> {
    for target in TARGETS {
        let folder = options.folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
