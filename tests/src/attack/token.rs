//! A security key with freely chosen fields, for signatures that no OpenSSH would make. It is written from the formats
//! page and OpenSSH's `PROTOCOL.sshsig` and `PROTOCOL.u2f`, not from the code that it attacks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256, Sha512};

/// Columns of the armour's lines.
const ARMOUR_COLUMNS: usize = 70;

/// Encodings of points of small order: anybody can sign for such a key. The neutral element, the points of order 2 and
/// 4, two of order 8.
pub const SMALL_ORDER: [[u8; 32]; 5] = [
    point(0x01, 0x00, 0x00),
    point(0xec, 0xff, 0x7f),
    point(0x00, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn point(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// A key in the attacker's hands, and the way it signs. [`Token::new`] makes a valid security key.
#[derive(Debug, Clone)]
pub struct Token {
    secret: SigningKey,
    /// Whether it is a security key, or a software key.
    pub hardware: bool,
    /// The application for which a security key was made.
    pub application: String,
    /// 1: the user was present; 4: the user was verified.
    pub flags: u8,
    /// The namespace.
    pub namespace: String,
    /// The reserved field.
    pub reserved: Vec<u8>,
    /// The hash algorithm in the signature.
    pub hash: String,
    /// Bytes after the signature.
    pub behind: Vec<u8>,
    /// A point of small order in place of the public key; the signature is one that a lax verifier accepts.
    pub small_order: Option<[u8; 32]>,
}

impl Token {
    /// Makes a security key from `seed`, touched at each use.
    pub fn new(seed: u8) -> Self {
        Self {
            secret: SigningKey::from_bytes(&[seed; 32]),
            hardware: true,
            application: "ssh:".to_owned(),
            flags: 1,
            namespace: "cable-approval@valise".to_owned(),
            reserved: Vec::new(),
            hash: "sha512".to_owned(),
            behind: Vec::new(),
            small_order: None,
        }
    }

    /// The same key with one property changed.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    fn kind(&self) -> &'static str {
        match self.hardware {
            true => "sk-ssh-ed25519@openssh.com",
            false => "ssh-ed25519",
        }
    }

    fn key_blob(&self) -> Vec<u8> {
        let point = self
            .small_order
            .unwrap_or_else(|| self.secret.verifying_key().to_bytes());
        let mut blob = Vec::new();
        push(&mut blob, self.kind().as_bytes());
        push(&mut blob, &point);
        if self.hardware {
            push(&mut blob, self.application.as_bytes());
        }
        blob
    }

    /// The public key, as in a trust list.
    pub fn public_line(&self) -> String {
        format!("{} {}", self.kind(), STANDARD.encode(self.key_blob()))
    }

    /// An SSHSIG over `message`, in binary form.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let hashed = match self.hash.as_str() {
            "sha256" => Sha256::digest(message).to_vec(),
            _ => Sha512::digest(message).to_vec(),
        };
        let mut data = b"SSHSIG".to_vec();
        for field in [
            self.namespace.as_bytes(),
            &self.reserved,
            self.hash.as_bytes(),
            &hashed,
        ] {
            push(&mut data, field);
        }
        let mut tail = Vec::new();
        if self.hardware {
            tail.push(self.flags);
            tail.extend_from_slice(&[0, 0, 0, 9]);
            data = [
                &Sha256::digest(self.application.as_bytes())[..],
                &tail,
                &Sha256::digest(&data),
            ]
            .concat();
        }
        let ed25519 = match self.small_order {
            // R is the neutral element and s is 0: s·B = R + k·A wherever k·A is neutral.
            Some(_) => [&SMALL_ORDER[0][..], &[0; 32]].concat(),
            None => self.secret.sign(&data).to_bytes().to_vec(),
        };
        let mut signature = Vec::new();
        push(&mut signature, self.kind().as_bytes());
        push(&mut signature, &ed25519);
        signature.extend_from_slice(&tail);

        let mut raw = b"SSHSIG\0\0\0\x01".to_vec();
        for field in [
            &self.key_blob(),
            self.namespace.as_bytes(),
            &self.reserved,
            self.hash.as_bytes(),
            &signature,
        ] {
            push(&mut raw, field);
        }
        raw.extend_from_slice(&self.behind);
        raw
    }

    /// The same in the armour of a `.sig` file.
    pub fn sign_armoured(&self, message: &[u8]) -> String {
        let text = STANDARD.encode(self.sign(message));
        let mut armour = "-----BEGIN SSH SIGNATURE-----\n".to_owned();
        for (index, character) in text.chars().enumerate() {
            if index > 0 && index % ARMOUR_COLUMNS == 0 {
                armour.push('\n');
            }
            armour.push(character);
        }
        armour.push_str("\n-----END SSH SIGNATURE-----\n");
        armour
    }
}

/// Appends an SSH string: its length in four bytes, big-endian, and its bytes.
fn push(into: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn ssh_keygen_takes_what_a_sound_token_signs() {
        let folder = tempfile::tempdir().expect("a folder");
        let message = b"a manifest\n";
        for hardware in [true, false] {
            let token = Token::new(1).with(|token| token.hardware = hardware);
            let [allowed, signature, text] =
                ["allowed", "sig", "text"].map(|name| folder.path().join(name));
            std::fs::write(&allowed, format!("someone {}\n", token.public_line()))
                .expect("written");
            std::fs::write(&signature, token.sign_armoured(message)).expect("written");
            std::fs::write(&text, message).expect("written");
            let status = Command::new("ssh-keygen")
                .args(["-Y", "verify", "-I", "someone"])
                .args(["-n", "cable-approval@valise", "-f"])
                .arg(&allowed)
                .arg("-s")
                .arg(&signature)
                .stdin(std::fs::File::open(&text).expect("there"))
                .stdout(Stdio::null())
                .status()
                .expect("ssh-keygen is installed");
            assert!(status.success(), "hardware: {hardware}");
        }
    }
}
