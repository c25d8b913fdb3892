//! A lossy one-way line between two UDP ports or two pseudo-terminals, for tests and demonstrations.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use valise_common::units::{Percent, Span};
use valise_tests::options::{baud, share};
use valise_tests::wire::relay::Relay;
use valise_tests::wire::serial_relay::SerialRelay;
use valise_tests::wire::{LineConditions, SerialWire, Wire};

/// Carries UDP datagrams or the bytes of a serial line one way with the faults of a bad line, reproducibly.
///
/// Examples:
///   valise-wire --listen 127.0.0.1:7001 --to 127.0.0.1:7000 --loss 5% --burst 20ms
///   valise-wire --serial ports --baud 9600 --loss 0.01% --burst 5ms --corrupt 0.01%
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// The address on which datagrams are received; with port 0 the kernel chooses: the first line of output is the
    /// address.
    #[arg(long, required_unless_present = "serial", requires = "to")]
    listen: Option<SocketAddr>,
    /// The address to which datagrams are sent.
    #[arg(long, requires = "listen")]
    to: Option<SocketAddr>,
    /// A serial line instead: makes the folder, if it is absent, and in it the symbolic links "sender" and "receiver"
    /// to two pseudo-terminals. Shares count bytes. SIGUSR2 unplugs the line, the next SIGUSR2 plugs it in again.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["listen", "to", "reorder", "reorder_hold"])]
    serial: Option<PathBuf>,
    /// The speed that converts --burst to bytes on a serial line; the line itself has no speed.
    #[arg(long, requires = "serial", default_value = "115200", value_parser = baud)]
    baud: u32,
    /// The share that is lost.
    #[arg(long, default_value = "0%", value_parser = share)]
    loss: Percent,
    /// The mean length of a burst of loss; without it losses are independent.
    #[arg(long, default_value = "0ms")]
    burst: Span,
    /// The share that later datagrams overtake.
    #[arg(long, default_value = "0%", value_parser = share)]
    reorder: Percent,
    /// The longest time for which a datagram is held back.
    #[arg(long, default_value = "2ms")]
    reorder_hold: Span,
    /// The share that arrives twice; on a serial line, bytes that nobody sent.
    #[arg(long, default_value = "0%", value_parser = share)]
    duplicate: Percent,
    /// The share that arrives with flipped bits.
    #[arg(long, default_value = "0%", value_parser = share)]
    corrupt: Percent,
    /// The seed of all random decisions: the same seed gives the same decisions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file for the statistics as JSON, rewritten while the line runs (and at SIGUSR1).
    #[arg(long)]
    statistics: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("valise-wire: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(options: Options) -> std::io::Result<()> {
    let conditions = LineConditions {
        loss: options.loss,
        burst: options.burst.0,
        reorder: options.reorder,
        reorder_hold: options.reorder_hold.0,
        duplicate: options.duplicate,
        corrupt: options.corrupt,
    };
    let statistics = match (options.serial, options.listen, options.to) {
        (Some(folder), _, _) => {
            std::fs::create_dir_all(&folder)?;
            let relay = SerialRelay::open(folder, options.statistics)?;
            let wire = SerialWire::new(conditions, options.baud, options.seed);
            relay.run(wire, &mut std::io::stdout())?
        }
        (None, Some(listen), Some(to)) => {
            let relay = Relay::open(listen, to, options.statistics)?;
            println!("{}", relay.listening()?);
            std::io::stdout().flush()?;
            relay.run(Wire::new(conditions, options.seed))?
        }
        // The command line is refused without them.
        (None, _, _) => return Ok(()),
    };
    println!("{}", serde_json::to_string(&statistics)?);
    Ok(())
}
