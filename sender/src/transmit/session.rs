//! One session on the link: the newest link key, a random id, a counter from 0.

use serde_json::{Value, json};
use valise_common::host::folders::SenderState;
use valise_common::ids::{BundleId, SessionId};
use valise_common::os::entropy::{self, EntropyError};
use valise_common::wire::DatagramBytes;

use super::TransmitError;
use super::view::SessionView;
use crate::spool::link_key::{self, StoredLinkKey};
use crate::steps::frame::Framer;

/// The session on the link.
pub(super) struct Session {
    /// What seals its datagrams.
    pub framer: Framer,
    /// The bundle that brought its key.
    pub bundle: BundleId,
}

impl Session {
    /// Begins a session with the newest link key, unless it is that of `in_use` already.
    ///
    /// # Errors
    /// If the newest key cannot be used, or the kernel gives no random bytes.
    pub(super) fn newest(
        state: &SenderState,
        datagram: DatagramBytes,
        in_use: Option<BundleId>,
    ) -> Result<Option<Self>, TransmitError> {
        let Some(stored) = link_key::newest(state)? else {
            return Ok(None);
        };
        if in_use.is_some_and(|bundle| bundle >= stored.bundle) {
            return Ok(None);
        }
        let StoredLinkKey {
            bundle,
            key_id,
            key,
            ..
        } = stored;
        let framer = Framer::new(key, key_id, random()?, datagram);
        Ok(Some(Self { framer, bundle }))
    }

    /// Draws a new id, because the counter of the old one is used up.
    ///
    /// # Errors
    /// If the kernel gives no random bytes.
    pub(super) fn renew(&mut self) -> Result<(), TransmitError> {
        self.framer.renew(random()?);
        Ok(())
    }

    /// What the audit log says of it.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("session", json!(self.framer.session())),
            ("key_id", json!(self.framer.key_id())),
            ("bundle", json!(self.bundle)),
        ]
    }

    /// What `status` shows of it.
    pub(super) fn view(&self) -> SessionView {
        SessionView {
            session: self.framer.session(),
            key_id: self.framer.key_id(),
            bundle: self.bundle,
        }
    }
}

fn random() -> Result<SessionId, EntropyError> {
    entropy::bytes().map(SessionId::from_bytes)
}
