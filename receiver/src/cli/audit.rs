//! `audit verify`: what the log proves, and to whom; and `audit reconcile`: both hosts' logs against each other.

mod compare;
mod reconcile;
mod row;

use clap::Subcommand;
use valise_common::host::cli::audit::AuditVerify;

pub(super) use reconcile::reconcile;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Verifies the logs of both roles, or one that is named, and reports what that proves and what not.
    #[command(
        after_help = "Example:\n  valise-receiver audit verify\n  valise-receiver audit verify copied/release.log --key init.txt --public-key init.txt \\\n    --checkpoint january.checkpoints\n\n\
                      init.txt is what init printed; an auditor keeps it away from this host."
    )]
    Verify(AuditVerify),
    /// Compares the sender's log with this host's, serial by serial.
    #[command(after_help = "Example:\n  valise-receiver audit reconcile gate.log --key init.txt")]
    Reconcile(reconcile::Reconcile),
}
