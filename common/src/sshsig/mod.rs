//! Signatures of persons: SSHSIG as `ssh-keygen -Y sign` makes them, with software keys and with
//! security keys.
//!
//! The crate `ssh-key` reads public keys. Everything that decides is here: the SSHSIG is read field
//! by field, so that no detail of it goes unchecked, and Ed25519 is verified strictly.
//!
//! # Source
//! OpenSSH `PROTOCOL.sshsig`, `PROTOCOL.u2f`; RFC 8032.

mod armor;
#[cfg(test)]
pub(crate) mod forge;
mod key;
mod signature;
mod wire;

pub use key::{KeyKind, PublicKey};
pub use signature::{Presence, Signature};

use std::fmt;

use thiserror::Error;

/// What a signature was made for. A signature made for one namespace is nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// An officer's approval, over a manifest.
    CableApproval,
    /// An administrator's signature over a trust list.
    TrustList,
    /// An administrator's signature over a bundle's statement.
    Bundle,
}

impl Namespace {
    /// Returns the namespace as `ssh-keygen -n` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Namespace::CableApproval => "cable-approval@valise",
            Namespace::TrustList => "trust-list@valise",
            Namespace::Bundle => "bundle@valise",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a public key or a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SshsigError {
    /// The text is no OpenSSH public key.
    #[error("not an openssh public key; give the line of a .pub file")]
    KeySyntax,
    /// A key of a type that approves nothing here.
    #[error("key type not accepted; use sk-ssh-ed25519@openssh.com or ssh-ed25519")]
    KeyType,
    /// A key that anyone can sign for, or a second spelling of another key.
    #[error("the key is weak: of small order, or not in its one canonical encoding")]
    WeakKey,
    /// A security key that was made for another purpose than SSH.
    #[error("the security key's application does not begin with \"ssh:\"")]
    Application,
    /// The armour around the base64 text is damaged, or something stands before or behind it.
    #[error(
        "not an ssh signature file; expected what `ssh-keygen -Y sign` wrote, and nothing else"
    )]
    Armor,
    /// The binary signature is cut short, or its fields do not add up.
    #[error("the ssh signature is malformed")]
    Malformed,
    /// Something stands behind the signature or behind one of its fields.
    #[error("bytes stand behind the end of the ssh signature or of one of its fields")]
    TrailingBytes,
    /// Larger than any signature of the accepted types.
    #[error(
        "the ssh signature has {bytes} bytes; {} are the most",
        crate::limits::SIGNATURE_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An SSHSIG of another version.
    #[error("ssh signature version {version}; only 1 is accepted")]
    Version {
        /// The version it names.
        version: u32,
    },
    /// The reserved field holds something.
    #[error("the reserved field of the ssh signature is not empty")]
    Reserved,
    /// A hash other than sha512.
    #[error("the ssh signature's hash is not sha512")]
    Hash,
    /// The signature's algorithm is not its key's.
    #[error("the ssh signature's algorithm is not its key's; webauthn signatures are not accepted")]
    Algorithm,
    /// Made for something else.
    #[error("the signature was made for another namespace; sign with -n {expected}")]
    Namespace {
        /// The namespace that was asked for.
        expected: Namespace,
    },
    /// The signature does not fit the message.
    #[error("the signature does not verify over these bytes")]
    Mismatch,
    /// A security key signed without being touched.
    #[error("the security key signed without a touch; make a key without no-touch-required")]
    NoUserPresence,
}
