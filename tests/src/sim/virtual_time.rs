//! Clocks that stand still, random bytes that follow from a seed, a `syncfs` that reaches a simulated disk, and a count of
//! the memory that is held.
//!
//! All of it is a library that a process is started with, so a simulation starts itself again: it makes a [`VirtualTime`],
//! sets [`VirtualTime::environment`] on a command for its own program, and finds it there by [`VirtualTime::inherited`].
//!
//! A thread draws the seeds of its hash maps once, with its first one. A simulation whose maps must be the same in each run
//! therefore has a thread of its own, which begins after [`VirtualTime::set_seed`].

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::gettid;

use crate::harness::{Context as _, Result, compile_library};

/// The variable that holds the path of the file that the library maps.
const FILE: &str = "VALISE_SIM_CLOCK";

// Offsets in that file, as virtual.c has them.
const SEED: u64 = 0;
const DRAWN: u64 = 8;
const UTC_US: u64 = 16;
const MONO_US: u64 = 24;
const COUNTED: u64 = 32;
const HELD: u64 = 40;
const HELD_MOST: u64 = 48;

/// Bytes of the file.
const FILE_BYTES: usize = 56;

/// The clocks and the random bytes of a process and of those that it starts.
#[derive(Debug)]
pub struct VirtualTime {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl VirtualTime {
    /// Compiles the library into a folder. Everything is real until a seed is set.
    ///
    /// # Errors
    /// If there is no C compiler, or the disk does not take it.
    pub fn make(folder: &Path) -> Result<Self> {
        let library = folder.join("virtual.so");
        let path = folder.join("virtual");
        compile_library("tests/src/sim/virtual.c", &library)?;
        fs::write(&path, [0; FILE_BYTES]).context("write", &path)?;
        Self::at(library, path)
    }

    /// Returns that of this process; none if it was started without.
    ///
    /// # Errors
    /// If the file has gone.
    pub fn inherited() -> Result<Option<Self>> {
        let (Some(library), Some(path)) = (env::var_os("LD_PRELOAD"), env::var_os(FILE)) else {
            return Ok(None);
        };
        Self::at(library.into(), path.into()).map(Some)
    }

    fn at(library: PathBuf, path: PathBuf) -> Result<Self> {
        let file = File::options().read(true).write(true).open(&path);
        let file = file.context("open", &path)?;
        Ok(Self {
            library,
            path,
            file,
        })
    }

