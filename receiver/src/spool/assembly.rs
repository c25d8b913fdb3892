//! Containers that are being collected, on disk: `assembly/SET/`, one folder a set.
//!
//! ```text
//! assembly/<serial>-<id>-<L>-<codec>-<k_max>-<m>-<S>/
//!     data        the container, with holes where blocks are missing
//!     done        a bit for each block that is in `data`: block b is bit b mod 8 of byte b / 8
//!     <b>.part    the symbols of an incomplete block
//! ```
//!
//! Nothing here is synced: a process that is killed loses nothing, because the kernel has it. What a loss of power tears,
//! the container's hash tells, and the set is collected anew.

mod part_file;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use valise_common::limits;

use nix::fcntl::OFlag;
use valise_common::fec::{BlockBuffer, Codec, Geometry};
use valise_common::ids::{Serial, parse_decimal};
use valise_common::os::durable::{self, Sync, make_dir, read_bounded, remove_any};
use valise_common::wire::SetId;

use crate::steps::fec::SourceBlock;

/// A set that start-up found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundSet {
    /// The set.
    pub set: SetId,
    /// Blocks that are in the data file.
    pub done: Vec<u32>,
    /// Incomplete blocks, with how many symbols each has.
    pub spilled: Vec<(u32, u16)>,
    /// Whether the data file is there; it is not if a container was given its place in `inbox/` just before the end.
    pub data: DataFile,
}

/// The data file of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataFile {
    /// There is one.
    There,
    /// There is none.
    Absent,
}

/// The folder `assembly/`.
#[derive(Debug)]
pub(crate) struct AssemblyStore {
    root: PathBuf,
    tmp: PathBuf,
    known: BTreeSet<SetId>,
    open: BTreeMap<SetId, OpenSet>,
    tick: u64,
}

#[derive(Debug)]
struct OpenSet {
    data: File,
    done: File,
    used: u64,
}

/// Returns the path of a set's data file.
pub(crate) fn data_path(root: &Path, set: &SetId) -> PathBuf {
    root.join(folder_name(set)).join("data")
}

impl AssemblyStore {
    /// Creates the store in `root`; what it writes is staged in `tmp`, on the same file system.
    pub(crate) fn new(root: PathBuf, tmp: PathBuf) -> Self {
        Self {
            root,
            tmp,
            known: BTreeSet::new(),
            open: BTreeMap::new(),
            tick: 0,
        }
    }

