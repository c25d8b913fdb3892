//! Whether a datagram would leave this host: the kernel's route to the receiver, the carrier of its interface, and the
//! neighbour entry of its next hop.
//!
//! A socket takes datagrams without a word when the interface has no carrier or the next hop no link address: the kernel
//! drops them. On a diode nobody answers ARP or neighbour discovery, so that a host without a permanent entry sends nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::libc;

use super::netlink::{Answer, Netlink, number_at, short_at};

// rtnetlink(7), and linux/{rtnetlink,if_link,neighbour}.h: the numbers are part of the kernel's interface.
const GET_LINK: u16 = 18;
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_SOURCE: u16 = 2;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_VIA: u16 = 18;
const ROUTE_UNICAST: u8 = 1;
const ROUTE_LOCAL: u8 = 2;
const LINK_NAME: u16 = 3;
const LINK_FILTER: u16 = 29;
const LINK_CARRIER_LOSSES: u16 = 48;
const LINK_WITHOUT_STATISTICS: u32 = 1 << 3;
const NEIGHBOUR_ADDRESS: u16 = 1;
const FLAG_UP: u32 = 1;
const FLAG_LOOPBACK: u32 = 1 << 3;
const FLAG_POINT_TO_POINT: u32 = 1 << 4;
const FLAG_RUNNING: u32 = 1 << 6;
const FLAG_NO_ARP: u32 = 1 << 7;
const FLAG_CARRIER: u32 = 1 << 16;
const INCOMPLETE: u16 = 0x01;
const FAILED: u16 = 0x20;
/// REACHABLE, STALE, DELAY, PROBE, NOARP and PERMANENT: the kernel has a link address and sends to it.
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// The way to the receiver, good as far as this host can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// The interface that datagrams leave through.
    interface: u32,
    /// How often the interface has lost its carrier: a loss between two looks shows here.
    carrier_losses: u32,
}

/// The reason why no datagram leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// No route leads to the receiver.
    NoRoute(IpAddr),
    /// The address is not one host's: a broadcast address, for example.
    NotOneHost(IpAddr),
    /// The interface is switched off.
    InterfaceDown(String),
    /// The interface has no carrier.
    NoCarrier(String),
    /// The next hop has no usable neighbour entry.
    NoNeighbour {
        /// The interface.
        interface: String,
        /// The next hop: the receiver, the diode or a gateway.
        next_hop: IpAddr,
        /// The state of the entry.
        found: Entry,
    },
    /// The source address of the configuration is not this host's.
    NoSource(SocketAddr),
    /// The kernel refuses to send.
    Refused(Errno),
}

/// A neighbour entry that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There is none.
    None,
    /// The kernel asks for the link address, and nobody has answered yet.
    Incomplete,
    /// Nobody answered.
    Failed,
}

/// What a look at the way found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// Datagrams leave.
    Good(Way),
    /// They do not.
    Down(Obstacle),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Entry::None => "none",
            Entry::Incomplete => "incomplete",
            Entry::Failed => "failed",
        })
    }
}

impl Obstacle {
    /// Returns the command that removes it, if there is one.
    pub(crate) fn repair(&self) -> Option<String> {
        match self {
            // The kernel drops the routes of an interface that is down.
            Obstacle::NoRoute(to) => Some(format!(
                "ip link set dev INTERFACE up, or ip route add {to} dev INTERFACE"
            )),
            Obstacle::InterfaceDown(name) => Some(format!("ip link set dev {name} up")),
            Obstacle::NoCarrier(name) => Some(format!("ip link show dev {name}")),
            Obstacle::NoNeighbour {
                interface,
                next_hop,
                ..
            } => Some(format!(
                "ip neigh replace {next_hop} lladdr MAC dev {interface} nud permanent"
            )),
            Obstacle::NoSource(address) => Some(format!(
                "ip address add {}/PREFIX dev INTERFACE",
                address.ip()
            )),
            Obstacle::NotOneHost(_) | Obstacle::Refused(_) => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoRoute(to) => write!(f, "there is no route to {to}"),
            Obstacle::NotOneHost(to) => write!(
                f,
                "{to} is a broadcast or multicast address: set link.to to the diode's or the receiver's own"
            ),
            Obstacle::InterfaceDown(name) => {
                write!(f, "interface {name} is down")
            }
            Obstacle::NoCarrier(name) => write!(
                f,
                "interface {name} has no carrier: look at the cable, the diode and its power"
            ),
            Obstacle::NoNeighbour {
                interface,
                next_hop,
                found,
            } => write!(
                f,
                "{next_hop} has no usable neighbour entry on {interface} ({found}), and a diode never answers"
            ),
            Obstacle::NoSource(address) => {
                write!(f, "{address} (link.bind) is not an address of this host")
            }
            Obstacle::Refused(errno) => write!(
                f,
                "the kernel refuses to send ({}): look at the firewall, RestrictNetworkInterfaces= and the way to link.to",
                errno.desc()
            ),
        }
    }
}

