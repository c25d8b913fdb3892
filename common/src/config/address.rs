//! The addresses of a UDP link: those that can never carry a cable are refused before anything starts.

use std::net::{IpAddr, SocketAddr};

use super::ConfigError;

/// Checks an end of the link, or the address that datagrams leave from.
pub(super) fn check(key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
    fault(key, address).map_or(Ok(()), |rule| {
        Err(ConfigError::Address { key, address, rule })
    })
}

/// Checks that both addresses of a sender are of one family.
pub(super) fn check_family(to: SocketAddr, bind: SocketAddr) -> Result<(), ConfigError> {
    if to.is_ipv4() == bind.is_ipv4() {
        return Ok(());
    }
    Err(ConfigError::Address {
        key: "link.bind",
        address: bind,
        rule: "it must be of the family of link.to, IPv4 or IPv6",
    })
}

fn fault(key: &'static str, address: SocketAddr) -> Option<&'static str> {
    let ip = address.ip();
    if ip.is_multicast() {
        return Some(match key {
            // To join a group, the isolated host would have to send.
            "link.listen" => {
                "it is a multicast group, which the isolated host would have to send frames to join; use the address of \
                 its own interface, here and as link.to of the sender"
            }
            _ => {
                "it is a multicast group, which the isolated host would have to send frames to join; use the address of \
                 the receiver's own interface, here and as link.listen there"
            }
        });
    }
    if ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return Some("it is the broadcast address; use the receiver's own");
    }
    if ip.is_unspecified() && key == "link.to" {
        return Some("it names no host; use the diode's or the receiver's own address");
    }
    // The kernel chooses the port that datagrams leave from.
    if address.port() == 0 && key != "link.bind" {
        return Some("port 0 is no port; use the same on both hosts, such as 7000");
    }
    match address {
        SocketAddr::V6(address) if address.ip().to_ipv4_mapped().is_some() => {
            Some("it is an IPv4 address in IPv6 form; write it as IPv4")
        }
        SocketAddr::V6(address)
            if address.ip().is_unicast_link_local() && address.scope_id() == 0 =>
        {
            Some(
                "a link-local address needs its interface's number, as in \"[fe80::1%3]:7000\" (ip link shows the \
                 number); a static address is better",
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{ReceiverConfig, SenderConfig};

    fn sender(link: &str) -> Result<(), String> {
        let text = format!("state = \"s\"\n[link]\nkind = \"udp\"\n{link}\n");
        SenderConfig::parse(&text)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn receiver(address: &str) -> Result<(), String> {
        let text = format!("state = \"r\"\n[link]\nkind = \"udp\"\nlisten = \"{address}\"\n");
        ReceiverConfig::parse(&text)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn addresses_that_never_carry_a_cable_are_refused_on_both_hosts() {
        for (address, told) in [
            ("239.1.2.3:7000", "multicast"),
            ("224.0.0.1:7000", "multicast"),
            ("[ff12::1]:7000", "multicast"),
            ("255.255.255.255:7000", "broadcast"),
            ("192.0.2.2:0", "port 0"),
            ("[fe80::2]:7000", "interface's number"),
            ("[::ffff:192.0.2.2]:7000", "as IPv4"),
        ] {
            let errors = [sender(&format!("to = \"{address}\"")), receiver(address)];
            for (error, key) in errors.into_iter().zip(["link.to", "link.listen"]) {
                let error = error.unwrap_err();
                assert!(
                    error.contains(told) && error.contains(key),
                    "{address}: {error}"
                );
                assert!(error.contains(address), "{error}");
            }
        }
        assert!(
            sender("to = \"0.0.0.0:7000\"")
                .unwrap_err()
                .contains("names no host")
        );
        assert!(
            sender("to = \"[::]:7000\"")
                .unwrap_err()
                .contains("names no host")
        );
    }

    #[test]
    fn the_address_that_datagrams_leave_from_is_checked_too() {
        let bind = |bind: &str| sender(&format!("to = \"192.0.2.2:7000\"\nbind = \"{bind}\""));
        bind("192.0.2.1:0").unwrap();
        bind("0.0.0.0:7001").unwrap();
        assert!(bind("239.1.2.3:0").unwrap_err().contains("multicast"));
        assert!(bind("[2001:db8::1]:0").unwrap_err().contains("family"));
    }

    #[test]
    fn addresses_of_one_host_are_taken() {
        for address in ["192.0.2.2:7000", "[2001:db8::2]:7000", "[fe80::2%3]:7000"] {
            sender(&format!("to = \"{address}\"")).unwrap();
            receiver(address).unwrap();
        }
        receiver("0.0.0.0:7000").unwrap();
    }
}
