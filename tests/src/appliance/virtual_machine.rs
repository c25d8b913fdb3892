//! A host as a virtual machine, with Debian's own kernel and a disk that loses all data that were not synced before a
//! power cut.
//!
//! Commands go through `ssh` on an interface of their own. The link is a UDP socket between both machines' emulators,
//! which carries the sender's frames. Frames of the receiver go to a socket of this test, which counts them.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Result;
use super::cable_link::Link;
use super::host::{Machine, MachineExt as _};
use super::root::{folder, packed, tool, unpack};
use super::script::Side;
use super::serial_line::FarEnd;
use crate::harness::{HarnessError, await_condition};

/// An emulated processor is slow.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// The further packages that a root needs to boot as a machine.
const PACKAGES: &str = "linux-image-amd64,initramfs-tools,openssh-server";

/// The ports of `ssh` on this machine's loopback, between this test and the emulators.
const SSH_PORTS: [u16; 2] = [47_122, 47_222];
const LINK_PORTS: [u16; 2] = [47_101, 47_102];
const COUNTED_PORT: u16 = 47_103;

/// The hardware addresses of the link's interfaces; the receiver's is that of README.md.
const LINK_MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

/// The interface for `ssh`, configured as the emulator expects it.
const TEST_NETWORK: &str = "[Unit]\nAfter=systemd-udevd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
     Restart=on-failure\nRestartSec=1s\nExecStart=/bin/ip link set test0 up\nExecStart=/bin/ip address replace 10.0.2.15/24 dev test0\n\
     [Install]\nWantedBy=multi-user.target\n";

/// A machine.
#[derive(Debug)]
pub struct VirtualMachine {
    side: Side,
    folder: PathBuf,
    accelerator: String,
    emulator: Option<Child>,
}

const fn index(side: Side) -> usize {
    match side {
        Side::Sender => 0,
        Side::Receiver => 1,
    }
}

impl VirtualMachine {
    /// Makes a disk with Debian and the packages on it.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn make(debian: &str, side: Side, accelerator: &str) -> Result<Self> {
        let packed = packed(debian, PACKAGES)?;
        let folder = folder()?.join(format!("{debian}-vm-{}", side.word()));
        let root = folder.join("root");
        fs::create_dir_all(&folder).map_err(|error| HarnessError::io("make", &folder, error))?;
        unpack(&packed, &root, side)?;
        let key = folder.join("key");
        let _ = fs::remove_file(&key);
        tool(&[
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &shown(&key),
        ])?;
        prepare(&root, &key.with_extension("pub"), side)?;
        let disk = folder.join("disk.ext4");
        let _ = fs::remove_file(&disk);
        tool(&["truncate", "-s", "4G", &shown(&disk)])?;
        tool(&["mkfs.ext4", "-q", "-d", &shown(&root), &shown(&disk)])?;
        let find = format!(
            "cp {0}/boot/vmlinuz-* {1}/kernel && cp {0}/boot/initrd.img-* {1}/initrd",
            shown(&root),
            shown(&folder)
        );
        tool(&["sh", "-c", &find])?;
        tool(&["rm", "-rf", "--one-file-system", &shown(&root)])?;
        Ok(Self {
            side,
            folder,
            accelerator: accelerator.to_owned(),
            emulator: None,
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Names the interfaces and opens `ssh` for the test.
fn prepare(root: &Path, key: &Path, side: Side) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).map_err(|error| HarnessError::io("write", &path, error))
    };
    let link = LINK_MACS[index(side)];
    let named = |mac: &str, name: &str| format!("[Match]\nMACAddress={mac}\n[Link]\nName={name}\n");
    write("etc/systemd/network/10-link.link", &named(link, "diode0"))?;
    write(
        "etc/systemd/network/10-test.link",
        &named("52:54:00:00:00:09", "test0"),
    )?;
    // Not by systemd-networkd: the test includes whether that runs before README.md starts it.
    write("etc/systemd/system/test-network.service", TEST_NETWORK)?;
    write("etc/fstab", "/dev/vda / ext4 defaults 0 1\n")?;
    let line = format!(
        "set -e; \
         install -D -m 0600 {key} {root}/root/.ssh/authorized_keys; \
         chroot {root} systemctl -q enable test-network ssh; ",
        key = shown(key),
        root = shown(root),
    );
    let people: String = super::root::people(side)
        .iter()
        .map(|person| {
            format!(
                "install -m 0600 -o $(stat -c %u {0}/home/{person}) -g $(stat -c %g {0}/home/{person}) {1} {0}/home/{person}/.ssh/authorized_keys; ",
                shown(root),
                shown(key)
            )
        })
        .collect();
    tool(&["bash", "-c", &(line + &people)]).map(drop)
}

impl Machine for VirtualMachine {
    fn side(&self) -> Side {
        self.side
    }

