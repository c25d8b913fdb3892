#![allow(clippy::unwrap_used, clippy::as_conversions)]

use super::super::forge::Forge;
use super::*;
use proptest::prelude::*;

const MESSAGE: &[u8] = include_bytes!("../../../../tests/vectors/sshsig/message.txt");
const BOTH: [KeyKind; 2] = [KeyKind::Ed25519, KeyKind::SkEd25519];

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/vectors/sshsig/", $name))
    };
}

fn verify(armor: &str) -> Result<Presence, SshsigError> {
    Signature::from_armor(armor)?.verify(Namespace::CableApproval, MESSAGE)
}

fn forged(change: impl FnOnce(&mut Forge), kind: KeyKind) -> Result<Presence, SshsigError> {
    let mut forge = Forge::new(kind, 1);
    change(&mut forge);
    Signature::decode(&forge.sign(MESSAGE))?.verify(Namespace::CableApproval, MESSAGE)
}

#[test]
fn what_openssh_signs_verifies_and_tells_who_was_there() {
    for (armor, line, user_verified) in [
        (vector!("software.sig"), vector!("software.pub"), false),
        (vector!("touch.sig"), vector!("touch.pub"), false),
        (
            vector!("application.sig"),
            vector!("application.pub"),
            false,
        ),
        (vector!("verify.sig"), vector!("verify.pub"), true),
    ] {
        assert_eq!(verify(armor), Ok(Presence { user_verified }));
        let signature = Signature::from_armor(armor).unwrap();
        assert_eq!(
            *signature.public_key(),
            PublicKey::parse_openssh(line).unwrap()
        );
        assert_eq!(signature.to_armor(), armor);
        assert_eq!(Signature::decode(signature.as_bytes()), Ok(signature));
    }
}

#[test]
fn a_token_that_was_not_touched_is_refused() {
    assert_eq!(
        verify(vector!("no-touch.sig")),
        Err(SshsigError::NoUserPresence)
    );
    let verified_only = |forge: &mut Forge| forge.flags = FLAG_USER_VERIFIED;
    assert_eq!(
        forged(verified_only, KeyKind::SkEd25519),
        Err(SshsigError::NoUserPresence)
    );
}

#[test]
fn another_namespace_is_refused() {
    let expected = Err(SshsigError::Namespace {
        expected: Namespace::CableApproval,
    });
    assert_eq!(verify(vector!("software-other-namespace.sig")), expected);
    assert_eq!(verify(vector!("touch-other-namespace.sig")), expected);
    for kind in BOTH {
        for namespace in [
            "",
            "cable-approval@valis",
            "cable-approval@valise\0",
            "bundle@valise",
        ] {
            assert_eq!(forged(|forge| forge.namespace = namespace, kind), expected);
        }
    }
}

#[test]
fn another_hash_is_refused() {
    for armor in [
        vector!("software-other-hash.sig"),
        vector!("touch-other-hash.sig"),
    ] {
        assert_eq!(verify(armor), Err(SshsigError::Hash));
    }
    for kind in BOTH {
        assert_eq!(
            forged(|forge| forge.hash = "SHA512", kind),
            Err(SshsigError::Hash)
        );
    }
}

#[test]
fn other_key_types_are_refused() {
    assert_eq!(verify(vector!("ecdsa-sk.sig")), Err(SshsigError::KeyType));
    assert_eq!(verify(vector!("rsa.sig")), Err(SshsigError::KeyType));
}

#[test]
fn forged_ones_are_sound_unless_a_test_says_otherwise() {
    for kind in BOTH {
        assert_eq!(
            forged(|_| (), kind),
            Ok(Presence {
                user_verified: false
            })
        );
    }
    let verified = |forge: &mut Forge| forge.flags = 5;
    assert_eq!(
        forged(verified, KeyKind::SkEd25519),
        Ok(Presence {
            user_verified: true
        })
    );
}

#[test]
fn a_software_key_never_verified_a_user() {
    assert_eq!(
        forged(|forge| forge.flags = 5, KeyKind::Ed25519),
        Ok(Presence {
            user_verified: false
        })
    );
}

#[test]
fn a_filled_reserved_field_is_refused() {
    for kind in BOTH {
        assert_eq!(
            forged(|forge| forge.reserved = b"x", kind),
            Err(SshsigError::Reserved)
        );
    }
}

