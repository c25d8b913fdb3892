//! What the units take from `receiver.toml`.

use std::path::Path;

use valise_common::config::LinkKind;
use valise_common::os::service::units;

use super::arguments::SystemdGenerator;
use super::{CliError, read_config};
use crate::receive::SOCKET_UNIT;

/// `systemd-generator`
pub fn generate(path: &Path, options: &SystemdGenerator) -> Result<(), CliError> {
    // The role's own unit waits for the file.
    let (true, Some(folder)) = (path.exists(), options.folders.first()) else {
        return Ok(());
    };
    let link = read_config(path)?.link;
    if let (LinkKind::Udp, Some(listen)) = (link.kind, link.listen) {
        let service = "valise-receiver-receive.service";
        let socket = units::udp_socket(path, service, listen, link.socket_buffer);
        units::write(folder, SOCKET_UNIT, &socket).map_err(CliError::system)?;
    }
    Ok(())
}
