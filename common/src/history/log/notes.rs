//! The file of checkpoints, which is appended to and therefore may end in half a note.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::files::log_options;

/// No note of ours is longer.
const TAIL_BYTES: u64 = 4_096;

/// Cuts half a note off that a crash left at the end: the next one would be appended to it, and both would be unreadable.
/// What ends otherwise than we write is left for `audit verify` to judge. Makes a file that is gone: roles on the network
/// make none in its folder while they work.
pub(super) fn drop_torn(path: &Path) -> io::Result<()> {
    let file = log_options().create(true).open(path)?;
    let file_bytes = file.metadata()?.len();
    let start = file_bytes.saturating_sub(TAIL_BYTES);
    let mut tail = vec![0; usize::try_from(file_bytes - start).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    let Some(whole_bytes) = whole_notes(&tail).or((start == 0).then_some(0)) else {
        return Ok(());
    };
    let whole_bytes = start + u64::try_from(whole_bytes).unwrap_or(0);
    if whole_bytes < file_bytes {
        file.set_len(whole_bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Where the last note ends that has its signatures and the empty line behind them.
fn whole_notes(tail: &[u8]) -> Option<usize> {
    const GAP: &[u8] = b"\n\n";
    let mut end = tail.len();
    loop {
        let gap = tail[..end].windows(GAP.len()).rposition(|two| two == GAP)?;
        let before = tail[..gap].windows(GAP.len()).rposition(|two| two == GAP)?;
        // An em dash begins a line of signatures.
        if tail[before + GAP.len()..gap].starts_with("\u{2014} ".as_bytes()) {
            return Some(gap + GAP.len());
        }
        end = gap + 1;
    }
}
