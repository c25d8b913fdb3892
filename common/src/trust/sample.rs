//! A sound trust list for tests, to be changed by one fault at a time.

#![allow(clippy::unwrap_used)]

use super::TrustList;
use crate::sshsig::KeyKind;
use crate::sshsig::forge::Forge;

/// Seeds of the persons' keys.
pub(crate) const B: u8 = 2;
pub(crate) const C: u8 = 3;
pub(crate) const D: u8 = 4;
pub(crate) const E: u8 = 5;
/// A second key of `b.officer`.
pub(crate) const B_SECOND: u8 = 12;

/// Returns the line of a security key.
pub(crate) fn token(seed: u8) -> String {
    Forge::new(KeyKind::SkEd25519, seed)
        .public_key()
        .to_openssh()
}

/// Returns the line of a software key.
pub(crate) fn software(seed: u8) -> String {
    Forge::new(KeyKind::Ed25519, seed).public_key().to_openssh()
}

fn person(id: &str, roles: &str, keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!(
        "\n[[person]]\nid = \"{id}\"\nroles = [{roles}]\nkeys = [{}]\n\
         valid-from = \"2026-01-01T00:00:00Z\"\nvalid-until = \"2027-01-01T00:00:00Z\"\n",
        keys.join(", ")
    )
}

fn classification(id: &str, officers: u8, user_verification: &str) -> String {
    format!(
        "\n[[classification]]\nid = \"{id}\"\nmarking = \"{id} MARKING\"\nofficers = {officers}\n\
         user-verification = {user_verification}\n\
         media-types = [\"text/plain\", \"application/pdf\"]\n\
         cable-bytes-max = 1000\nvalidity-days-max = 30\n"
    )
}

/// Returns the text of the list.
pub(crate) fn text() -> String {
    let mut text = "version = 7\n\
         channel = \"0123456789abcdef0123456789abcdef\"\n\
         issued = \"2026-11-22T00:00:00Z\"\n\
         allow-software-keys = false\n"
        .to_owned();
    text += &person("a.person", "\"drafter\"", &[]);
    text += &person("b.officer", "\"officer\"", &[token(B), token(B_SECOND)]);
    text += &person("c.officer", "\"officer\"", &[token(C)]);
    text += &person("d.officer", "\"officer\"", &[token(D)]);
    text += &person("e.both", "\"drafter\", \"officer\"", &[token(E)]);
    text += &classification("OPEN", 2, "false");
    text += &classification("RESTRICTED", 2, "true");
    text += &classification("SECRET", 3, "true");
    for id in ["LIMITE", "CRISIS", "NUCLEAR"] {
        text += &format!("\n[[category]]\nid = \"{id}\"\n");
    }
    text += "\n[[mailbox]]\nid = \"paris-desk\"\nclassification-max = \"RESTRICTED\"\n\
         categories = [\"LIMITE\", \"CRISIS\"]\n";
    text += "\n[[mailbox]]\nid = \"registry\"\nclassification-max = \"SECRET\"\n\
         categories = [\"LIMITE\", \"CRISIS\", \"NUCLEAR\"]\n";
    text
}

/// Returns the list.
pub(crate) fn list() -> TrustList {
    TrustList::parse(text().as_bytes()).unwrap()
}

/// Returns the list with one change, which must be sound.
pub(crate) fn list_with(from: &str, to: &str) -> TrustList {
    TrustList::parse(changed(from, to).as_bytes()).unwrap()
}

/// Returns the text with one change.
pub(crate) fn changed(from: &str, to: &str) -> String {
    let text = text();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}
