//! The lossy line between the two hosts: what a diode, a bad cable or an overrun switch does to
//! datagrams, and a noisy serial line to bytes, reproducible from a seed.
//!
//! [`Wire`] and [`SerialWire`] are the pure models (in, with the time, and out). [`relay`] puts one between two UDP ports and
//! [`serial_relay`] the other between two pseudo-terminals; the program `valise-wire` runs either.

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
