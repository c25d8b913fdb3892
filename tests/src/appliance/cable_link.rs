//! The one-way link between both hosts: two pairs of virtual interfaces in a network of their own. Frames of the sender
//! are redirected to the receiver. Nothing is carried back, so nobody answers ARP. Frames that the receiver sends are
//! counted.

use super::Result;
use super::root::tool;
use super::script::Side;
use crate::harness::HarnessError;

/// The network that holds the far ends of both pairs.
const NETWORK: &str = "valise-link";

/// The hardware address of the receiver's interface, as in README.md.
const RECEIVER_MAC: &str = "02:00:00:00:00:02";

/// The name of the interface on both hosts, as in README.md.
const INTERFACE: &str = "diode0";

/// A one-way link between both hosts.
pub trait Link: std::fmt::Debug {
    /// Gives a host its interface; `process` is a process in the host's network.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn attach(&mut self, side: Side, process: Option<u32>) -> Result<()>;

    /// Forgets a host's interface, which disappeared with the host.
    fn detach(&mut self, side: Side);

    /// Lets frames through, or blocks all of them.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn set_open(&mut self, is_open: bool) -> Result<()>;

    /// Returns the number of frames that the receiver has sent since the link was made.
    ///
    /// # Errors
    /// If they cannot be counted.
    fn returned_frames(&self) -> Result<u64>;
}

/// The link between two containers.
#[derive(Debug)]
pub struct CableLink {
    is_open: bool,
    attached: [bool; 2],
}

const fn far_end(side: Side) -> &'static str {
    match side {
        Side::Sender => "far-sender",
        Side::Receiver => "far-receiver",
    }
}

const fn index(side: Side) -> usize {
    match side {
        Side::Sender => 0,
        Side::Receiver => 1,
    }
}

fn inside(words: &[&str]) -> Result<String> {
    let mut all = vec!["ip", "netns", "exec", NETWORK];
    all.extend(words);
    tool(&all)
}

impl CableLink {
    /// Makes the network, which must not exist yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<Self> {
        let _ = tool(&["ip", "netns", "delete", NETWORK]);
        tool(&["ip", "netns", "add", NETWORK])?;
        inside(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])?;
        inside(&[
            "nft",
            "add table netdev watch; add counter netdev watch returned",
        ])?;
        Ok(Self {
            is_open: true,
            attached: [false; 2],
        })
    }

    fn connect(&self) -> Result<()> {
        if !self.attached[0] {
            return Ok(());
        }
        let from = far_end(Side::Sender);
        let _ = inside(&["tc", "qdisc", "del", "dev", from, "ingress"]);
        inside(&["tc", "qdisc", "add", "dev", from, "ingress"])?;
        if self.is_open && self.attached[1] {
            let filter = "filter add dev far-sender parent ffff: protocol all u32 match u32 0 0 \
                          action mirred egress redirect dev far-receiver";
            let words: Vec<&str> = ["tc"]
                .into_iter()
                .chain(filter.split_whitespace())
                .collect();
            inside(&words)?;
        }
        Ok(())
    }
}

impl Link for CableLink {
    fn attach(&mut self, side: Side, process: Option<u32>) -> Result<()> {
        let pid = process.ok_or_else(|| HarnessError::Wrong("the host does not run".into()))?;
        let far = far_end(side);
        let _ = inside(&["ip", "link", "delete", far]);
        let mut words = vec![
            "ip", "link", "add", far, "type", "veth", "peer", "name", INTERFACE,
        ];
        if side == Side::Receiver {
            words.extend(["address", RECEIVER_MAC]);
        }
        let pid = pid.to_string();
        words.extend(["netns", &pid]);
        inside(&words)?;
        inside(&["ip", "link", "set", far, "arp", "off", "up"])?;
        self.attached[index(side)] = true;
        if side == Side::Receiver {
            inside(&[
                "nft",
                &format!(
                    "add chain netdev watch {far} {{ type filter hook ingress device \"{far}\" priority 0; }}; \
                     flush chain netdev watch {far}; add rule netdev watch {far} counter name returned drop"
                ),
            ])?;
        }
        self.connect()
    }

    fn detach(&mut self, side: Side) {
        self.attached[index(side)] = false;
        let _ = inside(&["ip", "link", "delete", far_end(side)]);
    }

    fn set_open(&mut self, is_open: bool) -> Result<()> {
        self.is_open = is_open;
        self.connect()
    }

    fn returned_frames(&self) -> Result<u64> {
        let text = inside(&["nft", "list", "counter", "netdev", "watch", "returned"])?;
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| HarnessError::Wrong(format!("no counter in: {text}")))
    }
}

impl Drop for CableLink {
    fn drop(&mut self) {
        let _ = tool(&["ip", "netns", "delete", NETWORK]);
    }
}
