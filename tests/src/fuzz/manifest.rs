//! The manifest that officers sign.

use valise_common::approval::check_policy;
use valise_common::limits;
use valise_common::manifest::{FileName, Manifest, shown_lines};

use super::Seed;
use super::scene::{SCENE, json_vectors, now};

/// Reads a manifest.
pub(super) fn manifest(data: &[u8]) {
    for line in shown_lines(data) {
        assert!(!line.contains(char::is_control), "a terminal would obey");
    }
    let Ok(manifest) = Manifest::decode(data) else {
        return;
    };
    assert_eq!(
        manifest.encode().as_deref(),
        Ok(data),
        "one manifest has one form"
    );
    assert!(data.len() <= limits::MANIFEST_BYTES_MAX);
    assert!((1..=limits::MAILBOXES_MAX).contains(&manifest.to.len()));
    assert!((1..=limits::PARTS_MAX).contains(&manifest.parts.len()));
    assert!(manifest.label.categories().len() <= limits::CATEGORIES_MAX);
    assert!(manifest.body_bytes() <= limits::PACKAGE_BYTES_MAX);
    assert!(manifest.created < manifest.not_after);
    assert!((1..=limits::SUBJECT_CHARS_MAX).contains(&manifest.subject.chars_count()));
    for part in &manifest.parts {
        let name = part.name.as_str();
        assert!((1..=limits::FILE_NAME_BYTES_MAX).contains(&name.len()));
        assert!(!name.contains(['/', '\0']) && name != "." && name != "..");
        assert_eq!(FileName::normalize(name).as_ref(), Ok(&part.name));
        assert!(!part.name.escaped().contains(char::is_control));
    }
    // Without approvals the verdict allows nothing, but there must be one.
    let _ = check_policy(&manifest, &SCENE.list, now());
}

/// The vectors, and the manifest that officers approved.
pub(super) fn seeds() -> Vec<Seed> {
    let vectors = json_vectors("manifest-act-by");
    let vector = &vectors[0].1;
    let text = |value: &serde_json::Value| value.as_str().expect("a text").as_bytes().to_vec();
    let mut seeds = vec![("approved".to_owned(), SCENE.manifest.clone().into_bytes())];
    let ok = vector["ok"].as_array().expect("texts");
    seeds.extend(
        (0..)
            .zip(ok)
            .map(|(number, value)| (format!("ok-{number}"), text(value))),
    );
    for bad in vector["bad"].as_array().expect("faults") {
        let fault = bad["fault"]
            .as_str()
            .expect("a text")
            .replace([' ', '/'], "-");
        seeds.push((fault, text(&bad["manifest"])));
    }
    seeds
}
