//! `strace` around a role: it counts the calls of a clean run, and injects the fault of a case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::case::{Case, Fault, Phase, faults_of, traced};
use crate::harness::{HarnessError, Process, Result, Role, World, await_condition};

/// The longest time for attaching `strace` to a role.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);

/// A role under `strace`.
#[derive(Debug)]
pub struct Traced {
    log: PathBuf,
    /// The tracer, if it is not the parent of the role.
    _attached: Option<Process>,
}

impl Traced {
    /// Starts a role under `strace`, or attaches `strace` to a role that runs. Without a case nothing is injected.
    ///
    /// # Errors
    /// When the role or `strace` does not start.
    pub fn begin(world: &mut World, role: Role, phase: Phase, case: Option<&Case>) -> Result<Self> {
        let log = world.folder().join("log/strace.txt");
        let words = words(&log, case);
        let attached = match phase {
            Phase::Start => {
                let launcher = words.into_iter().chain(["--".to_owned()]).collect();
                world.start_by(role.host(), launcher);
                let launched = world.launch_role(role);
                world.start_by(role.host(), Vec::new());
                launched?;
                None
            }
            Phase::Running => {
                let wrong = || HarnessError::Wrong(format!("{} does not run", role.word()));
                let pid = world.role_pid(role).ok_or_else(wrong)?;
                Some(attach(&words, pid, &log)?)
            }
        };
        Ok(Self {
            log,
            _attached: attached,
        })
    }

    /// Returns the injected calls, as `strace` wrote them.
    pub fn injected(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("(INJECTED)"));
        lines.map(str::to_owned).collect()
    }

    /// Returns whether the fault hit an object that cannot fail in this way: a counter or a pipe in the memory of the
    /// kernel, or an `open` that creates nothing and reports that there is no room.
    pub fn is_impossible(&self) -> bool {
        let injected = self.injected();
        let mut lines = injected.iter();
        lines.any(|line| {
            let opens_only = line.contains(" open") && !line.contains("O_CREAT");
            let is_of_kernel = line.contains("<anon_inode:") || line.contains("<pipe:");
            is_of_kernel || opens_only && line.contains("ENOSPC")
        })
    }

    /// Returns how often each call was made, in the thread that made it most.
    ///
    /// # Errors
    /// When the log of `strace` cannot be read.
    pub fn calls(&self, configuration: &Path) -> Result<BTreeMap<String, Span>> {
        let text = fs::read_to_string(&self.log)
            .map_err(|error| HarnessError::io("read", &self.log, error))?;
        Ok(count(&text, configuration))
    }
}

fn words(log: &Path, case: Option<&Case>) -> Vec<String> {
    let mut words = ["strace", "-f", "-q", "-y", "-e", "signal=none", "-o"]
        .map(str::to_owned)
        .to_vec();
    words.push(log.display().to_string());
    words.push("-e".to_owned());
    let Some(case) = case else {
        words.push(traced());
        return words;
    };
    let what = match case.fault {
        Fault::Kill => "signal=SIGKILL".to_owned(),
        error => format!("error={}", error.word()),
    };
    words.extend([
        format!("trace={}", case.call),
        "-e".to_owned(),
        format!("inject={}:{what}:when={}", case.call, case.at),
    ]);
    words
}

/// Attaches `strace` to all threads of a process.
fn attach(words: &[String], pid: u32, log: &Path) -> Result<Process> {
    let pid_word = ["-p".to_owned(), pid.to_string()];
    let arguments: Vec<&String> = words[1..].iter().chain(&pid_word).collect();
    let own = log.with_file_name("strace-own.txt");
    let mut process = Process::start("strace", Path::new(&words[0]), &arguments, &own)?;
    await_condition("strace to attach", ATTACH_LIMIT, &[], || {
        // It ends with the role, which the fault may end at once.
        let is_over = process.check_alive().is_err();
        Ok((is_over || is_traced(pid)).then_some(()))
    })?;
    Ok(process)
}

/// Returns whether a tracer has every thread of a process.
fn is_traced(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let mut states = threads.flatten().map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    });
    states.all(|traced| traced)
}

/// The occurrences of a call that belong to the role itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u32,
    /// The last, in the thread that makes most of them.
    pub last: u32,
}

/// Counts each call in each thread. The calls of the first thread before it opens the configuration belong to the
/// programs that start the role and to its loader, if it was traced from there on.
fn count(text: &str, configuration: &Path) -> BTreeMap<String, Span> {
    let configuration = format!("{:?}", configuration.display().to_string());
    let is_from_start = text.contains(&configuration);
    let first_thread = text.split_whitespace().next().unwrap_or_default();
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut before: BTreeMap<&str, u32> = BTreeMap::new();
    let mut is_before = is_from_start;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if faults_of(call).is_empty() {
            continue;
        }
        if is_before && rest.contains(&configuration) {
            is_before = false;
        }
        if is_before && thread == first_thread {
            *before.entry(call).or_default() += 1;
        }
        *counts.entry((thread, call)).or_default() += 1;
    }
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    for ((_, call), last) in counts {
        let first = before.get(call).map_or(1, |count| count + 1);
        let span = spans.entry(call.to_owned()).or_insert(Span { first, last });
        span.last = span.last.max(last);
    }
    spans.retain(|_, span| span.first <= span.last);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_before_the_configuration_is_opened_is_not_of_the_role() {
        let text = "10 openat(AT_FDCWD, \"/lib/x\", O_RDONLY) = 3\n\
                    10 read(3</lib/x>, \"\", 1) = 1\n\
                    10 openat(AT_FDCWD, \"/w/sender.toml\", O_RDONLY) = 3\n\
                    10 fsync(3 <unfinished ...>\n\
                    11 fsync(4) = 0\n\
                    10 <... fsync resumed>) = 0\n\
                    11 fsync(4) = 0\n\
                    11 getpid() = 4\n";
        let spans = count(text, Path::new("/w/sender.toml"));
        let of = |call: &str| spans.get(call).map(|span| (span.first, span.last));
        assert_eq!((of("openat"), of("fsync")), (Some((2, 2)), Some((1, 2))));
        assert_eq!((of("read"), of("getpid")), (None, None));
        let spans = count(text, Path::new("/elsewhere"));
        assert_eq!(spans["openat"], Span { first: 1, last: 2 });
    }
}
