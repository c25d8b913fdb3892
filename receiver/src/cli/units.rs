//! What the units take from `receiver.toml`.

use std::path::Path;

use valise_common::config::LinkKind;
use valise_common::host::cli::run::SystemdGenerator;
use valise_common::os::service::units::{self, LineUse};

use super::{CliError, read_config};
use crate::receive::SOCKET_UNIT;

/// `systemd-generator`
pub(super) fn generate(path: &Path, options: &SystemdGenerator) -> Result<(), CliError> {
    // The role's own unit waits for the file.
    let (true, Some(folder)) = (path.exists(), options.folders.first()) else {
        return Ok(());
    };
    let link = read_config(path)?.link;
    let service = "valise-receiver-receive.service";
    let (name, text) = match (link.kind, link.listen, link.device) {
        (LinkKind::Udp, Some(listen), _) => {
            let socket = units::udp_socket(path, service, listen, link.socket_buffer);
            (SOCKET_UNIT.to_owned(), socket)
        }
        (LinkKind::Serial, _, Some(device)) => {
            // The socket of a UDP link that was there before is closed.
            let line = units::serial_line(&device, LineUse::Read);
            let text = format!("{line}[Unit]\nConflicts={SOCKET_UNIT}\n");
            (format!("{service}.d/link.conf"), text)
        }
        _ => return Ok(()),
    };
    units::write(folder, &name, &text).map_err(CliError::system)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn generated(config: Option<&str>) -> Result<Option<String>, CliError> {
        generated_part(config, SOCKET_UNIT)
    }

    fn generated_part(config: Option<&str>, name: &str) -> Result<Option<String>, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receiver.toml");
        if let Some(config) = config {
            fs::write(
                &path,
                format!("state = '/nonexistent/valise'\n[link]\n{config}\n"),
            )
            .unwrap();
        }
        let units = folder.path().join("units");
        let folders = ["units", "early", "late"].map(|name| folder.path().join(name));
        generate(
            &path,
            &SystemdGenerator {
                folders: folders.to_vec(),
            },
        )?;
        Ok(fs::read_to_string(units.join(name)).ok())
    }

    #[test]
    fn the_socket_is_that_of_the_configuration() {
        let udp = "kind = 'udp'\nlisten = '[2001:db8::2]:7000'\nsocket_buffer = '1 MiB'";
        let socket = generated(Some(udp)).unwrap().unwrap();
        for line in [
            "ListenDatagram=[2001:db8::2]:7000",
            "ReceiveBuffer=1048576",
            "FreeBind=yes",
            "BindsTo=valise-receiver-receive.service",
            "Service=valise-receiver-receive.service",
            "StartLimitIntervalSec=0",
        ] {
            assert!(socket.lines().any(|has| has == line), "{line}: {socket}");
        }
        // An operator restarts `valise-*`, which must not reach a socket whose service runs.
        assert!(!SOCKET_UNIT.starts_with("valise-"));
        assert_eq!(generated(None).unwrap(), None);
        let serial = "kind = 'serial'\ndevice = '/dev/ttyS0'";
        assert_eq!(generated(Some(serial)).unwrap(), None);
        generated(Some("kind = 'udp'\nlisten = 'here'")).unwrap_err();
    }

    #[test]
    fn receive_reads_the_serial_line_and_has_no_socket() {
        let serial = "kind = 'serial'\ndevice = '/dev/ttyS0'\nlisten = '192.0.2.2:7000'";
        let part = "valise-receiver-receive.service.d/link.conf";
        let text = generated_part(Some(serial), part).unwrap().unwrap();
        for line in ["DeviceAllow=char-ttyS r", "Conflicts=valise.socket"] {
            assert!(text.lines().any(|has| has == line), "{line}: {text}");
        }
        assert_eq!(generated(Some(serial)).unwrap(), None);
        let udp = "kind = 'udp'\nlisten = '192.0.2.2:7000'";
        assert_eq!(generated_part(Some(udp), part).unwrap(), None);
    }
}
