//! What a host of Valise is, written once for both.

pub mod alarms;
pub mod cli;
pub mod commissioned;
pub mod folders;
pub mod handover;
pub mod life;
pub mod link_role;
pub mod metrics;
pub mod neighbour;
pub mod profile;
pub mod requests;
pub mod slots;
pub mod stand_in;
pub mod status;
pub mod supervise;
pub mod trust_store;
pub mod unfinished;
pub mod worker;