/// Looks at the way to the receiver.
pub(crate) struct RouteWatch {
    netlink: Netlink,
    to: SocketAddr,
    bind: Option<SocketAddr>,
}

impl RouteWatch {
    /// Prepares to look. To be called before the fences.
    ///
    /// # Errors
    /// If the kernel or the service manager refuses the socket.
    pub(crate) fn open(to: SocketAddr, bind: Option<SocketAddr>) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            to,
            bind: bind.filter(|bind| !bind.ip().is_unspecified()),
        })
    }

    /// Looks at the way as it is now.
    ///
    /// # Errors
    /// [`Errno`] if the kernel's tables cannot be read.
    pub(crate) fn look(&mut self) -> Result<Look, Errno> {
        let to = self.to.ip();
        let route = match self.route() {
            Ok(route) => route,
            // None, unreachable, prohibited, a blackhole, no such interface, or a source address that is not here.
            Err(
                Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::EACCES
                | Errno::EINVAL
                | Errno::ENODEV
                | Errno::EADDRNOTAVAIL,
            ) => return Ok(Look::Down(self.without_route())),
            Err(errno) => return Err(errno),
        };
        match route.header.get(7).copied() {
            Some(ROUTE_LOCAL | ROUTE_UNICAST) => {}
            _ => return Ok(Look::Down(Obstacle::NotOneHost(to))),
        }
        let Some(interface) = route.number(ROUTE_INTERFACE) else {
            return Ok(Look::Down(self.without_route()));
        };
        let link = self.link(interface)?;
        let flags = number_at(&link.header, 8).unwrap_or(0);
        let name = || {
            let name = link.attribute(LINK_NAME).unwrap_or_default();
            String::from_utf8_lossy(name)
                .trim_end_matches('\0')
                .to_owned()
        };
        if flags & FLAG_UP == 0 {
            return Ok(Look::Down(Obstacle::InterfaceDown(name())));
        }
        if flags & FLAG_CARRIER == 0 || flags & FLAG_RUNNING == 0 {
            return Ok(Look::Down(Obstacle::NoCarrier(name())));
        }
        if flags & (FLAG_LOOPBACK | FLAG_POINT_TO_POINT | FLAG_NO_ARP) == 0 {
            let next_hop = gateway(&route).unwrap_or(to);
            if let Some(found) = self.unusable(interface, next_hop)? {
                return Ok(Look::Down(Obstacle::NoNeighbour {
                    interface: name(),
                    next_hop,
                    found,
                }));
            }
        }
        Ok(Look::Good(Way {
            interface,
            carrier_losses: link.number(LINK_CARRIER_LOSSES).unwrap_or(0),
        }))
    }

    fn without_route(&mut self) -> Obstacle {
        let bind = self.bind;
        match bind.filter(|bind| !self.is_here(bind.ip())) {
            Some(bind) => Obstacle::NoSource(bind),
            None => Obstacle::NoRoute(self.to.ip()),
        }
    }

    /// Returns whether the kernel delivers what is sent to an address to this host.
    fn is_here(&mut self, address: IpAddr) -> bool {
        let octets = octets(address);
        let mut header = [0; 12];
        header[0] = family(address);
        header[1] = bits(&octets);
        let route = self
            .netlink
            .ask(GET_ROUTE, &header, &[(ROUTE_DESTINATION, &octets)]);
        route.is_ok_and(|route| route.header.get(7) == Some(&ROUTE_LOCAL))
    }

    /// Returns the kernel's own answer, so that every table and rule counts.
    fn route(&mut self) -> Result<Answer, Errno> {
        let to = octets(self.to.ip());
        let from = self.bind.map(|bind| octets(bind.ip()));
        let mut header = [0; 12];
        header[0] = family(self.to.ip());
        header[1] = bits(&to);
        let scope = match self.to {
            SocketAddr::V6(to) if to.scope_id() != 0 => Some(to.scope_id().to_ne_bytes()),
            _ => None,
        };
        let mut attributes: Vec<(u16, &[u8])> = vec![(ROUTE_DESTINATION, &to)];
        if let Some(from) = &from {
            header[2] = bits(from);
            attributes.push((ROUTE_SOURCE, from));
        }
        if let Some(scope) = &scope {
            attributes.push((ROUTE_INTERFACE, scope));
        }
        self.netlink.ask(GET_ROUTE, &header, &attributes)
    }

    fn link(&mut self, interface: u32) -> Result<Answer, Errno> {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&interface.to_ne_bytes());
        let filter = LINK_WITHOUT_STATISTICS.to_ne_bytes();
        self.netlink
            .ask(GET_LINK, &header, &[(LINK_FILTER, &filter)])
    }

    /// Returns the state of the next hop's entry if datagrams cannot be sent to it.
    fn unusable(&mut self, interface: u32, next_hop: IpAddr) -> Result<Option<Entry>, Errno> {
        let mut header = [0; 12];
        header[0] = family(next_hop);
        header[4..8].copy_from_slice(&interface.to_ne_bytes());
        let address = octets(next_hop);
        let asked = self
            .netlink
            .ask(GET_NEIGHBOUR, &header, &[(NEIGHBOUR_ADDRESS, &address)]);
        match asked {
            Ok(entry) => Ok(judge(short_at(&entry.header, 8).unwrap_or(0))),
            Err(Errno::ENOENT) => Ok(Some(Entry::None)),
            Err(errno) => Err(errno),
        }
    }
}

