//! The fuzz targets of `fuzz/`: one function for each parser. Each takes any bytes and asserts the promises of the
//! format.
//!
//! `make fuzz` feeds them with libFuzzer. `tests/tests/fuzz_corpora.rs` feeds them with the seeds and the committed
//! corpora.

mod audit;
mod bundle;
mod link;
mod manifest;
mod request;
mod scene;
mod sealed;
mod sshsig;
mod trust;

/// One input of a target, and its name.
pub type Seed = (String, Vec<u8>);

/// A parser that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name in `fuzz/`.
    pub name: &'static str,
    /// Takes one input.
    pub body: fn(&[u8]),
    /// Returns the first inputs, made from the test vectors.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "datagram",
        body: link::datagram,
        seeds: link::datagram_seeds,
    },
    Target {
        name: "frame",
        body: link::frame,
        seeds: link::frame_seeds,
    },
    Target {
        name: "beacon",
        body: link::beacon,
        seeds: link::beacon_seeds,
    },
    Target {
        name: "container",
        body: sealed::container,
        seeds: sealed::container_seeds,
    },
    Target {
        name: "package",
        body: sealed::package,
        seeds: sealed::package_seeds,
    },
    Target {
        name: "manifest",
        body: manifest::manifest,
        seeds: manifest::seeds,
    },
    Target {
        name: "sshsig",
        body: sshsig::sshsig,
        seeds: sshsig::seeds,
    },
    Target {
        name: "trust",
        body: trust::trust,
        seeds: trust::seeds,
    },
    Target {
        name: "bundle",
        body: bundle::bundle,
        seeds: bundle::seeds,
    },
    Target {
        name: "request",
        body: request::request,
        seeds: request::seeds,
    },
    Target {
        name: "audit",
        body: audit::audit,
        seeds: audit::seeds,
    },
];

/// Runs the target with this name.
///
/// # Panics
/// If the input shows a fault, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    (target.body)(input);
}
