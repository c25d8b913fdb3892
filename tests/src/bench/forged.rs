//! Datagrams in the right form with a wrong tag, as many as this machine can send.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::figure::Figure;
use super::note_memory;
use super::options::Options;
use super::report::Report;
use crate::harness::{HarnessError, Host, Programs, Result, Role, Settings, World};
use crate::wire::Prng;

/// Bytes of a datagram.
const DATAGRAM_BYTES: u16 = 1_472;
/// Datagrams that are sent at a time.
const BATCH: usize = 44;
/// The length of a run.
const RUN_TIME: Duration = Duration::from_secs(3);

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let settings = Settings {
        parent: Some("/dev/shm".into()),
        ..Settings::default()
    };
    let mut world = World::commission(Programs::beside_this()?, settings)?;
    world.start_role(Role::Receive)?;
    let key_id = key_id(&world)?;
    let mut per_core = Figure::new("forged datagrams refused", "1/s a core", "1472, wrong tag")
        .at_least(600_000.0, 1_200_000.0);
    let mut per_second = Figure::new(
        "the same, beside their sender on this machine",
        "1/s",
        "1472, wrong tag",
    );
    let mut prng = Prng::new(5);
    for _ in 0..options.runs() {
        let before = world.usage(Role::Receive).unwrap_or_default().cpu_s;
        let counted = refused(&world);
        let start = Instant::now();
        flood(&world, key_id, &mut prng)?;
        // The counters reach the view a little after the datagrams are judged.
        let mut last = refused(&world);
        world.await_alive(
            "the counters to rest",
            Duration::from_secs(10),
            &[],
            |world| {
                let now = refused(world);
                Ok((now == std::mem::replace(&mut last, now) && now > counted).then_some(()))
            },
        )?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_s = world.usage(Role::Receive).unwrap_or_default().cpu_s - before;
        #[allow(clippy::as_conversions)] // Far below 2^53.
        let count = (refused(&world) - counted) as f64;
        per_core.samples.push(count / cpu_s.max(0.01));
        per_second.samples.push(count / seconds);
    }
    note_memory(&world, report);
    report.add(per_core);
    report.add(per_second);
    Ok(())
}

/// Returns the id of the link key: the byte at offset 40 of the bundle that the courier carried.
fn key_id(world: &World) -> Result<u8> {
    let file = world.courier.bundle_file();
    let bundle = std::fs::read(&file).map_err(|error| HarnessError::io("read", &file, error))?;
    bundle
        .get(40)
        .copied()
        .ok_or_else(|| HarnessError::Wrong("the bundle is too short".into()))
}

/// Returns the number of datagrams that receive has refused so far, for any reason.
fn refused(world: &World) -> u64 {
    let view = world.view(Role::Receive).unwrap_or_default();
    let counters = view["counters"].as_object();
    let sum = counters.map(|all| all.values().filter_map(serde_json::Value::as_u64).sum());
    sum.unwrap_or(0)
}

fn flood(world: &World, key_id: u8, prng: &mut Prng) -> Result<()> {
    let here = world.state(Host::Receiver);
    let fail = |error: std::io::Error| HarnessError::io("send to receive of", &here, error);
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(fail)?;
    let to = SockaddrStorage::from(world.receiver_address());
    let length = usize::from(DATAGRAM_BYTES);
    let mut batch = vec![0; BATCH * length];
    let mut session = [0; 8];
    prng.fill(&mut session);
    let mut counter: u64 = 0;
    prng.fill(&mut batch);
    let start = Instant::now();
    while start.elapsed() < RUN_TIME {
        for datagram in batch.chunks_mut(length) {
            datagram[0] = 2;
            datagram[1] = key_id;
            datagram[2..8].copy_from_slice(&counter.to_be_bytes()[2..]);
            datagram[8..16].copy_from_slice(&session);
            counter += 1;
        }
        let iov = [IoSlice::new(&batch)];
        let control = [ControlMessage::UdpGsoSegments(&DATAGRAM_BYTES)];
        sendmsg(
            socket.as_raw_fd(),
            &iov,
            &control,
            MsgFlags::empty(),
            Some(&to),
        )
        .map_err(|errno| fail(errno.into()))?;
    }
    Ok(())
}
