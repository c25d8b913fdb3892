//! A fence stands until its process ends, so each test puts it up in a process of its own: the test
//! program, started again for that one test.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::io::{self, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::pty::openpty;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use rustix::termios::{QueueSelector, tcflush};

use super::*;
use crate::host::folders::{ReceiverState, SenderState};
use crate::host::profile;
use crate::host::requests::{Request, RequestService, Requests, TakeLimits};
use crate::os::durable::{self, Access, SyncBatch};
use crate::os::serial::{Fault, Port};
use crate::units::Mono;

const INSIDE: &str = "VALISE_TEST_INSIDE_SANDBOX";

/// Runs `body` in a fenced process; `body` gets the state folder.
fn fenced(test: &str, body: impl FnOnce(&SenderState)) {
    if let Some(root) = std::env::var_os(INSIDE) {
        return body(&SenderState::new(Path::new(&root)));
    }
    let folder = tempfile::tempdir().unwrap();
    let state = SenderState::new(folder.path().join("state"));
    state.create_all().unwrap();
    fs::write(folder.path().join("outside"), b"secret").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "--test-threads=1",
            &format!("os::sandbox::tests::{test}"),
        ])
        .env(INSIDE, state.root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn gate_works_on_its_state_and_reaches_nothing_else() {
    fenced(
        "gate_works_on_its_state_and_reaches_nothing_else",
        |state| {
            let mut status_file = fs::File::open("/proc/thread-self/status").unwrap();
            // As a command does.
            let mut request = Request::new(&state.requests()).unwrap();
            request.add_file("cable.txt", &mut &b"text"[..]).unwrap();
            let placed = request.place("request = \"submit\"").unwrap();
            let confinement = enter(&profile::gate(state), Fences::BestEffort).unwrap();
            assert!(confinement.holds(Fence::Calls));
            // What gate does all day.
            let tmp = state.tmp(Role::Gate);
            durable::write_new(&tmp, &state.outbox().join("a"), b"x", Access::Group).unwrap();
            durable::replace(
                &tmp,
                &state.view_of(Role::Gate),
                b"{}",
                Access::Group,
                durable::Sync::Yes,
            )
            .unwrap();
            let server = Requests::new(state.requests(), tmp.clone());
            let mut batch = SyncBatch::new(state.root()).unwrap();
            let mut service = RequestService::new(server.clone()).unwrap();
            service.begin(Mono(0)).unwrap();
            let found = service.next(Mono(0)).unwrap();
            let limits = TakeLimits {
                files_max: 9,
                bytes_max: 999,
                reserve_bytes: 0,
            };
            server
                .intake(&found, &tmp.join("taken"), limits, &mut batch)
                .unwrap();
            server
                .answer_accepted(placed.name(), 65_534, "id", &mut batch)
                .unwrap();
            for number in 0..40 {
                batch
                    .add_file(fs::File::create(tmp.join(format!("{number}"))).unwrap())
                    .unwrap();
            }
            batch.commit().unwrap();
            server.forget(placed.name()).unwrap();
            let worker = std::thread::spawn(|| crate::os::entropy::bytes::<16>().unwrap());
            worker.join().unwrap();
            // What it never does.
            assert!(UnixDatagram::unbound().is_err());
            assert!(UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            let mut status = String::new();
            status_file.read_to_string(&mut status).unwrap();
            assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
            if confinement.holds(Fence::Files) {
                let outside = state.root().parent().unwrap().join("outside");
                let refused = fs::read(&outside).unwrap_err().kind();
                assert_eq!(refused, io::ErrorKind::PermissionDenied);
                assert!(fs::write(&outside, b"").is_err());
                assert!(fs::write("/tmp/valise-outside", b"").is_err());
                assert!(fs::read("/etc/shadow").is_err());
            }
        },
    );
}

/// A message for a socket that is connected.
fn send(socket: &UdpSocket) -> Result<usize, Errno> {
    let slices = [[io::IoSlice::new(b"x")]];
    let mut headers = MultiHeaders::<()>::preallocate(1, None);
    let flags = MsgFlags::empty();
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None], [], flags)?;
    Ok(sent.count())
}

fn receive(socket: &UdpSocket) -> Result<usize, Errno> {
    let mut buffer = [0];
    let mut slices = [[io::IoSliceMut::new(&mut buffer)]];
    let mut headers = MultiHeaders::<()>::preallocate(1, None);
    let flags = MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let received = recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None)?;
    Ok(received.count())
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<Errno> {
    result.unwrap_err().raw_os_error().map(Errno::from_raw)
}

#[test]
fn transmit_sends_on_its_link_reads_nothing_from_it_and_cannot_read_what_gate_keeps() {
    fenced(
        "transmit_sends_on_its_link_reads_nothing_from_it_and_cannot_read_what_gate_keeps",
        |state| {
            fs::write(state.slots().join("1.slots"), b"psk").unwrap();
            fs::write(state.pending().join("manifest.txt"), b"plaintext").unwrap();
            fs::write(state.outbox().join("a.container"), b"sealed").unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            let link = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.send_to(b"x", link.local_addr().unwrap()).unwrap();
            let address = peer.local_addr().unwrap();
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            let profile = profile::transmit(state).with_link(link.as_fd());
            let confinement = enter(&profile, Fences::BestEffort).unwrap();
            link.connect(address).unwrap();
            assert_eq!(send(&link), Ok(1));
            for refused in [
                errno(link.recv(&mut [0])),
                errno(link.recv_from(&mut [0])),
                errno(nix::unistd::read(&link, &mut [0]).map_err(io::Error::from)),
                errno(link.try_clone()),
                errno(other.connect(address)),
                errno(UdpSocket::bind("127.0.0.1:0")),
            ] {
                assert_eq!(refused, Some(Errno::ENOSYS));
            }
            assert_eq!(receive(&link), Err(Errno::ENOSYS));
            assert_eq!(send(&other), Err(Errno::ENOSYS));
            let tmp = state.tmp(Role::Transmit);
            durable::replace(
                &tmp,
                &state.progress().join("1"),
                b"{}",
                Access::Group,
                durable::Sync::Yes,
            )
            .unwrap();
            assert_eq!(
                fs::read(state.outbox().join("a.container")).unwrap(),
                b"sealed"
            );
            if confinement.holds(Fence::Files) {
                assert!(fs::read(state.slots().join("1.slots")).is_err());
                assert!(fs::read(state.pending().join("manifest.txt")).is_err());
                assert!(fs::remove_file(state.outbox().join("a.container")).is_err());
                assert!(fs::write(state.outbox().join("b.container"), b"").is_err());
            }
        },
    );
}

