//! What each role may read and write: all that the sandbox leaves it.

use super::folders::{ReceiverState, Role, SenderState};
use crate::os::sandbox::Profile;

/// What SQLite seeds the names of its journals from.
const RANDOM: &str = "/dev/urandom";

/// What gate needs: all of its host's state but the link keys' folder is its own, so it gets
/// the state folder.
pub fn gate(state: &SenderState) -> Profile {
    let write = vec![state.root().to_path_buf()];
    let breaches = state.forbidden_call(Role::Gate);
    Profile::new(Role::Gate, vec![RANDOM.into()], write, breaches)
}

/// What transmit needs: sealed containers to read; link keys to take over; progress, view and
/// log to write.
pub fn transmit(state: &SenderState) -> Profile {
    let read = vec![state.host(), state.outbox()];
    let write = vec![
        state.link_keys(),
        state.handover_folder(),
        state.progress(),
        state.view(),
        state.tmp(Role::Transmit),
        state.checkpoints(Role::Transmit),
        state.audit_files(Role::Transmit),
    ];
    let breaches = state.forbidden_call(Role::Transmit);
    Profile::new(Role::Transmit, read, write, breaches)
}

/// What receive needs: link keys to take over; the inbox, partial containers, view and log to
/// write.
pub fn receive(state: &ReceiverState) -> Profile {
    let read = vec![state.host()];
    let write = vec![
        state.link_keys(),
        state.handover_folder(),
        state.inbox(),
        state.damaged(),
        state.assembly(),
        state.view(),
        state.tmp(Role::Receive),
        state.checkpoints(Role::Receive),
        state.audit_files(Role::Receive),
    ];
    let breaches = state.forbidden_call(Role::Receive);
    Profile::new(Role::Receive, read, write, breaches)
}

/// What release needs: all of its host's state.
pub fn release(state: &ReceiverState) -> Profile {
    let write = vec![state.root().to_path_buf()];
    let breaches = state.forbidden_call(Role::Release);
    Profile::new(Role::Release, vec![RANDOM.into()], write, breaches)
}
