//! Frames that leave by the interface of the link. `receive` sends none, but the kernel may: answers to ARP and neighbour
//! discovery, ICMP, IPv6's own announcements. An isolated host must send nothing, and an operator should know if it does.
//!
//! The kernel's tables are read below `/proc/net`: a socket that asks for them could also change them.

use std::fs;
use std::net::IpAddr;

use valise_common::alarm::Cause;
use valise_common::units::Mono;

/// The alarm ends when the interface has sent nothing for so long.
const QUIET_US: u64 = 3_600 * 1_000_000;

/// The flag of a route through a gateway (route(8), RTF_GATEWAY).
const ROUTE_GATEWAY: u32 = 2;

/// Columns of `/proc/net/dev`, after the interface's name.
const SENT_PACKETS: usize = 9;

/// Frames that an interface has sent since the host was switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    interface: String,
    packets: u64,
}

/// Frames that have left since the process started.
#[derive(Debug, Default)]
pub struct Egress {
    last: Option<Count>,
    sent: u64,
    rose_at: Option<Mono>,
}

impl Egress {
    /// Takes the newest count, if the interface is known.
    pub fn handle_count(&mut self, now: Mono, count: Option<Count>) {
        let Some(count) = count else { return };
        if let Some(last) = &self.last
            && last.interface == count.interface
            && last.packets < count.packets
        {
            self.sent = self.sent.saturating_add(count.packets - last.packets);
            self.rose_at = Some(now);
        }
        self.last = Some(count);
    }

    /// Returns the text of the alarm, if a frame has left lately.
    pub fn alarm(&self, now: Mono) -> Option<Cause> {
        let interface = &self.last.as_ref()?.interface;
        let is_recent = |rose_at: Mono| now.since_us(rose_at) < QUIET_US;
        self.rose_at.is_some_and(is_recent).then(|| {
            let repair = format!("sudo systemctl enable --now valise-receiver-silence@{interface}");
            let text = format!(
                "{} frames have left this isolated host through {interface} since receive started, the last within the \
                 hour; receive sends none: drop what the kernel sends with systemctl enable --now \
                 valise-receiver-silence@{interface}, and look for other programs that use {interface}",
                self.sent
            );
            Cause::repaired_by(text, repair)
        })
    }
}

/// Reads the count of the interface that has an address. Of the loopback interface, of an address that no interface has,
/// and of the unspecified address there is none.
pub fn count(address: IpAddr) -> Option<Count> {
    let interface = match address {
        IpAddr::V4(address) => {
            let table = fs::read_to_string("/proc/net/route").ok()?;
            interface_by_route(&table, address.octets())
        }
        IpAddr::V6(address) => {
            let table = fs::read_to_string("/proc/net/if_inet6").ok()?;
            interface_by_address(&table, address.octets())
        }
    };
    let interface = interface.filter(|name| name != "lo")?;
    let table = fs::read_to_string("/proc/net/dev").ok()?;
    let packets = sent_packets(&table, &interface)?;
    Some(Count { interface, packets })
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

    fn count(packets: u64) -> Option<Count> {
        let interface = "diode0".to_owned();
        Some(Count { interface, packets })
    }

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
    fn frames_are_an_alarm_until_none_has_left_for_an_hour() {
        let mut egress = Egress::default();
        // What left before the start is not its matter.
        egress.handle_count(Mono(0), count(40));
        egress.handle_count(Mono(1), count(40));
        assert_eq!(egress.alarm(Mono(1)), None);
        egress.handle_count(Mono(2), count(43));
        egress.handle_count(Mono(3), None);
        let text = egress.alarm(Mono(4)).unwrap().text;
        assert!(text.starts_with("3 frames"), "{text}");
        assert!(text.contains("valise-receiver-silence@diode0"), "{text}");
        assert_eq!(egress.alarm(Mono(2 + QUIET_US)), None);
        // An interface that was made anew counts from 0 again.
        egress.handle_count(Mono(3 + QUIET_US), count(0));
        assert_eq!(egress.alarm(Mono(3 + QUIET_US)), None);
    }
}
