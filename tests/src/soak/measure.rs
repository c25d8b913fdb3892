//! The resources and the activity of both hosts, once a second.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::statistics::float;
use crate::harness::{HarnessError, Host, Result, Role, Usage, World};
use crate::wire::WireStatistics;

/// The resources of a role at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoleSample {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processor time since the last sample, for each second of it.
    pub cpu_share: f64,
}

/// All figures at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Seconds since the first submission.
    pub at_s: f64,
    /// Each role, in the order of [`Role::ALL`].
    pub roles: [RoleSample; 4],
    /// Containers in the outbox.
    pub outbox: u64,
    /// Containers in the inbox.
    pub inbox: u64,
    /// Bits that the line accepted each second since the last sample.
    pub link_bits: f64,
    /// The share of datagrams that the line has lost since the last sample.
    pub loss_share: f64,
}

/// Takes samples.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    last: Instant,
    cpu_s: [f64; 4],
    wire: WireStatistics,
    /// The pid of each role: it must not change.
    pids: [u32; 4],
}

impl Meter {
    /// Begins now.
    ///
    /// # Errors
    /// When a role does not run.
    pub fn new(world: &World) -> Result<Self> {
        let mut pids = [0; 4];
        let mut cpu_s = [0.0; 4];
        for (index, role) in Role::ALL.into_iter().enumerate() {
            let gone = || HarnessError::Wrong(format!("{} does not run", role.word()));
            pids[index] = world.role_pid(role).ok_or_else(gone)?;
            cpu_s[index] = Usage::of(pids[index]).ok_or_else(gone)?.cpu_s;
        }
        Ok(Self {
            begun: Instant::now(),
            last: Instant::now(),
            cpu_s,
            wire: world.wire_statistics(),
            pids,
        })
    }

    /// Takes a sample of all figures.
    ///
    /// # Errors
    /// When a role is gone.
    pub fn sample(&mut self, world: &World) -> Result<Sample> {
        let passed_s = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let mut roles = [RoleSample::default(); 4];
        for (index, role) in Role::ALL.into_iter().enumerate() {
            let gone = || HarnessError::Wrong(format!("{} has ended", role.word()));
            let pid = self.pids[index];
            let cpu_s = Usage::of(pid).ok_or_else(gone)?.cpu_s;
            roles[index] = RoleSample {
                memory_bytes: resident(pid).ok_or_else(gone)?,
                descriptors: entries(Path::new(&format!("/proc/{pid}/fd"))),
                threads: entries(Path::new(&format!("/proc/{pid}/task"))),
                cpu_share: (cpu_s - self.cpu_s[index]) / passed_s,
            };
            self.cpu_s[index] = cpu_s;
        }
        let wire = world.wire_statistics();
        let bytes = wire.received_bytes.saturating_sub(self.wire.received_bytes);
        let received = wire.received.saturating_sub(self.wire.received);
        let lost = wire.lost.saturating_sub(self.wire.lost);
        self.wire = wire;
        Ok(Sample {
            at_s: self.begun.elapsed().as_secs_f64(),
            roles,
            outbox: containers(&world.state(Host::Sender).join("outbox")),
            inbox: containers(&world.state(Host::Receiver).join("inbox")),
            link_bits: float(bytes * 8) / passed_s,
            loss_share: float(lost) / float(received.max(1)),
        })
    }
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn entries(folder: &Path) -> u64 {
    let count = fs::read_dir(folder).map_or(0, Iterator::count);
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn containers(folder: &Path) -> u64 {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let count = names
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|end| end == "container")
        })
        .count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
