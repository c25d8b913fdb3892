#![allow(clippy::unwrap_used)]

use super::*;
use crate::label::Label;
use crate::precedence::Precedence;
use crate::testing::vector;
use proptest::prelude::*;

const SAMPLE: &str = "VALISE-MANIFEST 1\n\
    channel: 0123456789abcdef0123456789abcdef\n\
    message-id: 00112233445566778899aabbccddeeff\n\
    label: EU-RESTRICTED LIMITE\n\
    precedence: ROUTINE\n\
    to: paris-desk protocol\n\
    drafter: a.person\n\
    reference: PESC/2026/118\n\
    subject: Réunion du 3 décembre\n\
    created: 2026-11-22T21:53:18Z\n\
    not-after: 2026-12-22T00:00:00Z\n\
    act-by: 2026-11-30T12:00:00Z\n\
    part: 1 4321 text/plain sha256:\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 cable.txt\n\
    part: 2 88012 application/pdf sha256:\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 annex to  the cable.pdf\n\
    end\n";

fn sample() -> Manifest {
    Manifest::decode(SAMPLE.as_bytes()).unwrap()
}

fn decode_with(line: &str, other: &str) -> Result<Manifest, ManifestError> {
    assert!(SAMPLE.contains(line), "{line}");
    Manifest::decode(SAMPLE.replacen(line, other, 1).as_bytes())
}

#[test]
fn the_sample_of_the_formats_decodes_and_encodes_to_itself() {
    let manifest = sample();
    assert_eq!(manifest.encode().unwrap(), SAMPLE.as_bytes());
    assert_eq!(manifest.body_bytes(), 92_333);
    assert_eq!(manifest.parts[1].name.as_str(), "annex to  the cable.pdf");
    assert_eq!(manifest.to.len(), 2);
    assert_eq!(manifest.precedence, Precedence::Routine);
}

#[test]
fn an_absent_reference_is_a_hyphen() {
    let manifest = decode_with("reference: PESC/2026/118", "reference: -").unwrap();
    assert_eq!(manifest.reference, None);
    let mut manifest = sample();
    manifest.reference = Some(FreeText::parse("-", 9).unwrap());
    assert_eq!(manifest.encode(), Err(ManifestError::ReferenceMeansNone));
}

#[test]
fn a_deviation_is_refused_with_its_line() {
    for (line, other, number) in [
        ("VALISE-MANIFEST 1", "VALISE-MANIFEST 2", 1),
        ("VALISE-MANIFEST 1", "\u{feff}VALISE-MANIFEST 1", 1),
        ("VALISE-MANIFEST 1\n", "VALISE-MANIFEST 1\r\n", 1),
        ("channel: 0", "channel:  0", 2),
        ("channel: 0", "Channel: 0", 2),
        ("89abcdef\n", "89ABCDEF\n", 2),
        ("89abcdef\n", "89abcdef \n", 2),
        ("ddeeff\n", "ddeeff00\n", 3),
        ("EU-RESTRICTED LIMITE", "EU-RESTRICTED  LIMITE", 4),
        ("EU-RESTRICTED LIMITE", "EU-RESTRICTED LIMITE CRISIS", 4),
        ("EU-RESTRICTED LIMITE", "EU-RESTRICTED LIMITE LIMITE", 4),
        ("EU-RESTRICTED LIMITE", "eu-restricted", 4),
        ("ROUTINE", "routine", 5),
        ("ROUTINE\n", "ROUTINE\n\n", 6),
        ("to: paris-desk protocol", "to: ", 6),
        ("to: paris-desk protocol", "to: paris-desk protocol ", 6),
        ("to: paris-desk protocol", "to: ../inbox", 6),
        ("a.person", "A.Person", 7),
        ("21:53:18Z", "21:53:18+00:00", 10),
        ("21:53:18Z", "21:53:18.0Z", 10),
        ("2026-11-22T", "2026-11-32T", 10),
        ("act-by: 2026-11-30T12:00:00Z\n", "", 12),
        ("act-by: 2026-11-30T12:00:00Z", "act-by: ", 12),
        ("act-by: 2026-11-30T12:00:00Z", "act-by: none", 12),
        ("act-by: 2", "act-by:  2", 12),
        ("act-by: 2", "Act-by: 2", 12),
        ("11-30T12:00:00Z", "11-30T12:00:00+01:00", 12),
        ("11-30T12:00:00Z", "11-30T12:00:00Z ", 12),
        ("11-30T12:00:00Z", "11-30T12:00:00Z\nact-by: -", 13),
        ("part: 1 ", "part: 01 ", 13),
        ("part: 1 ", "part: 2 ", 13),
        ("part: 1 ", "part: 0 ", 13),
        ("4321", "04321", 13),
        ("4321", "+4321", 13),
        ("4321", "18446744073709551616", 13),
        ("text/plain", "text/plain;charset=utf-8", 13),
        ("sha256:e3", "sha256:E3", 13),
        ("sha256:e3", "sha512:e3", 13),
        (" cable.txt\n", "\n", 13),
        ("part: 2 ", "part: 3 ", 14),
        ("end\n", "", 15),
        ("end\n", "END\n", 15),
        ("end\n", "end \n", 15),
    ] {
        match decode_with(line, other) {
            Err(ManifestError::Line { line, .. } | ManifestError::Value { line, .. }) => {
                assert_eq!(line, number, "{other:?}");
            }
            result => panic!("{other:?}: {result:?}"),
        }
    }
}

