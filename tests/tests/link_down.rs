//! A link that is down: nothing counts as sent, an alarm has the cause and the command that ends it, and the cable is
//! sent when the link is up, without an operator. The test uses real network namespaces and a real pair of interfaces.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World, remark};

const LIMIT: Duration = Duration::from_secs(60);
const SENDER: &str = "192.0.2.1";
const RECEIVER: &str = "192.0.2.2";

/// A network namespace that lives as long as a process in it.
struct Network(Child);

impl Network {
    /// Makes a network; `None` if that is not allowed.
    fn make() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let own = fs::read_link("/proc/self/ns/net").ok()?;
        loop {
            let its = fs::read_link(format!("/proc/{}/ns/net", child.id())).ok();
            if its.is_some_and(|its| its != own) {
                return Some(Self(child));
            }
            if child.try_wait().ok()?.is_some() {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// The words that run a program in it, to be put before the program's command line.
    fn launcher(&self) -> Vec<String> {
        let pid = self.0.id().to_string();
        ["/usr/bin/nsenter", "-t", &pid, "-n", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn ip(&self, words: &str) -> String {
        let launcher = self.launcher();
        let output = Command::new(&launcher[0])
            .args(&launcher[1..])
            .arg("ip")
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "ip {words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both hosts, each in its network, and the two ends of the line between them.
struct Site {
    world: World,
    near: Network,
    far: Network,
}

impl Site {
    /// Commissions both hosts; `None` if namespaces are not allowed. The receiver answers no ARP, like a receiver at a
    /// diode.
    fn make() -> Option<Self> {
        let (Some(near), Some(far)) = (Network::make(), Network::make()) else {
            remark("SKIPPED: making a network namespace is not allowed here");
            return None;
        };
        // One pass without repair: every lost datagram makes the cable missing.
        let settings = Settings {
            passes: 1,
            repair: "0 %".to_owned(),
            rate: "16 Mbit/s".to_owned(),
            ..Settings::default()
        };
        let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
        let address = world.receiver_address().to_string();
        let port = world.receiver_address().port();
        for host in [Host::Sender, Host::Receiver] {
            let path = world.configuration(host);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(&address));
            let text = text.replace(&address, &format!("{RECEIVER}:{port}"));
            fs::write(&path, text).unwrap();
        }
        let peer = far.0.id();
        near.ip(&format!(
            "link add near type veth peer name far netns {peer}"
        ));
        for (network, name, address) in [(&near, "near", SENDER), (&far, "far", RECEIVER)] {
            network.ip("link set lo up");
            network.ip(&format!("address add {address}/24 dev {name}"));
        }
        far.ip("link set far arp off");
        near.ip("link set near up");
        world.start_by(Host::Sender, near.launcher());
        world.start_by(Host::Receiver, far.launcher());
        // The harness cannot check the port of receive, which is in another network; gate must run before a submission.
        for role in [Role::Receive, Role::Release, Role::Transmit] {
            world.launch_role(role).unwrap();
        }
        world.start_role(Role::Gate).unwrap();
        Some(Self { world, near, far })
    }

    fn neighbour(&self) -> String {
        let shown = self.far.ip("link show dev far");
        let mut words = shown.split_whitespace();
        words.find(|word| *word == "link/ether").unwrap();
        let address = words.next().unwrap();
        format!("neigh replace {RECEIVER} lladdr {address} dev near nud permanent")
    }

    fn submit(&mut self, reference: &str, bytes: u64) -> (String, Submission) {
        let name = format!("{reference}.bin");
        let file = self.world.generate_file(&name, bytes, 7).unwrap();
        let submission = Submission::new(reference, &[file]);
        let id = self.world.send(&submission).unwrap();
        (id, submission)
    }

    /// Waits until `status --check` fails with an alarm that has the cause and the command; the cable waits meanwhile.
    fn await_alarm(&mut self, id: &str, cause: &str, command: &str) {
        let what = format!("the alarm of {cause}");
        let line = self.world.await_alive(&what, LIMIT, &[], |world| {
            let answer = world.run(Host::Sender, &["status", "--check"])?;
            let mut lines = answer.output.lines();
            let found = lines.find(|line| line.starts_with("link-down: ") && line.contains(cause));
            Ok(found.map(|line| (answer.status, line.to_owned())))
        });
        let (status, line) = line.unwrap();
        assert_eq!(status, 1);
        assert!(line.contains(command), "{line}");
        let list = self.world.json(Host::Sender, &["list"]).unwrap();
        let mut cables = list.as_array().unwrap().iter();
        let cable = cables.find(|cable| cable["id"] == id).unwrap();
        assert_ne!(cable["state"], "transmitted", "{cable}");
    }

    fn await_released(&mut self, id: &str, submission: &Submission) {
        self.world.await_released(id, submission, LIMIT).unwrap();
        self.world
            .await_alive("the end of the alarm", LIMIT, &[], |world| {
                let answer = world.run(Host::Sender, &["status", "--check"])?;
                Ok((!answer.output.contains("link-down")).then_some(()))
            })
            .unwrap();
    }
}

#[test]
fn a_cable_waits_for_carrier_neighbour_and_route_and_arrives_when_each_is_there() {
    let Some(mut site) = Site::make() else {
        return;
    };
    // At the start the far end is not switched on yet.
    let (id, submission) = site.submit("carrier", 2_000);
    site.await_alarm(&id, "near has no carrier", "ip link show dev near");
    site.far.ip("link set far up");
    site.await_alarm(
        &id,
        "no usable neighbour entry on near",
        "ip neigh replace 192.0.2.2 lladdr MAC dev near nud permanent",
    );
    site.near.ip(&site.neighbour());
    site.await_released(&id, &submission);

    site.near.ip("route del 192.0.2.0/24 dev near");
    let (id, submission) = site.submit("route", 2_000);
    site.await_alarm(
        &id,
        "no route to 192.0.2.2",
        "up, or ip route add 192.0.2.2 dev",
    );
    site.near.ip("route add 192.0.2.2 dev near");
    site.await_released(&id, &submission);

    // If ARP is answered, no command is needed.
    site.near.ip(&format!("neigh del {RECEIVER} dev near"));
    site.far.ip("link set far arp on");
    let (id, submission) = site.submit("resolved", 2_000);
    site.await_released(&id, &submission);
    // But the isolated host has sent its answer, and reports that.
    site.world
        .await_alive("the alarm of what was sent", LIMIT, &[], |world| {
            let answer = world.run(Host::Receiver, &["status", "--check"])?;
            let mut lines = answer.output.lines();
            Ok(lines
                .any(|line| line.starts_with("egress: ") && line.contains(" far "))
                .then_some(()))
        })
        .unwrap();
}

#[test]
fn a_pass_that_loses_its_carrier_is_sent_again() {
    let Some(mut site) = Site::make() else {
        return;
    };
    site.far.ip("link set far up");
    site.near.ip(&site.neighbour());
    // Six seconds on the link.
    let (id, submission) = site.submit("interrupted", 12_000_000);
    site.world
        .await_alive("half of the pass", LIMIT, &[], |world| {
            let status = world.json(Host::Sender, &["status"])?;
            let on_link = &status["roles"]["transmit"]["view"]["on_link"][0];
            let position = on_link["position"].as_u64().unwrap_or(0);
            let half = on_link["source_symbols"].as_u64().unwrap_or(u64::MAX) / 2;
            Ok((position > 0 && position >= half / 2).then_some(()))
        })
        .unwrap();
    site.far.ip("link set far down");
    site.await_alarm(&id, "no carrier", "ip link show");
    site.far.ip("link set far up");
    site.await_released(&id, &submission);
}
