//! Media types: what a part says it is, and the one fixed table between them and file name
//! extensions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::limits;

/// The text is no media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a media type is two names of a-z, 0-9, dot, plus and hyphen with a slash between them, \
     at most {} bytes",
    limits::MEDIA_TYPE_BYTES_MAX
)]
pub struct MediaTypeError;

/// What stands for anything the table does not know.
const UNKNOWN: &str = "application/octet-stream";

/// Extension and media type. Where a media type stands twice, its first extension is the one that a
/// released part gets. The list is short on purpose: an extension decides which program opens a
/// file on the isolated network.
const TABLE: &[(&str, &str)] = &[
    (".txt", "text/plain"),
    (".text", "text/plain"),
    (".log", "text/plain"),
    (".csv", "text/csv"),
    (".md", "text/markdown"),
    (".html", "text/html"),
    (".htm", "text/html"),
    (".xml", "application/xml"),
    (".json", "application/json"),
    (".pdf", "application/pdf"),
    (".rtf", "application/rtf"),
    (".odt", "application/vnd.oasis.opendocument.text"),
    (".ods", "application/vnd.oasis.opendocument.spreadsheet"),
    (".odp", "application/vnd.oasis.opendocument.presentation"),
    (".doc", "application/msword"),
    (".xls", "application/vnd.ms-excel"),
    (".ppt", "application/vnd.ms-powerpoint"),
    (
        ".docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    (
        ".xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    (
        ".pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    (".eml", "message/rfc822"),
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".gif", "image/gif"),
    (".tif", "image/tiff"),
    (".tiff", "image/tiff"),
    (".webp", "image/webp"),
    (".svg", "image/svg+xml"),
    (".wav", "audio/wav"),
    (".mp3", "audio/mpeg"),
    (".ogg", "audio/ogg"),
    (".mp4", "video/mp4"),
    (".webm", "video/webm"),
    (".zip", "application/zip"),
    (".gz", "application/gzip"),
    (".tar", "application/x-tar"),
    (".7z", "application/x-7z-compressed"),
    (".bin", UNKNOWN),
];

/// A media type in lower case, without parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(String);

impl MediaType {
    /// Creates the media type of a file name's extension, in any case, by a fixed table: never by the
    /// content, and never by what the host has installed. Without a known extension it is
    /// `application/octet-stream`.
    pub fn for_extension(extension: &str) -> Self {
        let extension = extension.strip_prefix('.').unwrap_or(extension);
        let media_type = TABLE
            .iter()
            .find(|(known, _)| known[1..].eq_ignore_ascii_case(extension))
            .map_or(UNKNOWN, |(_, media_type)| media_type);
        Self(media_type.to_owned())
    }

    /// Creates the media type of a file name: that of the extension after its last dot.
    pub fn for_file_name(name: &str) -> Self {
        Self::for_extension(name.rsplit_once('.').map_or("", |(_, extension)| extension))
    }

    /// Returns the extension that a released part gets, with its dot; `.bin` for what the table does not
    /// know.
    pub fn extension(&self) -> &'static str {
        TABLE
            .iter()
            .find(|(_, media_type)| *media_type == self.0)
            .map_or(".bin", |(extension, _)| extension)
    }

    /// Returns whether a part of this media type is text that a person can read as it is.
    pub fn is_text(&self) -> bool {
        self.0.starts_with("text/") || ["application/json", "application/xml"].contains(&&*self.0)
    }

    /// Returns the media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let is_name = |name: &str| {
            let allowed = |c: u8| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'+' | b'-')
            };
            !name.is_empty() && name.bytes().all(allowed)
        };
        let (kind, subtype) = text.split_once('/').ok_or(MediaTypeError)?;
        if text.len() <= limits::MEDIA_TYPE_BYTES_MAX && is_name(kind) && is_name(subtype) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MediaTypeError)
        }
    }
}

impl AsRef<str> for MediaType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_media_type_of_the_table_parses_and_comes_back_as_an_extension() {
        for (extension, media_type) in TABLE {
            let parsed: MediaType = media_type.parse().unwrap();
            assert_eq!(MediaType::for_extension(extension), parsed);
            assert_eq!(MediaType::for_extension(parsed.extension()), parsed);
            assert!(extension.starts_with('.'));
        }
    }

    #[test]
    fn an_unknown_extension_is_bytes() {
        for name in ["cable", "cable.exe", "cable.", "", "."] {
            assert_eq!(MediaType::for_file_name(name).as_str(), UNKNOWN, "{name}");
        }
        assert_eq!(
            MediaType::for_file_name("a.tar.PDF").as_str(),
            "application/pdf"
        );
        assert_eq!("x/y".parse::<MediaType>().unwrap().extension(), ".bin");
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        let long = format!("a/{}", "b".repeat(126));
        for text in [
            "",
            "text",
            "text/",
            "/plain",
            "Text/plain",
            "a/b/c",
            "a/b;c",
            "a /b",
            &long,
        ] {
            assert_eq!(text.parse::<MediaType>(), Err(MediaTypeError), "{text:?}");
        }
        assert!(long[..127].parse::<MediaType>().is_ok());
    }
}
