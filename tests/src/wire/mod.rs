//! The lossy line between the two hosts: it has the faults of a diode, a bad cable or an overrun switch for datagrams,
//! and those of a noisy serial line for bytes, reproducible from a seed.
//!
//! [`Wire`] and [`SerialWire`] are the pure models (input with the time, and output). [`relay`] puts the first between
//! two UDP ports and [`serial_relay`] the second between two pseudo-terminals; the program `valise-wire` runs either.

mod model;
mod prng;
mod pty;
pub mod relay;
mod serial_model;
pub mod serial_relay;
mod statistics;

pub use model::{LineConditions, Wire};
pub use prng::Prng;
pub use pty::Pty;
pub use serial_model::SerialWire;
pub use statistics::WireStatistics;
