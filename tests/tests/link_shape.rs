//! The view of an observer of the link: sizes, rates and counters, and nothing else.
#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use valise_tests::harness::{Programs, Role, Settings, Submission, World};

/// IPv4 and UDP headers, which the configured rate includes.
const HEADERS_BYTES: usize = 28;

/// A machine that is busy with other work may delay the sender for a while. The tests of the pipeline keep the rate
/// within 2 % in virtual time, and `make bench` measures it.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.8..=1.04;

/// A datagram as the observer records it.
struct Seen {
    /// The time at which the kernel took it, however long it waited for the observer.
    at: Duration,
    length: usize,
    head: [u8; 16],
}

/// Starts a sender whose datagrams go to this test instead of a receiver.
fn observed(settings: Settings) -> (World, UdpSocket) {
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    let socket = UdpSocket::bind(world.receiver_address()).unwrap();
    // Room for the datagrams that come while the test runs commands.
    let buffer_bytes = 8 << 20;
    if setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &buffer_bytes).unwrap();
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
    world.start_role(Role::Gate).unwrap();
    world.start_role(Role::Transmit).unwrap();
    (world, socket)
}

/// Records datagrams until `time` has passed, or until the link has been quiet for `quiet`.
fn observe(socket: &UdpSocket, time: Duration, quiet: Duration) -> Vec<Seen> {
    socket.set_read_timeout(Some(quiet)).unwrap();
    let start = Instant::now();
    let mut seen = Vec::new();
    let mut buffer = [0; 10_000];
    while start.elapsed() < time {
        match receive(socket, &mut buffer) {
            Ok((length, at)) => {
                let head = buffer[..16].try_into().unwrap();
                seen.push(Seen { at, length, head });
            }
            Err(Errno::EAGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    seen
}

/// Receives a datagram; returns its length, and the time at which the kernel took it.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> nix::Result<(usize, Duration)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!(TimeSpec);
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Ok((message.bytes, at.unwrap()))
}

/// The rate on the link in bit/s, headers included, between the first and the last datagram.
fn rate(seen: &[&Seen]) -> f64 {
    let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
    let bytes: usize = seen[1..]
        .iter()
        .map(|datagram| datagram.length + HEADERS_BYTES)
        .sum();
    bytes as f64 * 8.0 / (last.at - first.at).as_secs_f64()
}

fn assert_uniform(seen: &[Seen], length: usize) {
    assert!(seen.iter().all(|datagram| datagram.length == length));
    assert!(
        seen.iter().all(|datagram| datagram.head[0] == 2),
        "the version"
    );
    // Key id, counter and session: the source of nonce and key never repeats.
    let heads: BTreeSet<[u8; 16]> = seen.iter().map(|datagram| datagram.head).collect();
    assert_eq!(heads.len(), seen.len());
    let counters: Vec<u64> = seen
        .iter()
        .map(|datagram| {
            u64::from_be_bytes(datagram.head[..8].try_into().unwrap()) & (u64::MAX >> 16)
        })
        .collect();
    assert!(counters.is_sorted(), "one a datagram, rising");
}

#[test]
fn a_cable_leaves_at_its_rate_in_datagrams_of_one_size() {
    let settings = Settings {
        rate: "50 Mbit/s".into(),
        passes: 1,
        ..Settings::default()
    };
    let (world, socket) = observed(settings);
    let file = world.generate_file("cable.bin", 12_000_000, 1).unwrap();
    world.send(&Submission::new("paced", &[file])).unwrap();
    let seen = observe(&socket, Duration::from_secs(20), Duration::from_millis(700));
    assert_uniform(&seen, 1472);
    // Without the beacons of the idle time before and after.
    let gap = |one: &Seen, next: &Seen| next.at.saturating_sub(one.at);
    let is_near = |one: &Seen, next: &Seen| gap(one, next) < Duration::from_millis(100);
    let runs = seen.chunk_by(is_near).filter(|run| run.len() > 100);
    let dense: Vec<&Seen> = runs.flatten().collect();
    assert!(dense.len() > 10_000, "{}", dense.len());
    let share = rate(&dense) / 50e6;
    assert!(PLAUSIBLE.contains(&share), "{share} of the rate");
}

#[test]
fn cover_makes_an_idle_link_look_like_a_busy_one() {
    let settings = Settings {
        rate: "10 Mbit/s".into(),
        cover: true,
        datagram_bytes: 1200,
        ..Settings::default()
    };
    let (world, socket) = observed(settings);
    let quiet = Duration::from_millis(500);
    // Without the datagrams that transmit sends at its start.
    observe(&socket, Duration::from_millis(300), quiet);
    let idle = observe(&socket, Duration::from_secs(2), quiet);
    let file = world.generate_file("cable.bin", 500_000, 1).unwrap();
    world.send(&Submission::new("covered", &[file])).unwrap();
    observe(&socket, Duration::from_millis(50), quiet);
    let busy = observe(&socket, Duration::from_secs(2), quiet);
    for seen in [&idle, &busy] {
        assert_uniform(seen, 1200);
        let share = rate(&seen.iter().collect::<Vec<_>>()) / 10e6;
        assert!(PLAUSIBLE.contains(&share), "{share} of the rate");
    }
}

#[test]
fn an_idle_link_without_cover_carries_a_beacon_now_and_then() {
    let (_world, socket) = observed(Settings::default());
    // Three or four beacons, each with about a millisecond of cover before and after: 8 datagrams at 100 Mbit/s. The
    // datagrams of transmit's start are over after a second.
    observe(&socket, Duration::from_secs(1), Duration::from_secs(2));
    let seen = observe(&socket, Duration::from_secs(3), Duration::from_secs(2));
    assert!(
        (2..=80).contains(&seen.len()),
        "{} datagrams in three seconds",
        seen.len()
    );
    assert_uniform(&seen, 1472);
}
