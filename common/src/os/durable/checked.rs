//! Small text files that end with a hash of what is before it, so that a bit which the disk flipped is noticed.
//!
//! The last line is `# blake3 HEX`. A text without this line is read as it is: a cut that took the whole line left the rest
//! unchanged, and any other damage of the line leaves something that does not parse.

const MARK: &[u8] = b"# blake3 ";

/// Appends the line to a text.
pub fn add_check(text: &mut Vec<u8>) {
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let hash = blake3::hash(text);
    text.extend_from_slice(MARK);
    text.extend_from_slice(hash.to_hex().as_bytes());
    text.push(b'\n');
}

/// Returns the text before the line; `None` if it is not what was written.
pub fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let last = lines.iter().rposition(|byte| *byte == b'\n');
    let (text, line) = bytes.split_at(last.map_or(0, |newline| newline + 1));
    let Some(hash) = line.strip_prefix(MARK) else {
        return Some(bytes);
    };
    let found = blake3::hash(text).to_hex();
    (hash.strip_suffix(b"\n").unwrap_or(hash) == found.as_bytes()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_flipped_bit_is_noticed_and_a_cut_never_changes_what_is_read() {
        for text in ["{\"passes\":2}", "passes = 2\nmore = 1\n"] {
            let mut bytes = text.as_bytes().to_vec();
            add_check(&mut bytes);
            let whole = checked(&bytes).map(<[u8]>::to_vec);
            let whole = whole.expect("what was written is read");
            assert_eq!(whole.trim_ascii_end(), text.trim_end().as_bytes());
            for end in whole.len() + MARK.len()..bytes.len() - 1 {
                assert_eq!(checked(&bytes[..end]), None, "cut at {end}");
            }
            assert_eq!(checked(&whole), Some(&whole[..]));
            for place in 0..bytes.len() - 1 {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[place] ^= 1 << bit;
                    // Damage in the line's own beginning leaves it in the text, which then does not parse.
                    let is_text = checked(&flipped).is_some_and(|text| text.len() <= whole.len());
                    assert!(!is_text, "byte {place}, bit {bit}");
                }
            }
        }
    }
}
