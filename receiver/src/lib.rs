//! The receiver's host: `receive` rebuilds containers; `release` opens, verifies and publishes them.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | the state of serials and bundles, and the replies to requests, from the events of release's log |
//! | [`steps`] | decisions, one file each: deframe, collect, fec, reassemble, open, verify, publish |
//! | `pipeline` | receive as one machine over the steps: sets, beacons, what is completed |
//! | [`spool`] | files and links: UDP and serial link, assembly, inbox, slots, bundles, released folders, register, views |
//! | [`receive`] | the loop and threads that read the link, rebuild, hash and hand over containers |
//! | [`release`] | the loop that opens, verifies, publishes, quarantines, and answers requests |
//! | [`cli`] | commands: bundle, link-key, list, show, gaps, quarantine, status, audit, check-config; and `valise-verify` |

pub mod model;

pub mod steps;

mod pipeline;

pub mod spool;

pub mod receive;
pub mod release;

pub mod cli;
