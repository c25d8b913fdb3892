//! A fence stands until its process ends, so each test puts it up in a process of its own: the test
//! program, started again for that one test.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::os::durable::{self, Access, SyncBatch};
use crate::os::layout::SenderState;
use crate::os::request::{Request, Requests, TakeLimits};

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
            let confinement = enter(&Profile::gate(state), Fences::BestEffort).unwrap();
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
            let mut request = Request::new(&state.requests()).unwrap();
            request.add_file("cable.txt", &mut &b"text"[..]).unwrap();
            let placed = request.place("request = \"submit\"").unwrap();
            let server = Requests::new(state.requests(), tmp.clone());
            let mut batch = SyncBatch::new(state.root()).unwrap();
            let found = server.scan().unwrap();
            let limits = TakeLimits {
                files_max: 9,
                bytes_max: 999,
                reserve_bytes: 0,
            };
            server
                .intake(&found[0], &tmp.join("taken"), limits, &mut batch)
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
            assert!(UnixDatagram::unbound().is_ok());
            // What it never does.
            let exec = Command::new("/bin/true").status();
            assert_eq!(exec.unwrap_err().raw_os_error(), Some(nix::libc::ENOSYS));
            assert!(UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            assert!(nix::sys::prctl::get_no_new_privs().unwrap());
            assert!(!nix::sys::prctl::get_dumpable().unwrap());
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

#[test]
fn transmit_has_datagram_sockets_and_cannot_read_what_gate_keeps() {
    fenced(
        "transmit_has_datagram_sockets_and_cannot_read_what_gate_keeps",
        |state| {
            fs::write(state.slots().join("1.slots"), b"psk").unwrap();
            fs::write(state.pending().join("manifest.txt"), b"plaintext").unwrap();
            fs::write(state.outbox().join("a.container"), b"sealed").unwrap();
            let before = TcpListener::bind("127.0.0.1:0").unwrap();
            let confinement = enter(&Profile::transmit(state), Fences::BestEffort).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            assert!(TcpStream::connect(before.local_addr().unwrap()).is_err());
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
fn a_connection_that_waits_is_not_accepted() {
    fenced("a_connection_that_waits_is_not_accepted", |state| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        enter(&Profile::gate(state), Fences::BestEffort).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().raw_os_error(),
            Some(nix::libc::ENOSYS)
        );
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
        let program = calls::program(role, seccompiler::TargetArch::x86_64).unwrap();
        assert!((100..4096).contains(&program.len()));
    }
}
