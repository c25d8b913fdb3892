//! What the units take from `sender.toml`.

use std::path::Path;

use valise_common::config::LinkKind;
use valise_common::host::cli::run::SystemdGenerator;
use valise_common::os::service::units::{self, LineUse};

use super::{CliError, read_config};

/// `systemd-generator`
pub(super) fn generate(path: &Path, options: &SystemdGenerator) -> Result<(), CliError> {
    // The role's own unit waits for the file.
    let (true, Some(folder)) = (path.exists(), options.folders.first()) else {
        return Ok(());
    };
    let link = read_config(path)?.link;
    let text = match (link.kind, link.to, link.device) {
        (LinkKind::Udp, Some(to), _) => units::only_peer(to.ip()),
        (LinkKind::Serial, _, Some(device)) => units::serial_line(&device, LineUse::Write),
        _ => return Ok(()),
    };
    let part = "valise-sender-transmit.service.d/link.conf";
    units::write(folder, part, &text).map_err(CliError::system)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn transmit_reaches_the_address_or_the_line_of_the_link_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, units) = (
            folder.path().join("sender.toml"),
            folder.path().join("units"),
        );
        let options = SystemdGenerator {
            folders: vec![units.clone()],
        };
        generate(&path, &options).unwrap();
        assert!(!units.exists());
        let config = "state = '/nonexistent/valise'\n[link]\nkind = 'udp'\nto = '192.0.2.2:7000'\nrate = '1 Mbit/s'\n";
        fs::write(&path, config).unwrap();
        generate(&path, &options).unwrap();
        let part =
            fs::read_to_string(units.join("valise-sender-transmit.service.d/link.conf")).unwrap();
        assert!(
            part.ends_with("[Service]\nIPAddressAllow=192.0.2.2\n"),
            "{part}"
        );
        let serial = config
            .replace("'udp'", "'serial'\ndevice = '/dev/ttyS0'")
            .replace("rate", "# rate");
        fs::write(&path, serial).unwrap();
        generate(&path, &options).unwrap();
        let part =
            fs::read_to_string(units.join("valise-sender-transmit.service.d/link.conf")).unwrap();
        assert!(
            part.contains("DeviceAllow=char-ttyS w\n") && !part.contains("IPAddressAllow"),
            "{part}"
        );
        fs::write(&path, "state = 1").unwrap();
        generate(&path, &options).unwrap_err();
    }
}