    fn boot(&mut self) -> Result<()> {
        let (this, other) = (index(self.side), 1 - index(self.side));
        let console = self.folder.join("console");
        let log =
            File::create(&console).map_err(|error| HarnessError::io("make", &console, error))?;
        let peer = match self.side {
            Side::Sender => LINK_PORTS[other],
            Side::Receiver => COUNTED_PORT,
        };
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            &self.accelerator,
            "-cpu",
            "max",
            "-m",
            "1024",
            "-nodefaults",
        ]);
        command.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
        // The second port of the mainboard. This test is at its far end, and connects both machines' ports.
        command.arg("-chardev").arg(format!(
            "socket,id=line,path={},server=on,wait=off",
            shown(&self.folder.join("line"))
        ));
        command.args(["-serial", "chardev:line"]);
        command.arg("-kernel").arg(self.folder.join("kernel"));
        command.arg("-initrd").arg(self.folder.join("initrd"));
        command.args(["-append", "root=/dev/vda rw console=ttyS0 quiet"]);
        command.arg("-drive");
        command.arg(format!(
            "file={},format=raw,if=virtio",
            shown(&self.folder.join("disk.ext4"))
        ));
        command.args(["-device", "virtio-rng-pci"]);
        command.arg("-netdev").arg(format!(
            "user,id=test,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22",
            SSH_PORTS[this]
        ));
        command.args([
            "-device",
            "virtio-net-pci,netdev=test,mac=52:54:00:00:00:09,romfile=",
        ]);
        command.arg("-netdev").arg(format!(
            "socket,id=link,udp=127.0.0.1:{peer},localaddr=127.0.0.1:{}",
            LINK_PORTS[this]
        ));
        command.arg("-device").arg(format!(
            "virtio-net-pci,netdev=link,mac={},romfile=",
            LINK_MACS[this]
        ));
        command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .stdout(log);
        let emulator = command
            .spawn()
            .map_err(|error| HarnessError::io("run", Path::new("qemu-system-x86_64"), error))?;
        self.emulator = Some(emulator);
        await_condition("a booted machine", BOOT_LIMIT, &[], || {
            let state = self.run("root", "systemctl is-system-running")?.output;
            Ok(["running\n", "degraded\n"]
                .iter()
                .any(|up| state.starts_with(up))
                .then_some(()))
        })
        .map_err(|error| {
            let said = fs::read_to_string(&console).unwrap_or_default();
            HarnessError::Wrong(format!("{error}; its console:\n{said}"))
        })
    }

    fn shut_down(&mut self) -> Result<()> {
        let _ = self.run("root", "systemctl poweroff")?;
        let Some(mut emulator) = self.emulator.take() else {
            return Ok(());
        };
        await_condition("the end of a machine", BOOT_LIMIT, &[], || {
            Ok(emulator.try_wait().ok().flatten())
        })
        .map(drop)
    }

    fn cut_power(&mut self) -> Result<()> {
        if let Some(mut emulator) = self.emulator.take() {
            let killed = emulator.kill().and_then(|()| emulator.wait());
            killed.map_err(|error| {
                HarnessError::io("kill", Path::new("qemu-system-x86_64"), error)
            })?;
        }
        Ok(())
    }

    fn network_process(&self) -> Option<u32> {
        None
    }

    fn serial_device(&self) -> &'static str {
        "/dev/ttyS1"
    }

    fn plug_serial(&self) -> Result<FarEnd> {
        FarEnd::emulated(&self.folder.join("line"))
    }

    fn unplug_serial(&self) -> Result<()> {
        Err(HarnessError::Wrong(
            "the port of an emulated mainboard stays".to_owned(),
        ))
    }

    fn shell(&self, user: &str, line: &str, terminal: bool) -> Result<Command> {
        let mut command = Command::new("setsid");
        if terminal {
            command.args(["--ctty", "--wait", "ssh", "-tt"]);
        } else {
            command.args(["--wait", "ssh", "-T"]);
        }
        command.arg("-i").arg(self.folder.join("key"));
        command.args(["-p", &SSH_PORTS[index(self.side)].to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "BatchMode=yes",
        ] {
            command.args(["-o", option]);
        }
        // A login shell, with the same start-up files as a person's.
        let quoted = line.replace('\'', "'\\''");
        command
            .arg(format!("{user}@127.0.0.1"))
            .arg(format!("bash -lc '{quoted}'"));
        Ok(command)
    }
}

impl Drop for VirtualMachine {
    fn drop(&mut self) {
        let _ = self.cut_power();
    }
}

/// The link between two emulators, which exists as long as they run.
#[derive(Debug)]
pub struct SocketLink {
    counted: UdpSocket,
}

impl SocketLink {
    /// Opens the socket that counts the receiver's frames.
    ///
    /// # Errors
    /// If its port is in use.
    pub fn new() -> Result<Self> {
        let counted = UdpSocket::bind(("127.0.0.1", COUNTED_PORT))
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|error| HarnessError::io("listen on port", Path::new("47103"), error))?;
        Ok(Self { counted })
    }
}

impl Link for SocketLink {
    fn attach(&mut self, _: Side, _: Option<u32>) -> Result<()> {
        Ok(())
    }

    fn detach(&mut self, _: Side) {}

    fn set_open(&mut self, is_open: bool) -> Result<()> {
        match is_open {
            true => Ok(()),
            false => Err(HarnessError::Wrong("this link cannot be closed".to_owned())),
        }
    }

    fn returned_frames(&self) -> Result<u64> {
        let mut frames = 0;
        while self.counted.recv(&mut [0; 65_536]).is_ok() {
            frames += 1;
        }
        Ok(frames)
    }
}
