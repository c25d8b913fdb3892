//! The kernel's tables of addresses, routes and interfaces, as files below `/proc/net`: a socket that asks for them could
//! also change them. They are opened before the fences, behind which there is no `/proc`, and read again for each look.
//!
//! A `receive` that its unit keeps off the network has a network of its own. There the unit shows it the tables of the host's.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use valise_common::limits;

/// Where the unit of `receive` mounts the tables of the host's network.
const MOUNTED: &str = "/run/valise-receiver/net";

/// The tables of this process's own network.
const OWN: &str = "/proc/self/net";

/// The flag of a route through a gateway (route(8), RTF_GATEWAY).
const ROUTE_GATEWAY: u32 = 2;

/// Columns of the table `dev`, after the interface's name.
const SENT_PACKETS: usize = 9;

/// Flags of an IPv6 address that another host has, or may have (if_addr.h, IFA_F_DADFAILED and IFA_F_TENTATIVE).
const NOT_YET_OURS: u32 = 0x08 | 0x40;

/// Frames that an interface has sent since the host was switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    /// The interface.
    pub interface: String,
    /// Its frames.
    pub packets: u64,
}

/// Returns whether this process's unit keeps it off the network.
pub(crate) fn is_mounted() -> bool {
    Path::new(MOUNTED).join("dev").exists()
}

/// The tables of the host's network. A file that is not there is a table that says nothing.
#[derive(Debug)]
pub(crate) struct NetTables {
    routes: Option<File>,
    local: Option<File>,
    addresses6: Option<File>,
    devices: Option<File>,
}

impl NetTables {
    /// Opens the tables. To be called before the fences.
    pub(crate) fn open() -> Self {
        let folder = Path::new(if is_mounted() { MOUNTED } else { OWN });
        let open = |name: &str| File::open(folder.join(name)).ok();
        Self {
            routes: open("route"),
            local: open("fib_trie"),
            addresses6: open("if_inet6"),
            devices: open("dev"),
        }
    }

    /// Returns whether this host has the address. A table that cannot be read counts as yes.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        if address.ip().is_unspecified() {
            return true;
        }
        match address {
            SocketAddr::V4(address) => read(self.local.as_ref())
                .is_none_or(|table| is_local(&table, address.ip().to_bits())),
            SocketAddr::V6(address) => read(self.addresses6.as_ref())
                .is_none_or(|table| is_assigned(&table, address.ip().octets(), address.scope_id())),
        }
    }

    /// Returns the count of the interface that has an address. Of the loopback interface, of an address that no interface
    /// has, and of the unspecified address there is none.
    pub(crate) fn sent(&self, address: IpAddr) -> Option<Count> {
        let interface = match address {
            IpAddr::V4(address) => {
                interface_by_route(&read(self.routes.as_ref())?, address.octets())
            }
            IpAddr::V6(address) => {
                interface_by_address(&read(self.addresses6.as_ref())?, address.octets())
            }
        };
        let interface = interface.filter(|name| name != "lo")?;
        let packets = sent_packets(&read(self.devices.as_ref())?, &interface)?;
        Some(Count { interface, packets })
    }
}

fn read(table: Option<&File>) -> Option<String> {
    let mut table = table?;
    let mut text = String::new();
    table.rewind().ok()?;
    table
        .take(limits::NET_TABLE_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// Looks for an entry of type LOCAL that holds the address: a line with a network, then one for each entry of it.
fn is_local(table: &str, address: u32) -> bool {
    let mut network = None;
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("|--") => {
                network = words.next().and_then(|word| word.parse().ok());
                false
            }
            Some(prefix) if line.ends_with(" LOCAL") => {
                let network = network.map(std::net::Ipv4Addr::to_bits);
                let bits = prefix.strip_prefix('/').and_then(|bits| bits.parse().ok());
                let differing = network.map_or(u32::MAX, |network| network ^ address);
                bits.is_some_and(|bits: u32| bits <= differing.leading_zeros())
            }
            _ => false,
        }
    })
}

fn is_assigned(table: &str, address: [u8; 16], scope: u32) -> bool {
    let wanted: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok();
        fields.first() == Some(&wanted.as_str())
            && (scope == 0 || number(1) == Some(scope))
            && number(4).is_some_and(|flags| flags & NOT_YET_OURS == 0)
    })
}

