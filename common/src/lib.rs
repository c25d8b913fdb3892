//! What both hosts of a Valise channel have in common.
//!
//! The modules stand in the order of their dependency: each uses only those above it. Everything but [`os`], [`history`] and
//! [`host`] is pure: no clock, no file, no socket, no entropy.
//!
//! | module | holds |
//! |---|---|
//! | [`secret`], [`limits`], [`units`], [`ids`], [`serial_set`], [`precedence`], [`role`] | values: keys that erase themselves, every bound, sizes, rates and times, identifiers, sets of serials |
//! | [`label`], [`manifest`] | classification and categories; the text that officers sign |
//! | [`sshsig`], [`trust`], [`bundle`], [`approval`] | signatures; the trust list; slots for the courier; whether a cable may go |
//! | [`seal`] | containers: slots, segments, the package inside |
//! | [`fec`] | source blocks, symbols, erasures, Reed–Solomon codes, the geometry of a container |
//! | [`wire`] | datagrams, frames of a serial line, beacons, drop reasons |
//! | [`audit`] | the form of audit logs: lines, their chain, checkpoints, what they prove |
//! | [`config`], [`alarm`] | the two configuration files; the table of alarms and their repairs |
//! | [`os`] | the kernel: durable files, locks, clock, entropy, signals, watches, serial ports, sandbox, journal and service manager |
//! | [`history`] | a role's audit log on disk, its verification, and the register, an index over it |
//! | [`host`] | a host: folders, `host.toml`, trust store, slots, link keys, requests, alarms, metrics, views' age, processes, commands |

pub mod secret;

pub mod limits;
pub mod units;

pub mod ids;
pub mod precedence;
pub mod role;
pub mod serial_set;

pub mod label;
pub mod manifest;

pub mod sshsig;
pub mod trust;

pub mod bundle;

pub mod approval;

pub mod seal;

pub mod fec;

pub mod wire;

pub mod audit;

pub mod config;

pub mod alarm;

pub mod os;

pub mod history;

pub mod host;

#[cfg(test)]
mod testing;