#[test]
fn nothing_may_stand_behind_the_end_and_its_line_feed_must() {
    for tail in ["\n", "x", "end\n", "\0"] {
        let text = format!("{SAMPLE}{tail}");
        assert_eq!(
            Manifest::decode(text.as_bytes()),
            Err(ManifestError::TrailingBytes)
        );
    }
    let cut = &SAMPLE[..SAMPLE.len() - 1];
    assert!(matches!(
        Manifest::decode(cut.as_bytes()),
        Err(ManifestError::Line { .. })
    ));
}

#[test]
fn hostile_text_is_refused() {
    for (line, other) in [
        ("Réunion", "Re\u{301}union"),
        ("Réunion", "R\u{202e}éunion"),
        ("Réunion", "R\u{200b}éunion"),
        ("Réunion", "R\téunion"),
        ("Réunion", "R\u{a0}éunion"),
        ("Réunion du 3 décembre", ""),
        ("Réunion", &"é".repeat(121)),
        ("PESC/2026/118", &"a".repeat(65)),
        ("PESC/2026/118", ""),
        ("cable.txt", "cable\u{2066}.txt"),
        ("cable.txt", " cable.txt"),
        ("cable.txt", "cable.txt "),
        ("cable.txt", ""),
        ("cable.txt", &"a".repeat(256)),
    ] {
        assert!(
            matches!(decode_with(line, other), Err(ManifestError::Text { .. })),
            "{other:?}"
        );
    }
}

#[test]
fn counts_order_and_times_are_bounded() {
    for to in ["protocol paris-desk", "protocol protocol"] {
        assert_eq!(
            decode_with("paris-desk protocol", to),
            Err(ManifestError::Mailboxes)
        );
    }
    let mailboxes = |count: usize| -> Vec<MailboxId> {
        (0..count)
            .map(|n| format!("m{n:03}").parse().unwrap())
            .collect()
    };
    for (count, accepted) in [
        (0, false),
        (1, true),
        (64, true),
        (65, false),
        (5000, false),
    ] {
        let mut manifest = sample();
        manifest.to = mailboxes(count);
        assert_eq!(manifest.encode().is_ok(), accepted, "{count}");
    }
    for (count, accepted) in [(0, false), (1, true), (100, true), (101, false)] {
        let mut manifest = sample();
        manifest.parts = vec![manifest.parts[0].clone(); count];
        assert_eq!(manifest.encode().is_ok(), accepted, "{count}");
        let text = manifest.text();
        assert_eq!(
            Manifest::decode(text.as_bytes()).is_ok(),
            accepted,
            "{count}"
        );
    }
    for not_after in ["2026-11-22T21:53:18Z", "2026-11-22T21:53:17Z"] {
        assert_eq!(
            decode_with("2026-12-22T00:00:00Z", not_after),
            Err(ManifestError::Validity)
        );
    }
    let brief = SAMPLE.replace("2026-11-30T12:00:00Z", "-");
    let brief = brief.replace("2026-12-22T00:00:00Z", "2026-11-22T21:53:19Z");
    assert!(Manifest::decode(brief.as_bytes()).is_ok());
    assert!(decode_with("88012", "1099511623455").is_ok());
    assert_eq!(
        decode_with("88012", "1099511623456"),
        Err(ManifestError::BodyTooLarge)
    );
    assert_eq!(
        decode_with("88012", "18446744073709551615"),
        Err(ManifestError::BodyTooLarge)
    );
}