fn judge(state: u16) -> Option<Entry> {
    match state {
        state if state & USABLE != 0 => None,
        FAILED => Some(Entry::Failed),
        INCOMPLETE => Some(Entry::Incomplete),
        _ => Some(Entry::None),
    }
}

/// Returns the gateway of a route, which may be of the other family (RTA_VIA: family u16, address).
fn gateway(route: &Answer) -> Option<IpAddr> {
    let via = route.attribute(ROUTE_VIA).and_then(|via| via.get(2..));
    let address = route.attribute(ROUTE_GATEWAY).or(via)?;
    match address.len() {
        4 => <[u8; 4]>::try_from(address)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(address)
            .ok()
            .map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn bits(octets: &[u8]) -> u8 {
    u8::try_from(octets.len() * 8).unwrap_or(u8::MAX)
}

fn family(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Gives this test's thread a network of its own: `near` with both addresses, and `far`, which answers nothing. Returns
    /// `false` where that is not allowed.
    fn enter_network() -> bool {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("skipped: making a network namespace is not allowed here");
            return false;
        }
        for words in [
            "link set lo up",
            "link add near type veth peer name far",
            "link set far arp off",
            "link set far up",
            "link set near up",
            "address add 192.0.2.1/24 dev near",
            "address add 2001:db8::1/64 dev near nodad",
        ] {
            ip(words);
        }
        true
    }

    fn ip(words: &str) {
        let output = Command::new("ip").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {words}: {output:?}");
    }

    /// Looks until the answer is as wanted: the kernel takes a moment over a changed link.
    fn await_look(to: &str, bind: Option<&str>, wanted: impl Fn(&Look) -> bool) -> Look {
        let bind = bind.map(|bind| bind.parse().unwrap());
        let mut watch = RouteWatch::open(to.parse().unwrap(), bind).unwrap();
        let start = std::time::Instant::now();
        loop {
            let look = watch.look().unwrap();
            if wanted(&look) {
                return look;
            }
            assert!(start.elapsed().as_secs() < 20, "{look:?}");
            std::thread::yield_now();
        }
    }

    /// The alarm names the obstacle and the command that ends it.
    fn assert_blocked(to: &str, bind: Option<&str>, cause: &str, command: &str) {
        let is_down =
            |look: &Look| matches!(look, Look::Down(why) if why.to_string().contains(cause));
        let Look::Down(obstacle) = await_look(to, bind, is_down) else {
            panic!("not down")
        };
        let text = format!("{obstacle}: {}", obstacle.repair().unwrap_or_default());
        assert!(text.contains(command), "{text}");
    }

    fn way(to: &str) -> Way {
        match await_look(to, None, |look| matches!(look, Look::Good(_))) {
            Look::Good(way) => way,
            Look::Down(_) => unreachable!("awaited"),
        }
    }

    #[test]
    fn each_obstacle_is_named_with_the_command_that_ends_it_in_both_families() {
        if !enter_network() {
            return;
        }
        for (to, hop, elsewhere) in [
            ("192.0.2.2:7000", "192.0.2.2", "203.0.113.9:7000"),
            ("[2001:db8::2]:7000", "2001:db8::2", "[2001:db8:9::9]:7000"),
        ] {
            assert_blocked(elsewhere, None, "no route", "ip route add");
            let command = format!("ip neigh replace {hop} lladdr MAC dev near nud permanent");
            assert_blocked(to, None, "neighbour entry on near (none)", &command);
            ip(&format!(
                "neigh replace {hop} lladdr 02:00:00:00:00:01 dev near nud failed"
            ));
            assert_blocked(to, None, "(failed)", &command);
            ip(&format!(
                "neigh replace {hop} lladdr 02:00:00:00:00:01 dev near nud permanent"
            ));
            let before = way(to);
            // A gateway is the next hop then.
            let far: SocketAddr = elsewhere.parse().unwrap();
            ip(&format!("route add {} via {hop}", far.ip()));
            way(elsewhere);
            ip("link set far down");
            assert_blocked(to, None, "no carrier", "ip link show dev near");
            ip("link set far up");
            assert_ne!(way(to), before, "a carrier that was lost in between shows");
            ip("neigh flush dev near");
            ip(&format!(
                "neigh replace {hop} lladdr 02:00:00:00:00:01 dev near nud stale"
            ));
            way(to);
        }
        assert_blocked(
            "192.0.2.2:7000",
            Some("192.0.2.77:0"),
            "192.0.2.77",
            "ip address add",
        );
        ip("link set near arp off");
        ip("neigh flush dev near");
        way("192.0.2.2:7000");
        ip("link set near down");
        assert_blocked(
            "192.0.2.2:7000",
            None,
            "no route",
            "ip link set dev INTERFACE up",
        );
    }

    #[test]
    fn the_way_to_this_host_itself_is_good() {
        for to in ["127.0.0.1:9", "127.8.8.8:9"] {
            let mut watch = RouteWatch::open(to.parse().unwrap(), None).unwrap();
            let look = watch.look().unwrap();
            assert!(matches!(look, Look::Good(_)), "{look:?}");
            assert_eq!(watch.look().unwrap(), look);
        }
    }

    #[test]
    fn a_broadcast_address_is_not_one_host() {
        let mut watch = RouteWatch::open("127.255.255.255:9".parse().unwrap(), None).unwrap();
        let to = "127.255.255.255".parse().unwrap();
        assert_eq!(watch.look().unwrap(), Look::Down(Obstacle::NotOneHost(to)));
    }

    #[test]
    fn states_without_a_link_address_are_of_no_use() {
        for usable in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
            assert_eq!(judge(usable), None);
        }
        assert_eq!(judge(0x01), Some(Entry::Incomplete));
        assert_eq!(judge(0x20), Some(Entry::Failed));
        assert_eq!(judge(0), Some(Entry::None));
    }
}
