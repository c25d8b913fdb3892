//! Contact with the world.

pub(crate) mod assembly;
pub(crate) mod beacon_file;
pub(crate) mod completed;
pub(crate) mod link_serial;
pub(crate) mod link_udp;
pub(crate) mod net_tables;

pub(crate) mod bundle_store;
pub(crate) mod containers;
pub mod publish;
pub(crate) mod register;
pub(crate) mod regular;
pub mod released;
pub(crate) mod slots;
pub(crate) mod slots_key;
pub mod view;
