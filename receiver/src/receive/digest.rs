//! Thread 3: hashes larger containers while they grow and pushes them to the disk, so that little is left to do when the
//! last block has come, and no small container waits for a large one's pages.
//!
//! A block that comes in its turn is hashed from the memory in which it was rebuilt; the others are read back.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvError, SyncSender};
use valise_common::limits;

use nix::fcntl::OFlag;
use valise_common::wire::SetId;

use super::assemble::Input;
use super::publish::Delivery;
use crate::pipeline::Finished;
use crate::spool::assembly::data_path;
use crate::steps::fec::SourceBlock;
use crate::steps::reassemble::{ContainerHasher, Verdict};

/// Bytes that are read at a time: they are hashed while the cache holds them.
const READ_BYTES: usize = 256 << 10;

/// One generation of a set, from its first block on. A set that was discarded and is collected again has another: what was
/// hashed of the first one's file says nothing about the second one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(pub u64);

/// How far a container has grown.
#[derive(Debug)]
pub(super) enum HashJob {
    /// A block has been written, and is still in memory; it goes back by [`Input::Returned`].
    Block {
        /// The set.
        set: SetId,
        /// Which generation of it.
        generation: Generation,
        /// The block.
        block: Box<SourceBlock>,
    },
    /// It is there up to here: a hint.
    Prefix {
        /// The set.
        set: SetId,
        /// Which generation of it.
        generation: Generation,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// It is whole: to be judged.
    Whole {
        /// The set.
        set: SetId,
        /// Which generation of it.
        generation: Generation,
    },
}

/// The digest, and what it has begun.
pub(super) struct Digest {
    assembly: PathBuf,
    job: Receiver<HashJob>,
    publish: SyncSender<Delivery>,
    assembler: SyncSender<Input>,
    hashing: BTreeMap<Generation, Hashing>,
    /// Hints: how far files have grown.
    prefixes: BTreeMap<Generation, (SetId, u64)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Hashing {
    file: File,
    hasher: ContainerHasher,
}

impl Digest {
    /// Hashes files below `assembly`, as `jobs` say, for the publisher and the assembler.
    pub(super) fn new(
        assembly: PathBuf,
        job: Receiver<HashJob>,
        publish: SyncSender<Delivery>,
        assembler: SyncSender<Input>,
    ) -> Self {
        Self {
            assembly,
            job,
            publish,
            assembler,
            hashing: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Works until the assembler has ended and everything is done.
    ///
    /// # Errors
    /// The system's, and if another thread has ended before.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            while self.turn()? {}
            match self.job.recv() {
                Ok(job) => self.take(job)?,
                Err(RecvError) => return Ok(()),
            }
        }
    }

    /// Does one piece of work, if there is any; returns whether there was. Hints wait until there is nothing to be judged.
    ///
    /// # Errors
    /// As [`Digest::run`].
    pub(super) fn turn(&mut self) -> io::Result<bool> {
        if let Ok(job) = self.job.try_recv() {
            self.take(job)?;
            return Ok(true);
        }
        let Some((generation, (set, bytes))) = self.prefixes.pop_first() else {
            return Ok(false);
        };
        self.advance(&set, generation, bytes)?;
        Ok(true)
    }

    fn take(&mut self, job: HashJob) -> io::Result<()> {
        match job {
            HashJob::Block {
                set,
                generation,
                block,
            } => {
                self.take_block(&set, generation, &block)?;
                // When the assembler has ended, nobody needs the memory.
                let _ = self.assembler.send(Input::Returned(block));
            }
            HashJob::Prefix {
                set,
                generation,
                bytes,
            } => {
                self.prefixes.insert(generation, (set, bytes));
            }
            HashJob::Whole { set, generation } => {
                self.prefixes.remove(&generation);
                let begun = self.hashing.remove(&generation);
                self.judge(&set, begun)?;
            }
        }
        Ok(())
    }

    /// Hashes a block that continues what has been hashed of its container.
    fn take_block(
        &mut self,
        set: &SetId,
        generation: Generation,
        block: &SourceBlock,
    ) -> io::Result<()> {
        let start = set.geometry.block_range(block.shape()).start;
        if start > 0 && !self.hashing.contains_key(&generation) {
            return Ok(());
        }
        if let Some(begun) = self.begin(set, generation)?
            && begun.hasher.hashed_bytes() == start
        {
            begun.hasher.update(block.bytes());
        }
        Ok(())
    }

