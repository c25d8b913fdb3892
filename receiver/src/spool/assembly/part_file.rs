//! The symbols of an incomplete block as a file.
//!
//! ```text
//! 0   8  "VALPART" and the version, 1
//! 8   2  S, the bytes of a symbol
//! 10  2  the number of symbols
//! 12     for each symbol its index, 2 bytes, and its S bytes
//!    32  BLAKE3 of everything before
//! ```

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IntoInnerError, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use valise_common::fec::BlockBuffer;
use valise_common::limits::BLOCK_BYTES_MAX;
use valise_common::os::durable::StagedFile;

const MAGIC: [u8; 8] = *b"VALPART\x01";

/// Bytes before the symbols.
const HEADER_BYTES: usize = 12;

const HASH_BYTES: usize = 32;

/// Writes the symbols of a block into a staged file.
///
/// # Errors
/// Those of the system.
pub(super) fn stage(tmp: &Path, symbol_bytes: u16, buffer: &BlockBuffer) -> io::Result<StagedFile> {
    let mut writer = HashingWriter {
        inner: BufWriter::new(StagedFile::create(tmp)?),
        hasher: blake3::Hasher::new(),
    };
    writer.write(&MAGIC)?;
    writer.write(&symbol_bytes.to_be_bytes())?;
    writer.write(&buffer.held_count().to_be_bytes())?;
    for (index, symbol) in buffer.symbols() {
        writer.write(&index.to_be_bytes())?;
        writer.write(symbol)?;
    }
    let hash = writer.hasher.finalize();
    writer.inner.write_all(hash.as_bytes())?;
    writer
        .inner
        .into_inner()
        .map_err(IntoInnerError::into_error)
}

struct HashingWriter {
    inner: BufWriter<StagedFile>,
    hasher: blake3::Hasher,
}

impl HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// Bytes of the longest part file.
pub(super) fn bytes_max() -> usize {
    // Two bytes an index, and at most one symbol for each byte that a block may have.
    usize::try_from(BLOCK_BYTES_MAX).map_or(usize::MAX, |bytes| bytes * 2)
}

/// Returns the name of a block's part file.
pub(super) fn name(block: u32) -> String {
    format!("{block}.part")
}

/// Returns the symbols of a part file, without any if it is torn.
pub(super) fn symbols(bytes: &[u8], symbol_bytes: u16) -> impl Iterator<Item = (u16, &[u8])> {
    let entry_bytes = 2 + usize::from(symbol_bytes);
    let whole = bytes
        .len()
        .checked_sub(HASH_BYTES)
        .map(|end| bytes.split_at(end));
    let entries = whole.and_then(|(body, hash)| {
        let (header, entries) = body.split_at_checked(HEADER_BYTES)?;
        let fits = blake3::hash(body).as_bytes() == hash
            && header[..8] == MAGIC
            && header[8..10] == symbol_bytes.to_be_bytes()
            && entries.len().is_multiple_of(entry_bytes);
        fits.then_some(entries)
    });
    let entries = entries.unwrap_or_default().chunks_exact(entry_bytes);
    entries.map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), &entry[2..]))
}

/// Returns the number of symbols that a part file claims, without reading them.
pub(super) fn count(path: &Path) -> io::Result<u16> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    if header[..8] != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(u16::from_be_bytes([header[10], header[11]]))
}
