//! The line between the hosts: a socket or a pseudo-terminal at each end, and what happens to bytes in between.
//!
//! The kernel moves bytes through a pseudo-terminal when it likes, but whoever finds nothing to read waits for that. So
//! transmit's end is read until nothing is left after each frame, and receive's is given no more than one buffer of the
//! kernel takes: the same bytes come in the same turn of each run.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::plan::{Link, place};
use super::{Result, wrong};
use crate::wire::{LineConditions, Prng, Pty, SerialWire, Wire};

/// Datagrams, or stretches of a serial line, that somebody recorded.
const RECORDED_MAX: usize = 512;

/// Bytes that receive's pseudo-terminal is given at once: one buffer of the kernel has room for them.
const STRETCH_BYTES: usize = 1_024;

/// Both ends of each link that a run may have.
#[derive(Debug)]
pub struct Ends {
    /// The socket that transmit sends to.
    entrance: UdpSocket,
    /// The address on which receive listens.
    listen: SocketAddr,
    /// The port of transmit, and that of receive.
    ports: [Pty; 2],
    folder: std::path::PathBuf,
}

impl Ends {
    /// Opens them. The ports have names in a folder.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path) -> Result<Self> {
        let entrance = UdpSocket::bind("127.0.0.1:0").map_err(wrong)?;
        entrance.set_nonblocking(true).map_err(wrong)?;
        let free = UdpSocket::bind("127.0.0.1:0").map_err(wrong)?;
        let listen = free.local_addr().map_err(wrong)?;
        let folder = folder.join("ports");
        fs::create_dir(&folder).map_err(wrong)?;
        let port = |name: &str| Pty::open(&folder.join(name)).map_err(wrong);
        Ok(Self {
            entrance,
            listen,
            ports: [port("near")?, port("far")?],
            folder,
        })
    }

    /// The table `[link]` of the sender.
    ///
    /// # Errors
    /// The system's.
    pub fn sender_table(&self, link: Link) -> Result<String> {
        Ok(match link {
            Link::Udp => {
                let to = self.entrance.local_addr().map_err(wrong)?;
                format!(
                    "kind = \"udp\"\nto = \"{to}\"\nrate = \"{} bit/s\"\ndatagram_bytes = {}\n",
                    link.bits(),
                    link.datagram_bytes()
                )
            }
            Link::Serial { .. } => self.port_table("near", link),
        })
    }

    /// The table `[link]` of the receiver.
    pub fn receiver_table(&self, link: Link) -> String {
        match link {
            Link::Udp => format!(
                "kind = \"udp\"\nlisten = \"{}\"\ndatagram_bytes = {}\n",
                self.listen,
                link.datagram_bytes()
            ),
            Link::Serial { .. } => self.port_table("far", link),
        }
    }

    fn port_table(&self, name: &str, link: Link) -> String {
        format!(
            "kind = \"serial\"\ndevice = {:?}\nbaud = {}\ndatagram_bytes = {}\n",
            self.folder.join(name),
            link.bits(),
            link.datagram_bytes()
        )
    }
}

/// What carries bytes from one end to the other.
#[derive(Debug)]
enum Medium {
    Udp {
        wire: Wire,
        out: UdpSocket,
    },
    Serial {
        wire: SerialWire,
        /// Bytes that have passed the line and that receive does not have yet.
        passed: Vec<u8>,
    },
}

/// The line of a run.
pub struct Line<'s> {
    ends: &'s Ends,
    medium: Medium,
    recorded: Vec<Vec<u8>>,
    /// Nothing passes until then: it is lost.
    pub dark_until_us: u64,
    /// Nothing passes until then: it waits.
    pub stuck_until_us: u64,
    /// What really arrived.
    pub arrivals: Arrivals,
}

