//! Public keys: plain Ed25519, and Ed25519 inside a security key.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use ssh_key::public::KeyData;

use super::SshsigError;

/// Every security key made for OpenSSH names an application with this beginning. A key that was
/// made for a web site names that site, and what the site had it sign must mean nothing here.
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
    /// Returns the name of the key type on the wire and in `.pub` files.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ssh-ed25519",
            KeyKind::SkEd25519 => "sk-ssh-ed25519@openssh.com",
        }
    }
}

/// A public key that is of an accepted type and not weak.
///
/// Two of them are equal if their binary forms are equal byte for byte; a comment behind the key
/// takes no part.
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
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(text)) = (words.next(), words.next()) else {
            return Err(SshsigError::KeySyntax);
        };
        let blob = STANDARD.decode(text).map_err(|_| SshsigError::KeySyntax)?;
        let key = Self::from_blob(&blob).map_err(|error| match error {
            SshsigError::Malformed => SshsigError::KeySyntax,
            error => error,
        })?;
        if kind == key.kind.as_str() {
            Ok(key)
        } else {
            Err(SshsigError::KeySyntax)
        }
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
        // The crate takes a length that does not fit its field (ssh-encoding 0.2 reads on), so one
        // key would have many forms. Only the one that it would write itself is accepted.
        match key.to_bytes() {
            Ok(again) if again == blob => Self::from_parts(key.key_data(), again),
            _ => Err(SshsigError::Malformed),
        }
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

    /// Returns the binary form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Returns the one line of a `.pub` file, without a comment.
    pub fn to_openssh(&self) -> String {
        let text = STANDARD.encode(&self.blob);
        format!("{} {text}", self.kind.as_str())
    }

    /// Returns the fingerprint as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        let text = STANDARD_NO_PAD.encode(Sha256::digest(&self.blob));
        format!("SHA256:{text}")
    }

    /// Returns whether both keys have the same private half, even if one of them calls it a security key or
    /// names another application.
    pub fn same_secret(&self, other: &PublicKey) -> bool {
        self.point == other.point
    }

    /// Returns the Ed25519 point, 32 bytes: what [`PublicKey::same_secret`] compares.
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

