//! The signatures that put a trust list or a bundle into force.

use std::collections::BTreeSet;

use super::AdministratorError;
use crate::sshsig::{Namespace, PublicKey, Signature};

/// One stolen token must not change who is trusted.
const NEEDED: usize = 2;

/// Checks the administrators that a host is commissioned with: two at least, and no secret shared between them.
///
/// # Errors
/// [`AdministratorError::TooFew`] and [`AdministratorError::SharedKey`].
pub fn check_administrators(administrators: &[PublicKey]) -> Result<(), AdministratorError> {
    if administrators.len() < NEEDED {
        return Err(AdministratorError::TooFew);
    }
    let secrets: BTreeSet<&[u8; 32]> = administrators.iter().map(PublicKey::point_bytes).collect();
    if secrets.len() == administrators.len() {
        Ok(())
    } else {
        Err(AdministratorError::SharedKey)
    }
}

/// Whether at least two distinct administrators signed `bytes`. Signatures of others, and those that do not verify,
/// count for nothing; a stale file beside two good ones does no harm.
///
/// # Errors
/// [`AdministratorError::NotSigned`].
pub fn verify_administrators(
    bytes: &[u8],
    signatures: &[Signature],
    namespace: Namespace,
    administrators: &[PublicKey],
) -> Result<(), AdministratorError> {
    let mut valid = BTreeSet::new();
    let mut fault = None;
    for signature in signatures {
        let key = signature.public_key();
        if !administrators.contains(key) {
            continue;
        }
        match signature.verify(namespace, bytes) {
            Ok(_) => {
                valid.insert(key.point_bytes());
            }
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    let valid = valid.len();
    if valid < NEEDED {
        return Err(AdministratorError::NotSigned {
            valid,
            namespace,
            fault,
        });
    }
    Ok(())
}
