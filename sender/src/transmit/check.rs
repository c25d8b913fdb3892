//! Compares large containers with their hashes, usually on a thread of its own, before anything of them leaves: a container that the
//! disk has changed would be rebuilt, found forged and discarded at the other end, pass after pass.
//!
//! The most urgent container goes on first, in small steps, so that a FLASH cable never waits for a larger one. Small
//! containers are compared where they are opened: see [`super::load`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use valise_common::host::worker::Threading;
use valise_common::ids::{ContainerHash, Serial};
use valise_common::precedence::Precedence;

use super::watch::name_of;
use crate::pipeline::Sealed;
use crate::spool::outbox::{Outbox, OutboxError};

/// Bytes that are read at a time: they are hashed while the cache holds them.
const READ_BYTES: usize = 256 << 10;

/// Bytes of one container that are compared before a more urgent one may go first: some milliseconds.
const STEP_BYTES: u64 = 4 << 20;

/// What became of a comparison.
#[derive(Debug)]
pub(super) enum Compared {
    /// The file is what gate sealed.
    Intact,
    /// Gate has deleted it.
    Gone,
    /// It is not what gate sealed, or cannot be read.
    Unfit(OutboxError),
}

/// The comparison, as the sending thread sees it.
pub(super) struct Checker {
    shared: Arc<Shared>,
    wake: PipeReader,
    /// Compares on the caller's thread, if there is no other.
    here: Option<Comparing>,
}

/// The comparison.
struct Comparing {
    outbox: Outbox,
    waker: PipeWriter,
    begun: BTreeMap<(Precedence, Serial), Hashing>,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    something: Condvar,
}

/// # Bounds
/// One entry for each container of the outbox.
#[derive(Default)]
struct State {
    wanted: BTreeMap<(Precedence, Serial), Sealed>,
    done: Vec<(Sealed, Compared)>,
    over: bool,
}

struct Hashing {
    file: File,
    hasher: blake3::Hasher,
    hash: ContainerHash,
}

impl Checker {
    /// Makes the comparison, and its thread if it has one.
    ///
    /// # Errors
    /// If the system has no thread or descriptor left.
    pub(super) fn start(threading: Threading, outbox: Outbox) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (wake, waker) = io::pipe()?;
        let comparing = Comparing {
            outbox,
            waker,
            begun: BTreeMap::new(),
            buffer: vec![0; READ_BYTES],
        };
        let here = match threading {
            Threading::Caller => Some(comparing),
            Threading::Beside => {
                let theirs = Arc::clone(&shared);
                thread::Builder::new()
                    .name("check".to_owned())
                    .spawn(move || work(&theirs, comparing))?;
                None
            }
        };
        Ok(Self { shared, wake, here })
    }

    /// Has a container compared. One that is being compared already goes on.
    ///
    /// # Errors
    /// If the descriptor cannot be written.
    pub(super) fn add(&mut self, sealed: Sealed) -> io::Result<()> {
        let key = (sealed.precedence, sealed.serial);
        lock(&self.shared.state).wanted.insert(key, sealed);
        match &mut self.here {
            None => self.shared.something.notify_one(),
            Some(comparing) => while comparing.step(&self.shared)? {},
        }
        Ok(())
    }

    /// Forgets a container that gate has deleted.
    pub(super) fn forget(&self, precedence: Precedence, serial: Serial) {
        lock(&self.shared.state)
            .wanted
            .remove(&(precedence, serial));
    }

    /// Takes what has been compared.
    ///
    /// # Errors
    /// If the descriptor cannot be read.
    pub(super) fn take(&mut self) -> io::Result<Vec<(Sealed, Compared)>> {
        let done = std::mem::take(&mut lock(&self.shared.state).done);
        // The thread writes one byte for each, after it has put it there; it may come a moment later.
        let mut bytes = vec![0; done.len()];
        self.wake.read_exact(&mut bytes)?;
        Ok(done)
    }
}

impl AsFd for Checker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        lock(&self.shared.state).over = true;
        self.shared.something.notify_one();
    }
}

/// Locks. A thread that panicked while it held the lock left plain data behind, whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(shared: &Shared, mut comparing: Comparing) {
    loop {
        let mut state = lock(&shared.state);
        while state.wanted.is_empty() && !state.over {
            let woken = shared.something.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let is_over = state.over;
        drop(state);
        if is_over || comparing.step(shared).is_err() {
            return;
        }
    }
}

impl Comparing {
    /// Goes on with the most urgent container; returns whether there was one.
    ///
    /// # Errors
    /// If the descriptor cannot be written.
    fn step(&mut self, shared: &Shared) -> io::Result<bool> {
        let state = lock(&shared.state);
        self.begun.retain(|key, hashing| {
            let wanted = state.wanted.get(key);
            wanted.is_some_and(|sealed| sealed.hash == hashing.hash)
        });
        let Some((key, sealed)) = state.wanted.first_key_value().map(|(k, s)| (*k, *s)) else {
            return Ok(false);
        };
        drop(state);
        let compared = compare(&self.outbox, &sealed, &mut self.begun, &mut self.buffer);
        let Some(compared) = compared else {
            return Ok(true);
        };
        self.begun.remove(&key);
        let mut state = lock(&shared.state);
        // It may have been deleted, or come with another hash, meanwhile. Passes that were asked for since are its own.
        let now_wanted = state.wanted.get(&key).copied();
        if let Some(now_wanted) = now_wanted.filter(|now| now.hash == sealed.hash) {
            state.wanted.remove(&key);
            state.done.push((now_wanted, compared));
            drop(state);
            self.waker.write_all(&[0])?;
        }
        Ok(true)
    }
}

/// Goes on with a container; `None` if more of it is left.
fn compare(
    outbox: &Outbox,
    sealed: &Sealed,
    begun: &mut BTreeMap<(Precedence, Serial), Hashing>,
    buffer: &mut [u8],
) -> Option<Compared> {
    let key = (sealed.precedence, sealed.serial);
    if let std::collections::btree_map::Entry::Vacant(place) = begun.entry(key) {
        let file = match outbox.open(&name_of(sealed), &sealed.geometry) {
            Ok(Some(file)) => file,
            Ok(None) => return Some(Compared::Gone),
            Err(error) => return Some(Compared::Unfit(error)),
        };
        place.insert(Hashing {
            file,
            hasher: blake3::Hasher::new(),
            hash: sealed.hash,
        });
    }
    let hashing = begun.get_mut(&key)?;
    let mut left = STEP_BYTES;
    while left > 0 {
        match hashing.file.read(buffer) {
            Ok(0) => return Some(verdict(sealed, &hashing.hasher)),
            Ok(count) => {
                hashing.hasher.update(&buffer[..count]);
                left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(Compared::Unfit(error.into())),
        }
    }
    None
}

fn verdict(sealed: &Sealed, hasher: &blake3::Hasher) -> Compared {
    let found = ContainerHash::from_bytes(*hasher.finalize().as_bytes());
    match found == sealed.hash {
        true => Compared::Intact,
        false => Compared::Unfit(OutboxError::Hash {
            serial: sealed.serial,
        }),
    }
}

/// Compares a small container, whole and at once.
///
/// # Errors
/// [`OutboxError::Hash`] if it is not what gate sealed, or the system's.
pub(super) fn compare_now(file: &File, sealed: &Sealed) -> Result<(), OutboxError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    match verdict(sealed, &hasher) {
        Compared::Unfit(error) => Err(error),
        Compared::Intact | Compared::Gone => Ok(()),
    }
}
