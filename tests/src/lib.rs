//! Tests of Valise as a whole: a lossy wire, a harness that commissions both hosts on one machine and runs the real
//! programs, and the common code of the benchmarks and end-to-end tests.

pub mod appliance;
pub mod attack;
pub mod bench;
pub mod fuzz;
pub mod harness;
pub mod loopback;
pub mod options;
pub mod sim;
pub mod soak;
pub mod sweep;
pub mod wire;
