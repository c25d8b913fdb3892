//! Thread 3: hashes larger containers while they grow and pushes them to the disk, so that little is left to do when the
//! last block has come, and no small container waits behind a large one's pages.
//!
//! A block that comes in its turn is hashed from the memory in which it was rebuilt; the others are read back.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};

use nix::fcntl::OFlag;
use valise_common::wire::SetId;

use super::assemble::Input;
use super::publish::Delivery;
use crate::io::assembly::data_path;
use crate::pipeline::Finished;
use crate::stage::fec::SourceBlock;
use crate::stage::reassemble::{ContainerHasher, SETS_MAX, Verdict};

/// Messages that may wait: an order for every set that may be being finished, blocks that are lent, and hints.
pub const GROWTHS_MAX: usize = SETS_MAX + LENT_MAX + 64;

/// Blocks that the assembler lends at a time. Interleaved blocks become whole nearly together, some dozen of them.
pub const LENT_MAX: usize = 64;

/// Containers that are being hashed at a time.
const HASHING_MAX: usize = 8;

/// Bytes that are read at a time: they are hashed while the cache holds them.
const READ_BYTES: usize = 256 << 10;

/// How far a container has grown.
#[derive(Debug)]
pub enum Growth {
    /// A block has been written, and is still in memory; it goes back by [`Input::Returned`].
    Block {
        /// The set.
        set: SetId,
        /// The block.
        block: Box<SourceBlock>,
    },
    /// It is there up to here: a hint.
    Prefix {
        /// The set.
        set: SetId,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// It is whole: to be judged.
    Whole {
        /// The set.
        set: SetId,
    },
}

/// The thread's end of everything.
pub struct Digest {
    /// The folder of the sets.
    pub assembly: PathBuf,
    /// What comes.
    pub growth: Receiver<Growth>,
    /// Where intact containers go.
    pub publish: SyncSender<Delivery>,
    /// Where the others are reported.
    pub assembler: SyncSender<Input>,
}

#[derive(Debug)]
struct Hashing {
    file: File,
    hasher: ContainerHasher,
}

impl Digest {
    /// Works until nobody has anything more to hash.
    ///
    /// # Errors
    /// If a file cannot be read, or its sync fails.
    pub fn run(self) -> io::Result<()> {
        let mut hashing: BTreeMap<SetId, Hashing> = BTreeMap::new();
        let mut prefixes: BTreeMap<SetId, u64> = BTreeMap::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // Hints wait until there is nothing to be judged.
            let next = match prefixes.is_empty() {
                true => self.growth.recv().ok(),
                false => self.growth.try_recv().ok(),
            };
            match next {
                Some(Growth::Block { set, block }) => {
                    self.take_block(&mut hashing, &set, &block)?;
                    // When the assembler has ended, nobody needs the memory.
                    let _ = self.assembler.send(Input::Returned(block));
                }
                Some(Growth::Prefix { set, bytes }) => {
                    prefixes.insert(set, bytes);
                }
                Some(Growth::Whole { set }) => {
                    prefixes.remove(&set);
                    let begun = hashing.remove(&set);
                    self.judge(&set, begun, &mut buffer)?;
                }
                None => match prefixes.pop_first() {
                    Some((set, bytes)) => self.advance(&mut hashing, &set, bytes, &mut buffer)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Hashes a block that continues what has been hashed of its container.
    fn take_block(
        &self,
        hashing: &mut BTreeMap<SetId, Hashing>,
        set: &SetId,
        block: &SourceBlock,
    ) -> io::Result<()> {
        let start = set.geometry.block_range(block.shape()).start;
        if start == 0 {
            // What is begun is of a set that was discarded.
            hashing.remove(set);
        } else if !hashing.contains_key(set) {
            return Ok(());
        }
        if let Some(begun) = self.begin(hashing, set)?
            && begun.hasher.hashed_bytes() == start
        {
            begun.hasher.update(block.bytes());
        }
        Ok(())
    }

    /// Hashes a container as far as it is there, and starts its way to the disk.
    fn advance(
        &self,
        hashing: &mut BTreeMap<SetId, Hashing>,
        set: &SetId,
        bytes: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let Some(begun) = self.begin(hashing, set)? else {
            return Ok(());
        };
        begun.file.sync_data()?;
        begun.hash_up_to(bytes, buffer)
    }

    /// What has been hashed of a container, or its beginning; nothing if the set has been discarded.
    fn begin<'h>(
        &self,
        hashing: &'h mut BTreeMap<SetId, Hashing>,
        set: &SetId,
    ) -> io::Result<Option<&'h mut Hashing>> {
        if !hashing.contains_key(set) {
            let file = match self.open(set) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if hashing.len() >= HASHING_MAX {
                hashing.pop_first();
            }
            hashing.insert(*set, Hashing::new(file));
        }
        Ok(hashing.get_mut(set))
    }

    fn judge(&self, set: &SetId, begun: Option<Hashing>, buffer: &mut [u8]) -> io::Result<()> {
        let length = set.geometry.container_bytes();
        let file = self.open(set)?;
        // Hashed memory speaks for the file that it was written to, and for no other that has the same name by now.
        let mut hashing = match begun {
            Some(begun) if begun.is_of(&file)? => begun,
            _ => Hashing::new(file),
        };
        let from_start = hashing.hasher.hashed_bytes() == 0;
        hashing.hash_up_to(length, buffer)?;
        let mut verdict = hashing.hasher.verdict(&set.container);
        if verdict == Verdict::Poisoned && !from_start {
            // What was hashed early may have been written again since: from the start.
            hashing = Hashing::new(self.open(set)?);
            hashing.hash_up_to(length, buffer)?;
            verdict = hashing.hasher.verdict(&set.container);
        }
        match verdict {
            Verdict::Intact(hash) => {
                // The file is read by the process behind the inbox, whose user is another one in production.
                hashing
                    .file
                    .set_permissions(Permissions::from_mode(0o640))?;
                hashing.file.sync_all()?;
                let delivery = Delivery::File { set: *set, hash };
                self.publish.send(delivery).map_err(|_| gone())
            }
            Verdict::Poisoned => {
                let finished = Finished::Judged(Verdict::Poisoned);
                // When the assembler has ended, start-up judges the set again.
                let _ = self.assembler.send(Input::Finished(*set, finished));
                Ok(())
            }
        }
    }

    fn open(&self, set: &SetId) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(data_path(&self.assembly, set))
    }
}

impl Hashing {
    fn new(file: File) -> Self {
        Self {
            file,
            hasher: ContainerHasher::default(),
        }
    }

    /// Whether this file is the one that was hashed. It is open since, so no other can have its number.
    fn is_of(&self, file: &File) -> io::Result<bool> {
        Ok(self.file.metadata()?.ino() == file.metadata()?.ino())
    }

    fn hash_up_to(&mut self, end: u64, buffer: &mut [u8]) -> io::Result<()> {
        while self.hasher.hashed_bytes() < end {
            let left = usize::try_from(end - self.hasher.hashed_bytes()).unwrap_or(usize::MAX);
            let length = left.min(buffer.len());
            let read = self
                .file
                .read_at(&mut buffer[..length], self.hasher.hashed_bytes())?;
            if read == 0 {
                // Shorter than it should be: the hash will tell.
                return Ok(());
            }
            self.hasher.update(&buffer[..read]);
        }
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("another thread of this process has failed")
}