/// Decompresses a point and refuses those of small order, for which anyone can sign anything, and
/// those in a second, non-canonical encoding, under which one key would be enrolled twice.
///
/// # Source
/// RFC 8032 §5.1.3 for the canonical encoding; the decompression itself follows ZIP 215 and takes
/// both.
fn strong_point(bytes: &[u8; 32]) -> Result<VerifyingKey, SshsigError> {
    let point = VerifyingKey::from_bytes(bytes).map_err(|_| SshsigError::WeakKey)?;
    let canonical = VerifyingKey::from(point.to_edwards());
    if point.is_weak() || canonical.as_bytes() != bytes {
        return Err(SshsigError::WeakKey);
    }
    Ok(point)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::super::forge::Forge;
    use super::*;
    use proptest::prelude::*;

    const BOTH: [KeyKind; 2] = [KeyKind::Ed25519, KeyKind::SkEd25519];

    macro_rules! vector {
        ($name:literal) => {
            include_str!(concat!("../../../tests/vectors/sshsig/", $name))
        };
    }

    /// Every encoding of a point of small order, canonical or not; each also stands with its sign
    /// bit set.
    ///
    /// Source: libsodium, `ge25519_has_small_order`.
    const SMALL_ORDER: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    fn parse_both_ways(forge: &Forge) -> Result<PublicKey, SshsigError> {
        let blob = forge.key_blob();
        let text = STANDARD.encode(&blob);
        let line = PublicKey::parse_openssh(&format!("{} {text} comment", forge.kind.as_str()));
        let binary = PublicKey::from_blob(&blob);
        assert_eq!(line, binary);
        binary
    }

    #[test]
    fn keys_of_openssh_round_trip_without_their_comment() {
        for (line, kind) in [
            (vector!("software.pub"), KeyKind::Ed25519),
            (vector!("touch.pub"), KeyKind::SkEd25519),
            (vector!("application.pub"), KeyKind::SkEd25519),
        ] {
            let key = PublicKey::parse_openssh(line).unwrap();
            assert_eq!(key.kind(), kind);
            assert!(line.starts_with(&key.to_openssh()));
            assert_eq!(PublicKey::parse_openssh(&key.to_openssh()), Ok(key.clone()));
            assert_eq!(PublicKey::from_blob(key.blob()), Ok(key));
        }
        let key = PublicKey::parse_openssh(vector!("touch.pub")).unwrap();
        assert_eq!(
            key.fingerprint(),
            "SHA256:VzrM1239uKnUhd6p0Pqik9l5jEIa0b32tBOF6SITiKE"
        );
    }

    #[test]
    fn every_point_of_small_order_is_refused_in_both_forms() {
        for encoding in SMALL_ORDER {
            let mut point: [u8; 32] = hex::decode(encoding).unwrap().try_into().unwrap();
            for sign in [0, 0x80] {
                point[31] = point[31] & 0x7f | sign;
                for kind in BOTH {
                    let mut forge = Forge::new(kind, 1);
                    forge.point = Some(point);
                    assert_eq!(
                        parse_both_ways(&forge),
                        Err(SshsigError::WeakKey),
                        "{encoding}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_second_encoding_of_a_sound_point_is_refused() {
        // y = p + n for small n, p = 2^255 - 19: some of them are points that the library takes.
        let mut taken_by_the_library = 0;
        for n in 0..19u8 {
            for sign in [0x7f, 0xff] {
                let mut point = [0xff; 32];
                (point[0], point[31]) = (0xed + n, sign);
                let library = VerifyingKey::from_bytes(&point);
                taken_by_the_library += usize::from(library.is_ok_and(|key| !key.is_weak()));
                let mut forge = Forge::new(KeyKind::SkEd25519, 1);
                forge.point = Some(point);
                assert_eq!(parse_both_ways(&forge), Err(SshsigError::WeakKey));
            }
        }
        assert!(taken_by_the_library > 0);
    }

    #[test]
    fn a_key_has_one_form_only() {
        for kind in BOTH {
            let blob = Forge::new(kind, 1).key_blob();
            for at in 0..blob.len() {
                for bit in 0..8 {
                    let mut other = blob.clone();
                    other[at] ^= 1u8 << bit;
                    // The point itself: then it is another key, or none.
                    let is_point = (4 + kind.as_str().len() + 4..).contains(&at);
                    let line = format!("{} {}", kind.as_str(), STANDARD.encode(&other));
                    assert!(is_point || PublicKey::from_blob(&other).is_err(), "{at}");
                    assert!(is_point || PublicKey::parse_openssh(&line).is_err(), "{at}");
                }
            }
        }
        let mut forge = Forge::new(KeyKind::SkEd25519, 1);
        let mut lying = forge.key_blob();
        let length = 4 + KeyKind::SkEd25519.as_str().len() + 3;
        assert_eq!(lying[length], 32);
        lying[length] = 33;
        assert_eq!(PublicKey::from_blob(&lying), Err(SshsigError::Malformed));
        forge.behind_key = b"\0";
        assert_eq!(
            PublicKey::from_blob(&forge.key_blob()),
            Err(SshsigError::Malformed)
        );
    }

    #[test]
    fn one_secret_is_known_in_every_form() {
        let plain = Forge::new(KeyKind::Ed25519, 1).public_key();
        let mut forge = Forge::new(KeyKind::SkEd25519, 1);
        let token = forge.public_key();
        forge.application = "ssh:other";
        let other = forge.public_key();
        assert!(plain != token && token != other);
        assert!(plain.same_secret(&token) && token.same_secret(&other));
        assert!(!plain.same_secret(&Forge::new(KeyKind::Ed25519, 2).public_key()));
    }

    #[test]
    fn what_is_no_key_line_is_refused() {
        let line = vector!("software.pub").trim_end();
        let blob = line.split(' ').nth(1).unwrap();
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 AAAA",
            blob,
            &format!("no-touch-required {line}"),
            &format!("{line}\n{line}"),
            &format!("sk-ssh-ed25519@openssh.com {blob}"),
            vector!("rsa.pub"),
            vector!("ecdsa-sk.pub"),
        ] {
            assert!(PublicKey::parse_openssh(text).is_err(), "{text:?}");
        }
        assert_eq!(
            PublicKey::parse_openssh(vector!("rsa.pub")),
            Err(SshsigError::KeyType)
        );
    }

    proptest! {
        #[test]
        fn parsing_anything_returns(
            text in ".{0,200}",
            blob in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = PublicKey::parse_openssh(&text);
            let _ = PublicKey::parse_openssh(&format!("ssh-ed25519 {text}"));
            let _ = PublicKey::from_blob(&blob);
        }
    }
}
