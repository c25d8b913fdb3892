//! `progress/<serial>`: how far a container has been sent. Transmit writes it, gate reads it, gate alone deletes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use valise_common::limits;

use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::Serial;
use valise_common::os::durable::{self, Access, StagedFile, Sync, SyncBatch};

pub(crate) use crate::pipeline::Progress;

fn is_no_progress(path: &Path) -> bool {
    let is_large =
        |bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > limits::PROGRESS_BYTES_MAX);
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() || is_large(found.len()))
}

/// Reads every progress file. One that does not parse is left out: the worst that follows is a pass sent twice.
///
/// # Errors
/// If the folder cannot be read.
pub(crate) fn read_all(folder: &Path) -> io::Result<BTreeMap<Serial, Progress>> {
    let mut found = BTreeMap::new();
    for entry in durable::list(folder)? {
        let entry = entry?;
        let Some(Ok(serial)) = entry.file_name().to_str().map(str::parse::<Serial>) else {
            continue;
        };
        if let Some(progress) = read(folder, serial)? {
            found.insert(serial, progress);
        }
    }
    Ok(found)
}

/// Reads one progress file; `None` if there is none, or it does not parse.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(folder: &Path, serial: Serial) -> io::Result<Option<Progress>> {
    let path = folder.join(serial.to_string());
    match durable::read_bounded(&path, limits::PROGRESS_BYTES_MAX) {
        Ok(text) => {
            let text = durable::checked(&text);
            let progress = text.and_then(|text| serde_json::from_slice::<Progress>(text).ok());
            let progress = progress.filter(|progress| progress.serial == serial);
            if progress.is_none() {
                let path = path.display();
                tracing::warn!(%path, "a damaged progress file is ignored: its passes are sent again");
            }
            Ok(progress)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Transmit, which faces the network, may write here: a link, a pipe or a device that it planted stops gate no more
        // than a file that does not parse.
        Err(_) if is_no_progress(&path) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes progress files in place of older ones, durably, at the price of two syncs for all of them.
///
/// # Errors
/// If one cannot be written, synced or renamed; after a failed sync the process must end.
pub(crate) fn write_all(
    state: &SenderState,
    all: &[Progress],
    batch: &mut SyncBatch,
) -> io::Result<()> {
    let mut staged = Vec::with_capacity(all.len());
    for progress in all {
        let mut file = StagedFile::create(&state.tmp(Role::Transmit))?;
        file.set_access(Access::Group)?;
        file.write_all(&text(progress)?)?;
        staged.push(file.finish_in(batch)?);
    }
    // Only what is on the disk may take the older file's place.
    batch.commit()?;
    for (file, progress) in staged.into_iter().zip(all) {
        file.replace_in(&state.progress_of(progress.serial), batch)?;
    }
    batch.commit()
}

/// Writes one progress file in place of an older one, without waiting for the disk: losing it costs a part of a pass.
///
/// # Errors
/// If it cannot be written or renamed.
pub(crate) fn write_unsynced(state: &SenderState, progress: &Progress) -> io::Result<()> {
    let (tmp, dest) = (
        state.tmp(Role::Transmit),
        state.progress_of(progress.serial),
    );
    durable::replace(&tmp, &dest, &text(progress)?, Access::Group, Sync::No)
}

fn text(progress: &Progress) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(progress)?;
    durable::add_check(&mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn progress(number: u64) -> Progress {
        Progress {
            serial: Serial::new(number).unwrap(),
            passes_done: 1,
            first_passes: 2,
            pass: 1,
            position: 4_711,
            block: 3,
            lanes: vec![11, 12],
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_the_newer_one_stands() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let all: Vec<Progress> = (1..=40).map(progress).collect();
        write_all(&state, &all, &mut batch).unwrap();
        let later = Progress {
            passes_done: 2,
            ..progress(7)
        };
        write_unsynced(&state, &later).unwrap();
        let found = read_all(&state.progress()).unwrap();
        assert_eq!(found.len(), 40);
        assert_eq!(found[&later.serial], later);
        assert_eq!(read(&state.progress(), later.serial).unwrap(), Some(later));
        assert_eq!(fs::read_dir(state.tmp(Role::Transmit)).unwrap().count(), 0);
    }

    #[test]
    fn what_is_planted_in_the_place_of_a_progress_file_is_left_out() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u64| folder.path().join(number.to_string());
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, serde_json::to_vec(&progress(1)).unwrap()).unwrap();
        symlink(&elsewhere, path(1)).unwrap();
        symlink("/dev/zero", path(2)).unwrap();
        nix::unistd::mkfifo(&path(3), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(path(4)).unwrap();
        fs::write(path(5), vec![b' '; limits::PROGRESS_BYTES_MAX + 1]).unwrap();
        assert!(read_all(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_does_not_parse_or_is_anothers_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1"), "{").unwrap();
        fs::write(folder.path().join("x"), "{}").unwrap();
        fs::write(
            folder.path().join("2"),
            serde_json::to_vec(&progress(3)).unwrap(),
        )
        .unwrap();
        assert!(read_all(folder.path()).unwrap().is_empty());
        assert_eq!(read(folder.path(), Serial::new(9).unwrap()).unwrap(), None);
    }
}
