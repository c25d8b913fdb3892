//! Keys and signatures, made by the `ssh-keygen` that people use.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{Context, HarnessError, Result};
use super::tokens::{Asks, Tokens};

/// An Ed25519 key pair in two files, as `ssh-keygen` writes them. For a security key, the private file is its handle.
#[derive(Debug, Clone)]
pub struct KeyPair {
    private: PathBuf,
    public_line: String,
    tokens: Option<Tokens>,
}

impl KeyPair {
    /// Makes a key pair `folder/name` and `folder/name.pub`, without passphrase.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing or fails.
    pub fn generate(folder: &Path, name: &str) -> Result<Self> {
        let private = folder.join(name);
        Self::make(private, "ed25519", name, &[], None)
    }

    /// The same with a security key that needs no hardware.
    ///
    /// # Errors
    /// If `ssh-keygen` fails, or has another interface to security keys than the module.
    pub fn of_token(tokens: &Tokens, folder: &Path, name: &str, asks: Asks) -> Result<Self> {
        let options: &[&str] = match asks {
            Asks::Touch => &[],
            Asks::Nothing => &["-O", "no-touch-required"],
            Asks::Pin => &["-O", "verify-required"],
        };
        let private = folder.join(name);
        Self::make(private, "ed25519-sk", name, options, Some(tokens.clone()))
    }

    fn make(
        private: PathBuf,
        kind: &str,
        name: &str,
        options: &[&str],
        tokens: Option<Tokens>,
    ) -> Result<Self> {
        let head = ["-q", "-t", kind, "-N", "", "-C", name];
        let words = head.iter().chain(options).chain(&["-f"]).map(OsStr::new);
        let environment = tokens.iter().flat_map(Tokens::environment);
        run(
            "ssh-keygen",
            environment,
            words.chain([private.as_os_str()]),
        )?;
        let public = private.with_file_name(format!("{name}.pub"));
        let line = std::fs::read_to_string(&public).context("read", &public)?;
        // Type and key, without the comment.
        let public_line = line
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Self {
            private,
            public_line,
            tokens,
        })
    }

    /// The file of the private key.
    pub fn private_file(&self) -> &Path {
        &self.private
    }

    /// The file of the public key.
    pub fn public_file(&self) -> PathBuf {
        beside(&self.private, "pub")
    }

    /// `ssh-ed25519 AAAA…`, as in a trust list.
    pub fn public_line(&self) -> &str {
        &self.public_line
    }

    /// Signs each of `files`; the armoured signatures appear as `FILE.sig`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign(&self, namespace: &str, files: &[PathBuf]) -> Result<()> {
        let head = ["-Y", "sign", "-q", "-n", namespace, "-f"].map(OsStr::new);
        let key = self.private.as_os_str();
        let files = files.iter().map(|file| file.as_os_str());
        let words = head.iter().copied().chain([key]).chain(files);
        run("ssh-keygen", self.environment(), words)
    }

    /// The environment with which a program that signs with the key must be started.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.tokens.iter().flat_map(Tokens::environment)
    }

    /// Signs `file` as the administrator of number `number`: the signature is `FILE.number.sig`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign_as_administrator(&self, namespace: &str, file: &Path, number: usize) -> Result<()> {
        self.sign(namespace, &[file.to_owned()])?;
        let made = beside(file, "sig");
        let wanted = beside(file, &format!("{number}.sig"));
        std::fs::rename(&made, &wanted).context("rename", &made)
    }
}

/// `path.suffix`; the path's own name may hold dots, which `Path::with_extension` would cut.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Runs a tool until it ends.
fn run<'a>(
    tool: &str,
    environment: impl Iterator<Item = (&'static str, &'a Path)>,
    arguments: impl Iterator<Item = &'a OsStr>,
) -> Result<()> {
    let mut command = Command::new(tool);
    command.args(arguments).envs(environment);
    command.stdin(Stdio::null());
    let output = command
        .output()
        .context("run (is it installed?)", Path::new(tool))?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sign_files_and_ssh_keygen_agrees() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate(folder.path(), "someone").expect("ssh-keygen is installed");
        assert!(key.public_line().starts_with("ssh-ed25519 AAAA"));
        assert!(key.public_file().exists());
        let file = folder.path().join("text");
        std::fs::write(&file, b"text").expect("written");
        key.sign_as_administrator("test@valise", &file, 1)
            .expect("signed");
        let signature = folder.path().join("text.1.sig");
        let check = format!(
            "ssh-keygen -Y check-novalidate -n test@valise -s {} < {}",
            signature.display(),
            file.display()
        );
        let status = Command::new("sh")
            .args(["-c", &check])
            .output()
            .expect("sh")
            .status;
        assert!(status.success());
    }
}
