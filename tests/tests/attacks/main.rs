//! Attacks on the real programs. The name of each test is the attempt of the attacker. The test asserts that nothing
//! became visible (no folder in a mailbox, no file name, no byte, nothing in the outbox, no slot gone), that the reason
//! is reported, and that an honest cable arrives afterwards. docs/threat-model.md has the promise that each of them
//! tries to break.
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
