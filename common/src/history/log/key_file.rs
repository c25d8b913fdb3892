//! The key file of an audit log: where the chain stands, and the key of the next line.
//!
//! ```text
//! 0 magic (8)   8 next seq (8)   16 log bytes (8)   24 head (32)   56 key (32)   88 BLAKE3 of these 88 bytes (32)
//! ```
//!
//! It is written in place after each commit, so that the older key is gone from the file. It is not synced each time: after
//! a power loss it may stand some lines behind the log, from where the keys are derived forward; ahead of the log it never is,
//! for the log is synced before it is written. 120 bytes at the file's beginning do not cross a sector.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use crate::audit::{Chain, ChainState};
use crate::os::durable::{read_bounded, read_secret_file};
use crate::secret::Secret32;

const MAGIC: [u8; 8] = *b"VALAUK\0\x01";
const KEY_FILE_BYTES: usize = 120;

/// An open key file.
pub(super) struct KeyFile {
    file: File,
}

/// What a key file holds.
pub(super) struct Held {
    pub(super) state: ChainState,
    pub(super) log_bytes: u64,
    pub(super) key: Secret32,
}

impl KeyFile {
    /// Makes the file of a new log, in place of one that a creation left behind which was cut short.
    pub(super) fn create(path: &Path, chain: &Chain) -> io::Result<Self> {
        let file = options().create(true).truncate(true).open(path)?;
        let key_file = Self { file };
        key_file.write(chain, 0)?;
        key_file.sync()?;
        Ok(key_file)
    }

    /// Opens and reads the file; `None` inside if its bytes are damaged.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Held>)> {
        let bytes = read_secret_file(path, KEY_FILE_BYTES)?;
        let held = bytes.as_slice().try_into().ok().and_then(decode);
        Ok((
            Self {
                file: options().open(path)?,
            },
            held,
        ))
    }

    /// Writes where the chain stands over what the file held.
    pub(super) fn write(&self, chain: &Chain, log_bytes: u64) -> io::Result<()> {
        let mut bytes = Zeroizing::new([0; KEY_FILE_BYTES]);
        let state = chain.state();
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&state.next_seq.to_be_bytes());
        bytes[16..24].copy_from_slice(&log_bytes.to_be_bytes());
        bytes[24..56].copy_from_slice(&state.head);
        bytes[56..88].copy_from_slice(chain.key().expose());
        let check = blake3::hash(&bytes[..88]);
        bytes[88..].copy_from_slice(check.as_bytes());
        self.file.write_all_at(&bytes[..], 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Where a key file says that its chain stands; `None` if its bytes are damaged. The daemon may be writing it.
///
/// # Errors
/// The system's; [`io::ErrorKind::PermissionDenied`] for another user than root and its owner.
pub(crate) fn read_key_state(path: &Path) -> io::Result<Option<Chain>> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        // Root verifies for the auditor; the file belongs to the role's user.
        let bytes = if geteuid().is_root() {
            Zeroizing::new(read_bounded(path, KEY_FILE_BYTES)?)
        } else {
            read_secret_file(path, KEY_FILE_BYTES)?
        };
        if let Some(held) = bytes.as_slice().try_into().ok().and_then(decode) {
            return Ok(Some(Chain::resume(held.state, held.key)));
        }
    }
    Ok(None)
}

fn decode(bytes: &[u8; KEY_FILE_BYTES]) -> Option<Held> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    let is_whole = body.starts_with(&MAGIC) && blake3::hash(body) == *check;
    let number = |at: usize| Some(u64::from_be_bytes(*body[at..].first_chunk()?));
    is_whole.then_some(())?;
    Some(Held {
        state: ChainState {
            next_seq: number(8)?,
            head: *body[24..].first_chunk()?,
        },
        log_bytes: number(16)?,
        key: Secret32::from_slice(&body[56..88])?,
    })
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}
