#![allow(clippy::unwrap_used)]
use std::fs::read_link;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::pty::{OpenptyResult, openpty};

use super::line::CHECK_US;
use super::*;
use crate::units::Mono;

const PATIENCE: Duration = Duration::from_secs(10);

/// A pair of pseudo-terminals: the far end as a file, the near end by its name. Nobody holds the near end open.
fn pair() -> (File, PathBuf) {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    (File::from(master), name_of(&slave))
}

fn name_of(tty: &OwnedFd) -> PathBuf {
    read_link(format!("/proc/self/fd/{}", tty.as_raw_fd())).unwrap()
}

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

fn read_all(port: &Port, count: usize) -> Vec<u8> {
    let (mut arrived, mut buffer) = (Vec::new(), [0; 64]);
    while arrived.len() < count {
        let read = port.read(&mut buffer, PATIENCE).unwrap();
        assert!(read > 0, "{} of {count} bytes", arrived.len());
        arrived.extend_from_slice(&buffer[..read]);
    }
    arrived
}

/// The access mode of a descriptor, as the kernel shows it: 0 for reading, 1 for writing.
fn access_of(port: &Port) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", port.as_fd().as_raw_fd());
    let shown = std::fs::read_to_string(path).unwrap();
    let flags = shown.lines().find_map(|line| line.strip_prefix("flags:"));
    u32::from_str_radix(flags.unwrap().trim(), 8).unwrap() & 0o3
}

#[test]
fn every_byte_leaves_as_it_is_and_the_port_is_for_writing_alone() {
    for baud in [9_600, 115_200, 250_000, 4_000_000] {
        let (mut far, device) = pair();
        let port = Port::open(&device, baud, Direction::Send).unwrap();
        assert_eq!(access_of(&port), 1);
        let (bytes, mut sent) = (every_byte(), 0);
        while sent < bytes.len() {
            sent += port.write(&bytes[sent..]).unwrap();
        }
        let mut arrived = vec![0; bytes.len()];
        far.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, bytes);
        assert_eq!(tcgetattr(&port).unwrap().output_speed(), baud);
    }
}

#[test]
fn every_byte_arrives_as_it_is_and_the_port_is_for_reading_alone() {
    let (mut far, device) = pair();
    let port = Port::open(&device, 115_200, Direction::Receive).unwrap();
    assert_eq!(access_of(&port), 0);
    let bytes = every_byte();
    far.write_all(&bytes).unwrap();
    assert_eq!(read_all(&port, bytes.len()), bytes);
    assert_eq!(port.read(&mut [0; 8], Duration::ZERO), Ok(0));
}

#[test]
fn what_waited_in_the_device_is_kept() {
    let (mut far, device) = pair();
    drop(Port::open(&device, 115_200, Direction::Receive).unwrap());
    far.write_all(b"stale").unwrap();
    let port = Port::open(&device, 115_200, Direction::Receive).unwrap();
    assert_eq!(read_all(&port, 5), b"stale");
}

#[test]
fn a_kernel_that_takes_no_more_is_told_from_a_device_that_is_gone() {
    let (far, device) = pair();
    let port = Port::open(&device, 115_200, Direction::Send).unwrap();
    let full = (0..1_000).find_map(|_| port.write(&[7; 4_096]).err());
    assert_eq!(full, Some(Errno::EAGAIN));
    assert!(!port.is_gone());
    drop(far);
    assert!(port.is_gone());
    assert_eq!(port.write(&[7]), Err(Errno::EIO));
}

#[test]
fn each_fault_of_a_device_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a device").unwrap();
    let (_far, held) = pair();
    let _holder = Port::open(&held, 9_600, Direction::Receive).unwrap();
    for (device, fault) in [
        (Path::new("/dev/absent"), Fault::Missing),
        (Path::new("/dev/null"), Fault::NoTty),
        (&file, Fault::NoTty),
        (&held, Fault::Held),
    ] {
        let opened = Port::open(device, 9_600, Direction::Send);
        assert_eq!(opened.err(), Some(fault), "{}", device.display());
        let line = Line::open(device.to_path_buf(), 9_600, Direction::Send, Mono(0));
        let cause = line.cause().unwrap();
        assert!(
            cause.text.contains(&device.display().to_string()),
            "{cause:?}"
        );
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a device");
}

#[test]
fn a_line_is_opened_again_when_its_device_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("line");
    let mut now = Mono(0);
    let mut line = Line::open(device.clone(), 9_600, Direction::Send, now);
    assert_eq!(line.port().err(), Some(Fault::Missing));
    for _ in 0..2 {
        let (far, near) = pair();
        symlink(near, &device).unwrap();
        assert!(!line.look(now.plus_us(RETRY_US - 1)));
        now = now.plus_us(RETRY_US);
        assert!(line.look(now));
        assert_eq!(line.cause(), None);
        drop(far);
        std::fs::remove_file(&device).unwrap();
        assert!(!line.look(now));
        now = now.plus_us(RETRY_US);
        assert!(!line.look(now));
        assert_eq!(line.port().err(), Some(Fault::Unplugged));
    }
}

#[test]
fn modes_that_another_program_changed_are_a_fault_and_are_set_again() {
    let (_far, device) = pair();
    let mut line = Line::open(device, 9_600, Direction::Send, Mono(0));
    assert!(line.look(Mono(CHECK_US)));
    let port = line.port().unwrap();
    let mut cooked = tcgetattr(port).unwrap();
    cooked
        .output_modes
        .insert(rustix::termios::OutputModes::OPOST);
    tcsetattr(port, OptionalActions::Now, &cooked).unwrap();
    assert!(!line.look(Mono(2 * CHECK_US)));
    assert_eq!(line.port().err(), Some(Fault::Modes));
    assert!(line.look(Mono(2 * CHECK_US + RETRY_US)));
    assert!(line.look(Mono(4 * CHECK_US)));
}
