//! `audit verify`: what the log proves, and to whom.

use clap::Subcommand;
use valise_common::host::cli::audit::AuditVerify;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Verifies the logs of both roles, or one that is named, and reports what that proves and what not.
    #[command(
        after_help = "Example:\n  valise-sender audit verify\n  valise-sender audit verify copied/gate.log --key init.txt --public-key init.txt \\\n    --checkpoint january.checkpoints\n\n\
                      init.txt is what init printed; an auditor keeps it away from this host."
    )]
    Verify(AuditVerify),
}
