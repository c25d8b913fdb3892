//! An attacker who records the whole link and replays it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{HarnessError, Result, World};

/// The time within which the recording thread notices that it must stop.
const STOP_LATENCY: Duration = Duration::from_millis(100);

/// Forwards every datagram, and keeps a copy. Needs a world with [`crate::harness::Line::Tapped`].
pub struct Recorder {
    tape: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    to: SocketAddr,
}

impl Recorder {
    /// Begins to record. Must be called before the sender sends.
    ///
    /// # Errors
    /// If no socket can be made.
    pub fn start(world: &World) -> Result<Self> {
        let io = |source| HarnessError::Io {
            what: format!("record at {}", world.entrance()),
            source,
        };
        let entrance = UdpSocket::bind(world.entrance()).map_err(io)?;
        entrance.set_read_timeout(Some(STOP_LATENCY)).map_err(io)?;
        let exit = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
        let to = world.receiver_address();
        let tape = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (Arc::clone(&tape), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = entrance.recv(&mut buffer) else {
                    continue;
                };
                let _ = exit.send_to(&buffer[..length], to);
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(buffer[..length].to_vec());
            }
        });
        Ok(Self {
            tape,
            stop,
            thread: Some(thread),
            to,
        })
    }

    /// Returns all recorded datagrams.
    pub fn tape(&self) -> Vec<Vec<u8>> {
        self.tape
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends all recorded datagrams once more; returns their number.
    ///
    /// # Errors
    /// If the socket refuses.
    pub fn replay(&self) -> Result<usize> {
        let tape = self.tape();
        super::transmit(&tape, self.to)?;
        Ok(tape.len())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