impl<'s> Line<'s> {
    /// The line that a seed wants.
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        ends: &'s Ends,
        link: Link,
        conditions: LineConditions,
        seed: u64,
        arrivals: Arrivals,
    ) -> Result<Self> {
        let medium = match link {
            Link::Udp => Medium::Udp {
                wire: Wire::new(conditions, seed),
                out: UdpSocket::bind("127.0.0.1:0").map_err(wrong)?,
            },
            Link::Serial { baud } => Medium::Serial {
                wire: SerialWire::new(conditions, baud, seed),
                passed: Vec::new(),
            },
        };
        Ok(Self {
            ends,
            medium,
            recorded: Vec::new(),
            dark_until_us: 0,
            stuck_until_us: 0,
            arrivals,
        })
    }

    /// Takes what transmit has sent; returns whether there was anything.
    ///
    /// # Errors
    /// The system's.
    pub fn take_sent(&mut self, now_us: u64) -> Result<bool> {
        let mut buffer = [0; 65_536];
        let is_dark = self.dark_until_us > now_us;
        let mut any = false;
        loop {
            let bytes = match &mut self.medium {
                Medium::Udp { .. } => self.ends.entrance.recv(&mut buffer).unwrap_or(0),
                Medium::Serial { .. } => self.ends.ports[0].read(&mut buffer).map_err(wrong)?,
            };
            if bytes == 0 {
                return Ok(any);
            }
            any = true;
            let sent = &buffer[..bytes];
            self.arrivals.handle_sent(sent);
            if self.recorded.len() < RECORDED_MAX {
                self.recorded.push(sent.to_vec());
            }
            match &mut self.medium {
                _ if is_dark => {}
                Medium::Udp { wire, .. } => {
                    wire.handle_datagram(Duration::from_micros(now_us), sent);
                }
                Medium::Serial { wire, passed } => wire.carry(sent, passed),
            }
        }
    }

    /// Returns what comes out of the line next.
    pub fn poll(&mut self, now_us: u64) -> Option<Vec<u8>> {
        if self.stuck_until_us > now_us {
            return None;
        }
        match &mut self.medium {
            Medium::Udp { wire, .. } => wire.poll_datagram(Duration::from_micros(now_us)),
            Medium::Serial { passed, .. } if passed.is_empty() => None,
            Medium::Serial { passed, .. } => {
                let rest = passed.split_off(passed.len().min(STRETCH_BYTES));
                Some(std::mem::replace(passed, rest))
            }
        }
    }

    /// Gives receive what came out of the line.
    ///
    /// # Errors
    /// The system's.
    pub fn hand_over(&mut self, now_us: u64, bytes: &[u8]) -> Result<()> {
        self.arrivals.handle_arrived(now_us, bytes);
        if let Medium::Udp { out, .. } = &self.medium {
            out.send_to(bytes, self.ends.listen).map_err(wrong)?;
            return Ok(());
        }
        let far = &self.ends.ports[1];
        let given = far.write(bytes).map_err(wrong)?;
        let wanted = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if given != bytes.len() || far.unread_bytes().map_err(wrong)? != wanted {
            return Err(wrong("the pseudo-terminal does not take a stretch at once"));
        }
        Ok(())
    }

    /// Takes away what receive left unread when it died.
    ///
    /// # Errors
    /// The system's.
    pub fn drop_unread(&self) -> Result<()> {
        match &self.medium {
            Medium::Udp { .. } => Ok(()),
            Medium::Serial { .. } => self.ends.ports[1].drop_unread().map_err(wrong),
        }
    }

    /// Returns whether transmit's end must be read after each frame.
    pub fn is_serial(&self) -> bool {
        matches!(self.medium, Medium::Serial { .. })
    }

    /// Returns what is not from transmit, or not from now: bytes of chance, or recorded ones.
    pub fn foreign(&self, prng: &mut Prng) -> Vec<u8> {
        if !self.recorded.is_empty() && prng.below(2) == 1 {
            let mut recorded = self.recorded[place(prng, self.recorded.len())].clone();
            recorded.truncate(match self.is_serial() {
                true => STRETCH_BYTES,
                false => usize::MAX,
            });
            return recorded;
        }
        let mut bytes = match self.is_serial() {
            true => vec![0; 1 + place(prng, STRETCH_BYTES)],
            false => vec![0; 1_472],
        };
        prng.fill(&mut bytes);
        bytes
    }
}
