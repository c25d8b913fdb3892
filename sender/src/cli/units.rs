//! What the units take from `sender.toml`.

use std::path::Path;

use valise_common::os::service::units;

use super::arguments::SystemdGenerator;
use super::{CliError, read_config};

/// `systemd-generator`
pub fn generate(path: &Path, options: &SystemdGenerator) -> Result<(), CliError> {
    // The role's own unit waits for the file.
    let (true, Some(folder)) = (path.exists(), options.folders.first()) else {
        return Ok(());
    };
    if let Some(to) = read_config(path)?.link.to {
        let part = "valise-sender-transmit.service.d/link.conf";
        units::write(folder, part, &units::only_peer(to.ip())).map_err(CliError::system)?;
    }
    Ok(())
}
