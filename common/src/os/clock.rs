//! The one place that reads a clock. Everything else gets the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::units::{Mono, UtcTime};

/// A moment on a clock that nobody can set, and that every process of this host reads alike.
///
/// The kernel's id of a start of the host is not part of it: in a container, a unit with a `/proc` of its own reads another
/// id than a command does.
///
/// # Shape
/// The monotonic clock in microseconds. It begins again with each start of the host: a stamp that lies ahead of the clock is
/// older than that. Once the host has run for as long as it had then, such a stamp looks new, until it has aged again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    mono_us: u64,
}

impl Stamp {
    /// Creates the present moment.
    pub fn now() -> Self {
        Self {
            mono_us: mono_now().0,
        }
    }

    /// Returns the time since this moment; `None` if it was before the host's last start.
    pub fn age(&self) -> Option<Duration> {
        let age_us = mono_now().0.checked_sub(self.mono_us);
        age_us.map(Duration::from_micros)
    }
}

/// Returns the wall clock, in whole seconds.
pub fn utc_now() -> UtcTime {
    UtcTime::from_s(utc_now_us() / 1_000_000)
}

/// Returns the wall clock, in microseconds since 1970; a clock before 1970 reads 0.
pub fn utc_now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// Returns the monotonic clock, the same for all processes of a host since its start.
pub fn mono_now() -> Mono {
    counted(ClockId::CLOCK_MONOTONIC)
}

/// Returns the time since the host's start, which goes on while the host sleeps: what the wall clock is
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
        let stamp = Stamp::now();
        assert!(stamp.age().unwrap() < Duration::from_secs(60));
        let text = serde_json::to_string(&stamp).unwrap();
        assert_eq!(serde_json::from_str::<Stamp>(&text).unwrap(), stamp);
        let ahead = Stamp { mono_us: u64::MAX };
        assert_eq!(ahead.age(), None);
    }

    #[test]
    fn the_clocks_run() {
        assert!(utc_now() > UtcTime::from_s(1_700_000_000));
        let earlier = mono_now();
        assert!(earlier > Mono(0));
        assert!(mono_now() >= earlier);
        assert!(boot_now() >= earlier);
        // A second may begin between two looks.
        let before = utc_now().as_s();
        let between = utc_now_us() / 1_000_000;
        assert!((before..=utc_now().as_s()).contains(&between));
    }
}
