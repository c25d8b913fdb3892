//! Contact with the world: files, folders, the register, the link. Nothing here decides.

pub(crate) mod outbox_write;
pub(crate) mod pending;
pub(crate) mod register;
pub(crate) mod slots;
pub(crate) mod view;

pub(crate) mod link_key;
pub(crate) mod link_route;
pub(crate) mod link_serial;
pub(crate) mod link_udp;
pub(crate) mod netlink;
pub(crate) mod outbox;
pub(crate) mod progress;
