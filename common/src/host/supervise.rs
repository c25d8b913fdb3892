//! Both processes of a host as children of one, for a PC: a child that ends is started again. In production the service
//! manager does this, with a user for each process.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2, read};
use thiserror::Error;

use super::folders::Role;
use crate::os::clock::mono_now;
use crate::os::sandbox::note_breach;
use crate::os::service::{self, SUPERVISOR_VARIABLE};
use crate::os::signals::{Asked, Signals, end_with_parent, spawn_unmasked};
use crate::units::Mono;

/// The exit status of a configuration that starting again does not mend.
const WRONG_CONFIGURATION: i32 = 2;

/// The exit status of a system that failed. What failed before a child was ever ready (a lock that another process
/// holds, rights that are missing) starting again does not mend either.
const SYSTEM_FAILED: i32 = 3;

/// The pause before a child is started again: it doubles each time, up to the last.
const PAUSE_FIRST_US: u64 = 500_000;
const PAUSE_LAST_US: u64 = 30_000_000;

/// A child that lived for so long had no trouble starting.
const HEALTHY_US: u64 = 60_000_000;

/// How long children may take to end before they are killed; they are safe against that at any moment.
const STOPPING_US: u64 = 20_000_000;

/// Why the supervisor ended otherwise than by being asked to.
#[derive(Debug, Error)]
pub enum SuperviseError {
    /// The system failed.
    #[error("{role} cannot be supervised: {source}")]
    Io {
        /// Whose child.
        role: Role,
        /// What the system said.
        source: io::Error,
    },
    /// A child says that the configuration is wrong; it has said on standard error what.
    #[error(
        "{role} cannot work with this configuration, as it says above; nothing is left running"
    )]
    Configuration {
        /// Whose child.
        role: Role,
    },
    /// The system let a child down before it was ever ready; it has said on standard error what.
    #[error("{role} cannot start, as it says above; nothing is left running")]
    Start {
        /// Whose child.
        role: Role,
    },
}

/// A child, running or waiting to be started again.
struct Supervised {
    role: Role,
    /// Where an end by a forbidden call is noted.
    breaches: PathBuf,
    child: Option<Child>,
    /// Where the child writes when it is ready.
    told: Option<OwnedFd>,
    /// A child of this role has been ready: what works again and again is worth starting again.
    was_ready: bool,
    started: Mono,
    pause_us: u64,
    start_at: Mono,
}

/// Runs `program` once for each role, with the role's word and `arguments`, until a signal asks to stop. Beside each role
/// is the file that notes its ends by forbidden calls.
///
/// To be called before any thread starts.
///
/// # Errors
/// [`SuperviseError`]; all children have ended by then.
pub(crate) fn supervise(
    program: &PathBuf,
    roles: &[(Role, PathBuf)],
    arguments: &[OsString],
) -> Result<(), SuperviseError> {
    let first = roles.first().map_or(Role::Gate, |(role, _)| *role);
    let signals = Signals::with_children().map_err(|source| SuperviseError::Io {
        role: first,
        source,
    })?;
    let now = mono_now();
    let mut children: Vec<Supervised> = roles
        .iter()
        .map(|(role, breaches)| Supervised::new(*role, breaches.clone(), now))
        .collect();
    let result = keep_running(program, arguments, &signals, &mut children);
    service::stopping();
    stop(&signals, &mut children);
    result
}

/// To be called by a child first of all: its supervisor's end becomes its own.
///
/// # Errors
/// The system's, and a supervisor that ended already.
pub(crate) fn follow_supervisor() -> io::Result<()> {
    let Some(parent) = env::var_os(SUPERVISOR_VARIABLE) else {
        return Ok(());
    };
    end_with_parent()?;
    // It may have ended before the kernel was asked.
    if parent != OsString::from(parent_id().to_string()) {
        return Err(io::Error::other("the supervisor ended"));
    }
    Ok(())
}

fn keep_running(
    program: &PathBuf,
    arguments: &[OsString],
    signals: &Signals,
    children: &mut [Supervised],
) -> Result<(), SuperviseError> {
    let mut told = false;
    loop {
        for one in children.iter_mut() {
            one.handle_time(mono_now(), program, arguments)
                .map_err(|source| SuperviseError::Io {
                    role: one.role,
                    source,
                })?;
        }
        // Looked at whether a signal said so or not: one that comes while another child is started, with no signal blocked, is
        // lost.
        for one in children.iter_mut() {
            one.handle_child(mono_now())?;
        }
        if !told {
            service::ready();
            told = true;
        }
        let next = children
            .iter()
            .filter(|one| one.child.is_none())
            .map(|one| one.start_at)
            .min();
        if wait(signals, next).is_err() {
            return Ok(());
        }
        while let Ok(Some(asked)) = signals.take() {
            match asked {
                Asked::Stop => return Ok(()),
                Asked::Reload => children.iter().for_each(|one| one.signal(Signal::SIGHUP)),
                Asked::Child => {}
            }
        }
    }
}

