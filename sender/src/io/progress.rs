//! `progress/<serial>`: how far a container has been sent. Transmit writes it, gate reads it, gate alone deletes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use valise_common::ids::Serial;

/// How far a container has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Whose.
    pub serial: Serial,
    /// Passes that have been sent to their end.
    pub passes_done: u8,
    /// Passes wanted when the container was first seen. With so many done the serial is settled, whatever a resend asks.
    pub first_passes: u8,
    /// The pass on the link or next, from 0.
    pub pass: u8,
    /// Symbols of that pass that have been sent.
    pub position: u64,
    /// Blocks below this one have been sent in that pass.
    pub block: u32,
    /// Symbols sent of that block and of those behind it, in order; blocks behind these have not begun.
    #[serde(default)]
    pub lanes: Vec<u32>,
}

/// Reads every progress file. One that does not parse is left out: the worst that follows is a pass sent twice.
///
/// # Errors
/// If the folder cannot be read.
pub fn read_all(folder: &Path) -> io::Result<BTreeMap<Serial, Progress>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
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
pub fn read(folder: &Path, serial: Serial) -> io::Result<Option<Progress>> {
    match fs::read(folder.join(serial.to_string())) {
        Ok(text) => {
            let progress = serde_json::from_slice::<Progress>(&text).ok();
            Ok(progress.filter(|progress| progress.serial == serial))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
