//! The courier's bundle, and the statement beside it.

use valise_common::bundle::{Bundle, Statement, bundle_bytes};
use valise_common::limits;
use valise_common::seal::check_public;
use valise_common::sshsig::Namespace;
use valise_common::trust::verify_administrators;

use super::Seed;
use super::scene::{SCENE, bytes, json_vectors};

/// Reads the bytes as a bundle, and as a statement.
pub(super) fn bundle(data: &[u8]) {
    if let Ok(bundle) = Bundle::decode(data) {
        let again = bundle.encode().expect("what was decoded");
        assert!(*again == data, "one bundle has one form");
        assert!((1..=limits::SLOTS_MAX).contains(&bundle.count()));
        assert_eq!(bundle_bytes(bundle.count()), data.len());
        let end = bundle.end().expect("serials that exist").get();
        assert_eq!(end - bundle.first.get(), u64::from(bundle.count()));
        for slot in &bundle.slots {
            // The bytes may not be a key; import refuses those.
            let _ = check_public(&slot.public);
        }
        let statement = Statement::of(data, Some(bundle.id)).expect("a bundle");
        assert_eq!(statement.matches(data), Ok(()));
        let text = statement.encode();
        assert_eq!(Statement::decode(text.as_bytes()), Ok(statement));
    }
    if let Ok(statement) = Statement::decode(data) {
        assert_eq!(
            statement.encode().as_bytes(),
            data,
            "one statement has one form"
        );
        assert!((1..=limits::SLOTS_MAX).contains(&statement.count));
        let scene = &*SCENE;
        let signed = verify_administrators(
            data,
            &scene.statement_signatures,
            Namespace::Bundle,
            &scene.administrators,
        );
        assert_eq!(signed.is_ok(), data == scene.statement.as_bytes());
    }
}

/// The vector's bundle and statement.
pub(super) fn seeds() -> Vec<Seed> {
    let vectors = json_vectors("bundle");
    let vector = &vectors[0].1;
    vec![
        ("bundle".to_owned(), bytes(&vector["bundle"])),
        ("statement".to_owned(), SCENE.statement.clone().into_bytes()),
    ]
}
