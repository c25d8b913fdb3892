//! Signals as something to poll, so that no handler interrupts anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT: finish what is durable and end.
    Stop,
    /// SIGHUP: read what may have changed.
    Reload,
    /// SIGCHLD: a supervised process ended.
    Child,
}

/// A descriptor that becomes readable when a signal is pending.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP and takes them over.
    ///
    /// To be called before any thread starts: only threads that inherit the mask leave the signals
    /// to the descriptor.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::of(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
    }

    /// Like [`Signals::new`], and SIGCHLD besides, for a supervisor.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub(crate) fn with_children() -> io::Result<Self> {
        Self::of(&[
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ])
    }

    fn of(signals: &[Signal]) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in signals {
            mask.add(*signal);
        }
        mask.thread_block()?;
        let descriptor =
            SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor })
    }

    /// Takes one pending signal; to be repeated until `None`.
    ///
    /// # Errors
    /// If the descriptor cannot be read.
    pub fn take(&self) -> io::Result<Option<Asked>> {
        let Some(information) = self.descriptor.read_signal()? else {
            return Ok(None);
        };
        let signal = i32::try_from(information.ssi_signo).map_err(io::Error::other)?;
        Ok(match Signal::try_from(signal)? {
            Signal::SIGHUP => Some(Asked::Reload),
            Signal::SIGCHLD => Some(Asked::Child),
            _ => Some(Asked::Stop),
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Starts a command with no signal blocked.
///
/// A child inherits the mask of the thread that starts it, and most programs cannot be ended while
/// SIGTERM is blocked. The mask is lifted for the call alone; a signal that comes just then ends
/// this process at once, as any crash may.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn_unmasked(command: &mut Command) -> io::Result<Child> {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

/// Asks the kernel to send SIGTERM to this process when the thread that started it ends.
///
/// # Errors
/// If the kernel does not know the call.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn raise_here(signal: Signal) {
        // To this thread alone, as raise(3) does: other tests of the process do not block the
        // signal.
        nix::sys::signal::raise(signal).unwrap();
    }

    #[test]
    fn pending_signals_are_taken_one_by_one() {
        let signals = Signals::new().unwrap();
        assert_eq!(signals.take().unwrap(), None);
        raise_here(Signal::SIGTERM);
        raise_here(Signal::SIGHUP);
        let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(5000_u16)).unwrap(), 1);
        let mut taken = [
            signals.take().unwrap().unwrap(),
            signals.take().unwrap().unwrap(),
        ];
        taken.sort_by_key(|asked| *asked as u8);
        assert_eq!(taken, [Asked::Stop, Asked::Reload]);
        assert_eq!(signals.take().unwrap(), None);
    }

    #[test]
    fn a_child_started_unmasked_can_be_terminated() {
        let _signals = Signals::new().unwrap();
        let mut child = spawn_unmasked(Command::new("sleep").arg("600")).unwrap();
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(id, Signal::SIGTERM).unwrap();
        assert!(!child.wait().unwrap().success());
        let mask = SigSet::thread_get_mask().unwrap();
        assert!(
            mask.contains(Signal::SIGTERM),
            "the mask of the caller is back"
        );
    }
}