#[test]
fn receive_reads_from_its_link_and_sends_nothing() {
    fenced("receive_reads_from_its_link_and_sends_nothing", |_| {
        let folder = tempfile::tempdir().unwrap();
        let state = ReceiverState::new(folder.path());
        state.create_all().unwrap();
        let link = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"x", link.local_addr().unwrap()).unwrap();
        let address = peer.local_addr().unwrap();
        let profile = profile::receive(&state).with_link(link.as_fd());
        enter(&profile, Fences::BestEffort).unwrap();
        assert_eq!(receive(&link), Ok(1));
        for refused in [
            errno(link.send_to(b"x", address)),
            errno(link.connect(address)),
            errno(UdpSocket::bind("127.0.0.1:0")),
            errno(UnixDatagram::unbound()),
        ] {
            assert_eq!(refused, Some(Errno::ENOSYS));
        }
        assert_eq!(send(&link), Err(Errno::ENOSYS));
        assert!(nix::unistd::write(&link, b"x").is_err());
    });
}

#[test]
fn a_serial_port_is_opened_again_behind_the_fences_in_its_direction_alone() {
    let name = "a_serial_port_is_opened_again_behind_the_fences_in_its_direction_alone";
    fenced(name, |state| {
        let pair = openpty(None, None).unwrap();
        let device = fs::read_link(format!("/proc/self/fd/{}", pair.slave.as_raw_fd())).unwrap();
        drop(pair.slave);
        let disk = state.root().join("disk");
        fs::write(&disk, b"not a port").unwrap();
        let profile = profile::transmit(state).with_port(&device, Direction::Send);
        let confinement = enter(&profile, Fences::BestEffort).unwrap();
        for _ in 0..2 {
            let port = Port::open(&device, 115_200, Direction::Send).unwrap();
            assert_eq!(port.write(&[0x11, 0, 0x13]), Ok(3));
        }
        assert_eq!(
            tcflush(&pair.master, QueueSelector::IFlush),
            Err(rustix::io::Errno::NOSYS)
        );
        if confinement.holds(Fence::Files) {
            let opened = Port::open(&device, 115_200, Direction::Receive);
            assert_eq!(opened.err(), Some(Fault::Forbidden));
            let opened = Port::open(&disk, 115_200, Direction::Send);
            assert_eq!(opened.err(), Some(Fault::Forbidden));
            assert_eq!(confinement.keeps_root_from_ports(), geteuid().is_root());
            let opened = Port::open(Path::new("/dev/zero"), 115_200, Direction::Send);
            let expected = match geteuid().is_root() {
                true => Fault::Forbidden,
                false => Fault::NoTty,
            };
            assert_eq!(opened.err(), Some(expected));
        }
    });
}

#[test]
fn a_protected_process_makes_no_core_dump() {
    fenced("a_protected_process_makes_no_core_dump", |_| {
        assert!(nix::sys::prctl::get_dumpable().unwrap());
        protect_memory().unwrap();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
    });
}

#[test]
fn each_refusal_has_its_own_advice() {
    let of = |fence, errno: nix::errno::Errno| RefusedFence::new(fence, &errno.into()).to_string();
    use nix::errno::Errno::{ENOSYS, EOPNOTSUPP, EPERM};
    for (fence, errno, advice) in [
        (Fence::Files, ENOSYS, "CONFIG_SECURITY_LANDLOCK"),
        (Fence::Files, EPERM, "SystemCallFilter="),
        (Fence::Files, EOPNOTSUPP, "lsm="),
        (Fence::Calls, ENOSYS, "CONFIG_SECCOMP_FILTER"),
        (Fence::Calls, EPERM, "SystemCallFilter="),
        (Fence::Memory, EPERM, "LimitMEMLOCK="),
        (Fence::Dumps, EPERM, "prctl"),
        (Fence::Capabilities, EPERM, "capset"),
    ] {
        let text = of(fence, errno);
        assert!(text.starts_with(&fence.to_string()), "{text}");
        assert!(text.contains(advice), "{text}");
    }
}

#[test]
fn every_role_has_a_filter() {
    // The kernel takes at most 4,096 instructions.
    for role in [Role::Gate, Role::Transmit, Role::Receive, Role::Release] {
        for link in [Medium::None, Medium::Socket(9), Medium::Port] {
            let program = calls::program(role, link, seccompiler::TargetArch::x86_64).unwrap();
            assert!((100..4096).contains(&program.len()));
        }
    }
    let program = forbidden::program(seccompiler::TargetArch::x86_64).unwrap();
    assert!((100..4096).contains(&program.len()));
}
