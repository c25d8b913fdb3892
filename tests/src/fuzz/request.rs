//! Requests to gate and release, and their answers.

use std::collections::{BTreeMap, BTreeSet};

use valise_common::host::requests::answer_text;
use valise_common::ids::{MessageId, Serial};
use valise_common::limits;
use valise_common::manifest::{FreeText, Manifest};
use valise_common::serial_set::SerialSet;
use valise_receiver::model::reply::BundleMade;
use valise_receiver::release::request::RequestText as ReleaseRequest;
use valise_sender::gate::prepare::REASON_CHARS_MAX;
use valise_sender::gate::request::RequestText;
use valise_sender::steps::submit::{Draft, Measured, Occasion, Submission};

use super::Seed;
use super::scene::{SCENE, now};

/// Names of the files beside `request.toml`.
const FILES: [&str; 3] = ["annex.txt", "cable.txt", "list:text/plain"];

/// Reads the text as `request.toml` of either host, and as an answer.
pub(super) fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_answer(&text);
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if data.len() > limits::REQUEST_TEXT_BYTES_MAX {
        return;
    }
    if let Ok(ask) = toml::from_str::<ReleaseRequest>(text) {
        let again = toml::to_string(&ask).expect("a request can be written");
        assert_eq!(toml::from_str::<ReleaseRequest>(&again), Ok(ask));
    }
    match toml::from_str::<RequestText>(text) {
        Ok(RequestText::Submit(draft)) => check_draft(&draft),
        Ok(RequestText::Resend { serials }) => check_ranges(&serials),
        Ok(RequestText::Reject { reason, .. }) => {
            if let Ok(text) = FreeText::normalize(&reason, REASON_CHARS_MAX) {
                let again = FreeText::parse(text.as_str(), REASON_CHARS_MAX);
                assert_eq!(again, Ok(text));
            }
        }
        _ => {}
    }
}

fn check_answer(text: &str) {
    let answer = answer_text(text);
    assert!(answer.len() < limits::ANSWER_BYTES_MAX, "its LF has room");
    assert!(!answer.contains(char::is_control), "one line");
    assert_eq!(answer_text(&answer), answer);
    if let Ok(made) = serde_json::from_str::<BundleMade>(text) {
        let again = serde_json::to_string(&made).expect("an answer can be written");
        assert_eq!(serde_json::from_str::<BundleMade>(&again).ok(), Some(made));
    }
}

/// Checks that a draft that passes is a manifest in its one form, and that its parts are the files of the request.
fn check_draft(draft: &Draft) {
    let files: BTreeMap<String, ()> = FILES.map(|name| (name.to_owned(), ())).into();
    let Ok(chosen) = draft.choose_parts(&files) else {
        return;
    };
    let distinct: BTreeSet<&str> = chosen.iter().map(|part| part.file.as_str()).collect();
    assert_eq!(distinct, FILES.into(), "every file, once");
    assert_eq!(chosen.len(), FILES.len());
    let measured = Measured {
        length: 5,
        sha256: [7; 32],
    };
    let parts = chosen.into_iter().map(|part| (part, measured)).collect();
    let occasion = Occasion {
        channel: SCENE.channel,
        message_id: MessageId::from_bytes([1; 16]),
        drafter: "a.person".parse().expect("an id"),
        now: now(),
    };
    if let Ok(submission) = Submission::new(draft, parts, &occasion, &SCENE.list) {
        let decoded = Manifest::decode(submission.bytes());
        assert_eq!(decoded.as_ref(), Ok(submission.manifest()));
        assert_eq!(submission.manifest().drafter, occasion.drafter);
        assert!(submission.needed() >= 2, "one officer never suffices");
    }
}

/// Checks that ranges are sorted and do not touch, and are the same after they are written and read again.
fn check_ranges(serials: &str) {
    let Ok(set) = SerialSet::parse(serials) else {
        return;
    };
    let ranges: Vec<_> = set.ranges().collect();
    assert!(ranges.iter().all(|(first, last)| first <= last));
    let apart = |pair: &[(Serial, Serial)]| pair[0].1.plus(1).is_some_and(|next| next < pair[1].0);
    assert!(ranges.windows(2).all(apart));
    assert_eq!(SerialSet::parse(&set.to_string()), Ok(set));
}

/// A request of each kind, and an answer.
pub(super) fn seeds() -> Vec<Seed> {
    let id = "0123456789abcdef0123456789abcdef";
    let submit = "request = 'submit'\nlabel = 'EU-RESTRICTED LIMITE'\nto = ['paris-desk']\n\
                  precedence = 'flash'\nsubject = 'S'\n";
    let files = "files = ['cable.txt', 'annex.txt:text/plain', 'list:text/plain']\n\
                 names = ['a.txt', 'b.txt', 'c.txt']\n";
    let times =
        "reference = 'R'\nnot-after = '2026-12-05T00:00:00Z'\nact-by = '2026-12-01T00:00:00Z'\n";
    [
        ("submit", submit.to_owned()),
        ("submit-files", format!("{submit}{files}")),
        ("submit-times", format!("{submit}{files}{times}")),
        ("approve", format!("request = 'approve'\nid = '{id}'\n")),
        ("reject", format!("request = 'reject'\nid = '{id}'\nreason = 'r'\n")),
        ("withdraw", format!("request = 'withdraw'\nid = '{id}'\n")),
        ("resend", "request = 'resend'\nserials = '41-43, 50'\n".to_owned()),
        ("bundle-import", "request = 'bundle-import'\n".to_owned()),
        ("trust-import", "request = 'trust-import'\n".to_owned()),
        ("clock-accept", "request = 'clock-accept'\n".to_owned()),
        ("recheck", "request = 'quarantine-recheck'\nserial = 4\n".to_owned()),
        ("discard", "request = 'quarantine-discard'\nserial = 4\nreason = 'r'\n".to_owned()),
        ("create", "request = 'bundle-create'\nslots = 100\nreplaces = 2\n".to_owned()),
        ("void", "request = 'bundle-void'\nbundle = 2\nreason = 'r'\n".to_owned()),
        ("retire", "request = 'link-key-retire'\nlink_key = 7\n".to_owned()),
        (
            "answer",
            format!(
                "{{\"bundle\":3,\"first\":10,\"count\":4,\"link_key\":7,\"sha256\":\"{}\",\"folder\":\"courier/3\"}}",
                "ab".repeat(32)
            ),
        ),
    ]
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .to_vec()
}
