//! One signature: decoded once, verified against a namespace and a message.

use std::fmt;

use sha2::{Digest, Sha256, Sha512};

use super::wire::{self, Fields, Sshsig};
use super::{KeyKind, Namespace, PublicKey, SshsigError, armor};
use crate::limits;

/// The token saw a person: it was touched.
const FLAG_USER_PRESENT: u8 = 0x01;
/// The token knew the person: PIN or biometrics.
const FLAG_USER_VERIFIED: u8 = 0x04;

/// What a verified signature says about the person behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// A token checked PIN or biometrics. Never so for a software key.
    pub user_verified: bool,
}

/// An SSHSIG of an accepted key, well-formed, not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    raw: Vec<u8>,
    public_key: PublicKey,
    namespace: Vec<u8>,
    ed25519: [u8; 64],
    token: Token,
}

/// What a security key adds to its signature.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Token {
    flags: u8,
    counter: u32,
}

impl Signature {
    /// Decodes the binary form, as packages carry it.
    ///
    /// # Errors
    /// [`SshsigError`] for everything that makes it unacceptable whatever the message: its form,
    /// its key, its hash.
    pub fn decode(raw: &[u8]) -> Result<Self, SshsigError> {
        if raw.len() > limits::SIGNATURE_BYTES_MAX {
            return Err(SshsigError::TooLarge { bytes: raw.len() });
        }
        let parts = Sshsig::decode(raw)?;
        let public_key = PublicKey::from_blob(parts.public_key)?;
        let mut fields = Fields::new(parts.signature);
        if fields.string()? != public_key.kind().as_str().as_bytes() {
            return Err(SshsigError::Algorithm);
        }
        let ed25519 = <[u8; 64]>::try_from(fields.string()?).map_err(|_| SshsigError::Malformed)?;
        let token = match public_key.kind() {
            KeyKind::Ed25519 => Token {
                flags: 0,
                counter: 0,
            },
            KeyKind::SkEd25519 => Token {
                flags: fields.array::<1>()?[0],
                counter: fields.number()?,
            },
        };
        fields.end()?;
        Ok(Self {
            raw: raw.to_vec(),
            public_key,
            namespace: parts.namespace.to_vec(),
            ed25519,
            token,
        })
    }

    /// Decodes the text form, as `ssh-keygen -Y sign` writes it.
    ///
    /// # Errors
    /// As [`Signature::decode`]; also for damaged armour and for text around it.
    pub fn from_armor(armor: &str) -> Result<Self, SshsigError> {
        Self::decode(&armor::decode(armor)?)
    }

    /// Returns the text form; `ssh-keygen -Y verify` accepts it.
    pub fn to_armor(&self) -> String {
        armor::encode(&self.raw)
    }

    /// Returns the binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Returns the key that the signature claims to be of. Whose it is, only a trust list says.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Verifies the signature over `message`.
    ///
    /// # Errors
    /// [`SshsigError::Namespace`], [`SshsigError::Mismatch`], or, from a token that was not
    /// touched, [`SshsigError::NoUserPresence`].
    pub fn verify(&self, namespace: Namespace, message: &[u8]) -> Result<Presence, SshsigError> {
        if self.namespace != namespace.as_str().as_bytes() {
            return Err(SshsigError::Namespace {
                expected: namespace,
            });
        }
        let data = wire::signed_data(namespace.as_str(), &Sha512::digest(message));
        let signed = match self.public_key.kind() {
            KeyKind::Ed25519 => data,
            KeyKind::SkEd25519 => self.token.assertion(self.public_key.application(), &data),
        };
        let ed25519 = ed25519_dalek::Signature::from_bytes(&self.ed25519);
        self.public_key
            .point()
            .verify_strict(&signed, &ed25519)
            .map_err(|_| SshsigError::Mismatch)?;
        match self.public_key.kind() {
            KeyKind::Ed25519 => Ok(Presence {
                user_verified: false,
            }),
            KeyKind::SkEd25519 => self.token.presence(),
        }
    }
}

impl Token {
    /// What the token itself signs.
    ///
    /// # Shape
    /// ```text
    /// SHA-256(application) (32) ‖ flags (1) ‖ counter (4) ‖ SHA-256(data) (32)
    /// ```
    fn assertion(self, application: &str, data: &[u8]) -> Vec<u8> {
        let mut signed = Sha256::digest(application).to_vec();
        signed.push(self.flags);
        signed.extend_from_slice(&self.counter.to_be_bytes());
        signed.extend_from_slice(&Sha256::digest(data));
        signed
    }

    fn presence(self) -> Result<Presence, SshsigError> {
        if self.flags & FLAG_USER_PRESENT == 0 {
            return Err(SshsigError::NoUserPresence);
        }
        Ok(Presence {
            user_verified: self.flags & FLAG_USER_VERIFIED != 0,
        })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.raw.len())
    }
}

#[cfg(test)]
mod tests;
