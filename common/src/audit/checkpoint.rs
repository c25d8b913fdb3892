//! Signed checkpoints: what an auditor keeps to notice a cut tail.
//!
//! # Source
//! C2SP signed-note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::ChainState;
use crate::secret::Secret32;

/// Up to which line a log was, and what its head was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log: channel and role.
    pub origin: String,
    /// The last line's number.
    pub seq: u64,
    /// BLAKE3 of that line.
    pub head: [u8; 32],
}

/// Why a note is no checkpoint of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The text is not a signed note with the three lines of a checkpoint.
    #[error("not a checkpoint note")]
    Form,
    /// The signature is missing or does not verify.
    #[error("the checkpoint's signature does not verify")]
    Signature,
    /// The verifier key is not in the C2SP form.
    #[error("not a note verifier key")]
    Key,
}

/// Signs checkpoints.
pub struct CheckpointKey {
    key: SigningKey,
    origin: String,
}

impl CheckpointKey {
    /// Creates a key from its seed, under the origin's name, which must be a note key's name: without spaces and plus signs.
    ///
    /// # Errors
    /// [`CheckpointError::Key`] for another name.
    pub fn new(origin: &str, seed: &Secret32) -> Result<Self, CheckpointError> {
        if !is_key_name(origin) {
            return Err(CheckpointError::Key);
        }
        Ok(Self {
            key: SigningKey::from_bytes(seed.expose()),
            origin: origin.to_owned(),
        })
    }

    /// Returns the public half in the C2SP form `name+hash+key`, for the auditor.
    pub fn verifier_text(&self) -> String {
        let public = self.key.verifying_key();
        let id = key_id(&self.origin, &public);
        let typed = [&[ED25519][..], public.as_bytes()].concat();
        format!(
            "{}+{:08x}+{}",
            self.origin,
            u32::from_be_bytes(id),
            STANDARD.encode(typed)
        )
    }

    /// Signs where a chain stands; `None` before its first line.
    pub fn sign(&self, state: &ChainState) -> Option<String> {
        let seq = state.next_seq.checked_sub(1)?;
        let head = blake3::Hash::from_bytes(state.head);
        let text = format!("{}\n{seq}\n{head}\n", self.origin);
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let id = key_id(&self.origin, &self.key.verifying_key());
        let signed = STANDARD.encode([&id[..], &signature].concat());
        Some(format!(
            "{text}\n{SIGNATURE_MARK}{} {signed}\n",
            self.origin
        ))
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointVerifier {
    key: VerifyingKey,
    origin: String,
}

impl CheckpointVerifier {
    /// Reads the C2SP form `name+hash+key`.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let read = || {
            let (origin, rest) = text.trim_end().split_once('+')?;
            let (id, typed) = rest.split_once('+')?;
            let typed = STANDARD.decode(typed).ok()?;
            let key = typed.strip_prefix(&[ED25519])?.try_into().ok()?;
            let key = VerifyingKey::from_bytes(key)
                .ok()
                .filter(|key| !key.is_weak())?;
            let expected = format!("{:08x}", u32::from_be_bytes(key_id(origin, &key)));
            (is_key_name(origin) && id == expected).then(|| Self {
                key,
                origin: origin.to_owned(),
            })
        };
        read().ok_or(CheckpointError::Key)
    }

    /// Whose checkpoints it verifies: the role is behind the last slash.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Verifies one note. Signatures of other keys beside ours are ignored, as the note format wants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        // The text ends in LF, an empty line separates it from the signatures.
        let gap = note.rfind("\n\n").ok_or(CheckpointError::Form)?;
        let (text, signatures) = (&note[..=gap], &note[gap + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(CheckpointError::Form)?;
        let is_ours = signatures
            .split('\n')
            .any(|line| self.is_signed(text, line));
        if !is_ours {
            return Err(CheckpointError::Signature);
        }
        let checkpoint = Checkpoint::parse(text).ok_or(CheckpointError::Form)?;
        if checkpoint.origin == self.origin {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Form)
        }
    }

    fn is_signed(&self, text: &str, line: &str) -> bool {
        let read = || {
            let (name, signed) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
            let signed = STANDARD.decode(signed).ok()?;
            let (id, signature) = signed.split_first_chunk()?;
            let is_ours = name == self.origin && *id == key_id(name, &self.key);
            let signature = Signature::from_bytes(signature.try_into().ok()?);
            (is_ours && self.key.verify_strict(text.as_bytes(), &signature).is_ok()).then_some(())
        };
        read().is_some()
    }
}

impl Checkpoint {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, seq, head) = (lines.next()?, lines.next()?, lines.next()?);
        let head = blake3::Hash::from_hex(head)
            .ok()
            .filter(|hash| hash.to_string() == head)?;
        // Behind the highest number no line could come: who counts on from it must not run over.
        let seq = crate::ids::parse_decimal(seq).ok();
        let seq = seq.filter(|seq| *seq < u64::MAX)?;
        let is_whole = lines.next().is_none();
        is_whole.then(|| Self {
            origin: origin.to_owned(),
            seq,
            head: *head.as_bytes(),
        })
    }
}

