//! A serial port over time: checked while it is open, opened again after a fault.

use std::path::PathBuf;

use super::{Direction, Fault, Port};
use crate::alarm::Cause;
use crate::units::Mono;

/// Time between two attempts to open a port.
pub const RETRY_US: u64 = 200_000;

/// Time between two checks of the modes of an open port.
pub(super) const CHECK_US: u64 = 1_000_000;

/// A port that the role opens again after each fault.
#[derive(Debug)]
pub struct Line {
    device: PathBuf,
    baud: u32,
    direction: Direction,
    state: Result<Port, Fault>,
    tried_at: Mono,
    checked_at: Mono,
}

impl Line {
    /// Opens the port of a line. A fault is not an error: [`Line::port`] has it.
    pub fn open(device: PathBuf, baud: u32, direction: Direction, now: Mono) -> Self {
        let state = Port::open(&device, baud, direction);
        let line = Self {
            device,
            baud,
            direction,
            state,
            tried_at: now,
            checked_at: now,
        };
        line.log();
        line
    }

    /// Returns the bits a second of the open port, or the configured ones.
    pub fn baud(&self) -> u32 {
        self.state.as_ref().map_or(self.baud, Port::baud)
    }

    /// Returns the open port.
    ///
    /// # Errors
    /// The fault of a port that is not open.
    pub fn port(&self) -> Result<&Port, Fault> {
        self.state.as_ref().map_err(|fault| *fault)
    }

    /// Checks that the port is there and still set as it was, and opens it again if it is time. Returns whether it is open.
    pub fn look(&mut self, now: Mono) -> bool {
        if let Ok(port) = &self.state {
            let mut found = Ok(());
            if port.is_gone() {
                found = Err(Fault::Unplugged);
            } else if now.since_us(self.checked_at) >= CHECK_US {
                self.checked_at = now;
                found = port.check();
            }
            if let Err(fault) = found {
                self.handle_failure(fault, now);
            }
        }
        let Err(before) = self.state else {
            return true;
        };
        if now.since_us(self.tried_at) < RETRY_US {
            return false;
        }
        self.tried_at = now;
        self.state = match Port::open(&self.device, self.baud, self.direction) {
            // A device that was pulled out keeps that fault until it is back.
            Err(Fault::Missing) if before == Fault::Unplugged => Err(before),
            tried => tried,
        };
        if self.state.as_ref().err() != Some(&before) {
            self.log();
        }
        self.state.is_ok()
    }

    /// Returns the cause of the alarm `link-down`, if the port is not open.
    pub fn cause(&self) -> Option<Cause> {
        let fault = self.port().err()?;
        Some(fault.cause(&self.device, self.direction))
    }

    /// Gives up a port that failed.
    pub fn handle_failure(&mut self, fault: Fault, now: Mono) {
        self.state = Err(fault);
        self.tried_at = now;
        self.log();
    }

    fn log(&self) {
        let device = self.device.display();
        match &self.state {
            Ok(_) => tracing::info!(%device, baud = self.baud, "the serial port is open"),
            Err(fault) => tracing::warn!("{device} (link.device) {fault}; it is tried again"),
        }
    }
}