impl Supervised {
    fn new(role: Role, breaches: PathBuf, now: Mono) -> Self {
        Self {
            role,
            breaches,
            child: None,
            told: None,
            was_ready: false,
            started: now,
            pause_us: PAUSE_FIRST_US,
            start_at: now,
        }
    }

    fn handle_time(
        &mut self,
        now: Mono,
        program: &PathBuf,
        arguments: &[OsString],
    ) -> io::Result<()> {
        if self.child.is_some() || now < self.start_at {
            return Ok(());
        }
        // Neither end waits: a child that is not heard hangs as little as a supervisor that hears nothing.
        let (told, ready) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let mut command = Command::new(program);
        command
            .arg(self.role.as_str())
            .args(arguments)
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(ready));
        self.child = Some(spawn_unmasked(&mut command)?);
        self.told = Some(told);
        self.started = now;
        Ok(())
    }

    /// Notes that the child ended, and when to start it again.
    ///
    /// # Errors
    /// When starting it again would not help.
    fn handle_child(&mut self, now: Mono) -> Result<(), SuperviseError> {
        let child = self.child.as_mut();
        let Some(status) = child.and_then(|child| child.try_wait().ok().flatten()) else {
            return Ok(());
        };
        self.child = None;
        // Whatever it had to tell stands in the pipe by now.
        if let Some(told) = self.told.take() {
            self.was_ready |= read(told, &mut [0]).is_ok_and(|bytes| bytes > 0);
        }
        if status.signal() == Some(libc::SIGSYS)
            && let Err(error) = note_breach(&self.breaches)
        {
            tracing::error!(
                "{} made a forbidden system call, which could not be noted: {error}",
                self.role
            );
        }
        self.judge(status)?;
        if now.since_us(self.started) >= HEALTHY_US {
            self.pause_us = PAUSE_FIRST_US;
        }
        tracing::error!("{} ended ({status}); it is started again", self.role);
        self.start_at = now.plus_us(self.pause_us);
        self.pause_us = self.pause_us.saturating_mul(2).min(PAUSE_LAST_US);
        Ok(())
    }

    fn judge(&self, status: ExitStatus) -> Result<(), SuperviseError> {
        let role = self.role;
        match status.code() {
            Some(WRONG_CONFIGURATION) => Err(SuperviseError::Configuration { role }),
            Some(SYSTEM_FAILED) if !self.was_ready => Err(SuperviseError::Start { role }),
            _ => Ok(()),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok());
        if let Some(pid) = pid {
            // The child has not been waited for, so that the number is still its own.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Waits for a signal, or until a child is to be started.
fn wait(signals: &Signals, until: Option<Mono>) -> io::Result<()> {
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        // Rounded up: a wait that ends early would spin.
        let ms = until.since_us(mono_now()).div_ceil(1_000);
        i32::try_from(ms)
            .ok()
            .and_then(|ms| PollTimeout::try_from(ms).ok())
            .unwrap_or(PollTimeout::MAX)
    });
    match poll(
        &mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)],
        timeout,
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn stop(signals: &Signals, children: &mut [Supervised]) {
    children.iter().for_each(|one| one.signal(Signal::SIGTERM));
    let deadline = mono_now().plus_us(STOPPING_US);
    loop {
        for one in children.iter_mut() {
            if let Some(child) = &mut one.child
                && !matches!(child.try_wait(), Ok(None))
            {
                one.child = None;
            }
        }
        if children.iter().all(|one| one.child.is_none()) {
            return;
        }
        if mono_now() >= deadline || wait(signals, Some(deadline)).is_err() {
            break;
        }
        while let Ok(Some(_)) = signals.take() {}
    }
    for child in children.iter_mut().filter_map(|one| one.child.as_mut()) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn one(role: Role) -> Supervised {
        Supervised::new(role, PathBuf::from("/nonexistent"), Mono(0))
    }

    fn run_until_ended(
        supervised: &mut Supervised,
        program: &str,
        now: Mono,
    ) -> Result<(), SuperviseError> {
        run_with(supervised, &PathBuf::from(program), &[], now)
    }

    fn run_with(
        supervised: &mut Supervised,
        program: &PathBuf,
        arguments: &[OsString],
        now: Mono,
    ) -> Result<(), SuperviseError> {
        supervised.handle_time(now, program, arguments).unwrap();
        supervised.child.as_mut().unwrap().wait().unwrap();
        supervised.handle_child(now)
    }

    /// Runs this test program as the child, for that one test: there it is `child` that is run instead.
    fn run_as_child(
        supervised: &mut Supervised,
        test: &str,
        child: fn(),
    ) -> Result<(), SuperviseError> {
        if env::var_os(SUPERVISOR_VARIABLE).is_some() {
            child();
            std::process::exit(SYSTEM_FAILED);
        }
        let test = format!("host::supervise::tests::{test}");
        let arguments = ["--exact", "--nocapture", &test].map(OsString::from);
        let program = env::current_exe().unwrap();
        let now = supervised.start_at;
        run_with(supervised, &program, &arguments, now)
    }

    #[test]
    fn a_child_whose_system_fails_before_it_is_ready_ends_all() {
        let mut supervised = one(Role::Receive);
        let test = "a_child_whose_system_fails_before_it_is_ready_ends_all";
        assert!(matches!(
            run_as_child(&mut supervised, test, || ()),
            Err(SuperviseError::Start {
                role: Role::Receive
            })
        ));
    }

    #[test]
    fn a_child_that_was_ready_once_is_started_again_whenever_its_system_fails() {
        let mut supervised = one(Role::Receive);
        let test = "a_child_that_was_ready_once_is_started_again_whenever_its_system_fails";
        run_as_child(&mut supervised, test, service::ready).unwrap();
        let test = "a_child_whose_system_fails_before_it_is_ready_ends_all";
        run_as_child(&mut supervised, test, || ()).unwrap();
    }

    #[test]
    fn a_child_that_ends_waits_longer_each_time() {
        let mut supervised = one(Role::Gate);
        let mut now = Mono(1);
        for pause_us in [PAUSE_FIRST_US, 2 * PAUSE_FIRST_US, 4 * PAUSE_FIRST_US] {
            run_until_ended(&mut supervised, "/bin/false", now).unwrap();
            assert_eq!(supervised.start_at, now.plus_us(pause_us));
            supervised
                .handle_time(now, &PathBuf::from("/bin/false"), &[])
                .unwrap();
            assert!(supervised.child.is_none());
            now = supervised.start_at;
        }
        for _ in 0..20 {
            run_until_ended(&mut supervised, "/bin/true", now).unwrap();
            now = supervised.start_at;
        }
        assert_eq!(supervised.pause_us, PAUSE_LAST_US);
    }

    #[test]
    fn a_child_that_lived_long_is_started_again_soon() {
        let mut supervised = one(Role::Release);
        supervised.pause_us = PAUSE_LAST_US;
        supervised
            .handle_time(Mono(1), &PathBuf::from("/bin/true"), &[])
            .unwrap();
        supervised.child.as_mut().unwrap().wait().unwrap();
        let ended = Mono(1).plus_us(HEALTHY_US);
        supervised.handle_child(ended).unwrap();
        assert_eq!(supervised.start_at, ended.plus_us(PAUSE_FIRST_US));
    }

    #[test]
    fn an_end_by_a_forbidden_call_is_noted_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let breaches = folder.path().join("gate.forbidden-call");
        for (signal, count) in [("TERM", 0), ("SYS", 1), ("KILL", 1), ("SYS", 2)] {
            let mut supervised = Supervised::new(Role::Gate, breaches.clone(), Mono(0));
            let script = format!("kill -{signal} $$");
            let arguments = ["-c", &script].map(OsString::from);
            let mut command = Command::new("/bin/sh");
            supervised.child = Some(command.args(arguments).spawn().unwrap());
            supervised.child.as_mut().unwrap().wait().unwrap();
            supervised.handle_child(Mono(1)).unwrap();
            let noted = std::fs::read_to_string(&breaches).unwrap_or_default();
            assert_eq!(noted.lines().count(), count, "{signal}");
        }
    }

    #[test]
    fn a_program_that_is_absent_is_an_error() {
        let mut supervised = one(Role::Receive);
        assert!(
            supervised
                .handle_time(Mono(0), &PathBuf::from("/nonexistent"), &[])
                .is_err()
        );
    }
}
