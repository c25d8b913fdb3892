//! The command line of `valise-appliance`.

use clap::Parser;

/// Installs both hosts on two Debian systems by the steps of README.md, and works with them as their users do.
///
/// Needs root, systemd-nspawn, mmdebstrap, nft and ip. Example: valise-appliance --debian bookworm --short
#[derive(Debug, Clone, Parser)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The Debian release of both hosts: bookworm (12) or trixie (13).
    #[arg(long, default_value = "bookworm")]
    pub debian: String,
    /// Runs only the part from the installation to released cables, a reboot and the audit.
    #[arg(long)]
    pub short: bool,
    /// Leaves both hosts running at the end, and prints how to enter them.
    #[arg(long)]
    pub keep: bool,
    /// Prints the output of all commands.
    #[arg(long)]
    pub verbose: bool,
    /// Uses two virtual machines with Debian's own kernel, whose power is cut again and again.
    #[arg(long)]
    pub vm: bool,
    /// The accelerator of the virtual machines: tcg works everywhere, kvm where it boots Debian's kernel.
    #[arg(long, default_value = "tcg")]
    pub accelerator: String,
    /// The number of times that each virtual machine loses its power.
    #[arg(long, default_value_t = 50)]
    pub cuts: u32,
    /// The seed of all random decisions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
