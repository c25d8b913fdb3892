//! What the units take from a host's configuration: systemd asks for it at boot and at `systemctl daemon-reload`
//! (systemd.generator(7)), so that the units never differ from the file.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::GENERATOR;
use crate::units::ByteSize;

/// The unit of a UDP socket that systemd makes and binds, so that the role needs no network and no capability.
///
/// It lives and ends with the role: a datagram never starts a role that somebody stopped. Its name is not one of `valise-*`:
/// systemd refuses to restart a socket in front of a service that runs, and operators restart `valise-*`.
pub fn udp_socket(config: &Path, service: &str, listen: SocketAddr, buffer: ByteSize) -> String {
    format!(
        "[Unit]\nDescription=Valise: the socket of the one-way link\nSourcePath={}\nBindsTo={service}\n\
         StartLimitIntervalSec=0\n\n[Socket]\nService={service}\nListenDatagram={listen}\nFreeBind=yes\nReceiveBuffer={}\n\
         TriggerLimitIntervalSec=0\n",
        config.display(),
        buffer.0
    )
}

/// The part of a role's unit that lets it reach one host and no other.
pub fn only_peer(peer: IpAddr) -> String {
    format!("[Service]\nIPAddressAllow={peer}\n")
}

/// Writes a unit, or a part of one, into the folder that systemd reads.
///
/// # Errors
/// The system's.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, format!("# Made by {GENERATOR}.\n{text}"))
}
