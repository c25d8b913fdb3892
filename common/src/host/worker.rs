//! Tasks that take long, one after another beside a role's loop: no FLASH cable waits for one.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The loop's descriptor, in the hands of the thread.
struct Waker(Arc<EventFd>);

impl Waker {
    fn wake(&self) {
        // A full counter wakes the loop too.
        let _ = self.0.write(1);
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The thread that performs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threading {
    /// A thread of its own, for a loop that must not wait.
    Beside,
    /// The caller's, at once: for a command that does one thing, and where every step must come in one order.
    Caller,
}

/// Performs tasks, one at a time.
pub struct Worker<T, D> {
    way: Way<T, D>,
    busy: bool,
}

enum Way<T, D> {
    Beside {
        tasks: SyncSender<T>,
        done: Receiver<D>,
        wake: Arc<EventFd>,
    },
    Caller {
        perform: Box<dyn FnMut(T) -> D + Send>,
        done: Option<D>,
        wake: EventFd,
    },
}

impl<T, D> fmt::Debug for Worker<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static, D: Send + 'static> Worker<T, D> {
    /// Makes a worker, and the thread of that name if it has one.
    ///
    /// # Errors
    /// If the system gives no thread or descriptor.
    pub fn start(
        threading: Threading,
        name: &str,
        mut perform: impl FnMut(T) -> D + Send + 'static,
    ) -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        let way = match threading {
            Threading::Caller => Way::Caller {
                perform: Box::new(perform),
                done: None,
                wake,
            },
            Threading::Beside => {
                let wake = Arc::new(wake);
                let waker = Waker(Arc::clone(&wake));
                let (tasks, todo) = sync_channel(1);
                let (ready, done) = sync_channel(1);
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || {
                        // Dropped in the other order: an end of this thread can be seen when it wakes the loop.
                        let waker = waker;
                        let ready = ready;
                        // Either end closes when the process ends.
                        while let Ok(task) = todo.recv() {
                            if ready.send(perform(task)).is_err() {
                                return;
                            }
                            waker.wake();
                        }
                    })?;
                Way::Beside { tasks, done, wake }
            }
        };
        Ok(Self { way, busy: false })
    }

    /// Returns whether a task is under way, or its result was not taken yet.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands over a task; the worker must not be busy.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn give(&mut self, task: T) -> io::Result<()> {
        assert!(!self.busy, "one task at a time");
        self.busy = true;
        match &mut self.way {
            Way::Beside { tasks, .. } => tasks.send(task).map_err(|_| gone()),
            Way::Caller {
                perform,
                done,
                wake,
            } => {
                *done = Some(perform(task));
                wake.write(1)?;
                Ok(())
            }
        }
    }

    /// Returns a result, once the descriptor was readable.
    ///
    /// # Errors
    /// If the thread is gone, which ends the process.
    pub fn take(&mut self) -> io::Result<Option<D>> {
        let taken = match &mut self.way {
            Way::Beside { done, wake, .. } => {
                // An empty descriptor is not an error: an earlier look may have taken the wake-up.
                let _ = wake.read();
                match done.try_recv() {
                    Ok(done) => Some(done),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return Err(gone()),
                }
            }
            Way::Caller { done, wake, .. } => {
                let _ = wake.read();
                done.take()
            }
        };
        self.busy &= taken.is_none();
        Ok(taken)
    }
}

impl<T, D> AsFd for Worker<T, D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Beside { wake, .. } => wake.as_fd(),
            Way::Caller { wake, .. } => wake.as_fd(),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread for long tasks ended")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn each_task_has_its_result_on_either_thread() {
        for threading in [Threading::Beside, Threading::Caller] {
            let mut worker = Worker::start(threading, "test", |task: u32| task + 1).unwrap();
            for task in 0..100 {
                assert_eq!(worker.take().unwrap(), None);
                worker.give(task).unwrap();
                assert!(worker.is_busy());
                let mut ready = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
                poll(&mut ready, PollTimeout::NONE).unwrap();
                assert_eq!(worker.take().unwrap(), Some(task + 1));
                assert!(!worker.is_busy());
            }
        }
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error() {
        let perform = |()| -> () { panic!("as a bug of ours would") };
        let mut worker = Worker::start(Threading::Beside, "test", perform).unwrap();
        worker.give(()).unwrap();
        let mut ready = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::NONE).unwrap();
        let error = worker.take().unwrap_err();
        assert!(error.to_string().contains("ended"), "{error}");
    }
}