#[test]
fn an_answer_is_due_after_the_cable_was_made_and_before_it_expires() {
    assert_eq!(sample().act_by, "2026-11-30T12:00:00Z".parse().ok());
    assert_eq!(
        decode_with("2026-11-30T12:00:00Z", "-").unwrap().act_by,
        None
    );
    for (act_by, accepted) in [
        ("2026-11-22T21:53:17Z", false),
        ("2026-11-22T21:53:18Z", false),
        ("2026-11-22T21:53:19Z", true),
        ("2026-12-22T00:00:00Z", true),
        ("2026-12-22T00:00:01Z", false),
    ] {
        let decoded = decode_with("2026-11-30T12:00:00Z", act_by);
        let mut manifest = sample();
        manifest.act_by = Some(act_by.parse().unwrap());
        assert_eq!(manifest.encode().is_ok(), accepted, "{act_by}");
        match accepted {
            true => assert_eq!(decoded, Ok(manifest)),
            false => assert_eq!(decoded, Err(ManifestError::ActBy), "{act_by}"),
        }
    }
}

#[test]
fn act_by_is_read_as_in_the_vectors() {
    let vector = vector("manifest-act-by");
    let ok = vector["ok"].as_array().unwrap();
    assert_eq!(ok.len(), 3);
    for text in ok {
        let text = text.as_str().unwrap();
        let manifest = Manifest::decode(text.as_bytes()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("act-by: "));
        let act_by = manifest
            .act_by
            .map_or("-".to_owned(), |act_by| act_by.to_string());
        assert_eq!(line, Some(act_by.as_str()));
        assert_eq!(manifest.encode().unwrap(), text.as_bytes());
    }
    let bad = vector["bad"].as_array().unwrap();
    assert_eq!(bad.len(), 7);
    for one in bad {
        let text = one["manifest"].as_str().unwrap();
        assert!(
            Manifest::decode(text.as_bytes()).is_err(),
            "{}",
            one["fault"]
        );
    }
}

#[test]
fn the_largest_manifest_fits() {
    let mut manifest = sample();
    let ids = |count: usize, bytes: usize| -> Vec<String> {
        (0..count).map(|n| format!("{n:0bytes$}")).collect()
    };
    let categories = ids(16, 32).iter().map(|id| id.parse().unwrap()).collect();
    manifest.label = Label::new("A".repeat(32).parse().unwrap(), categories).unwrap();
    manifest.precedence = Precedence::Immediate;
    manifest.to = ids(64, 64).iter().map(|id| id.parse().unwrap()).collect();
    manifest.drafter = "a".repeat(64).parse().unwrap();
    manifest.reference = Some(FreeText::parse(&"\u{1f980}".repeat(64), 64).unwrap());
    manifest.subject = FreeText::parse(&"\u{1f980}".repeat(120), 120).unwrap();
    let part = Part {
        length: limits::PACKAGE_BYTES_MAX / 100,
        media_type: format!("a/{}", "b".repeat(125)).parse().unwrap(),
        sha256: [0; 32],
        name: FileName::parse(&"a".repeat(255)).unwrap(),
    };
    manifest.parts = vec![part; 100];
    let bytes = manifest.encode().unwrap();
    assert!(bytes.len() <= limits::MANIFEST_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Manifest::decode(&bytes), Ok(manifest));
}

