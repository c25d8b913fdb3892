//! The roles of a host as children of one process, for a PC: when one ends, all end. In production each role is a unit of the
//! service manager, which starts it again, with a user of its own.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use super::folders::Role;
use crate::os::clock::mono_now;
use crate::os::sandbox::note_breach;
use crate::os::service::{self, SUPERVISOR_VARIABLE};
use crate::os::signals::{Asked, Signals, end_with_parent, spawn_unmasked};
use crate::units::Mono;

/// The exit status of a wrong configuration.
const WRONG_CONFIGURATION: i32 = 2;

/// Time that children may take to end before they are killed; they are safe against that at any moment.
const STOPPING_US: u64 = 20_000_000;

/// The reason why the supervisor ended although nobody asked for it.
#[derive(Debug, Error)]
pub enum SuperviseError {
    /// The system failed.
    #[error("{role} cannot be supervised: {source}")]
    Io {
        /// Whose child.
        role: Role,
        /// The system's answer.
        source: io::Error,
    },
    /// A child found the configuration wrong, and has reported on standard error what.
    #[error(
        "{role} cannot work with this configuration, as it says above; nothing is left running"
    )]
    Configuration {
        /// Whose child.
        role: Role,
    },
    /// A child ended, and has reported on standard error why if it could.
    #[error("{role} ended ({status}); nothing is left running")]
    Ended {
        /// Whose child.
        role: Role,
        /// Its exit status, or the signal that ended it.
        status: ExitStatus,
    },
}

/// A child.
struct Supervised {
    role: Role,
    /// Where an end by a forbidden call is noted.
    breaches: PathBuf,
    child: Child,
    /// The end of the child has been noted.
    is_noted: bool,
}

/// Runs `program` once for each role, with the role's word and `arguments`, until a signal asks to stop or a role ends.
/// Beside each role is the file that notes its ends by forbidden calls.
///
/// To be called before any thread starts.
///
/// # Errors
/// [`SuperviseError`]; all children have ended by then.
pub(crate) fn supervise(
    program: &Path,
    roles: &[(Role, PathBuf)],
    arguments: &[OsString],
) -> Result<(), SuperviseError> {
    let first = roles.first().map_or(Role::Gate, |(role, _)| *role);
    let signals = Signals::with_children().map_err(|source| SuperviseError::Io {
        role: first,
        source,
    })?;
    let mut children = Vec::new();
    let result = start(program, roles, arguments, &mut children)
        .and_then(|()| await_end(&signals, &mut children));
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
    // The supervisor may have ended before the kernel was asked.
    if parent != OsString::from(parent_id().to_string()) {
        return Err(io::Error::other("the supervisor ended"));
    }
    Ok(())
}

fn start(
    program: &Path,
    roles: &[(Role, PathBuf)],
    arguments: &[OsString],
    children: &mut Vec<Supervised>,
) -> Result<(), SuperviseError> {
    for (role, breaches) in roles {
        let mut command = Command::new(program);
        command
            .arg(role.as_str())
            .args(arguments)
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null());
        let child = spawn_unmasked(&mut command);
        let child = child.map_err(|source| SuperviseError::Io {
            role: *role,
            source,
        })?;
        children.push(Supervised {
            role: *role,
            breaches: breaches.clone(),
            child,
            is_noted: false,
        });
    }
    service::ready();
    Ok(())
}

