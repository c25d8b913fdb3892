//! How much memory a role may hold: what its configuration and the limits allow, whatever the link and the people bring.
//!
//! Every block that the C library hands to a role in its turn is counted, those of SQLite too.

use valise_common::host::folders::Role;
use valise_common::limits::{REPAIR_BYTES_MAX, SOURCE_BYTES_MAX};

use super::plan::{ASSEMBLY_BYTES, LARGE_BODY_BYTES};
use super::run::Run;

/// Gate and release read a body in pieces of 256 KiB, and documents of 64 KiB as a whole; the rest is the index of the few
/// cables of a run.
const WITHOUT_BODIES_BYTES: u64 = 1_250_000;

/// Receive reads into 33 buffers of four messages, each of the size of the largest.
const READING_BYTES: u64 = 33 * 4 * 65_536;

/// Views, alarms, the log, and what a role knows of each serial.
const REST_BYTES: u64 = 1 << 20;

// A large part in memory as a whole is seen.
const _: () = assert!(WITHOUT_BODIES_BYTES < LARGE_BODY_BYTES);

impl Run<'_> {
    /// Checks the most that a role held in a turn.
    pub(super) fn check_memory(&mut self, role: Role, most_bytes: i64) {
        let blocks = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let bound_bytes = match role {
            Role::Receive => ASSEMBLY_BYTES + READING_BYTES + REST_BYTES,
            Role::Transmit => blocks(SOURCE_BYTES_MAX + REPAIR_BYTES_MAX) + REST_BYTES,
            _ => WITHOUT_BODIES_BYTES,
        };
        if most_bytes > bound_bytes.cast_signed() {
            let text = format!("{role} holds {most_bytes} bytes, and may hold {bound_bytes}");
            self.log.violation(self.now_us, text);
        }
    }
}
