//! A program under test as a process: its log, its resources, and its end.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::awaiting::await_condition;
use super::clock::TestClock;
use super::error::{Context, HarnessError, Result};

/// The part of a log that is shown if its program failed.
const LOG_TAIL_BYTES: u64 = 4096;
/// The longest time for a program to end.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The kernel's unit of CPU time in /proc (USER_HZ), the same on every Linux for which we build.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running program, in a process group of its own. Dropping it kills the whole group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The resources that a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// The largest resident set so far, in bytes.
    pub memory_peak_bytes: u64,
}

/// The command line that ends `program` when its parent dies: through `setpriv`, if that is installed.
fn with_parent_death_signal(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

impl Process {
    /// Starts `program` with its output in the file `log` (appended).
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: &[A],
        log: &Path,
    ) -> Result<Self> {
        Self::start_under(None, name, program, arguments, log)
    }

    /// The same, with a clock that the test moves.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_under<A: AsRef<OsStr>>(
        clock: Option<&TestClock>,
        name: &str,
        program: &Path,
        arguments: &[A],
        log: &Path,
    ) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context("open the log", log)?;
        let errors = output.try_clone().context("open the log", log)?;
        let child = with_parent_death_signal(program)
            .args(arguments)
            .envs(clock.into_iter().flat_map(TestClock::environment))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .context("start", program)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The name with which it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pid of a child of this process whose command line has `word` as an argument.
    pub fn child_with_argument(&self, word: &str) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let children = tasks.flatten().flat_map(|task| {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        });
        children.into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == word.as_bytes())
        })
    }

    /// Fails when the program has ended.
    ///
    /// # Errors
    /// [`HarnessError::Ended`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(HarnessError::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                log: tail(&self.log),
            }),
            Err(error) => Err(HarnessError::io("wait for", Path::new(&self.name), error)),
        }
    }

    /// Sends SIGTERM to the program and waits for its end.
    ///
    /// # Errors
    /// If it still runs after a minute: files that it has set aside for erasing are erased before its end.
    pub fn stop(mut self) -> Result<std::process::ExitStatus> {
        let _ = kill(self.nix_pid(), Signal::SIGTERM);
        let what = format!("the end of {} after SIGTERM", self.name);
        await_condition(&what, END_LIMIT, &[], || {
            self.child
                .try_wait()
                .context("wait for", Path::new(&self.name))
        })
    }

    /// Sends the program a signal that it handles.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.nix_pid(), signal).context("signal", Path::new(&self.name))
    }

    /// Kills the program and everything in its group, as a power failure would.
    pub fn kill(mut self) {
        self.kill_group();
    }

    /// CPU time and peak memory of this process.
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid()).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    fn kill_group(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill(self.nix_pid(), Signal::SIGKILL);
        }
        // The group may outlive its leader. Its id is not reused as long as the group exists.
        let _ = killpg(self.nix_pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

impl Usage {
    /// Reads the usage of a process from /proc; `None` when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // The name in parentheses may hold spaces, so the fields are counted after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u32 =
            fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let peak_kib: u64 = peak.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            cpu_s: f64::from(ticks) / TICKS_PER_SECOND,
            memory_peak_bytes: peak_kib * 1024,
        })
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(
        |error| error.to_string(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "sleep 1000 & echo $! > child; mv child pid; wait";
        let log = folder.path().join("log");
        let script = format!("cd {}; {script}", folder.path().display());
        let process = Process::start("sh", Path::new("/bin/sh"), &["-c", &script], &log)
            .expect("a shell starts");
        let file = folder.path().join("pid");
        let child: u32 = await_condition(
            "the child",
            Duration::from_secs(10),
            &[folder.path().to_owned()],
            || {
                Ok(std::fs::read_to_string(&file)
                    .ok()
                    .and_then(|pid| pid.trim().parse().ok()))
            },
        )
        .expect("a child");
        assert_eq!(process.child_with_argument("1000"), Some(child));
        assert!(process.usage().memory_peak_bytes > 0);
        drop(process);
        let gone = || {
            // A zombie only waits for the init process.
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
        };
        await_condition("its end", Duration::from_secs(10), &[], gone).expect("killed");
    }

    #[test]
    fn an_early_end_is_told_with_the_last_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let arguments = ["-c", "echo last words; exit 3"];
        let mut process =
            Process::start("sh", Path::new("/bin/sh"), &arguments, &log).expect("a shell");
        let error = await_condition("its end", Duration::from_secs(10), &[], || {
            Ok(process.check_alive().err())
        })
        .expect("it ends");
        assert!(error.to_string().contains("last words"), "{error}");
    }
}
