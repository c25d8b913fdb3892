//! The text form of a signature: base64 in lines of 70 between two marker lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::SshsigError;
use crate::limits;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What `ssh-keygen` writes; a reader takes lines of any length.
const LINE_CHARS: usize = 70;

/// Writes what `ssh-keygen -Y sign` would have written.
pub(super) fn encode(raw: &[u8]) -> String {
    let text = STANDARD.encode(raw);
    let mut armor = String::from(BEGIN);
    for (index, letter) in text.chars().enumerate() {
        if index % LINE_CHARS == 0 {
            armor.push('\n');
        }
        armor.push(letter);
    }
    armor.push('\n');
    armor.push_str(END);
    armor.push('\n');
    armor
}

/// Reads the text form. Line ends may be those of another system; nothing may stand before or
/// behind the markers.
pub(super) fn decode(armor: &str) -> Result<Vec<u8>, SshsigError> {
    // Base64 makes four of three; the rest is markers and line ends.
    if armor.len() > limits::SIGNATURE_BYTES_MAX * 2 {
        return Err(SshsigError::TooLarge { bytes: armor.len() });
    }
    let body = armor
        .trim_end()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or(SshsigError::Armor)?;
    if !body.starts_with(['\n', '\r']) || !body.ends_with('\n') {
        return Err(SshsigError::Armor);
    }
    let text: String = body.lines().map(str::trim_end).collect();
    STANDARD.decode(text).map_err(|_| SshsigError::Armor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_around_the_markers_is_refused() {
        let armor = encode(b"some bytes");
        assert_eq!(decode(&armor).unwrap(), b"some bytes");
        for text in [
            format!("x{armor}"),
            format!("\n{armor}"),
            format!("{armor}x"),
            format!("{armor}{armor}"),
            armor.replace("SIGNATURE", "KEY"),
            armor.replace('\n', ""),
            armor.replace("c29t", "c2 9t"),
            armor.replace('=', ""),
            format!("{BEGIN}{END}"),
            String::new(),
        ] {
            assert_eq!(decode(&text), Err(SshsigError::Armor), "{text:?}");
        }
    }

    #[test]
    fn an_oversized_text_is_not_even_looked_at() {
        let bytes = limits::SIGNATURE_BYTES_MAX * 2 + 1;
        let text = "x".repeat(bytes);
        assert_eq!(decode(&text), Err(SshsigError::TooLarge { bytes }));
        assert_eq!(decode(&text[1..]), Err(SshsigError::Armor));
        let largest = vec![7; limits::SIGNATURE_BYTES_MAX];
        assert_eq!(decode(&encode(&largest)).unwrap(), largest);
    }

    #[test]
    fn line_ends_of_another_system_do_no_harm() {
        let armor = encode(&[7; 200]);
        assert_eq!(decode(&armor.replace('\n', "\r\n")).unwrap(), [7; 200]);
        assert_eq!(decode(armor.trim_end()).unwrap(), [7; 200]);
    }

    proptest! {
        #[test]
        fn armour_round_trips(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
            let armor = encode(&raw);
            prop_assert!(armor.lines().all(|line| line.len() <= LINE_CHARS));
            prop_assert_eq!(decode(&armor).unwrap(), raw);
        }

        #[test]
        fn decoding_any_text_returns(text in ".{0,200}") {
            let _ = decode(&text);
            let _ = decode(&format!("{BEGIN}\n{text}\n{END}"));
        }
    }
}
