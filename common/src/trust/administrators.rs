//! The signatures that put a trust list or a bundle into force.

use crate::limits;
use std::collections::BTreeSet;

use super::{AdministratorError, TrustList};
use crate::sshsig::{Namespace, PublicKey, Signature};

/// Checks the administrators that a host is commissioned with: two at least, and no secret shared
/// between them.
///
/// # Errors
/// [`AdministratorError::TooFew`] and [`AdministratorError::SharedKey`].
pub(crate) fn check_administrators(administrators: &[PublicKey]) -> Result<(), AdministratorError> {
    if administrators.len() < limits::ADMINISTRATORS_MIN {
        return Err(AdministratorError::TooFew);
    }
    let secrets: BTreeSet<&[u8; 32]> = administrators.iter().map(PublicKey::point_bytes).collect();
    if secrets.len() == administrators.len() {
        Ok(())
    } else {
        Err(AdministratorError::SharedKey)
    }
}

impl TrustList {
    /// Checks that no administrator's key, in whatever form, is a person's: a stolen one would otherwise do both.
    ///
    /// # Errors
    /// [`AdministratorError::IsPerson`].
    pub(crate) fn check_apart(
        &self,
        administrators: &[PublicKey],
    ) -> Result<(), AdministratorError> {
        let secrets: BTreeSet<&[u8; 32]> =
            administrators.iter().map(PublicKey::point_bytes).collect();
        let mut keys = self.by_key.iter();
        match keys.find(|(key, _)| secrets.contains(key.point_bytes())) {
            Some((_, person)) => Err(AdministratorError::IsPerson {
                person: person.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Whether at least two distinct administrators signed `bytes`. Signatures of others, and those
/// that do not verify, count for nothing; a stale file beside two good ones does no harm.
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
    if valid < limits::ADMINISTRATORS_MIN {
        return Err(AdministratorError::NotSigned {
            valid,
            namespace,
            fault,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::sshsig::forge::Forge;
    use crate::sshsig::{KeyKind, SshsigError};

    const LIST: &[u8] = b"version = 1";

    fn forge(seed: u8) -> Forge {
        let mut forge = Forge::new(KeyKind::SkEd25519, seed);
        forge.namespace = Namespace::TrustList.as_str();
        forge
    }

    fn verify(signatures: &[Signature]) -> Result<(), AdministratorError> {
        let administrators = [1, 2, 3].map(|seed| forge(seed).public_key());
        verify_administrators(LIST, signatures, Namespace::TrustList, &administrators)
    }

    fn not_signed(valid: usize, fault: Option<SshsigError>) -> Result<(), AdministratorError> {
        Err(AdministratorError::NotSigned {
            valid,
            namespace: Namespace::TrustList,
            fault,
        })
    }

    #[test]
    fn two_distinct_administrators_suffice() {
        assert_eq!(
            verify(&[forge(1).signature(LIST), forge(3).signature(LIST)]),
            Ok(())
        );
    }

    #[test]
    fn one_administrator_twice_is_one() {
        let mut again = forge(1);
        again.flags = 5;
        assert_eq!(verify(&[]), not_signed(0, None));
        assert_eq!(verify(&[forge(1).signature(LIST)]), not_signed(1, None));
        assert_eq!(
            verify(&[forge(1).signature(LIST), again.signature(LIST)]),
            not_signed(1, None)
        );
    }

    #[test]
    fn strangers_and_signatures_over_other_bytes_count_for_nothing() {
        let good = forge(1).signature(LIST);
        assert_eq!(
            verify(&[good.clone(), forge(9).signature(LIST)]),
            not_signed(1, None)
        );
        let stale = forge(2).signature(b"version = 0");
        assert_eq!(
            verify(&[good.clone(), stale.clone()]),
            not_signed(1, Some(SshsigError::Mismatch))
        );
        // Who brought it is told what is wrong with the one that should have counted.
        let told = verify(&[good.clone(), stale.clone()]).map_err(|error| error.to_string());
        let told = told.expect_err("one is missing");
        assert!(
            told.contains("verify (the signature does not verify over these bytes);"),
            "{told}"
        );
        let told = not_signed(1, None).map_err(|error| error.to_string());
        assert!(told.expect_err("one is missing").contains("verify; each"));
        assert_eq!(verify(&[good, stale, forge(3).signature(LIST)]), Ok(()));
    }

    #[test]
    fn a_signature_for_a_bundle_puts_no_list_into_force() {
        let mut other = forge(2);
        other.namespace = Namespace::Bundle.as_str();
        assert!(verify(&[forge(1).signature(LIST), other.signature(LIST)]).is_err());
    }

    #[test]
    fn an_untouched_token_puts_no_list_into_force() {
        let mut other = forge(2);
        other.flags = 0;
        assert_eq!(
            verify(&[forge(1).signature(LIST), other.signature(LIST)]),
            not_signed(1, Some(SshsigError::NoUserPresence))
        );
    }

    #[test]
    fn nobody_is_administrator_and_person_with_one_secret() {
        let list = sample::list();
        let stranger = forge(90).public_key();
        assert_eq!(
            list.check_apart(&[forge(91).public_key(), stranger.clone()]),
            Ok(())
        );
        let mut other_application = Forge::new(KeyKind::SkEd25519, sample::B_SECOND);
        other_application.application = "ssh:other";
        for (key, person) in [
            (Forge::new(KeyKind::SkEd25519, sample::C), "c.officer"),
            (Forge::new(KeyKind::Ed25519, sample::C), "c.officer"),
            (other_application, "b.officer"),
        ] {
            assert_eq!(
                list.check_apart(&[stranger.clone(), key.public_key()]),
                Err(AdministratorError::IsPerson {
                    person: person.parse().expect("an id")
                })
            );
        }
    }

    #[test]
    fn administrators_are_two_and_distinct_in_secret() {
        let [one, two] = [1, 2].map(|seed| forge(seed).public_key());
        let plain = Forge::new(KeyKind::Ed25519, 1).public_key();
        assert_eq!(check_administrators(&[]), Err(AdministratorError::TooFew));
        assert_eq!(
            check_administrators(std::slice::from_ref(&one)),
            Err(AdministratorError::TooFew)
        );
        assert_eq!(
            check_administrators(&[one.clone(), one.clone()]),
            Err(AdministratorError::SharedKey)
        );
        assert_eq!(
            check_administrators(&[one.clone(), plain]),
            Err(AdministratorError::SharedKey)
        );
        assert_eq!(check_administrators(&[one, two]), Ok(()));
    }
}