fn await_end(signals: &Signals, children: &mut [Supervised]) -> Result<(), SuperviseError> {
    loop {
        // Looked at whether a signal reported it or not: one that comes while another child is started, with no signal blocked,
        // is lost.
        let ended = check_all(children);
        if ended.is_err() && is_asked_to_stop(signals) {
            // Whoever stopped `run` stopped its children too.
            return Ok(());
        }
        ended?;
        if wait(signals, None).is_err() {
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

/// Checks that every child runs. A wrong configuration goes before other causes: starting again would not help.
///
/// # Errors
/// How a child ended.
fn check_all(children: &mut [Supervised]) -> Result<(), SuperviseError> {
    let ends = children.iter_mut().map(Supervised::check);
    let mut ends: Vec<SuperviseError> = ends.filter_map(Result::err).collect();
    let wrong = |end: &SuperviseError| matches!(end, SuperviseError::Configuration { .. });
    let first = ends.iter().position(wrong).unwrap_or(0);
    match first < ends.len() {
        true => Err(ends.swap_remove(first)),
        false => Ok(()),
    }
}

/// Returns whether a signal asks to stop.
fn is_asked_to_stop(signals: &Signals) -> bool {
    std::iter::from_fn(|| signals.take().ok().flatten()).any(|asked| asked == Asked::Stop)
}

impl Supervised {
    /// Checks that the child runs, and notes an end by a forbidden call.
    ///
    /// # Errors
    /// How the child ended.
    fn check(&mut self) -> Result<(), SuperviseError> {
        let Ok(Some(status)) = self.child.try_wait() else {
            return Ok(());
        };
        let role = self.role;
        self.note_end(status);
        match status.code() {
            Some(WRONG_CONFIGURATION) => Err(SuperviseError::Configuration { role }),
            _ => Err(SuperviseError::Ended { role, status }),
        }
    }

    /// Reports the end of the child, and notes one by a forbidden call.
    fn note_end(&mut self, status: ExitStatus) {
        if std::mem::replace(&mut self.is_noted, true) {
            return;
        }
        let role = self.role;
        tracing::info!("{role} ended ({status})");
        if status.signal() == Some(libc::SIGSYS)
            && let Err(error) = note_breach(&self.breaches)
        {
            tracing::error!(
                "{role} made a forbidden system call, which could not be noted: {error}"
            );
        }
    }

    /// Returns whether the child has ended, and notes how.
    fn has_ended(&mut self) -> bool {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                self.note_end(status);
                true
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // A child that was not waited for still has its number; one that was gets no signal: see `stop`.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Waits for a signal, at most until this time.
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

fn stop(signals: &Signals, children: &mut Vec<Supervised>) {
    children.retain_mut(|one| !one.has_ended());
    children.iter().for_each(|one| one.signal(Signal::SIGTERM));
    let deadline = mono_now().plus_us(STOPPING_US);
    loop {
        children.retain_mut(|one| !one.has_ended());
        if children.is_empty() {
            return;
        }
        if mono_now() >= deadline || wait(signals, Some(deadline)).is_err() {
            break;
        }
        while let Ok(Some(_)) = signals.take() {}
    }
    for one in children {
        let _ = one.child.kill();
        let _ = one.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ended(script: &str, breaches: &Path) -> SuperviseError {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        let mut supervised = Supervised {
            role: Role::Gate,
            breaches: breaches.to_owned(),
            child: child.unwrap(),
            is_noted: false,
        };
        supervised.child.wait().unwrap();
        supervised.check().unwrap_err()
    }

    #[test]
    fn a_child_that_ends_ends_all_and_the_cause_is_told() {
        let nowhere = Path::new("/nonexistent");
        assert!(matches!(
            ended("exit 2", nowhere),
            SuperviseError::Configuration { role: Role::Gate }
        ));
        for (script, status) in [
            ("exit 0", "exit status: 0"),
            ("exit 3", "exit status: 3"),
            ("kill -KILL $$", "signal: 9"),
        ] {
            let text = ended(script, nowhere).to_string();
            assert!(text.contains(status), "{text}");
            assert!(text.ends_with("nothing is left running"), "{text}");
        }
    }

    #[test]
    fn an_end_by_a_forbidden_call_is_noted_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let breaches = folder.path().join("gate.forbidden-call");
        for (signal, count) in [("TERM", 0), ("SYS", 1), ("KILL", 1), ("SYS", 2)] {
            ended(&format!("kill -{signal} $$"), &breaches);
            let noted = std::fs::read_to_string(&breaches).unwrap_or_default();
            assert_eq!(noted.lines().count(), count, "{signal}");
        }
    }

    #[test]
    fn a_wrong_configuration_goes_before_another_cause_and_each_end_is_noted_once() {
        let folder = tempfile::tempdir().unwrap();
        let breaches = folder.path().join("forbidden-call");
        let child = |role, script: &str| {
            let child = Command::new("/bin/sh").args(["-c", script]).spawn();
            let mut supervised = Supervised {
                role,
                breaches: breaches.clone(),
                child: child.unwrap(),
                is_noted: false,
            };
            supervised.child.wait().unwrap();
            supervised
        };
        let mut children = [
            child(Role::Gate, "kill -SYS $$"),
            child(Role::Transmit, "exit 2"),
        ];
        assert!(matches!(
            check_all(&mut children).unwrap_err(),
            SuperviseError::Configuration {
                role: Role::Transmit
            }
        ));
        assert!(children.iter_mut().all(Supervised::has_ended));
        let noted = std::fs::read_to_string(&breaches).unwrap();
        assert_eq!(noted.lines().count(), 1);
    }

    #[test]
    fn a_program_that_is_absent_is_an_error() {
        let roles = [(Role::Receive, PathBuf::from("/nonexistent"))];
        let error = supervise(Path::new("/nonexistent"), &roles, &[]).unwrap_err();
        assert!(matches!(
            error,
            SuperviseError::Io {
                role: Role::Receive,
                ..
            }
        ));
    }
}