#[test]
fn bytes_behind_anything_are_refused() {
    for kind in BOTH {
        let behind_all = |forge: &mut Forge| forge.behind_all = b"\0";
        assert_eq!(forged(behind_all, kind), Err(SshsigError::TrailingBytes));
        let behind_signature = |forge: &mut Forge| forge.behind_signature = b"\0";
        assert_eq!(
            forged(behind_signature, kind),
            Err(SshsigError::TrailingBytes)
        );
        let behind_key = |forge: &mut Forge| forge.behind_key = b"\0";
        assert_eq!(forged(behind_key, kind), Err(SshsigError::Malformed));
    }
}

#[test]
fn another_version_is_refused() {
    for kind in BOTH {
        for version in [0, 2, u32::MAX] {
            assert_eq!(
                forged(|forge| forge.version = version, kind),
                Err(SshsigError::Version { version })
            );
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    for kind in BOTH {
        for algorithm in [
            "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
            "webauthn-sk-ssh-ed25519@openssh.com",
            "ssh-rsa",
            "",
        ] {
            assert_eq!(
                forged(|forge| forge.algorithm = Some(algorithm), kind),
                Err(SshsigError::Algorithm)
            );
        }
    }
    let as_plain = |forge: &mut Forge| forge.algorithm = Some(KeyKind::Ed25519.as_str());
    assert_eq!(
        forged(as_plain, KeyKind::SkEd25519),
        Err(SshsigError::Algorithm)
    );
}

#[test]
fn a_foreign_application_is_refused() {
    for application in [
        "",
        "ssh",
        "SSH:",
        "https://example.org",
        " ssh:",
        "webauthn:ssh:",
    ] {
        assert_eq!(
            forged(|forge| forge.application = application, KeyKind::SkEd25519),
            Err(SshsigError::Application)
        );
    }
}

#[test]
fn a_signature_of_one_form_is_nothing_in_the_other() {
    // The same secret: what a software key signed is no assertion of a token, and the other way
    // round.
    for (from, to) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let other = Forge::new(from, 1).signature(MESSAGE);
        let mut mixed = Forge::new(to, 1).signature(MESSAGE);
        mixed.ed25519 = other.ed25519;
        assert_eq!(
            mixed.verify(Namespace::CableApproval, MESSAGE),
            Err(SshsigError::Mismatch)
        );
    }
}

#[test]
fn a_larger_scalar_makes_no_second_signature() {
    // The order of the group, little-endian: s + order would verify in a lax implementation.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    for kind in BOTH {
        let mut signature = Forge::new(kind, 1).signature(MESSAGE);
        let mut carry = 0;
        for (byte, order) in signature.ed25519[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(
            signature.verify(Namespace::CableApproval, MESSAGE),
            Err(SshsigError::Mismatch)
        );
    }
}

#[test]
fn an_oversized_signature_is_refused_before_it_is_read() {
    let bytes = limits::SIGNATURE_BYTES_MAX + 1;
    assert_eq!(
        Signature::decode(&vec![0; bytes]),
        Err(SshsigError::TooLarge { bytes })
    );
}

#[test]
fn every_cut_is_refused() {
    for kind in BOTH {
        let raw = Forge::new(kind, 1).sign(MESSAGE);
        for length in 0..raw.len() {
            assert!(Signature::decode(&raw[..length]).is_err(), "{length}");
        }
    }
}

proptest! {
    #[test]
    fn decoding_any_bytes_returns(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Signature::decode(&bytes);
        let _ = Signature::from_armor(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_flipped_bit_never_verifies(
        sk in any::<bool>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut raw = Forge::new(BOTH[usize::from(sk)], 1).sign(MESSAGE);
        let at = at.index(raw.len());
        raw[at] ^= 1u8 << bit;
        if let Ok(signature) = Signature::decode(&raw) {
            prop_assert_eq!(signature.as_bytes(), &raw[..]);
            prop_assert!(signature.verify(Namespace::CableApproval, MESSAGE).is_err());
        }
    }

    #[test]
    fn a_changed_message_never_verifies(at in any::<prop::sample::Index>(), bit in 0..8) {
        let signature = Signature::from_armor(vector!("touch.sig")).unwrap();
        let mut message = MESSAGE.to_vec();
        message[at.index(MESSAGE.len())] ^= 1u8 << bit;
        prop_assert_eq!(
            signature.verify(Namespace::CableApproval, &message),
            Err(SshsigError::Mismatch)
        );
    }
}
