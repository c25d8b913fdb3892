//! The acts of a user without our programs.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use valise_tests::harness::User;

pub trait Person {
    /// Runs a program as this user.
    fn run<S: AsRef<OsStr>>(&self, program: impl AsRef<Path>, arguments: &[S]) -> Output;
    /// Makes a folder that only this user can open.
    fn folder(&self, path: PathBuf) -> PathBuf;
}

impl Person for User {
    fn run<S: AsRef<OsStr>>(&self, program: impl AsRef<Path>, arguments: &[S]) -> Output {
        let words = self.command_line(program.as_ref());
        Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn folder(&self, path: PathBuf) -> PathBuf {
        fs::create_dir(&path).unwrap();
        chown(&path, Some(self.uid), Some(self.gid)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }
}