/// Returns the notes of a checkpoint file, in which an empty line follows each.
pub fn notes(file: &str) -> impl Iterator<Item = String> {
    let mut paragraphs = file.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    std::iter::from_fn(move || {
        let (text, signatures) = (paragraphs.next()?, paragraphs.next().unwrap_or_default());
        Some(format!("{text}\n\n{}\n", signatures.trim_end_matches('\n')))
    })
}

/// Signature type of Ed25519 in the note format.
const ED25519: u8 = 1;

/// What a signature line begins with: an em dash and a space.
const SIGNATURE_MARK: &str = "\u{2014} ";

/// Returns the first four bytes of SHA-256 of the name, LF, type and key.
fn key_id(origin: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(origin.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let mut id = [0; 4];
    id.copy_from_slice(&hasher.finalize()[..4]);
    id
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    const STATE: ChainState = ChainState {
        next_seq: 42,
        head: [0xab; 32],
    };

    fn key() -> CheckpointKey {
        CheckpointKey::new("valise/0123/gate", &Secret32::new([3; 32])).unwrap()
    }

    #[test]
    fn a_note_has_the_three_lines_and_verifies_under_the_published_key() {
        let note = key().sign(&STATE).unwrap();
        let head = "ab".repeat(32);
        assert!(note.starts_with(&format!(
            "valise/0123/gate\n41\n{head}\n\n\u{2014} valise/0123/gate "
        )));
        let verifier = CheckpointVerifier::parse(&key().verifier_text()).unwrap();
        let checkpoint = verifier.verify(&note).unwrap();
        assert_eq!((checkpoint.seq, checkpoint.head), (41, [0xab; 32]));
        assert_eq!(
            key().sign(&ChainState {
                next_seq: 0,
                head: [0; 32]
            }),
            None
        );
    }

    #[test]
    fn the_key_is_read_as_other_tools_write_it() {
        // From the documentation of the note format (golang.org/x/mod/sumdb/note).
        let peter = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert!(CheckpointVerifier::parse(peter).is_ok());
        for bad in [
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3",
            "",
        ] {
            assert_eq!(
                CheckpointVerifier::parse(bad).err(),
                Some(CheckpointError::Key),
                "{bad}"
            );
        }
        assert!(CheckpointKey::new("a b", &Secret32::new([3; 32])).is_err());
    }

    #[test]
    fn a_changed_note_or_another_key_does_not_verify() {
        let note = key().sign(&STATE).unwrap();
        let verifier = CheckpointVerifier::parse(&key().verifier_text()).unwrap();
        let signature = Err(CheckpointError::Signature);
        assert_eq!(
            verifier.verify(&note.replace("\n41\n", "\n42\n")),
            signature
        );
        let other = CheckpointKey::new("valise/0123/gate", &Secret32::new([4; 32])).unwrap();
        assert_eq!(verifier.verify(&other.sign(&STATE).unwrap()), signature);
        assert_eq!(verifier.verify(note.trim_end()), Err(CheckpointError::Form));
        assert_eq!(verifier.verify("\n"), Err(CheckpointError::Form));
        let cosigned = format!("{note}\u{2014} witness AAAA\n");
        assert!(verifier.verify(&cosigned).is_ok());
    }

    #[test]
    fn a_note_of_the_highest_number_is_none_even_if_it_is_signed() {
        let text = |seq| format!("valise/0123/gate\n{seq}\n{}\n", "ab".repeat(32));
        assert_eq!(Checkpoint::parse(&text(u64::MAX)), None);
        let seq = u64::MAX - 1;
        assert_eq!(Checkpoint::parse(&text(seq)).unwrap().seq, seq);
    }

    #[test]
    fn notes_of_a_file_come_apart_again() {
        let written: Vec<_> = (1..4)
            .map(|next_seq| {
                key()
                    .sign(&ChainState {
                        next_seq,
                        head: [1; 32],
                    })
                    .unwrap()
            })
            .collect();
        let file: String = written.iter().map(|note| format!("{note}\n")).collect();
        assert_eq!(notes(&file).collect::<Vec<_>>(), written);
        assert_eq!(notes("").next(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused(note in ".{0,200}", broken in "(a\n){0,4}\n(\u{2014} valise/0123/gate [A-Za-z0-9+/]{0,90}\n){0,2}") {
            let verifier = CheckpointVerifier::parse(&key().verifier_text()).unwrap();
            prop_assert!(verifier.verify(&note).is_err());
            prop_assert!(verifier.verify(&broken).is_err());
            let _ = CheckpointVerifier::parse(&note);
            prop_assert!(notes(&broken).count() < 9);
        }
    }
}