    /// Hashes a container as far as it is there, and starts its way to the disk.
    fn advance(&mut self, set: &SetId, generation: Generation, bytes: u64) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(begun) = self.begin(set, generation)? {
            begun.file.sync_data()?;
            begun.hash_up_to(bytes, &mut buffer)?;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// What has been hashed of a container, or its beginning; nothing if the set has been discarded.
    fn begin(&mut self, set: &SetId, generation: Generation) -> io::Result<Option<&mut Hashing>> {
        if !self.hashing.contains_key(&generation) {
            let file = match self.open(set) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if self.hashing.len() >= limits::CONTAINERS_HASHING_MAX {
                self.hashing.pop_first();
            }
            self.hashing.insert(generation, Hashing::new(file));
        }
        Ok(self.hashing.get_mut(&generation))
    }

    fn judge(&mut self, set: &SetId, begun: Option<Hashing>) -> io::Result<()> {
        let length = set.geometry.container_bytes();
        let mut hashing = match begun {
            Some(begun) => begun,
            None => match self.open(set) {
                Ok(file) => Hashing::new(file),
                // The set has been discarded meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let from_start = hashing.hasher.hashed_bytes() == 0;
        hashing.hash_up_to(length, &mut self.buffer)?;
        let mut verdict = hashing.hasher.verdict(&set.container);
        if verdict == Verdict::Poisoned && !from_start {
            // What was hashed early may have been written again since: from the start.
            hashing = Hashing::new(self.open(set)?);
            hashing.hash_up_to(length, &mut self.buffer)?;
            verdict = hashing.hasher.verdict(&set.container);
        }
        match verdict {
            Verdict::Intact(hash) => {
                // The file is read by release, whose user is another one in production.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::sync_channel;

    use valise_common::fec::{BlockBuffer, Codec, Geometry};
    use valise_common::ids::{ContainerHash, Serial};

    use super::*;
    use crate::steps::fec::Rebuilder;

    /// Bytes of a container of three blocks.
    const LENGTH: usize = 1_264 + 2_048 + 16;

    fn container() -> (SetId, Vec<u8>) {
        let bytes: Vec<u8> = (0..LENGTH).map(|n| (n * 31 + n / 977) as u8).collect();
        let hash = ContainerHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        let set = SetId {
            serial: Serial::FIRST,
            container: hash.id(),
            geometry: Geometry::new(LENGTH as u64, Codec::Rs8, 20, 4, 64).unwrap(),
        };
        (set, bytes)
    }

    fn block(set: &SetId, bytes: &[u8], number: u32) -> Box<SourceBlock> {
        let geometry = &set.geometry;
        let shape = geometry.block(number).unwrap();
        let mut padded = bytes.to_vec();
        padded.resize(LENGTH.next_multiple_of(64), 0);
        let mut buffer = BlockBuffer::new(geometry, &shape);
        for (index, symbol) in (0..shape.k).zip(padded.chunks(64).skip(shape.first_symbol as usize))
        {
            buffer.insert(index, symbol);
        }
        Box::new(Rebuilder::default().rebuild(geometry, buffer).unwrap())
    }

    fn write(root: &Path, set: &SetId, bytes: &[u8]) {
        let path = data_path(root, set);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(path, bytes).unwrap();
    }

    /// What the digest delivers and reports of these messages.
    fn run(root: &Path, jobs: Vec<HashJob>) -> (Vec<Delivery>, Vec<Input>) {
        let (grow, job) = sync_channel(limits::HASH_JOBS_MAX);
        let (publish, deliveries) = sync_channel(limits::HASH_JOBS_MAX);
        let (assembler, inputs) = sync_channel(limits::HASH_JOBS_MAX);
        for job in jobs {
            grow.send(job).unwrap();
        }
        drop(grow);
        let digest = Digest::new(root.to_path_buf(), job, publish, assembler);
        digest.run().unwrap();
        (deliveries.iter().collect(), inputs.iter().collect())
    }

    fn poisoned(inputs: &[Input]) -> usize {
        let poisoned = |input: &&Input| {
            matches!(
                input,
                Input::Finished(_, Finished::Judged(Verdict::Poisoned))
            )
        };
        inputs.iter().filter(poisoned).count()
    }

    #[test]
    fn blocks_in_their_turn_and_others_make_the_same_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let (set, bytes) = container();
        write(folder.path(), &set, &bytes);
        for order in [vec![0, 1, 2], vec![0, 2, 1], vec![2, 1, 0], vec![]] {
            let generation = Generation(7);
            let mut jobs: Vec<HashJob> = order
                .iter()
                .map(|number| HashJob::Block {
                    set,
                    generation,
                    block: block(&set, &bytes, *number),
                })
                .collect();
            jobs.push(HashJob::Whole { set, generation });
            let (deliveries, inputs) = run(folder.path(), jobs);
            assert!(matches!(deliveries[..], [Delivery::File { .. }]));
            let back = |input: &&Input| matches!(input, Input::Returned(_));
            assert_eq!(inputs.iter().filter(back).count(), order.len());
            assert_eq!(poisoned(&inputs), 0);
        }
    }

    #[test]
    fn what_was_hashed_of_a_discarded_collecting_says_nothing_about_the_next_ones_file() {
        let folder = tempfile::tempdir().unwrap();
        let (set, bytes) = container();
        let mut forged = bytes.clone();
        forged[5] ^= 1;
        // The genuine block was written to a file that is gone by the time that the digest looks.
        write(folder.path(), &set, &forged);
        let in_flight = |generation, number| HashJob::Block {
            set,
            generation: Generation(generation),
            block: block(&set, &bytes, number),
        };
        let generation = Generation(2);
        let jobs = vec![
            in_flight(1, 0),
            in_flight(2, 1),
            in_flight(2, 2),
            HashJob::Whole { set, generation },
        ];
        let (deliveries, inputs) = run(folder.path(), jobs);
        assert!(deliveries.is_empty());
        assert_eq!(poisoned(&inputs), 1);
    }

    #[test]
    fn a_set_that_is_gone_is_not_judged() {
        let folder = tempfile::tempdir().unwrap();
        let (set, _) = container();
        let generation = Generation(1);
        let (deliveries, inputs) = run(folder.path(), vec![HashJob::Whole { set, generation }]);
        assert!(deliveries.is_empty() && inputs.is_empty());
    }
}
