//! The sender's host: `gate` takes, judges and seals; `transmit` sends what is sealed.
//!
//! | module | holds |
//! |---|---|
//! | `model` | the state of cables and bundles, as a fold over the events of gate's log |
//! | [`steps`] | decisions, one file each: submit, approve, seal, resend, queue, chunk, fec, interleave, frame, pace |
//! | `pipeline` | transmit as one machine over the steps: what leaves next, passes, beacons |
//! | `spool` | files and links: pending cables, outbox, slots, progress, register, views, UDP and serial link, route and neighbour |
//! | [`gate`] | the loop that takes requests, judges them, seals, expires and deletes |
//! | [`transmit`] | the loop that sends, and what it tells of the link |
//! | [`cli`] | commands: submit, list, show, read, approve, resend, bundle, status, check-config |

pub mod model;

pub mod steps;

mod pipeline;

mod spool;

pub mod gate;
pub mod transmit;

pub mod cli;
