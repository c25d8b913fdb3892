//! The sandbox of a role that has the link: transmit, receive.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::alarms::Alarms;
use super::life;
use crate::alarm::{Alarm, Runs};
use crate::config::Fences;
use crate::os::clock::utc_now;
use crate::os::processor::Aes;
use crate::os::sandbox::{self, Profile, SandboxError};
use crate::os::serial::{Direction, Fault};

/// The link as the role has opened it.
pub struct OpenLink<'a> {
    /// The socket of a UDP link.
    pub socket: Option<BorrowedFd<'a>>,
    /// The device of a serial link.
    pub port: Option<&'a Path>,
    /// The direction in which a port is used.
    pub direction: Direction,
    /// The fault of a port, if it has one.
    pub fault: Option<Fault>,
}

/// A role inside its sandbox.
pub struct Confined {
    runs: Runs,
    alarms: Vec<(Alarm, String)>,
    /// The sandbox of a process of root allows only the device that was there at the start.
    pub is_kept: bool,
}

/// Enters the sandbox. To be called before any thread starts, which would stay outside, and with the link open.
///
/// # Errors
/// A fence that is refused although it is required.
pub fn confine(
    profile: Profile,
    link: &OpenLink<'_>,
    required: Fences,
) -> Result<Confined, SandboxError> {
    // The sandbox closes the system's list of users.
    let runs = life::runs(profile.role());
    let profile = match (link.socket, link.port) {
        (Some(socket), _) => profile.with_link(socket),
        (None, Some(port)) => profile.with_port(port, link.direction),
        (None, None) => profile,
    };
    let confinement = sandbox::enter(&profile, required)?;
    confinement.log();
    Aes::detect().log();
    Ok(Confined {
        runs,
        alarms: confinement.alarms(),
        is_kept: confinement.keeps_root_from_ports() && link.fault != Some(Fault::Forbidden),
    })
}

impl Confined {
    /// Raises the alarms of the sandbox.
    pub fn report(self, alarms: &mut Alarms) {
        alarms.run_as(self.runs);
        for (alarm, text) in self.alarms {
            alarms.set(alarm, utc_now(), 1, || text);
        }
    }
}
