//! Both processes of a host as children of one, for a PC: a child that ends is started again. In production the service
//! manager does this, with a user for each process.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use super::clock::mono_now;
use super::signals::{Asked, Signals, end_with_parent, spawn_unmasked};
use super::{layout::Role, service};
use crate::units::Mono;

/// Tells a child which process started it, so that it does not outlive that one.
const PARENT_VARIABLE: &str = "VALISE_SUPERVISOR";

/// The exit status of a configuration that starting again does not mend.
const WRONG_CONFIGURATION: i32 = 2;

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
    #[error("{role} cannot work with this configuration")]
    Configuration {
        /// Whose child.
        role: Role,
    },
}

/// A child, running or waiting to be started again.
struct Supervised {
    role: Role,
    child: Option<Child>,
    started: Mono,
    pause_us: u64,
    start_at: Mono,
}

/// Runs `program` once for each role, with the role's word and `arguments`, until a signal asks to stop.
///
/// To be called before any thread starts.
///
/// # Errors
/// [`SuperviseError`]; all children have ended by then.
pub fn supervise(
    program: &PathBuf,
    roles: &[Role],
    arguments: &[OsString],
) -> Result<(), SuperviseError> {
    let first = roles.first().copied().unwrap_or(Role::Gate);
    let signals = Signals::with_children().map_err(|source| SuperviseError::Io {
        role: first,
        source,
    })?;
    let now = mono_now();
    let mut children: Vec<Supervised> = roles
        .iter()
        .map(|role| Supervised {
            role: *role,
            child: None,
            started: now,
            pause_us: PAUSE_FIRST_US,
            start_at: now,
        })
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
pub fn follow_supervisor() -> io::Result<()> {
    let Some(parent) = env::var_os(PARENT_VARIABLE) else {
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
        for one in children.iter_mut() {
            if one
                .handle_child(mono_now())
                .is_some_and(is_wrong_configuration)
            {
                return Err(SuperviseError::Configuration { role: one.role });
            }
        }
    }
}

fn is_wrong_configuration(status: ExitStatus) -> bool {
    status.code() == Some(WRONG_CONFIGURATION)
}

impl Supervised {
    fn handle_time(
        &mut self,
        now: Mono,
        program: &PathBuf,
        arguments: &[OsString],
    ) -> io::Result<()> {
        if self.child.is_some() || now < self.start_at {
            return Ok(());
        }
        let mut command = Command::new(program);
        command
            .arg(self.role.as_str())
            .args(arguments)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null());
        self.child = Some(spawn_unmasked(&mut command)?);
        self.started = now;
        Ok(())
    }

    /// Notes that the child ended, and when to start it again.
    fn handle_child(&mut self, now: Mono) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        if now.since_us(self.started) >= HEALTHY_US {
            self.pause_us = PAUSE_FIRST_US;
        }
        if !is_wrong_configuration(status) {
            tracing::error!("{} ended ({status}); it is started again", self.role);
        }
        self.start_at = now.plus_us(self.pause_us);
        self.pause_us = self.pause_us.saturating_mul(2).min(PAUSE_LAST_US);
        Some(status)
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
        Supervised {
            role,
            child: None,
            started: Mono(0),
            pause_us: PAUSE_FIRST_US,
            start_at: Mono(0),
        }
    }

    fn run_until_ended(supervised: &mut Supervised, program: &str, now: Mono) -> ExitStatus {
        supervised
            .handle_time(now, &PathBuf::from(program), &[])
            .unwrap();
        supervised.child.as_mut().unwrap().wait().unwrap();
        supervised.handle_child(now).unwrap()
    }

    #[test]
    fn a_child_that_ends_waits_longer_each_time() {
        let mut supervised = one(Role::Gate);
        let mut now = Mono(1);
        for pause_us in [PAUSE_FIRST_US, 2 * PAUSE_FIRST_US, 4 * PAUSE_FIRST_US] {
            assert_eq!(
                run_until_ended(&mut supervised, "/bin/false", now).code(),
                Some(1)
            );
            assert_eq!(supervised.start_at, now.plus_us(pause_us));
            supervised
                .handle_time(now, &PathBuf::from("/bin/false"), &[])
                .unwrap();
            assert!(supervised.child.is_none());
            now = supervised.start_at;
        }
        for _ in 0..20 {
            run_until_ended(&mut supervised, "/bin/true", now);
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
    fn a_program_that_is_absent_is_an_error() {
        let mut supervised = one(Role::Receive);
        assert!(
            supervised
                .handle_time(Mono(0), &PathBuf::from("/nonexistent"), &[])
                .is_err()
        );
    }
}
