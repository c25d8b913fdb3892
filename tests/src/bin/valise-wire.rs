//! A lossy one-way line between two UDP ports, for tests and demonstrations.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use valise_common::units::{Percent, Span};
use valise_tests::options::share;
use valise_tests::wire::relay::Relay;
use valise_tests::wire::{LineConditions, Wire};

/// Carries UDP datagrams one way and treats them as a bad line would, reproducibly.
///
/// Example: valise-wire --listen 127.0.0.1:7001 --to 127.0.0.1:7000 --loss 5% --burst 20ms
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// Where datagrams come in; port 0 lets the kernel choose: the first line of output is the address.
    #[arg(long)]
    listen: SocketAddr,
    /// Where they go.
    #[arg(long)]
    to: SocketAddr,
    /// The share that is lost.
    #[arg(long, default_value = "0%", value_parser = share)]
    loss: Percent,
    /// The mean length of a burst of loss; without it losses are independent.
    #[arg(long, default_value = "0ms")]
    burst: Span,
    /// The share that is overtaken by later datagrams.
    #[arg(long, default_value = "0%", value_parser = share)]
    reorder: Percent,
    /// The longest that a datagram is held back.
    #[arg(long, default_value = "2ms")]
    reorder_hold: Span,
    /// The share that arrives twice.
    #[arg(long, default_value = "0%", value_parser = share)]
    duplicate: Percent,
    /// The share that arrives with flipped bits.
    #[arg(long, default_value = "0%", value_parser = share)]
    corrupt: Percent,
    /// Decides all chance: one seed gives the same decisions again.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file that holds the statistics as JSON, renewed while the line runs (and on SIGUSR1).
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
    let relay = Relay::open(options.listen, options.to, options.statistics)?;
    println!("{}", relay.listening()?);
    std::io::stdout().flush()?;
    let statistics = relay.run(Wire::new(conditions, options.seed))?;
    println!("{}", serde_json::to_string(&statistics)?);
    Ok(())
}
