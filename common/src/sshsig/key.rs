//! Public keys: plain Ed25519, and Ed25519 inside a security key.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use ssh_key::public::KeyData;

use super::SshsigError;

/// Every security key made for OpenSSH names an application with this beginning. A key that was made for a web site
/// names that site, and what the site had it sign must mean nothing here.
const APPLICATION_PREFIX: &str = "ssh:";

/// Where a private key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `ssh-ed25519`: a file, which can be copied.
    Ed25519,
    /// `sk-ssh-ed25519@openssh.com`: a hardware token.
    SkEd25519,
}

impl KeyKind {
    /// The name of the key type on the wire and in `.pub` files.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ssh-ed25519",
            KeyKind::SkEd25519 => "sk-ssh-ed25519@openssh.com",
        }
    }
}

/// A public key that is of an accepted type and not weak.
///
/// Two of them are equal if their binary forms are equal byte for byte; a comment behind the key takes no part.
#[derive(Clone)]
pub struct PublicKey {
    kind: KeyKind,
    point: VerifyingKey,
    application: String,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads the one line of a `.pub` file: type, base64 text, and perhaps a comment.
    ///
    /// # Errors
    /// [`SshsigError`] when it is no key, of another type, weak, or of another application.
    pub fn parse_openssh(line: &str) -> Result<Self, SshsigError> {
        let line = line.trim_end();
        if line.contains(['\n', '\r']) {
            return Err(SshsigError::KeySyntax);
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|error| match error {
            ssh_key::Error::AlgorithmUnknown => SshsigError::KeyType,
            _ => SshsigError::KeySyntax,
        })?;
        let blob = key.to_bytes().map_err(|_| SshsigError::KeySyntax)?;
        Self::from_parts(key.key_data(), blob)
    }

    /// Reads the binary form, as it stands inside an SSHSIG.
    ///
    /// # Errors
    /// As [`PublicKey::parse_openssh`]; also for bytes behind the key.
    pub fn from_blob(blob: &[u8]) -> Result<Self, SshsigError> {
        let key = ssh_key::PublicKey::from_bytes(blob).map_err(|error| match error {
            ssh_key::Error::AlgorithmUnknown => SshsigError::KeyType,
            _ => SshsigError::Malformed,
        })?;
        let again = key.to_bytes().map_err(|_| SshsigError::Malformed)?;
        if again != blob {
            return Err(SshsigError::TrailingBytes);
        }
        Self::from_parts(key.key_data(), again)
    }

    fn from_parts(data: &KeyData, blob: Vec<u8>) -> Result<Self, SshsigError> {
        let (kind, point, application) = match data {
            KeyData::Ed25519(key) => (KeyKind::Ed25519, key.0, ""),
            KeyData::SkEd25519(key) => (KeyKind::SkEd25519, key.public_key().0, key.application()),
            _ => return Err(SshsigError::KeyType),
        };
        if kind == KeyKind::SkEd25519 && !application.starts_with(APPLICATION_PREFIX) {
            return Err(SshsigError::Application);
        }
        Ok(Self {
            kind,
            point: strong_point(&point)?,
            application: application.to_owned(),
            blob,
        })
    }

    /// Whether the key is a file or a token.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The binary form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The one line of a `.pub` file, without a comment.
    pub fn to_openssh(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.blob);
        format!("{} {text}", self.kind.as_str())
    }

    /// The fingerprint as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        use base64::Engine as _;
        let hash = Sha256::digest(&self.blob);
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(hash);
        format!("SHA256:{text}")
    }

    /// Whether both keys have the same private half, even if one of them calls it a security key or names another
    /// application.
    pub fn same_secret(&self, other: &PublicKey) -> bool {
        self.point == other.point
    }

    /// The Ed25519 point, 32 bytes: what [`PublicKey::same_secret`] compares.
    pub fn point_bytes(&self) -> &[u8; 32] {
        self.point.as_bytes()
    }

    pub(super) fn point(&self) -> &VerifyingKey {
        &self.point
    }

    pub(super) fn application(&self) -> &str {
        &self.application
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.blob.cmp(&other.blob)
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.blob.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_openssh())
    }
}

/// Decompresses a point and refuses those of small order, for which anyone can sign anything, and those in a second,
/// non-canonical encoding, under which one key would be enrolled twice.
///
/// # Source
/// RFC 8032 §5.1.3 for the canonical encoding; the decompression itself follows ZIP 215 and takes both.
fn strong_point(bytes: &[u8; 32]) -> Result<VerifyingKey, SshsigError> {
    let point = VerifyingKey::from_bytes(bytes).map_err(|_| SshsigError::WeakKey)?;
    let canonical = VerifyingKey::from(point.to_edwards());
    if point.is_weak() || canonical.as_bytes() != bytes {
        return Err(SshsigError::WeakKey);
    }
    Ok(point)
}
