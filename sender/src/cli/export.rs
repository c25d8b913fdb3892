//! `export`: copies a waiting cable into a folder, for an officer alone.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use valise_common::config::SenderConfig;
use valise_common::host::folders::{SenderState, part_file};
use valise_common::host::unfinished::{Unfinished, hold};
use valise_common::manifest::{Manifest, Part};

use super::arguments::Export;
use super::waiting::{hex, of_part, waiting_manifest, wrong_part};
use super::{CliError, print_done_json};
use crate::spool::pending::{MANIFEST_NAME, PartFiles};

/// The file of an export that `sha256sum --check` reads.
const SUMS_NAME: &str = "SHA256SUMS";

/// Returns whether a path is a folder, and nobody but this user can write to it: officers sign what they read there.
fn is_ours_alone(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0
    })
}

/// `export`
pub(super) fn export(config: &SenderConfig, options: &Export) -> Result<(), CliError> {
    let bytes = waiting_manifest(config, &options.id)?;
    let manifest = Manifest::decode(&bytes).map_err(CliError::system)?;
    let pending = SenderState::new(&config.state).pending_of(&options.id);
    let folder = &options.folder;
    let shown = folder.display();
    // What is read elsewhere is no less classified: for who exports it alone, whatever the umask says. Half of it is erased.
    let mut unfinished = Vec::new();
    let mut begin = |path: &Path| -> Result<(), CliError> {
        unfinished.push(Unfinished::begin(path).map_err(CliError::system)?);
        Ok(())
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let empty = std::fs::read_dir(folder).is_ok_and(|mut names| names.next().is_none());
            if !empty {
                return Err(CliError::Usage(format!(
                    "{shown} is there already, and not empty"
                )));
            }
            if !is_ours_alone(folder) {
                return Err(CliError::Usage(format!(
                    "{shown} is a link, or another user may change what is in it; name a new folder"
                )));
            }
        }
        created => {
            created.map_err(|error| CliError::System(format!("{shown}: {error}")))?;
            begin(folder)?;
        }
    }
    let failed = |error: io::Error| CliError::System(format!("{shown}: {error}"));
    let mut sums = format!("{}  {MANIFEST_NAME}\n", hex(&Sha256::digest(&bytes)));
    let mut names = vec![MANIFEST_NAME.to_owned()];
    begin(&folder.join(MANIFEST_NAME))?;
    create(&folder.join(MANIFEST_NAME))
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(failed)?;
    for (number, part) in (1..).zip(&manifest.parts) {
        let name = part_file(number, part.media_type.extension());
        begin(&folder.join(&name))?;
        copy_part(&pending, number, part, &folder.join(&name))?;
        sums.push_str(&format!("{}  {name}\n", hex(&part.sha256)));
        names.push(name);
    }
    begin(&folder.join(SUMS_NAME))?;
    create(&folder.join(SUMS_NAME))
        .and_then(|mut file| file.write_all(sums.as_bytes()))
        .map_err(failed)?;
    unfinished.into_iter().for_each(Unfinished::done);
    if options.json {
        names.push(SUMS_NAME.to_owned());
        print_done_json(&json!({ "folder": shown.to_string(), "files": names }))?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn copy_hashed(from: &mut File, to: &mut File) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
        let _held = hold();
        to.write_all(&buffer[..count])?;
    }
}

/// Copies a part into a new file, and leaves none behind that is not what the manifest says.
pub(super) fn copy_part(
    pending: &Path,
    number: usize,
    part: &Part,
    to: &Path,
) -> Result<(), CliError> {
    let from = PartFiles::path(pending, number);
    let mut source = File::open(&from).map_err(|error| of_part(&error, &from, pending, number))?;
    let mut file = create(to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage(format!(
            "{} is there already; name a new file",
            to.display()
        )),
        _ => CliError::of_given(to, &error),
    })?;
    let copied = copy_hashed(&mut source, &mut file)
        .map_err(|error| CliError::System(format!("{}: {error}", to.display())))
        .and_then(|sha256| match sha256 == part.sha256 {
            true => Ok(()),
            false => Err(wrong_part(number)),
        });
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied
}
