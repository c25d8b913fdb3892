//! Makes SSHSIGs by hand, for tests: sound ones, and such as no OpenSSH would make. Everything is
//! signed as its fields stand, so that only the check that a test names can refuse it.

#![allow(clippy::unwrap_used)]

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256, Sha512};

use super::wire::push_string;
use super::{KeyKind, PublicKey, Signature};

/// What goes into a signature. The defaults of [`Forge::new`] make a sound one.
pub(crate) struct Forge {
    secret: SigningKey,
    pub(crate) kind: KeyKind,
    pub(crate) application: &'static str,
    pub(crate) flags: u8,
    pub(crate) version: u32,
    pub(crate) namespace: &'static str,
    pub(crate) reserved: &'static [u8],
    pub(crate) hash: &'static str,
    pub(crate) algorithm: Option<&'static str>,
    pub(crate) behind_key: &'static [u8],
    pub(crate) behind_signature: &'static [u8],
    pub(crate) behind_all: &'static [u8],
    /// Stands for the public half, where it shall not fit the private one.
    pub(crate) point: Option<[u8; 32]>,
}

impl Forge {
    /// Creates a key that `seed` determines: a token that was touched, or a software key.
    pub(crate) fn new(kind: KeyKind, seed: u8) -> Self {
        Self {
            secret: SigningKey::from_bytes(&[seed; 32]),
            kind,
            application: "ssh:",
            flags: 1,
            version: 1,
            namespace: "cable-approval@valise",
            reserved: b"",
            hash: "sha512",
            algorithm: None,
            behind_key: b"",
            behind_signature: b"",
            behind_all: b"",
            point: None,
        }
    }

    /// Returns the public key in binary form.
    pub(crate) fn key_blob(&self) -> Vec<u8> {
        let point = self
            .point
            .unwrap_or_else(|| self.secret.verifying_key().to_bytes());
        let mut blob = Vec::new();
        push_string(&mut blob, self.kind.as_str().as_bytes());
        push_string(&mut blob, &point);
        if self.kind == KeyKind::SkEd25519 {
            push_string(&mut blob, self.application.as_bytes());
        }
        blob.extend_from_slice(self.behind_key);
        blob
    }

    /// Returns the public key, if it is an acceptable one.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from_blob(&self.key_blob()).unwrap()
    }

    /// Returns the signature in binary form.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let hashed = match self.hash {
            "sha256" => Sha256::digest(message).to_vec(),
            _ => Sha512::digest(message).to_vec(),
        };
        let mut data = b"SSHSIG".to_vec();
        push_string(&mut data, self.namespace.as_bytes());
        push_string(&mut data, self.reserved);
        push_string(&mut data, self.hash.as_bytes());
        push_string(&mut data, &hashed);
        let mut tail = Vec::new();
        if self.kind == KeyKind::SkEd25519 {
            tail.push(self.flags);
            tail.extend_from_slice(&7u32.to_be_bytes());
            let asserted = [
                &Sha256::digest(self.application)[..],
                &tail,
                &Sha256::digest(&data),
            ];
            data = asserted.concat();
        }
        let mut signature = Vec::new();
        let algorithm = self.algorithm.unwrap_or(self.kind.as_str());
        push_string(&mut signature, algorithm.as_bytes());
        push_string(&mut signature, &self.secret.sign(&data).to_bytes());
        signature.extend_from_slice(&tail);
        signature.extend_from_slice(self.behind_signature);

        let mut raw = b"SSHSIG".to_vec();
        raw.extend_from_slice(&self.version.to_be_bytes());
        push_string(&mut raw, &self.key_blob());
        push_string(&mut raw, self.namespace.as_bytes());
        push_string(&mut raw, self.reserved);
        push_string(&mut raw, self.hash.as_bytes());
        push_string(&mut raw, &signature);
        raw.extend_from_slice(self.behind_all);
        raw
    }

    /// Returns the signature, decoded; it must be acceptable in form.
    pub(crate) fn signature(&self, message: &[u8]) -> Signature {
        Signature::decode(&self.sign(message)).unwrap()
    }
}