    /// Reads what is on disk, least recently changed first. What no set can have left is deleted.
    ///
    /// # Errors
    /// If the folder cannot be read or cleaned.
    pub(crate) fn scan(&mut self) -> io::Result<Vec<FoundSet>> {
        let mut found = Vec::new();
        for entry in durable::list(&self.root)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            if !entry.file_type()?.is_dir() {
                // The list of completed containers stands here too.
                continue;
            }
            match folder_set(&name).map(|set| read_set(set, &path)) {
                Some(Ok(set)) => found.push((entry.metadata()?.modified()?, set)),
                _ => remove_any(&path)?,
            }
        }
        found.sort_by_key(|(modified, found)| (*modified, found.set));
        self.known = found.iter().map(|(_, found)| found.set).collect();
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }

    /// Writes a block to its place and notes that it is there.
    ///
    /// # Errors
    /// Those of the system; a full disk is one, and then the block counts as missing.
    pub(crate) fn write_block(&mut self, set: &SetId, block: &SourceBlock) -> io::Result<()> {
        let range = set.geometry.block_range(block.shape());
        let number = block.shape().number;
        let open = self.open_set(set)?;
        open.data.write_all_at(block.bytes(), range.start)?;
        let (offset, bit) = (u64::from(number / 8), 1_u8 << (number % 8));
        let mut byte = [0];
        // A short file reads as zeros.
        let _ = open.done.read_at(&mut byte, offset)?;
        byte[0] |= bit;
        open.done.write_all_at(&byte, offset)
    }

    /// Puts the symbols of an incomplete block on disk, in place of what may be there of it.
    ///
    /// # Errors
    /// Those of the system; a full disk is one, and then what was there before is still there.
    pub(crate) fn spill(&mut self, set: &SetId, buffer: &BlockBuffer) -> io::Result<()> {
        let folder = self.folder(set)?;
        let staged = part_file::stage(&self.tmp, set.geometry.symbol_bytes(), buffer)?;
        // It need not survive a crash: what is lost of it comes again.
        staged.take_place(
            &folder.join(part_file::name(buffer.shape().number)),
            Sync::No,
        )
    }

    /// Hands back every symbol of an incomplete block. A part file that is torn or absent has none.
    ///
    /// # Errors
    /// If the file cannot be read although it is there.
    pub(crate) fn restore(
        &self,
        set: &SetId,
        block: u32,
        mut handle: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let path = self
            .root
            .join(folder_name(set))
            .join(part_file::name(block));
        let bytes = match read_bounded(&path, part_file::bytes_max()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(()),
            Err(error) => return Err(error),
        };
        for (index, symbol) in part_file::symbols(&bytes, set.geometry.symbol_bytes()) {
            handle(index, symbol);
        }
        Ok(())
    }

    /// Deletes the symbols of a block that was incomplete.
    ///
    /// # Errors
    /// If the file stays.
    pub(crate) fn forget_part(&mut self, set: &SetId, block: u32) -> io::Result<()> {
        remove_any(
            &self
                .root
                .join(folder_name(set))
                .join(part_file::name(block)),
        )
    }

    /// Deletes whatever is on disk of a set.
    ///
    /// # Errors
    /// If something stays.
    pub(crate) fn forget(&mut self, set: &SetId) -> io::Result<()> {
        self.open.remove(set);
        if self.known.remove(set) {
            remove_any(&self.root.join(folder_name(set)))?;
        }
        Ok(())
    }

    /// Closes the files of a set that is being finished.
    pub(crate) fn close(&mut self, set: &SetId) {
        self.open.remove(set);
    }

    fn folder(&mut self, set: &SetId) -> io::Result<PathBuf> {
        let folder = self.root.join(folder_name(set));
        if self.known.insert(*set) {
            make_dir(&folder, 0o700).inspect_err(|_| {
                self.known.remove(set);
            })?;
        }
        Ok(folder)
    }

    fn open_set(&mut self, set: &SetId) -> io::Result<&mut OpenSet> {
        self.tick += 1;
        if !self.open.contains_key(set) {
            let folder = self.folder(set)?;
            if self.open.len() >= limits::ASSEMBLIES_OPEN_MAX {
                let quietest = self.open.iter().min_by_key(|(_, open)| open.used);
                if let Some(quietest) = quietest.map(|(set, _)| *set) {
                    self.open.remove(&quietest);
                }
            }
            let data = open_file(&folder.join("data"))?;
            let done = open_file(&folder.join("done"))?;
            self.open.insert(
                *set,
                OpenSet {
                    data,
                    done,
                    used: 0,
                },
            );
        }
        let tick = self.tick;
        let open = self.open.get_mut(set).ok_or(io::ErrorKind::NotFound)?;
        open.used = tick;
        Ok(open)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

fn folder_name(set: &SetId) -> String {
    let geometry = &set.geometry;
    format!(
        "{}-{}-{}-{}-{}-{}-{}",
        set.serial,
        set.container,
        geometry.container_bytes(),
        geometry.codec().number(),
        geometry.k_max(),
        geometry.m(),
        geometry.symbol_bytes()
    )
}

fn folder_set(name: &OsStr) -> Option<SetId> {
    let fields: Vec<&str> = name.to_str()?.split('-').collect();
    let [
        serial,
        container,
        container_bytes,
        codec,
        k_max,
        m,
        symbol_bytes,
    ] = fields[..]
    else {
        return None;
    };
    let number = |field| parse_decimal(field).ok();
    let short = |field| number(field).and_then(|number| u16::try_from(number).ok());
    let codec = u8::try_from(number(codec)?)
        .ok()
        .and_then(Codec::from_number)?;
    let geometry = Geometry::new(
        number(container_bytes)?,
        codec,
        short(k_max)?,
        short(m)?,
        short(symbol_bytes)?,
    );
    Some(SetId {
        serial: Serial::new(number(serial)?)?,
        container: container.parse().ok()?,
        geometry: geometry.ok()?,
    })
}

fn read_set(set: SetId, folder: &Path) -> io::Result<FoundSet> {
    let blocks = set.geometry.block_count();
    let bitmap_bytes = usize::try_from(blocks.div_ceil(8)).map_err(io::Error::other)?;
    let bitmap = match read_bounded(&folder.join("done"), bitmap_bytes) {
        Ok(bitmap) => bitmap,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let data = match fs::symlink_metadata(folder.join("data")) {
        Ok(metadata) if metadata.is_file() => DataFile::There,
        _ => DataFile::Absent,
    };
    let set_bit = |block: &u32| {
        let byte = usize::try_from(block / 8)
            .ok()
            .and_then(|place| bitmap.get(place));
        byte.is_some_and(|byte| byte & 1 << (block % 8) != 0)
    };
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let done = (0..blocks).filter(set_bit).collect();
    let mut spilled = Vec::new();
    for entry in durable::list(folder)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let Some(block) = name.to_str().and_then(|name| name.strip_suffix(".part")) else {
            continue;
        };
        let block = parse_decimal(block)
            .ok()
            .and_then(|block| u32::try_from(block).ok());
        match (
            block.filter(|block| *block < blocks),
            part_file::count(&path),
        ) {
            (Some(block), Ok(count)) => spilled.push((block, count)),
            _ => remove_any(&path)?,
        }
    }
    spilled.sort_unstable();
    Ok(FoundSet {
        set,
        done,
        spilled,
        data,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::ids::ContainerId;

    use super::*;
    use crate::steps::fec::Rebuilder;

    fn set() -> SetId {
        // 36 symbols of 64 bytes in four blocks of nine.
        let geometry = Geometry::new(2304, Codec::Rs8, 10, 4, 64).unwrap();
        SetId {
            serial: Serial::new(7).unwrap(),
            container: ContainerId::from_bytes([0xab; 12]),
            geometry,
        }
    }

    fn buffer(block: u32, symbols: std::ops::Range<u16>) -> BlockBuffer {
        let geometry = set().geometry;
        let mut buffer = BlockBuffer::new(&geometry, &geometry.block(block).unwrap());
        for index in symbols {
            buffer.insert(index, &[index as u8 + 1; 64]);
        }
        buffer
    }

    fn whole(block: u32) -> SourceBlock {
        Rebuilder::default()
            .rebuild(&set().geometry, buffer(block, 0..9))
            .unwrap()
    }

    fn store(folder: &Path) -> AssemblyStore {
        for name in ["assembly", "tmp"] {
            make_dir(&folder.join(name), 0o700).unwrap();
        }
        AssemblyStore::new(folder.join("assembly"), folder.join("tmp"))
    }

    #[test]
    fn what_one_process_leaves_the_next_one_finds() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = store(folder.path());
        before.write_block(&set(), &whole(2)).unwrap();
        before.spill(&set(), &buffer(1, 0..3)).unwrap();
        before.spill(&set(), &buffer(1, 0..5)).unwrap();
        before.write_block(&set(), &whole(0)).unwrap();
        let mut after = store(folder.path());
        let found = after.scan().unwrap();
        let expected = FoundSet {
            set: set(),
            done: vec![0, 2],
            spilled: vec![(1, 5)],
            data: DataFile::There,
        };
        assert_eq!(found, [expected]);
        let mut symbols = Vec::new();
        after
            .restore(&set(), 1, |index, symbol| symbols.push((index, symbol[0])))
            .unwrap();
        assert_eq!(symbols, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
        let data = fs::read(data_path(&folder.path().join("assembly"), &set())).unwrap();
        assert_eq!(data[..576], data[1152..]);
        assert_eq!(data[576..1152], [0; 576]);
        after.forget(&set()).unwrap();
        assert!(store(folder.path()).scan().unwrap().is_empty());
        assert_eq!(
            fs::read_dir(folder.path().join("assembly"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn a_torn_part_has_no_symbols_and_an_absent_one_neither() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        store.spill(&set(), &buffer(3, 0..5)).unwrap();
        let path = folder
            .path()
            .join("assembly")
            .join(folder_name(&set()))
            .join("3.part");
        let bytes = fs::read(&path).unwrap();
        for torn in [&bytes[..bytes.len() - 1], &bytes[..20], &[]] {
            fs::write(&path, torn).unwrap();
            store
                .restore(&set(), 3, |_, _| panic!("a symbol of a torn file"))
                .unwrap();
        }
        let mut flipped = bytes.clone();
        flipped[40] ^= 1;
        fs::write(&path, flipped).unwrap();
        store
            .restore(&set(), 3, |_, _| panic!("a symbol of a damaged file"))
            .unwrap();
        fs::remove_file(&path).unwrap();
        store
            .restore(&set(), 3, |_, _| panic!("a symbol of no file"))
            .unwrap();
    }

    #[test]
    fn what_no_set_left_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        let root = folder.path().join("assembly");
        for name in [
            "x",
            "7-abababababababababababab-2304-3-10-4-64",
            "1-2-3-4-5-6-7",
        ] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("completed"), b"").unwrap();
        let oversized = root.join(folder_name(&set()));
        fs::create_dir(&oversized).unwrap();
        fs::write(oversized.join("done"), [0; 9]).unwrap();
        assert!(store.scan().unwrap().is_empty());
        let left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["completed"]);
    }

    #[test]
    fn the_name_of_a_folder_says_the_whole_set() {
        assert_eq!(folder_set(OsStr::new(&folder_name(&set()))), Some(set()));
        for bad in [
            "",
            "7",
            "7-ab-2304-1-10-4-64",
            "07-abababababababababababab-2304-1-10-4-64",
        ] {
            assert_eq!(folder_set(OsStr::new(bad)), None, "{bad}");
        }
    }
}
