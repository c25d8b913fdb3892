//! The way out: the link, the session whose key seals datagrams on it, and the passes that have just left through it.

use valise_common::config::LinkKind;
use valise_common::host::folders::SenderState;
use valise_common::os::serial::Fault;
use valise_common::units::Mono;

use super::link::{BLOCKED_LOOK_US, Link};
use super::record::Recorder;
use super::session::Session;
use super::settling::{self, Settling};
use super::view::LinkState;
use super::{During as _, TransmitError};
use crate::pipeline::PassEnded;
use crate::spool::link_key::LinkKeyError;
use crate::steps::frame::Framer;

/// The link in use.
pub(super) struct Outlet {
    link: Link,
    session: Option<Session>,
    settling: Settling,
    /// Why the newest link key cannot be used.
    key_fault: Option<String>,
    /// The sandbox of a process of root allows only the device that was there at the start.
    pub(super) is_kept: bool,
}

impl Outlet {
    /// Creates the link without a session: nothing can leave.
    pub(super) fn new(link: Link, kind: LinkKind) -> Self {
        Self {
            link,
            session: None,
            settling: Settling::new(match kind {
                LinkKind::Udp => settling::UDP_US,
                LinkKind::Serial => settling::SERIAL_US,
            }),
            key_fault: None,
            is_kept: false,
        }
    }

    /// Begins a session with the newest link key, unless its session is on the link already.
    ///
    /// # Errors
    /// [`TransmitError`]; the process must end. A key that does not parse is not an error but an alarm.
    pub(super) fn take_key(
        &mut self,
        state: &SenderState,
        recorder: &mut Recorder,
    ) -> Result<(), TransmitError> {
        let bundle = self.session.as_ref().map(|session| session.bundle);
        match Session::newest(state, self.link.datagram, bundle) {
            Ok(None) => {
                if self.session.is_none() {
                    tracing::info!("no link key yet: nothing is sent before a bundle is imported");
                }
            }
            Ok(Some(session)) => {
                tracing::info!(bundle = session.bundle.0, "a session begins");
                // Before a datagram of it leaves: an auditor must know every session that was on the link.
                recorder.event_durable("session", session.fields())?;
                // The newest is used at once, and no other ever again.
                let older = state.handover().drop_older(session.bundle);
                older.during("erase older link keys")?;
                self.session = Some(session);
                self.key_fault = None;
            }
            // The old key still reaches the receiver for a while; without any there is nothing to go on with.
            Err(error)
                if self.session.is_some()
                    || matches!(error, TransmitError::Key(LinkKeyError::Malformed { .. })) =>
            {
                tracing::error!(%error, "the newest link key cannot be used");
                let effect = match self.session {
                    Some(_) => "the one before it is used",
                    None => "nothing is sent",
                };
                let text = format!("the newest link key cannot be used: {error}; {effect}");
                self.key_fault = Some(text);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the link, to read its state.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Returns the link, to look at it and to send.
    pub(super) fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Returns the framer and room for so many datagrams, which count as unsent from now on; `None` without a session.
    ///
    /// # Errors
    /// [`TransmitError`] if the session's counter is used up and the next session does not begin.
    pub(super) fn room(
        &mut self,
        count: u32,
        recorder: &mut Recorder,
    ) -> Result<Option<(&mut Framer, &mut [u8])>, TransmitError> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        if !session.framer.has_room(count) {
            session.renew()?;
            recorder.event_durable("session", session.fields())?;
        }
        Ok(Some((&mut session.framer, self.link.room(count))))
    }

    /// Sends a datagram of noise now and then where that may bring a blocked link up; no cable leaves. Returns when to look
    /// again.
    ///
    /// # Errors
    /// [`TransmitError`] as of [`Outlet::room`].
    pub(super) fn probe(
        &mut self,
        now: Mono,
        recorder: &mut Recorder,
    ) -> Result<Mono, TransmitError> {
        if self.session.is_some() && self.link.is_probe_due(now) {
            if let Some((framer, datagram)) = self.room(1, recorder)? {
                framer.cover(datagram);
            }
            self.link.send_probe();
        }
        Ok(now.plus_us(BLOCKED_LOOK_US))
    }

    /// Takes a pass whose last datagram has been handed to the kernel.
    pub(super) fn handle_ended(&mut self, now: Mono, ended: PassEnded) {
        self.settling.handle_ended(now, ended);
    }

    /// Returns the next pass that counts as sent, the link being up at this time.
    pub(super) fn poll_settled(&mut self, up_at: Mono) -> Option<PassEnded> {
        self.settling.poll_settled(up_at)
    }

    /// Returns every pass that waits to count as sent.
    pub(super) fn take_settling(&mut self) -> Vec<PassEnded> {
        self.settling.take_all()
    }

    /// Gives up what has not left, and returns the passes that may not have left the host.
    pub(super) fn take_lost(&mut self) -> Vec<PassEnded> {
        self.link.forget_unsent();
        self.settling.take_all()
    }

    /// Returns when the link must be looked at for a pass that settles.
    pub(super) fn due_at(&self) -> Option<Mono> {
        let due_at = self.settling.due_at()?;
        Some(due_at.max(self.link.next_look_at()))
    }

    /// Returns whether the device is one that the sandbox keeps from this process.
    pub(super) fn is_other_device(&self) -> bool {
        self.is_kept && self.link.medium().port_fault() == Some(Fault::Forbidden)
    }

    /// Returns the text of the alarm `link-key`, if the newest link key cannot be used.
    pub(super) fn key_alarm(&self) -> Option<&str> {
        self.key_fault.as_deref()
    }

    /// Returns the session, without which nothing can leave.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Returns whether datagrams leave.
    pub(super) fn state(&self) -> LinkState {
        match self.session {
            Some(_) => self.link.state(),
            None => LinkState::NoKey,
        }
    }
}
