//! `[alarm] command`: run once for each new alarm, with its sentence, which holds no content, as the last argument.
//!
//! ```text
//! daemon, fenced in ── a pipe, one alarm a line ──► runner, outside of the fences ──► the command, once a line
//! ```
//!
//! A fence is inherited by whatever a process starts, and a command that pages somebody has to reach what gate and release
//! must not. So a daemon starts the runner before it puts up its fences, takes its lock or reads a key, and can run
//! nothing itself afterwards.

mod runner;

use crate::limits;
use std::collections::VecDeque;
use std::env;
use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use thiserror::Error;

use crate::os::signals::spawn_unmasked;

pub use runner::run_commands;

/// The subcommand of both programs that is the runner.
pub const RUNNER: &str = "alarm-runner";

/// Why the command is not run for an alarm.
#[derive(Debug, Error)]
enum UntoldError {
    #[error("too many wait")]
    Full,
    #[error("the daemon ended first")]
    Late,
    #[error("its runner ended ({0}); start this daemon again")]
    Ended(String),
    #[error("{0}")]
    Io(io::Error),
}

/// The process that runs the command. It ends when this one does, also by SIGKILL: the pipe closes.
#[derive(Debug)]
pub struct AlarmRunner {
    child: Child,
    pipe: ChildStdin,
}

impl AlarmRunner {
    /// Starts the runner, if there is a command. To be called before the fences are up, and before anything is open that
    /// the command must not have.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn start(command: &[String]) -> io::Result<Option<Self>> {
        if command.is_empty() {
            return Ok(None);
        }
        let mut runner = Command::new(env::current_exe()?);
        runner.arg(RUNNER).arg("--").args(command);
        Self::spawn(&mut runner).map(Some)
    }

    fn spawn(runner: &mut Command) -> io::Result<Self> {
        runner.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = spawn_unmasked(runner)?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // A runner that does not read must not hold up the daemon.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { child, pipe })
    }

    fn tell(&mut self, line: &str) -> Result<(), UntoldError> {
        match self.pipe.write_all(one_line(line).as_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(UntoldError::Full),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                let status = self.child.try_wait().ok().flatten();
                let status = status.map_or_else(|| "still ending".to_owned(), |s| s.to_string());
                Err(UntoldError::Ended(status))
            }
            Err(error) => Err(UntoldError::Io(error)),
        }
    }
}

/// Returns the alarm as the pipe takes it: a line end in it would begin another alarm.
fn one_line(alarm: &str) -> String {
    let cut = alarm.floor_char_boundary(limits::ALARM_LINE_BYTES_MAX - 1);
    let mut line = alarm[..cut].replace(char::is_control, " ");
    line.push('\n');
    // A control character beyond ASCII takes more bytes than the space in its place.
    assert!(line.len() <= limits::ALARM_LINE_BYTES_MAX);
    line
}

/// Alarms on their way to the operator's command.
///
/// What is told here must be in the audit log before it is run: an alarm is visible from then on.
#[derive(Debug, Default)]
pub struct AlarmCommands {
    waiting: VecDeque<String>,
    runner: Option<AlarmRunner>,
}

impl AlarmCommands {
    /// Takes the runner; without one no command is run.
    pub fn run_by(&mut self, runner: Option<AlarmRunner>) {
        self.runner = runner;
    }

    /// Takes a new alarm, for the next [`AlarmCommands::run`].
    pub fn tell(&mut self, line: String) {
        if self.waiting.len() < limits::ALARM_COMMANDS_WAITING_MAX {
            self.waiting.push_back(line);
        } else {
            log_untold(&line, &UntoldError::Full);
        }
    }

    /// Has the command run for the new alarms, which the audit log has by now. Waits for nothing.
    pub fn run(&mut self) {
        let Some(runner) = &mut self.runner else {
            self.waiting.clear();
            return;
        };
        for line in self.waiting.drain(..) {
            if let Err(error) = runner.tell(&line) {
                log_untold(&line, &error);
            }
        }
    }
}

fn log_untold(line: &str, error: &UntoldError) {
    tracing::error!("the alarm command is not run for \"{line}\": {error}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// A runner that is some other program.
    fn commands(program: &mut Command) -> AlarmCommands {
        AlarmCommands {
            waiting: VecDeque::new(),
            runner: Some(AlarmRunner::spawn(program).unwrap()),
        }
    }

    #[test]
    fn without_a_command_there_is_no_runner_and_alarms_are_let_go() {
        let mut commands = AlarmCommands::default();
        commands.run_by(AlarmRunner::start(&[]).unwrap());
        commands.tell("disk: almost full".to_owned());
        commands.run();
        assert!(commands.runner.is_none() && commands.waiting.is_empty());
    }

    #[test]
    fn each_alarm_is_one_line_of_the_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut commands = commands(Command::new("tee").arg(&out));
        commands.tell("disk: almost\nfull".to_owned());
        commands.tell("x".repeat(2 * limits::ALARM_LINE_BYTES_MAX));
        commands.run();
        let AlarmRunner { mut child, pipe } = commands.runner.take().unwrap();
        drop(pipe);
        child.wait().unwrap();
        let told = std::fs::read_to_string(&out).unwrap();
        let long = "x".repeat(limits::ALARM_LINE_BYTES_MAX - 1);
        assert_eq!(told, format!("disk: almost full\n{long}\n"));
    }

    #[test]
    fn a_runner_that_does_not_read_holds_nothing_up() {
        let mut commands = commands(Command::new("sleep").arg("600"));
        for _ in 0..1_000 {
            for number in 0..2 * limits::ALARM_COMMANDS_WAITING_MAX {
                commands.tell(format!("flood: {number:0>999}"));
            }
            assert_eq!(commands.waiting.len(), limits::ALARM_COMMANDS_WAITING_MAX);
            commands.run();
            assert!(commands.waiting.is_empty());
        }
        let runner = commands.runner.as_mut().unwrap();
        let more = runner.tell(&format!("flood: {:0>4000}", 1));
        runner.child.kill().unwrap();
        runner.child.wait().unwrap();
        assert!(matches!(more, Err(UntoldError::Full)), "{more:?}");
    }

    #[test]
    fn a_runner_that_ended_is_told_of() {
        let mut commands = commands(&mut Command::new("true"));
        let runner = commands.runner.as_mut().unwrap();
        runner.child.wait().unwrap();
        // A child that another test is starting has a copy of the pipe's other end until its `exec`.
        let mut closed = [PollFd::new(runner.pipe.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut closed, PollTimeout::from(60_000_u16)), Ok(1));
        let error = runner.tell("disk: almost full").unwrap_err();
        assert!(matches!(error, UntoldError::Ended(_)), "{error}");
        commands.tell("disk: almost full".to_owned());
        commands.run();
        assert!(commands.waiting.is_empty());
    }
}
