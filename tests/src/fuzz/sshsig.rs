//! SSH signatures, in both forms, and public keys.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use valise_common::limits;
use valise_common::sshsig::{KeyKind, Namespace, PublicKey, Signature};

use super::Seed;
use super::scene::{SCENE, file};

/// The message of the vectors.
static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| file("sshsig/message.txt"));

/// The vectors that verify, in binary form: nobody else has their keys.
static SOUND: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| {
    let names = ["application", "software", "touch", "verify"];
    let armour = names.map(|name| file(&format!("sshsig/{name}.sig")));
    armour
        .iter()
        .map(|armour| {
            let text = str::from_utf8(armour).expect("a text");
            let signature = Signature::from_armor(text).expect("a signature");
            signature.as_bytes().to_vec()
        })
        .collect()
});

/// Reads the bytes as a signature in binary form, as one in armour, and as the line of a `.pub` file.
pub(super) fn sshsig(data: &[u8]) {
    if let Ok(signature) = Signature::decode(data) {
        assert_eq!(signature.as_bytes(), data, "one signature has one form");
        check_signature(&signature);
    }
    if let Ok(key) = PublicKey::from_blob(data) {
        assert_eq!(key.blob(), data, "one key has one form");
        check_key(&key);
    }
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(signature) = Signature::from_armor(text) {
        check_signature(&signature);
    }
    if let Ok(key) = PublicKey::parse_openssh(text) {
        check_key(&key);
    }
}

fn check_signature(signature: &Signature) {
    let raw = signature.as_bytes();
    assert!(raw.len() <= limits::SIGNATURE_BYTES_MAX);
    assert_eq!(Signature::decode(raw).as_ref(), Ok(signature));
    assert_eq!(
        Signature::from_armor(&signature.to_armor()).as_ref(),
        Ok(signature)
    );
    check_key(signature.public_key());
    let verified = signature.verify(Namespace::CableApproval, &MESSAGE);
    assert_eq!(
        verified.is_ok(),
        SOUND.contains(raw),
        "a forged signature verifies"
    );
    if let Ok(presence) = verified {
        let is_token = signature.public_key().kind() == KeyKind::SkEd25519;
        assert!(is_token || !presence.user_verified);
    }
    for namespace in [Namespace::TrustList, Namespace::Bundle] {
        assert!(signature.verify(namespace, &MESSAGE).is_err());
    }
}

fn check_key(key: &PublicKey) {
    assert_eq!(
        PublicKey::parse_openssh(&key.to_openssh()).as_ref(),
        Ok(key)
    );
    assert_eq!(PublicKey::from_blob(key.blob()).as_ref(), Ok(key));
    assert!(key.same_secret(key));
    assert!(key.fingerprint().starts_with("SHA256:"));
    assert!(key.to_openssh().starts_with(key.kind().as_str()));
}

/// The vectors, and the binary forms of those that can be read.
pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let folder = std::fs::read_dir(super::scene::vectors().join("sshsig")).expect("the vectors");
    for entry in folder {
        let name = entry.expect("an entry is read").file_name();
        let name = name.into_string().expect("a name");
        if !name.ends_with(".sig") && !name.ends_with(".pub") {
            continue;
        }
        let bytes = file(&format!("sshsig/{name}"));
        let text = str::from_utf8(&bytes).expect("a text");
        if let Ok(signature) = Signature::from_armor(text) {
            seeds.push((format!("{name}-raw"), signature.as_bytes().to_vec()));
        }
        if let Ok(key) = PublicKey::parse_openssh(text) {
            seeds.push((format!("{name}-blob"), key.blob().to_vec()));
        }
        seeds.push((name, bytes));
    }
    seeds.push(("approval".to_owned(), SCENE.approvals[0].clone()));
    seeds.sort();
    seeds
}
