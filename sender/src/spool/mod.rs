//! Contact with the world: files, folders, the register, the link. Nothing here decides.

pub mod outbox_write;
pub mod pending;
pub mod register;
pub mod slots;
pub mod view;

pub mod link_key;
pub mod link_route;
pub mod link_serial;
pub mod link_udp;
pub mod netlink;
pub mod outbox;
pub mod progress;
