//! The precision with which the sender keeps its rate, measured at the other end of the link.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::figure::Figure;
use super::note_memory;
use super::options::Options;
use super::report::Report;
use crate::harness::{HarnessError, Host, Programs, Result, Role, Settings, Submission, World};

/// Bytes of an IPv4 packet with a datagram of 1472 bytes, which the rate counts.
const WIRE_BYTES: f64 = 1_500.0;
/// The link's rates: the text in the configuration, bit/s, and bytes of a cable that takes some seconds.
const RATES: [(&str, f64, u64); 2] = [
    ("50 Mbit/s", 50e6, 25_000_000),
    ("1 Gbit/s", 1e9, 400_000_000),
];
/// A longer time without a datagram means the end of the cable.
const GAP: Duration = Duration::from_millis(300);

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let place = options.one_place();
    let parent = place.folder();
    std::fs::create_dir_all(&parent).map_err(|error| HarnessError::io("make", &parent, error))?;
    for (word, rate, cable_bytes) in RATES {
        let settings = Settings {
            rate: word.into(),
            passes: 1,
            parent: Some(parent.clone()),
            ..Settings::default()
        };
        let with = format!("{word}, 1472, {cable_bytes} bytes, {}", place.word());
        let mut whole =
            Figure::new("deviation from the rate, whole cable", "%", &with).at_most(2.0, 1.0);
        let mut seconds =
            Figure::new("deviation from the rate, worst second", "%", &with).at_most(2.0, 1.0);
        let mut world = World::commission(Programs::beside_this()?, settings)?;
        let socket = listen(&world)?;
        world.start_role(Role::Gate)?;
        world.start_role(Role::Transmit)?;
        let file = world.generate_file("paced.bin", cable_bytes, 6)?;
        for run in 0..options.runs() {
            world.send(&Submission::new(
                &format!("run {run}"),
                std::slice::from_ref(&file),
            ))?;
            let arrivals = observe(&world, &socket)?;
            let (of_whole, of_second) = deviations(&arrivals, rate);
            whole.samples.push(of_whole);
            seconds.samples.push(of_second);
        }
        note_memory(&world, report);
        report.add(whole);
        report.add(seconds);
    }
    Ok(())
}

fn listen(world: &World) -> Result<UdpSocket> {
    let here = world.state(Host::Receiver);
    let fail = |error: std::io::Error| HarnessError::io("listen for", &here, error);
    let socket = UdpSocket::bind(world.receiver_address()).map_err(fail)?;
    let asked = 64 << 20;
    if setsockopt(&socket, sockopt::RcvBufForce, &asked).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &asked).map_err(|errno| fail(errno.into()))?;
    }
    socket.set_read_timeout(Some(GAP)).map_err(fail)?;
    Ok(socket)
}

/// Returns the arrival time of each datagram of the next cable: from the first dense run of a second to its end.
fn observe(world: &World, socket: &UdpSocket) -> Result<Vec<Instant>> {
    let here = world.state(Host::Receiver);
    let mut buffer = [0; 2_000];
    let (mut arrivals, limit) = (Vec::new(), Instant::now() + Duration::from_secs(120));
    while Instant::now() < limit {
        match socket.recv(&mut buffer) {
            Ok(_) => arrivals.push(Instant::now()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Beacons of an idle link come in runs of a few datagrams.
                if arrivals.len() > 1_000 {
                    return Ok(arrivals);
                }
                arrivals.clear();
            }
            Err(error) => return Err(HarnessError::io("listen for", &here, error)),
        }
    }
    Err(HarnessError::Wrong("the cable did not come".into()))
}

/// Returns the deviation from the rate in per cent, of the whole and of its worst second.
fn deviations(arrivals: &[Instant], rate: f64) -> (f64, f64) {
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else {
        return (f64::NAN, f64::NAN);
    };
    let off = |count: usize, span: Duration| {
        #[allow(clippy::as_conversions)] // Far below 2^53.
        let bits = count as f64 * WIRE_BYTES * 8.0;
        (bits / span.as_secs_f64() / rate - 1.0).abs() * 100.0
    };
    let second = Duration::from_secs(1);
    let mut worst: f64 = 0.0;
    let (mut start, mut from) = (0, *first);
    while last.duration_since(from) >= second {
        let end = start + arrivals[start..].partition_point(|at| *at < from + second);
        worst = worst.max(off(end - start, second));
        (start, from) = (end, from + second);
    }
    (off(arrivals.len() - 1, last.duration_since(*first)), worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_lacks_a_tenth_is_ten_per_cent_off() {
        let begin = Instant::now();
        // 1,000 datagrams a second for two seconds; the second one stalls for a tenth.
        let at = |n: u32| begin + Duration::from_millis(u64::from(n));
        let arrivals: Vec<Instant> = (0..1_000).chain(1_100..=2_000).map(at).collect();
        let (whole, worst) = deviations(&arrivals, 12e6);
        assert!((worst - 10.0).abs() < 0.01, "{worst}");
        assert!((whole - 5.0).abs() < 0.01, "{whole}");
    }
}
