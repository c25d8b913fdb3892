//! The operating system, behind calls that cannot be used wrongly: durable files, locks, the one
//! clock, the one source of entropy, signs of life, signals, directory watches, requests, serial ports, the
//! sandbox and the service manager.

pub mod alarm;
pub mod audit_check;
pub mod audit_log;
pub mod cli;
pub mod clock;
pub mod durable;
pub mod entropy;
pub mod group;
pub mod handover;
pub mod layout;
pub mod life;
pub mod lock;
pub mod processor;
pub mod request;
pub mod room;
pub mod sandbox;
pub mod serial;
pub mod serial_ports;
pub mod service;
pub mod signals;
pub mod stand_in;
pub mod supervise;
pub mod tty;
pub mod unfinished;
pub mod watch;
pub mod worker;