#[test]
fn what_no_manifest_may_hold_has_no_text() {
    let mut manifest = sample();
    manifest.subject = FreeText::parse(&"a".repeat(121), 200).unwrap();
    assert!(matches!(manifest.encode(), Err(ManifestError::Text { .. })));
    let mut manifest = sample();
    manifest.reference = Some(FreeText::parse(&"a".repeat(65), 200).unwrap());
    assert!(matches!(manifest.encode(), Err(ManifestError::Text { .. })));
    assert_eq!(Manifest::decode(b"\xff"), Err(ManifestError::NotUtf8));
    let bytes = limits::MANIFEST_BYTES_MAX + 1;
    assert_eq!(
        Manifest::decode(&vec![b'a'; bytes]),
        Err(ManifestError::TooLarge { bytes })
    );
}

prop_compose! {
    fn part()(
        length in 0..1u64 << 33,
        media_type in prop::sample::select(vec!["text/plain", "application/pdf", "x/y.z+w"]),
        sha256 in any::<[u8; 32]>(),
        name in "\\PC{1,60}|[ -~]{1,80}",
    ) -> Part {
        let media_type = media_type.parse().unwrap();
        Part { length, media_type, sha256, name: FileName::normalize(&name).unwrap() }
    }
}

prop_compose! {
    fn manifest()(
        channel in any::<[u8; 16]>(),
        message_id in any::<[u8; 16]>(),
        label in prop::collection::btree_set("[A-Z0-9-]{1,32}", 1..17),
        precedence in prop::sample::select(Precedence::ALL.to_vec()),
        to in prop::collection::btree_set("[a-z0-9][a-z0-9.-]{0,63}", 1..64),
        drafter in "[a-z0-9][a-z0-9.-]{0,63}",
        reference in prop::option::of("[A-Z]{1}[ -~]{0,40}"),
        subject in "[a-zA-Zéß本]{1}[ a-zA-Zéß本🦀]{0,119}",
        created in 0..200_000_000_000u64,
        validity in 1..50_000_000_000u64,
        due in prop::option::of(any::<prop::sample::Index>()),
        parts in prop::collection::vec(part(), 1..20),
    ) -> Manifest {
        let mut label = label.into_iter();
        let classification = label.next().unwrap().parse().unwrap();
        let categories = label.map(|id| id.parse().unwrap()).collect();
        Manifest {
            channel: crate::ids::ChannelId::from_bytes(channel),
            message_id: crate::ids::MessageId::from_bytes(message_id),
            label: Label::new(classification, categories).unwrap(),
            precedence,
            to: to.into_iter().map(|id| id.parse().unwrap()).collect(),
            drafter: drafter.parse().unwrap(),
            reference: reference.map(|text| FreeText::parse(&text, 64).unwrap()),
            subject: FreeText::parse(&subject, 120).unwrap(),
            created: UtcTime::from_s(created),
            not_after: UtcTime::from_s(created + validity),
            act_by: due.map(|due| {
                let seconds = due.index(usize::try_from(validity).unwrap());
                UtcTime::from_s(created + 1 + u64::try_from(seconds).unwrap())
            }),
            parts,
        }
    }
}

proptest! {
    #[test]
    fn decode_after_encode_is_identity(manifest in manifest()) {
        let bytes = manifest.encode().unwrap();
        prop_assert!(unicode_normalization::is_nfc(std::str::from_utf8(&bytes).unwrap()));
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }

    #[test]
    fn decoding_any_bytes_returns(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn what_decodes_after_damage_encodes_to_the_same(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        gone in 0..4usize,
    ) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        let at = at.index(bytes.len());
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, with);
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode().unwrap(), bytes);
        }
    }
}
