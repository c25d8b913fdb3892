//! Attacks on the real programs. Each test is named by what the attacker tries. It asserts what did not become visible (no
//! folder in a mailbox, no file name, no byte, nothing in the outbox, no slot gone), the reason that is told, and that an
//! honest cable arrives afterwards. docs/threat-model.md says which promise each of them tries.
#![allow(clippy::unwrap_used)]

mod approvals;
mod clock;
mod files;
mod link_key;
mod manifest;
mod names;
mod need_to_know;
mod replay;
mod scene;
mod sealing;
mod tokens;
mod trust;