    /// Returns what a process must be started with.
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("LD_PRELOAD", self.library.clone().into()),
            (FILE, self.path.clone().into()),
            // A session of FUSE has buffers of 16 MiB. Once such a block was freed, the C library would keep the next ones
            // in the heap and clear all of each.
            ("MALLOC_MMAP_THRESHOLD_", "4194304".into()),
        ]
    }

    /// Sets the wall clock, in microseconds since 1970.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_utc_us(&self, utc_us: u64) -> Result<()> {
        self.set(UTC_US, utc_us)
    }

    /// Sets the monotonic clock, and that since the host's start, in microseconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_mono_us(&self, mono_us: u64) -> Result<()> {
        self.set(MONO_US, mono_us)
    }

    /// Begins a sequence of random bytes. With the seed 0 they, and the clocks, are real.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_seed(&self, seed: u64) -> Result<()> {
        self.set(DRAWN, 0)?;
        self.set(SEED, seed)
    }

    /// Returns the monotonic clock, in microseconds. Who has slept has moved it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn mono_us(&self) -> Result<u64> {
        self.number(MONO_US)
    }

    /// Counts the memory of this thread from now on, and of no other.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn count_memory(&self) -> Result<()> {
        self.set(COUNTED, u64::try_from(gettid().as_raw()).unwrap_or(0))
    }

    /// Returns the bytes that the counted thread has taken and not given back, below 0 if it gave back more. The most of them
    /// is counted from here.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn begin_memory(&self) -> Result<i64> {
        let held = self.number(HELD)?;
        self.set(HELD_MOST, held)?;
        Ok(held.cast_signed())
    }

    /// Returns the bytes that are held now, and the most of them since [`VirtualTime::begin_memory`].
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn memory(&self) -> Result<(i64, i64)> {
        let (now, most) = (self.number(HELD)?, self.number(HELD_MOST)?);
        Ok((now.cast_signed(), most.cast_signed()))
    }

    fn number(&self, offset: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.context("read", &self.path)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn set(&self, offset: u64, number: u64) -> Result<()> {
        // Written through the page that the processes have mapped.
        let written = self.file.write_all_at(&number.to_ne_bytes(), offset);
        written.context("write", &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use nix::unistd::syncfs;
    use valise_common::os::{clock, entropy};
    use valise_common::units::Mono;

    use super::*;
    use crate::harness::remark;
    use crate::sim::disk::{Cut, Disk, Image};
    use crate::wire::Prng;

    #[test]
    fn the_clocks_the_random_bytes_and_syncfs_of_a_process_are_the_simulations() {
        if !nix::unistd::geteuid().is_root() {
            return remark("no disk is simulated: only root mounts one");
        }
        let name = "sim::virtual_time::tests::\
                    the_clocks_the_random_bytes_and_syncfs_of_a_process_are_the_simulations";
        match VirtualTime::inherited().unwrap() {
            Some(time) => in_child(&time),
            None => {
                let folder = tempfile::tempdir().unwrap();
                let time = VirtualTime::make(folder.path()).unwrap();
                let mut child = Command::new(env::current_exe().unwrap());
                let child = child.args(["--exact", name]).envs(time.environment());
                let output = child.output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(
                    output.status.success() && text.contains("1 passed"),
                    "{text}"
                );
            }
        }
    }

    fn in_child(time: &VirtualTime) {
        let real_us = clock::utc_now_us();
        assert!(real_us > 1_700_000_000_000_000);
        assert_ne!(
            entropy::bytes::<16>().unwrap(),
            entropy::bytes::<16>().unwrap()
        );
        time.set_utc_us(1_000_000_000_000_007).unwrap();
        time.set_mono_us(42).unwrap();
        assert!(clock::utc_now_us() >= real_us);
        let drawn = |seed| {
            time.set_seed(seed).unwrap();
            let drawn = thread::spawn(|| {
                let set: HashSet<u32> = (0..100).collect();
                let order: Vec<_> = set.into_iter().collect();
                (entropy::bytes::<37>().unwrap(), order, drawn_by_call())
            });
            drawn.join().unwrap()
        };
        let first = drawn(7);
        assert_eq!(drawn(7), first);
        let other = drawn(8);
        assert!(other.0 != first.0 && other.1 != first.1 && other.2 != first.2);
        assert_ne!(
            entropy::bytes::<16>().unwrap(),
            entropy::bytes::<16>().unwrap()
        );
        assert_eq!(clock::utc_now_us(), 1_000_000_000_000_007);
        assert_eq!((clock::mono_now(), clock::boot_now()), (Mono(42), Mono(42)));
        time.set_mono_us(43).unwrap();
        assert_eq!(clock::mono_now(), Mono(43));
        thread::sleep(Duration::from_secs(3_600));
        assert_eq!(clock::mono_now(), Mono(3_600_000_043));
        assert_eq!(clock::utc_now_us(), 1_000_003_600_000_007);
        assert_eq!(time.mono_us().unwrap(), 3_600_000_043);
        check_memory(time);
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(&Image::empty(), folder.path()).unwrap();
        fs::write(folder.path().join("a"), b"text").unwrap();
        assert!(
            !disk
                .power_cut_of(Cut::Nothing, &mut Prng::new(1))
                .exists("a")
        );
        syncfs(File::open(folder.path()).unwrap()).unwrap();
        let cut = disk.power_cut_of(Cut::Nothing, &mut Prng::new(1));
        assert_eq!(cut.read("a").unwrap(), b"text");
        time.set_seed(0).unwrap();
        assert!(clock::utc_now_us() >= real_us);
    }

    fn check_memory(time: &VirtualTime) {
        time.count_memory().unwrap();
        let before = time.begin_memory().unwrap();
        let kept = vec![1_u8; 1 << 20];
        drop(vec![1_u8; 2 << 20]);
        thread::spawn(|| drop(vec![1_u8; 64 << 20])).join().unwrap();
        let (now, most) = time.memory().unwrap();
        let close = |bytes: i64, to: i64| (to..to + (64 << 10)).contains(&bytes);
        assert!(close(now - before, 1 << 20), "{}", now - before);
        assert!(close(most - before, 3 << 20), "{}", most - before);
        drop(kept);
        assert!(close(time.begin_memory().unwrap() - before, 0));
    }

    /// What the system call itself draws, as the crate getrandom makes it in its older versions.
    fn drawn_by_call() -> Vec<u8> {
        let call = format!(
            "$b = \"\\0\" x 16; syscall({}, $b, 16, 0); print $b",
            nix::libc::SYS_getrandom
        );
        let output = Command::new("perl").args(["-e", &call]).output().unwrap();
        assert_eq!(output.stdout.len(), 16);
        output.stdout
    }
}
