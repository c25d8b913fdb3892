//! The one place that reads a clock. Everything else gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::units::{Mono, UtcTime};

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
    use super::*;

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
