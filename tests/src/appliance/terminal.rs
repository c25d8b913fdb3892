//! Commands at a terminal, with a person who answers their questions.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::pty::openpty;

use super::Result;
use crate::harness::HarnessError;

/// The questions and their answers.
const ANSWERS: [(&str, &str); 6] = [
    ("Enter passphrase", "\n"),
    ("Enter same passphrase", "\n"),
    ("Enter PIN", "1234\n"),
    ("[y/N]", "y\n"),
    ("(yes/no)", "yes\n"),
    ("[yes/no]", "yes\n"),
];

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit status; none for a signal.
    pub status: Option<i32>,
    /// Its output.
    pub output: String,
}

/// Runs a command with a terminal of its own, and answers its questions.
///
/// # Errors
/// If it cannot be started or does not end within `limit`.
pub fn run(mut command: Command, limit: Duration) -> Result<Done> {
    let failed = |source: std::io::Error| HarnessError::Io {
        what: "a terminal".to_owned(),
        source,
    };
    let pty = openpty(None, None).map_err(|errno| failed(errno.into()))?;
    let twin = |fd: &OwnedFd| fd.try_clone().map_err(failed);
    command
        .stdin(twin(&pty.slave)?)
        .stdout(twin(&pty.slave)?)
        .stderr(Stdio::from(pty.slave));
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the other end open: dropping it closes that end.
    drop(command);
    let mut typing = std::fs::File::from(twin(&pty.master)?);
    let mut reading = std::fs::File::from(pty.master);
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The end of a terminal is an error for its reader.
        while let Ok(count @ 1..) = reading.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let start = Instant::now();
    let (mut output, mut answered) = (Vec::new(), 0);
    loop {
        match pieces.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(piece) => output.extend(piece),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                return Err(HarnessError::Timeout {
                    what: "the end of a command".to_owned(),
                    waited: limit,
                    detail: format!(":\n{}", String::from_utf8_lossy(&output)),
                });
            }
        }
        let asked = String::from_utf8_lossy(&output[answered..]).into_owned();
        if let Some((_, answer)) = ANSWERS.iter().find(|(words, _)| asked.contains(words)) {
            typing.write_all(answer.as_bytes()).map_err(failed)?;
            answered = output.len();
        }
    }
    let status = child.wait().map_err(failed)?.code();
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    Ok(Done { status, output })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_command_asks_at_its_terminal_is_answered() {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "sh", "-c"]);
        command.arg("printf 'Enter PIN: ' >/dev/tty; read pin </dev/tty; test $pin = 1234 && echo right; exit 7");
        let done = run(command, Duration::from_secs(20)).unwrap();
        assert_eq!(done.status, Some(7));
        assert!(done.output.contains("right"), "{}", done.output);
    }
}
