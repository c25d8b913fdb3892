//! The operating system, behind calls that cannot be used wrongly: durable files, locks, the one clock, the one source of
//! entropy, signals, directory watches, serial ports, the sandbox and the service manager.

pub mod clock;
pub mod durable;
pub mod entropy;
pub mod group;
pub mod lock;
pub mod processor;
pub mod room;
pub mod sandbox;
pub mod serial;
pub mod serial_ports;
pub mod service;
pub mod signals;
pub mod tty;
pub mod watch;
