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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn transmit_reaches_the_address_of_the_link_alone() {
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
        fs::write(&path, "state = 1").unwrap();
        generate(&path, &options).unwrap_err();
    }
}
