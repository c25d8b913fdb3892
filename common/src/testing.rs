//! What unit tests share.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

/// A vector of `tests/vectors`, by its name without the suffix.
pub(crate) fn vector(name: &str) -> Value {
    let path = format!(
        "{}/../tests/vectors/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(&path).expect(&path)).unwrap()
}

/// Bytes of a vector's hexadecimal field.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The names of all vectors that begin so.
pub(crate) fn vectors(prefix: &str) -> Vec<String> {
    let folder = format!("{}/../tests/vectors", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names
        .filter_map(|name| {
            name.to_str()
                .unwrap()
                .strip_suffix(".json")
                .map(str::to_owned)
        })
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no vectors {prefix}*");
    names
}
