//! Security keys without hardware: OpenSSH's `sk-dummy` module, which its own tests use, with the real `ssh-keygen`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::error::{Context, HarnessError, Result};
use super::programs::source_root;

/// The path of the module below the workspace, as in the Makefile.
const MODULE: &str = "target/sk-dummy.so";

/// The variable with the path of another module.
const MODULE_VARIABLE: &str = "VALISE_TOKEN_MODULE";

static FOUND: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();

/// The proof of presence that a security key asks for when it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// A touch, the default of every key.
    Touch,
    /// Nothing at all (`no-touch-required`).
    Nothing,
    /// A touch and a PIN (`verify-required`).
    Pin,
}

/// The means to make security keys and to sign with them.
#[derive(Debug, Clone)]
pub struct Tokens {
    module: PathBuf,
    askpass: PathBuf,
}

impl Tokens {
    /// Finds the module, which the Makefile fetches if it is absent, and writes the program that knows the PIN.
    ///
    /// # Errors
    /// If the module can neither be found nor fetched, with what to do about it.
    pub fn find(folder: &Path) -> Result<Self> {
        let module = FOUND
            .get_or_init(|| module().map_err(|error| error.to_string()))
            .clone()
            .map_err(HarnessError::Wrong)?;
        let askpass = folder.join("askpass");
        fs::write(&askpass, "#!/bin/sh\necho 1234\n").context("write", &askpass)?;
        fs::set_permissions(&askpass, Permissions::from_mode(0o700))
            .context("make runnable", &askpass)?;
        Ok(Self { module, askpass })
    }

    /// The environment with which a program that uses a key must be started. Nobody is asked at a terminal.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        [
            ("SSH_SK_PROVIDER", &self.module),
            ("SSH_ASKPASS", &self.askpass),
            ("SSH_ASKPASS_REQUIRE", Path::new("force")),
        ]
    }
}

fn module() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(MODULE_VARIABLE) {
        return Ok(PathBuf::from(named));
    }
    let root = source_root()?;
    let module = root.join(MODULE);
    if !module.is_file() {
        let make = Command::new("make")
            .args(["-s", MODULE])
            .current_dir(&root)
            .output()
            .context("run make in", &root)?;
        if !make.status.success() {
            let said = String::from_utf8_lossy(&make.stderr);
            let text = format!("no security key can be tried without {MODULE}:\n{said}");
            return Err(HarnessError::Wrong(text));
        }
    }
    Ok(module)
}
