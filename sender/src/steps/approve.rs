//! Submission → Approved.
//!
//! [`Approved`](approve::Approved) is a proof: it can be made only here, and only from a manifest that policy lets pass today and that the
//! full quorum of distinct officers has signed. Sealing accepts nothing else.

use thiserror::Error;
use valise_common::approval::{Refusal, check_approval, check_approvals, check_policy};
use valise_common::ids::PersonId;
use valise_common::manifest::{Manifest, ManifestError};
use valise_common::sshsig::Signature;
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

/// Why there is no approval.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApproveError {
    /// The stored manifest is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Policy or a signature says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ApproveError {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            ApproveError::Manifest(_) => "manifest",
            ApproveError::Refused(refusal) => refusal.code(),
        }
    }
}

/// A cable that its quorum has approved.
///
/// Its field is private and it has no `Clone`: one approval seals one container.
#[derive(Debug)]
pub struct Approved {
    manifest: Manifest,
    bytes: Vec<u8>,
    approvals: Vec<Signature>,
}

impl Approved {
    /// Returns the manifest that was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the approvals, in the order of their arrival.
    pub fn approvals(&self) -> &[Signature] {
        &self.approvals
    }
}

/// Judges one approval when it arrives, beside those that are there already.
///
/// # Errors
/// [`ApproveError`] with the reason; the approval is not stored then.
pub fn judge(
    manifest_bytes: &[u8],
    signature: &Signature,
    collected: &[PersonId],
    list: &TrustList,
    now: UtcTime,
) -> Result<PersonId, ApproveError> {
    let manifest = Manifest::decode(manifest_bytes)?;
    check_policy(&manifest, list, now)?;
    let person = check_approval(&manifest, manifest_bytes, signature, list, now)?;
    if collected.contains(&person) {
        return Err(Refusal::Repeated { id: person }.into());
    }
    Ok(person)
}

/// Makes the proof: everything is asked again, against the trust list and the time of the sealing.
///
/// # Errors
/// [`ApproveError`] with the first reason against it.
pub fn approve(
    manifest_bytes: Vec<u8>,
    approvals: Vec<Signature>,
    list: &TrustList,
    now: UtcTime,
) -> Result<Approved, ApproveError> {
    let manifest = Manifest::decode(&manifest_bytes)?;
    check_policy(&manifest, list, now)?;
    check_approvals(&manifest, &manifest_bytes, &approvals, list, now)?;
    Ok(Approved {
        manifest,
        bytes: manifest_bytes,
        approvals,
    })
}
