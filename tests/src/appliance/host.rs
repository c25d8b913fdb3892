//! A host of the test: it boots, and runs commands as its users.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Result;
use super::script::Side;
use super::serial_line::FarEnd;
use super::terminal::{self, Done};
use crate::harness::HarnessError;

/// The longest time for one command: a large cable is copied, sealed and synced.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(180);

/// A system that boots, with users.
pub trait Machine: std::fmt::Debug + Send {
    /// Which of the two hosts it is.
    fn side(&self) -> Side;

    /// Starts the host, and returns when its services are up.
    ///
    /// # Errors
    /// If it does not boot.
    fn boot(&mut self) -> Result<()>;

    /// Shuts the host down in order.
    ///
    /// # Errors
    /// If it does not end.
    fn shut_down(&mut self) -> Result<()>;

    /// Cuts the host's power.
    ///
    /// # Errors
    /// If it cannot be ended.
    fn cut_power(&mut self) -> Result<()>;

    /// A process in the host's network, for its interfaces; none for a machine with interfaces of its own.
    fn network_process(&self) -> Option<u32>;

    /// The device of its serial port.
    fn serial_device(&self) -> &'static str;

    /// Plugs the serial port in; returns its far end.
    ///
    /// # Errors
    /// If the host does not run, or the kernel refuses.
    fn plug_serial(&self) -> Result<FarEnd>;

    /// Unplugs the serial port, whose far end is gone.
    ///
    /// # Errors
    /// If the port is a fixed part of this machine.
    fn unplug_serial(&self) -> Result<()>;

    /// Prepares the command that runs a line of shell as a user of this host, in a session of its own.
    ///
    /// # Errors
    /// If the host is not running.
    fn shell(&self, user: &str, line: &str, terminal: bool) -> Result<Command>;
}

/// Operations that are the same on any machine.
pub trait MachineExt: Machine {
    /// Runs a line at a terminal; returns its result.
    ///
    /// # Errors
    /// If it cannot be run, or does not end.
    fn type_line(&self, user: &str, line: &str) -> Result<Done> {
        terminal::run(self.shell(user, line, true)?, COMMAND_LIMIT)
    }

    /// Runs a line without a terminal; returns its status and standard output.
    ///
    /// # Errors
    /// If it cannot be run.
    fn run(&self, user: &str, line: &str) -> Result<Done> {
        let output = self
            .shell(user, line, false)?
            .stdin(Stdio::null())
            .output()
            .map_err(|source| failed(self.side(), line, source))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        Ok(Done {
            status: output.status.code(),
            output: text,
        })
    }

    /// Packs a folder.
    ///
    /// # Errors
    /// If it cannot be read.
    fn pack(&self, folder: &str) -> Result<Vec<u8>> {
        let line = format!("tar -C {folder} -cf - .");
        let output = self.shell("root", &line, false)?.output();
        let output = output.map_err(|source| failed(self.side(), &line, source))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(HarnessError::Wrong(format!(
                "{}: {line}: {}",
                self.side().word(),
                String::from_utf8_lossy(&output.stderr)
            ))),
        }
    }

    /// Unpacks the output of [`MachineExt::pack`] into a folder. All files there belong to everybody, as on a stick
    /// without owners.
    ///
    /// # Errors
    /// If it cannot be written.
    fn unpack(&self, folder: &str, packed: &[u8]) -> Result<()> {
        let line = format!("tar -C {folder} --no-same-owner -xf - && chmod -R a+rwX {folder}");
        let fail = |source| failed(self.side(), &line, source);
        let mut command = self.shell("root", &line, false)?;
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(fail)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(packed).map_err(fail)?;
        }
        match child.wait().map_err(fail)?.success() {
            true => Ok(()),
            false => Err(HarnessError::Wrong(format!(
                "{}: {line}: failed",
                self.side().word()
            ))),
        }
    }

    /// Runs a line that must succeed; returns its standard output.
    ///
    /// # Errors
    /// If it fails.
    fn run_ok(&self, user: &str, line: &str) -> Result<String> {
        let done = self.run(user, line)?;
        match done.status {
            Some(0) => Ok(done.output),
            status => Err(HarnessError::Command {
                command: format!("{} {user}$ {line}", self.side().word()),
                status: status.map_or("signal".into(), |code| code.to_string()),
                output: done.output,
            }),
        }
    }
}

fn failed(side: Side, line: &str, source: std::io::Error) -> HarnessError {
    HarnessError::Io {
        what: format!("{}: {line}", side.word()),
        source,
    }
}

impl<M: Machine + ?Sized> MachineExt for M {}
