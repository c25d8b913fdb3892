//! The one place that reads a clock. Everything else gets the time as an argument.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::units::{Mono, UtcTime};

/// The kernel draws a new one at each start of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment on a clock that nobody can set, and that every process of this host reads alike.
///
/// # Shape
/// The id of this start of the host, and the monotonic clock in microseconds. After a restart of the host the clock begins
/// again, so a stamp of before must not be compared with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    boot: String,
    mono_us: u64,
}

impl Stamp {
    /// The present moment; `None` if the kernel does not tell which start of the host this is.
    pub fn now() -> Option<Self> {
        Some(Self {
            boot: boot_id()?.to_owned(),
            mono_us: mono_now().0,
        })
    }

    /// The time since this moment; `None` if it was before the host's last start, or cannot have been.
    pub fn age(&self) -> Option<Duration> {
        let is_now = boot_id() == Some(self.boot.as_str());
        let age_us = mono_now().0.checked_sub(self.mono_us).filter(|_| is_now);
        age_us.map(Duration::from_micros)
    }
}

fn boot_id() -> Option<&'static str> {
    // Read once: a fence that a role puts up later may close the file.
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| Some(fs::read_to_string(BOOT_ID).ok()?.trim().to_owned()))
        .as_deref()
}

/// The wall clock, in whole seconds.
pub fn utc_now() -> UtcTime {
    UtcTime::from_s(utc_now_us() / 1_000_000)
}

/// The wall clock, in microseconds since 1970; a clock before 1970 reads 0.
pub fn utc_now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// The monotonic clock, the same for all processes of a host since its start.
pub fn mono_now() -> Mono {
    counted(ClockId::CLOCK_MONOTONIC)
}

/// The time since the host's start, which goes on while the host sleeps: what the wall clock is
/// compared with.
pub fn boot_now() -> Mono {
    counted(ClockId::CLOCK_BOOTTIME)
}

fn counted(clock: ClockId) -> Mono {
    // The kernel always has these clocks; were one absent, time would stand still and every
    // deadline with it.
    let Ok(now) = clock_gettime(clock) else {
        return Mono(0);
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
    Mono(
        seconds
            .saturating_mul(1_000_000)
            .saturating_add(nanoseconds / 1_000),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_stamp_of_another_start_of_the_host_has_no_age() {
        let stamp = Stamp::now().unwrap();
        assert!(stamp.age().unwrap() < Duration::from_secs(60));
        let text = serde_json::to_string(&stamp).unwrap();
        assert_eq!(serde_json::from_str::<Stamp>(&text).unwrap(), stamp);
        let earlier = Stamp {
            boot: "0d1f8a0e-0000-4000-8000-000000000000".to_owned(),
            ..stamp.clone()
        };
        assert_eq!(earlier.age(), None);
        let ahead = Stamp {
            mono_us: u64::MAX,
            ..stamp
        };
        assert_eq!(ahead.age(), None);
    }

    #[test]
    fn the_clocks_run() {
        assert!(utc_now() > UtcTime::from_s(1_700_000_000));
        let earlier = mono_now();
        assert!(earlier > Mono(0));
        assert!(mono_now() >= earlier);
        assert!(boot_now() >= earlier);
        assert_eq!(utc_now_us() / 1_000_000_000, utc_now().as_s() / 1_000);
    }
}
