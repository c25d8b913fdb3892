//! Capabilities: a role needs none once the socket of its link is set up.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::fence::{Fence, RefusedFence};

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Drops every capability of this thread, for ever. To be called while it is the only one.
pub(super) fn drop_all() -> Result<(), RefusedFence> {
    let refused =
        |error: rustix::io::Errno| RefusedFence::new(Fence::Capabilities, &io::Error::from(error));
    if capabilities(None).map_err(refused)? == NONE {
        return Ok(());
    }
    for capability in CapabilitySet::all().iter() {
        // Takes a capability of its own, and bounds nothing but other programs, of which a role runs none.
        let _ = remove_capability_from_bounding_set(capability);
    }
    clear_ambient_capability_set().map_err(refused)?;
    set_capabilities(None, NONE).map_err(refused)
}
