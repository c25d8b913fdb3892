//! What a person asks of `valise-appliance`.

use clap::Parser;

/// Installs both hosts on two Debian systems as README.md says, and works with them as their users do.
///
/// Needs root, systemd-nspawn, mmdebstrap, nft and ip. Example: valise-appliance --debian bookworm --short
#[derive(Debug, Clone, Parser)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The Debian release of both hosts: bookworm (12) or trixie (13).
    #[arg(long, default_value = "bookworm")]
    pub debian: String,
    /// Only the way from the installation to released cables, a reboot and the audit.
    #[arg(long)]
    pub short: bool,
    /// Leaves both hosts running at the end, and says how to enter them.
    #[arg(long)]
    pub keep: bool,
    /// Prints everything that the commands print.
    #[arg(long)]
    pub verbose: bool,
    /// In two virtual machines with Debian's own kernel, which lose their power again and again.
    #[arg(long)]
    pub vm: bool,
    /// What runs the virtual machines: tcg everywhere, kvm where it boots Debian's kernel.
    #[arg(long, default_value = "tcg")]
    pub accelerator: String,
    /// How often each virtual machine loses its power.
    #[arg(long, default_value_t = 50)]
    pub cuts: u32,
    /// What all chance follows from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
