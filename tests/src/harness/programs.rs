//! The place of the programs under test, and their build, once for a test run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::accounts::is_open;
use super::error::{Context, HarnessError, Result};

/// The programs that the harness runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `valise-sender`.
    pub sender: PathBuf,
    /// `valise-receiver`.
    pub receiver: PathBuf,
    /// `valise-wire`.
    pub wire: PathBuf,
}

impl Programs {
    /// Makes sure that every user can run the hosts' programs, which may have been built in a folder that others cannot
    /// enter.
    ///
    /// # Errors
    /// If neither a link nor a copy of them can be made in `folder`.
    pub(super) fn open_to_all(&mut self, folder: &Path) -> Result<()> {
        for program in [&mut self.sender, &mut self.receiver] {
            if program.ancestors().all(is_open) {
                continue;
            }
            let name = program.file_name().unwrap_or_default();
            let here = folder.join(name);
            std::fs::hard_link(&*program, &here)
                .or_else(|_| std::fs::copy(&*program, &here).map(drop))
                .context("link", &here)?;
            *program = here;
        }
        Ok(())
    }
}

static BUILT: OnceLock<std::result::Result<Programs, String>> = OnceLock::new();

impl Programs {
    /// The programs beside this one, or in the folder of `VALISE_PROGRAMS`.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn beside_this() -> Result<Self> {
        let folder = match std::env::var_os("VALISE_PROGRAMS") {
            Some(folder) => PathBuf::from(folder),
            None => own_folder()?,
        };
        let find = |program: &str| {
            let path = folder.join(program);
            if path.is_file() {
                return Ok(path);
            }
            Err(HarnessError::NoProgram {
                program: program.to_owned(),
                folder: folder.display().to_string(),
            })
        };
        Ok(Self {
            sender: find("valise-sender")?,
            receiver: find("valise-receiver")?,
            wire: find("valise-wire")?,
        })
    }

    /// The programs, built by cargo first: once for each test process, and without cost if they are up to date.
    ///
    /// # Errors
    /// When they do not build.
    pub fn built() -> Result<Self> {
        BUILT
            .get_or_init(|| build().map_err(|error| error.to_string()))
            .clone()
            .map_err(HarnessError::Wrong)
    }
}

fn own_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()
        .map_err(|error| HarnessError::io("find", Path::new("this program"), error))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    // cargo puts tests into `deps/` below the folder of the programs.
    let folder = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    Ok(folder.to_owned())
}

/// Returns the folder of the sources that this program was built from.
///
/// The path is not compiled in: a package's programs must not depend on the folder that they were built in.
///
/// # Errors
/// If the program is no longer below that folder, as after an installation.
pub fn source_root() -> Result<PathBuf> {
    // Cargo sets this variable for the programs that it runs, which may have been built in another folder.
    let given = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own_folder()?;
    given
        .iter()
        .chain([&own])
        .flat_map(|place| place.ancestors())
        .find(|folder| folder.join("tests/src/harness").is_dir())
        .map(Path::to_owned)
        .ok_or_else(|| {
            HarnessError::Wrong(format!(
                "this needs the sources of Valise, and {} is not below them: run it where it was built",
                own.display()
            ))
        })
}

fn build() -> Result<Programs> {
    if std::env::var_os("VALISE_PROGRAMS").is_some() {
        return Programs::beside_this();
    }
    let root = source_root()?;
    let folder = own_folder()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--quiet", "--workspace", "--bins"]);
    // cargo describes this test's package in the environment. A build script that reads these variables, and everything
    // that depends on it, would be built again by this build, and by the next one without these variables.
    let own = std::env::vars_os().map(|(name, _)| name);
    let own = own.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    own.for_each(|name| {
        command.env_remove(name);
    });
    if folder.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let output = command
        .output()
        .map_err(|error| HarnessError::io("run", Path::new("cargo"), error))?;
    if !output.status.success() {
        return Err(HarnessError::Command {
            command: "cargo build --workspace --bins".to_owned(),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Programs::beside_this()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_look_beside_the_deps_folder() {
        let folder = own_folder().expect("this test runs from a file");
        assert_ne!(folder.file_name(), Some("deps".as_ref()));
    }

    #[test]
    fn the_sources_are_above_this_test() {
        let root = source_root().expect("this test runs where it was built");
        assert_eq!(
            Some(root.as_path()),
            Path::new(env!("CARGO_MANIFEST_DIR")).parent()
        );
    }
}
