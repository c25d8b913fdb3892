//! The runner: lines of its standard input → one run of the command each.
//!
//! It has what its daemon had before that took its lock or read a key. It lives as long as the pipe is open, whatever
//! signal comes, so that the last alarm of a daemon that is told to stop finds it there.

use crate::limits;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use super::{UntoldError, log_untold};
use crate::os::signals::{Signals, spawn_unmasked};

/// Runs `command` for each line of standard input, until that ends. Commands that still run then end by themselves.
///
/// To be called before any thread starts.
///
/// # Errors
/// The system's.
pub fn run_commands(command: &[String]) -> io::Result<()> {
    serve(command, io::stdin().as_fd())
}

fn serve(command: &[String], input: BorrowedFd<'_>) -> io::Result<()> {
    let signals = Signals::with_children()?;
    let mut runner = Runner::new(command);
    let mut buffer = [0; limits::ALARM_LINE_BYTES_MAX];
    loop {
        let mut ready = [
            PollFd::new(input, PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_readable = ready[0].any().unwrap_or(false);
        // A child that ended is reaped below; whoever asks this process to stop asks the daemon too.
        while signals.take()?.is_some() {}
        let mut more = true;
        if is_readable {
            let count = read(input, &mut buffer)?;
            more = count > 0;
            runner.handle_bytes(&buffer[..count]);
        }
        runner.run();
        if !more {
            runner.end();
            return Ok(());
        }
    }
}

struct Runner<'a> {
    command: &'a [String],
    /// A line that has not come whole yet.
    begun: Vec<u8>,
    waiting: VecDeque<String>,
    running: Vec<Child>,
}

impl<'a> Runner<'a> {
    fn new(command: &'a [String]) -> Self {
        Self {
            command,
            begun: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.begun);
                self.handle_line(&line);
            } else if self.begun.len() < limits::ALARM_LINE_BYTES_MAX {
                self.begun.push(*byte);
            }
        }
    }

    fn handle_line(&mut self, line: &[u8]) {
        let Some(line) = as_alarm(line) else {
            tracing::error!("the daemon told something that is no alarm: no command is run for it");
            return;
        };
        if self.waiting.len() < limits::ALARM_COMMANDS_WAITING_MAX {
            self.waiting.push_back(line.to_owned());
        } else {
            log_untold(line, &UntoldError::Full);
        }
    }

    /// Buries the commands that ended, and starts those of new alarms as far as there is room.
    fn run(&mut self) {
        loop {
            // Looked at behind each start: the signal of one that ends meanwhile is lost.
            self.running
                .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            if self.running.len() >= limits::ALARM_COMMANDS_RUNNING_MAX {
                return;
            }
            let Some(line) = self.waiting.pop_front() else {
                return;
            };
            match self.start(&line) {
                Ok(child) => self.running.push(child),
                Err(error) => log_untold(&line, &UntoldError::Io(error)),
            }
        }
    }

    fn start(&self, line: &str) -> io::Result<Child> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        spawn_unmasked(&mut command)
    }

    /// The daemon ended, and so must this process, whatever still runs.
    fn end(&mut self) {
        for line in self.waiting.drain(..) {
            log_untold(&line, &UntoldError::Late);
        }
    }
}

/// Returns a line as an alarm: `word: text`, without control characters.
///
/// Whoever takes over a daemon can write what he likes into the pipe. It becomes an argument of a command that is not
/// fenced in, so it must at least be none that a program takes for an option.
fn as_alarm(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    let (word, _) = line.split_once(": ")?;
    let is_word = word.starts_with(|first: char| first.is_ascii_lowercase())
        && word
            .chars()
            .all(|one| matches!(one, 'a'..='z' | '0'..='9' | '-'));
    (is_word && !line.contains(char::is_control)).then_some(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_command_gets_each_alarm_as_its_last_argument_and_the_runner_ends_with_the_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        // Opened for writing by each shell in turn, and read to the end by this one.
        nix::unistd::mkfifo(&out, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!("printf '%s\\n' \"$1\" > {}", out.display());
        let command = words(&["/bin/sh", "-c", &script, "sh"]);
        let (input, mut pipe) = io::pipe().unwrap();
        let served = std::thread::spawn(move || serve(&command, input.as_fd()));
        for alarm in ["disk: almost full\n", "clock: is it $(right)?\n"] {
            let (first, second) = alarm.split_at(5);
            pipe.write_all(first.as_bytes()).unwrap();
            pipe.write_all(second.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), alarm);
        }
        // What was told last is run all the same.
        pipe.write_all(b"last: word\n").unwrap();
        drop(pipe);
        served.join().unwrap().unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "last: word\n");
    }

    #[test]
    fn a_flood_of_alarms_waits_and_is_bounded() {
        let command = words(&["/bin/sh", "-c", "exec sleep 600", "sh"]);
        let mut runner = Runner::new(&command);
        for number in 0..1_000 {
            runner.handle_bytes(format!("flood: {number}\n").as_bytes());
        }
        assert_eq!(runner.waiting.len(), limits::ALARM_COMMANDS_WAITING_MAX);
        runner.run();
        assert_eq!(runner.running.len(), limits::ALARM_COMMANDS_RUNNING_MAX);
        assert_eq!(
            runner.waiting.len(),
            limits::ALARM_COMMANDS_WAITING_MAX - limits::ALARM_COMMANDS_RUNNING_MAX
        );
        for child in &mut runner.running {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        runner.end();
        assert!(runner.waiting.is_empty());
        runner.run();
        assert!(runner.running.is_empty(), "they are reaped");
    }

    #[test]
    fn what_is_no_alarm_runs_nothing() {
        let command = words(&["/bin/true"]);
        for line in [
            "",
            "--option: x",
            "-: x",
            "word",
            "Word: x",
            "a b: x",
            "a: \u{1b}[2J",
        ] {
            let mut runner = Runner::new(&command);
            runner.handle_bytes(format!("{line}\n").as_bytes());
            assert!(runner.waiting.is_empty(), "{line}");
        }
        let mut runner = Runner::new(&command);
        runner.handle_bytes(b"\xff: x\n");
        runner.handle_bytes(&[b'x'; 3 * limits::ALARM_LINE_BYTES_MAX]);
        assert!(runner.waiting.is_empty() && runner.begun.len() == limits::ALARM_LINE_BYTES_MAX);
    }

    #[test]
    fn a_command_that_cannot_be_run_is_no_end() {
        let command = words(&["/nonexistent"]);
        let mut runner = Runner::new(&command);
        runner.handle_bytes(b"disk: almost full\n");
        runner.run();
        assert!(runner.waiting.is_empty() && runner.running.is_empty());
    }
}
