//! The rows of a register, as its roles and as SQLite have them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A row of the register. Another meaning or shape needs another [`Place::layout`](super::Place::layout).
pub trait Row: Serialize + DeserializeOwned {
    /// The name of its kind.
    const KIND: &'static str;

    /// Returns the key; a second row of the kind under it replaces the first.
    fn key(&self) -> String;

    /// Another name under which it is found.
    fn alias(&self) -> Option<String> {
        None
    }

    /// Returns the state of which all rows are found together.
    fn state(&self) -> Option<&'static str> {
        None
    }

    /// Returns the place among the rows of its state.
    fn place(&self) -> u64 {
        0
    }
}

/// Returns the key of a number: keys are in the order of their text.
pub fn number_key(number: u64) -> String {
    format!("{number:020}")
}

/// The number of lines of the log that the rows come from.
#[derive(Serialize, Deserialize)]
pub(super) struct Known(pub(super) u64);

impl Row for Known {
    const KIND: &'static str = "known";

    fn key(&self) -> String {
        String::new()
    }
}

/// An entry of the table.
#[derive(Serialize)]
pub(super) struct Entry {
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) alias: Option<String>,
    pub(super) state: Option<String>,
    pub(super) place: i64,
    pub(super) value: String,
}

impl Entry {
    /// Reads an entry; `None` if its hash is another.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Self>> {
        let entry = Self {
            kind: row.get(0)?,
            key: row.get(1)?,
            alias: row.get(2)?,
            state: row.get(3)?,
            place: row.get(4)?,
            value: row.get(5)?,
        };
        Ok((row.get::<_, String>(6)? == entry.check()).then_some(entry))
    }

    pub(super) fn check(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&bytes).to_hex()[..16].to_owned()
    }
}
