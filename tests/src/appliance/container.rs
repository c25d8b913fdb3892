//! A host as a container of `systemd-nspawn`: Debian's own systemd as process 1, users and a network of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Result;
use super::host::{Machine, MachineExt as _};
use super::root::{folder, packed, tool, unpack};
use super::script::Side;
use super::serial_line::FarEnd;
use crate::harness::{HarnessError, await_condition};

/// The longest time for a boot or a shutdown.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// The size of the file system for a host's state, like the partition of an appliance.
const STATE_BYTES: &str = "3G";

/// `systemd-nspawn` does not allow Landlock's calls by default.
const CALLS: &str = "@file-system @system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp";

/// A container.
#[derive(Debug)]
pub struct Container {
    side: Side,
    root: PathBuf,
    state: PathBuf,
    nspawn: Option<Child>,
    leader: Option<u32>,
}

impl Container {
    /// Unpacks a root, and gives the state a file system of its own.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn make(debian: &str, side: Side) -> Result<Self> {
        let packed = packed(debian, "")?;
        let root = folder()?.join(format!("{debian}-{}", side.word()));
        let state = root.join("var/lib").join(format!("valise-{}", side.word()));
        let _ = tool(&["umount", "--lazy", &state.display().to_string()]);
        unpack(&packed, &root, side)?;
        let image = root.with_extension("ext4");
        let _ = fs::remove_file(&image);
        let (image, state_text) = (image.display().to_string(), state.display().to_string());
        tool(&["truncate", "-s", STATE_BYTES, &image])?;
        tool(&["mkfs.ext4", "-q", "-m", "0", &image])?;
        tool(&["mkdir", "-p", &state_text])?;
        tool(&["mount", "-o", "loop", &image, &state_text])?;
        Ok(Self {
            side,
            root,
            state,
            nspawn: None,
            leader: None,
        })
    }

    fn leader(&self) -> Result<u32> {
        self.leader
            .ok_or_else(|| HarnessError::Wrong(format!("the {} is not running", self.side.word())))
    }

    fn await_end(&mut self) -> Result<()> {
        let Some(mut nspawn) = self.nspawn.take() else {
            return Ok(());
        };
        self.leader = None;
        await_condition("the end of a container", BOOT_LIMIT, &[], || {
            Ok(nspawn.try_wait().ok().flatten())
        })
        .map(drop)
    }
}

impl Machine for Container {
    fn side(&self) -> Side {
        self.side
    }

    fn boot(&mut self) -> Result<()> {
        let name = format!("valise-{}", self.side.word());
        let console = self.root.with_extension("console");
        let log =
            File::create(&console).map_err(|error| HarnessError::io("make", &console, error))?;
        // Each container needs a control group of its own; the available versions depend on the machine.
        let script = format!(
            "for group in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do \
               mine=${{group%/*}}/{name}; mkdir -p $mine && echo $$ >$mine/cgroup.procs; \
             done 2>/dev/null; exec \"$@\""
        );
        let mut command = Command::new("bash");
        command.args([
            "-c",
            &script,
            "bash",
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--keep-unit",
        ]);
        command.args(["--register=no", "--private-network", "--console=read-only"]);
        command.arg(format!("--machine={name}"));
        command.arg(format!("--directory={}", self.root.display()));
        command.arg(format!("--system-call-filter={CALLS}"));
        command.args([
            "--capability=CAP_NET_ADMIN,CAP_SYS_NICE,CAP_SYS_RESOURCE,CAP_IPC_LOCK",
            "--rlimit=RLIMIT_MEMLOCK=infinity",
        ]);
        command.stdin(Stdio::null()).stdout(
            log.try_clone()
                .map_err(|error| HarnessError::io("use", &console, error))?,
        );
        command.stderr(log);
        let nspawn = command
            .spawn()
            .map_err(|error| HarnessError::io("run", &PathBuf::from("systemd-nspawn"), error))?;
        let pid = nspawn.id().to_string();
        self.nspawn = Some(nspawn);
        let leader = await_condition("process 1 of a container", BOOT_LIMIT, &[], || {
            let children = tool(&["pgrep", "-P", &pid]).unwrap_or_default();
            Ok(children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
                .find(|child| is_first_process(*child)))
        })
        .map_err(|error| {
            let said = fs::read_to_string(&console).unwrap_or_default();
            HarnessError::Wrong(format!("{error}; its console:\n{said}"))
        })?;
        self.leader = Some(leader);
        await_condition("a booted system", BOOT_LIMIT, &[], || {
            let state = self.run("root", "systemctl is-system-running")?.output;
            Ok(["running\n", "degraded\n"]
                .iter()
                .any(|up| state.starts_with(up))
                .then_some(()))
        })
    }

    fn shut_down(&mut self) -> Result<()> {
        // The session ends with the system, so its result has no meaning.
        let _ = self.run("root", "systemctl poweroff")?;
        self.await_end()
    }

    fn cut_power(&mut self) -> Result<()> {
        let leader = self.leader()?.to_string();
        tool(&["kill", "-KILL", &leader])?;
        self.await_end()
    }

    fn network_process(&self) -> Option<u32> {
        self.leader
    }

    fn serial_device(&self) -> &'static str {
        "/dev/ttyS0"
    }

    fn plug_serial(&self) -> Result<FarEnd> {
        let folder = PathBuf::from(format!("/proc/{}/root/dev/pts", self.leader()?));
        let (end, name) = FarEnd::pseudo_terminal(&folder)?;
        // No udev runs in a container, so the test sets the name, group and mode that udev's rules give to a serial
        // port. The pseudo-terminal is also of another class than the port that it replaces.
        let (unit, access) = match self.side {
            Side::Sender => ("valise-sender-transmit", "w"),
            Side::Receiver => ("valise-receiver-receive", "r"),
        };
        let line = format!(
            "set -e; chown root:dialout /dev/pts/{name}; chmod 0660 /dev/pts/{name}; ln -sfn pts/{name} {}; \
             mkdir -p /run/systemd/system/{unit}.service.d; \
             printf '[Service]\\nDeviceAllow=char-pts {access}\\n' >/run/systemd/system/{unit}.service.d/terminal.conf",
            self.serial_device()
        );
        self.run_ok("root", &line)?;
        Ok(end)
    }

    fn unplug_serial(&self) -> Result<()> {
        let line = format!("rm {}", self.serial_device());
        self.run_ok("root", &line).map(drop)
    }

    fn shell(&self, user: &str, line: &str, terminal: bool) -> Result<Command> {
        let leader = self.leader()?.to_string();
        let mut command = Command::new("setsid");
        // `-c` makes a session without a terminal, in which nobody can be asked for a PIN.
        let option = if terminal {
            command.arg("--ctty");
            "--session-command"
        } else {
            "-c"
        };
        command.args([
            "--wait", "nsenter", "--target", &leader, "--all", "--wdns=/",
        ]);
        command.args(["/usr/sbin/runuser", "-l", user, option, line]);
        Ok(command)
    }
}

/// `systemd-nspawn` has a child before the container exists; the container's first process is process 1 of its
/// namespace.
fn is_first_process(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|pids| pids.split_whitespace().skip(1).eq(["1"]))
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut nspawn) = self.nspawn.take() {
            let pid = nspawn.id().to_string();
            let _ = tool(&["pkill", "-KILL", "-P", &pid]);
            let _ = nspawn.kill();
            let _ = nspawn.wait();
        }
        let _ = tool(&["umount", "--lazy", &self.state.display().to_string()]);
    }
}
