//! The file: TOML as it stands, before anything is judged. Every value keeps its place, for the
//! line of an error.

use serde::Deserialize;
use toml::Spanned;

use crate::ids::{CategoryId, ChannelId, ClassificationId, MailboxId, PersonId};
use crate::manifest::MediaType;
use crate::units::UtcTime;

use super::{Colour, Role, TrustError};
use crate::limits;

/// A trust list as its author wrote it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListEntry {
    pub(super) version: Spanned<u32>,
    pub(super) channel: ChannelId,
    pub(super) issued: UtcTime,
    pub(super) allow_software_keys: bool,
    #[serde(default)]
    pub(super) person: Vec<Spanned<PersonEntry>>,
    #[serde(default)]
    pub(super) classification: Vec<Spanned<ClassificationEntry>>,
    #[serde(default)]
    pub(super) category: Vec<Spanned<CategoryEntry>>,
    #[serde(default)]
    pub(super) mailbox: Vec<Spanned<MailboxEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PersonEntry {
    pub(super) id: Spanned<PersonId>,
    pub(super) roles: Spanned<Vec<Role>>,
    pub(super) keys: Spanned<Vec<Spanned<String>>>,
    pub(super) valid_from: Spanned<UtcTime>,
    pub(super) valid_until: UtcTime,
    #[serde(default)]
    pub(super) revoked: Option<UtcTime>,
    #[serde(default)]
    pub(super) classification_max: Option<Spanned<ClassificationId>>,
    #[serde(default)]
    pub(super) categories: Option<Vec<Spanned<CategoryId>>>,
    #[serde(default)]
    pub(super) mailboxes: Option<Vec<Spanned<MailboxId>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ClassificationEntry {
    pub(super) id: Spanned<ClassificationId>,
    pub(super) marking: Spanned<String>,
    pub(super) officers: Spanned<u64>,
    pub(super) user_verification: bool,
    pub(super) media_types: Spanned<Vec<MediaType>>,
    pub(super) cable_bytes_max: Spanned<u64>,
    pub(super) validity_days_max: Spanned<u32>,
    #[serde(default)]
    pub(super) colour: Option<Colour>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CategoryEntry {
    pub(super) id: Spanned<CategoryId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MailboxEntry {
    pub(super) id: Spanned<MailboxId>,
    pub(super) classification_max: Spanned<ClassificationId>,
    pub(super) categories: Vec<Spanned<CategoryId>>,
}

impl ListEntry {
    /// Reads the TOML. Unknown and missing keys, and values that are not in their grammar, end
    /// here.
    pub(super) fn read(text: &str) -> Result<Self, TrustError> {
        toml::from_str(text).map_err(|error| TrustError::Syntax {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })
    }
}

/// Returns the text of a list, if it can be one.
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, TrustError> {
    if bytes.len() > limits::TRUST_LIST_BYTES_MAX {
        return Err(TrustError::TooLarge { bytes: bytes.len() });
    }
    std::str::from_utf8(bytes).map_err(|_| TrustError::NotUtf8)
}

/// Returns the line, from 1, that holds the byte at `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (99, 3)] {
            assert_eq!(line_of("a\n\nb", offset), line);
        }
    }

    #[test]
    fn the_bound_of_a_list_is_inclusive() {
        let mut bytes = vec![b'#'; limits::TRUST_LIST_BYTES_MAX];
        assert!(text_of(&bytes).is_ok());
        bytes.push(b'#');
        assert!(matches!(text_of(&bytes), Err(TrustError::TooLarge { .. })));
    }
}
