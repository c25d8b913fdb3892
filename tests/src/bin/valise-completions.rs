//! Writes the completions of each program for bash, zsh and fish into a folder. Only the packages need them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use valise_receiver::cli::verify::Verify;
use valise_tests::{bench, loopback};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("valise-completions: name the folder that the completions are written into");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("valise-completions: {}: {error}", folder.display());
            ExitCode::from(3)
        }
    }
}

fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for mut command in [
        valise_sender::cli::command(),
        valise_receiver::cli::command(),
        Verify::command(),
        loopback::Options::command(),
        bench::Options::command(),
    ] {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command, &name, folder)?;
        }
    }
    Ok(())
}