/// The interface of the narrowest network without a gateway that holds the address: the address's own.
fn interface_by_route(table: &str, address: [u8; 4]) -> Option<String> {
    // The kernel writes the bytes of an address as one number of this machine.
    let address = u32::from_ne_bytes(address);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok();
        let (network, flags, mask) = (number(1)?, number(3)?, number(7)?);
        let is_own = flags & ROUTE_GATEWAY == 0 && mask != 0 && address & mask == network;
        let name = fields.first().filter(|_| is_own)?;
        Some((mask.count_ones(), (*name).to_owned()))
    };
    let own = table.lines().skip(1).filter_map(route).max()?;
    Some(own.1)
}

fn interface_by_address(table: &str, address: [u8; 16]) -> Option<String> {
    let wanted: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = table.lines().find(|line| line.starts_with(&wanted))?;
    line.split_whitespace().last().map(str::to_owned)
}

fn sent_packets(table: &str, interface: &str) -> Option<u64> {
    let numbers = table.lines().find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == interface).then_some(numbers)
    })?;
    numbers.split_whitespace().nth(SENT_PACKETS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
        diode0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    const DEVICES: &str = "Inter-|   Receive                            |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs\n    \
        lo:  100   1 0 0 0 0 0 0  100  2 0 0 0 0 0 0\n\
        diode0: 900 3 0 0 0 0 0 0 700 4 0 0 0 0 0 0\n";
    const ADDRESSES: &str = "00000000000000000000000000000001 01 80 10 80       lo\n\
        20010db8000000000000000000000002 03 40 00 80   diode0\n";

    const LOCAL: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
        +-- 127.0.0.0/31 1 0 0\n           |-- 127.0.0.0\n              /8 host LOCAL\n           |-- 127.0.0.1\n\
                      /32 host LOCAL\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.2\n\
                /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_interface_of_an_address_is_found_and_its_frames_are_counted() {
        assert_eq!(interface_by_route(ROUTES, [10, 0, 2, 9]).unwrap(), "diode0");
        assert_eq!(interface_by_route(ROUTES, [10, 9, 9, 9]).unwrap(), "eth0");
        assert_eq!(interface_by_route(ROUTES, [192, 0, 2, 9]), None);
        let address = "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap();
        assert_eq!(
            interface_by_address(ADDRESSES, address.octets()).unwrap(),
            "diode0"
        );
        assert_eq!(sent_packets(DEVICES, "diode0"), Some(4));
        assert_eq!(sent_packets(DEVICES, "diode1"), None);
        assert_eq!(sent_packets("", "diode0"), None);
    }

    #[test]
    fn an_address_is_here_if_an_entry_or_a_network_of_this_host_holds_it() {
        let local =
            |text: &str| is_local(LOCAL, text.parse::<std::net::Ipv4Addr>().unwrap().to_bits());
        for here in ["127.0.0.1", "127.9.9.9", "192.0.2.2"] {
            assert!(local(here), "{here}");
        }
        for elsewhere in ["192.0.2.3", "192.0.2.255", "192.0.2.0", "8.8.8.8"] {
            assert!(!local(elsewhere), "{elsewhere}");
        }
        let octets = "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets();
        assert!(is_assigned(ADDRESSES, octets, 0) && is_assigned(ADDRESSES, octets, 3));
        assert!(!is_assigned(ADDRESSES, octets, 4));
        let tentative = ADDRESSES.replace("00 80   diode0", "00 40   diode0");
        assert!(!is_assigned(&tentative, octets, 0));
    }

    #[test]
    fn the_tables_of_this_host_are_read_again_and_again() {
        let tables = NetTables::open();
        for _ in 0..3 {
            assert!(tables.has("127.0.0.1:7000".parse().unwrap()));
            assert!(tables.has("0.0.0.0:7000".parse().unwrap()));
            assert!(!tables.has("192.0.2.77:7000".parse().unwrap()));
            assert!(!tables.has("[2001:db8::77]:7000".parse().unwrap()));
        }
        let none = NetTables {
            routes: None,
            local: None,
            addresses6: None,
            devices: None,
        };
        assert!(none.has("192.0.2.77:7000".parse().unwrap()));
        assert_eq!(none.sent("192.0.2.77".parse().unwrap()), None);
    }
}
