//! The lossy line between the two hosts: what a diode, a bad cable or an overrun switch does to
//! datagrams, reproducible from a seed.
//!
//! [`Wire`] is the pure model (datagrams and time in, datagrams out); [`relay`] puts it between two
//! UDP ports and is what the program `valise-wire` runs.

mod model;
mod prng;
pub mod relay;
mod statistics;

pub use model::{LineConditions, Wire};
pub use prng::Prng;
pub use statistics::WireStatistics;
