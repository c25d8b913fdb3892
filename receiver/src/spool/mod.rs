//! Contact with the world.

pub mod assembly;
pub mod beacon_file;
pub mod completed;
pub mod link_serial;
pub mod link_udp;
pub mod net_tables;

pub mod bundle_store;
pub mod containers;
pub mod publish;
pub mod register;
pub mod regular;
pub mod released;
pub mod slots;
pub mod slots_key;
pub mod view;
