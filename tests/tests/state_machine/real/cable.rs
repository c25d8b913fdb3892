//! The cable, who approves it, and what both logs hold before it.

use sha2::{Digest as _, Sha256};
use valise_common::ids::{ContainerHash, LinkKeyId, Serial};
use valise_common::manifest::Manifest;
use valise_receiver::model::event::{Asker, Event as ReceiverEvent};
use valise_sender::model::event::Event as SenderEvent;
use valise_tests::attack::Token;

use super::{BODY, BUNDLE, CHANNEL, MAILBOXES, MESSAGE, NOT_AFTER, OFFICERS, SLOTS};
use super::{channel, message};

pub(super) fn bundle_imported() -> SenderEvent {
    SenderEvent::BundleImported {
        bundle: BUNDLE,
        channel: channel(),
        first_serial: Serial::FIRST,
        count: SLOTS.try_into().expect("a count"),
        replaces: None,
        sha256: ContainerHash::from_bytes([0; 32]),
    }
}

pub(super) fn submitted() -> SenderEvent {
    let manifest = Manifest::decode(manifest().as_bytes()).expect("a manifest");
    SenderEvent::Submitted {
        id: message(),
        request: message(),
        drafter: manifest.drafter.clone(),
        label: manifest.label.clone(),
        precedence: manifest.precedence,
        to: manifest.to.clone(),
        not_after: manifest.not_after,
        act_by: manifest.act_by,
        body_bytes: manifest.body_bytes(),
        needed: 2,
    }
}

pub(super) fn bundle_created() -> ReceiverEvent {
    ReceiverEvent::BundleCreated {
        bundle: BUNDLE,
        first: Serial::FIRST,
        count: SLOTS.try_into().expect("a count"),
        link_key: LinkKeyId(1),
        replaces: None,
        kept: Vec::new(),
        sha256: "00".repeat(32),
        by: Asker::user(0),
    }
}

pub(super) fn trust_list() -> String {
    let mut text = format!(
        "version = 7\nchannel = \"{CHANNEL}\"\nissued = \"2026-11-22T00:00:00Z\"\n\
         allow-software-keys = false\n\n[[person]]\nid = \"a.person\"\nroles = [\"drafter\"]\n\
         keys = []\nvalid-from = \"2026-01-01T00:00:00Z\"\nvalid-until = \"2027-01-01T00:00:00Z\"\n"
    );
    for seed in OFFICERS {
        text += &format!(
            "\n[[person]]\nid = \"officer.{seed}\"\nroles = [\"officer\"]\nkeys = [{:?}]\n\
             valid-from = \"2026-01-01T00:00:00Z\"\nvalid-until = \"2027-01-01T00:00:00Z\"\n",
            Token::new(seed).public_line()
        );
    }
    text += "\n[[classification]]\nid = \"EU-RESTRICTED\"\nmarking = \"EU RESTRICTED\"\n\
         officers = 2\nuser-verification = false\nmedia-types = [\"text/plain\"]\n\
         cable-bytes-max = 100000\nvalidity-days-max = 30\ncolour = \"red\"\n";
    for mailbox in MAILBOXES {
        text += &format!(
            "\n[[mailbox]]\nid = \"{mailbox}\"\nclassification-max = \"EU-RESTRICTED\"\n\
             categories = []\n"
        );
    }
    text
}

pub(super) fn manifest() -> String {
    format!(
        "VALISE-MANIFEST 1\nchannel: {CHANNEL}\nmessage-id: {MESSAGE}\n\
         label: EU-RESTRICTED\nprecedence: ROUTINE\nto: {}\ndrafter: a.person\n\
         reference: PESC/2026/118\nsubject: A cable\n\
         created: 2026-11-22T12:00:00Z\nnot-after: {NOT_AFTER}\nact-by: -\n\
         part: 1 {} text/plain sha256:{} cable.txt\nend\n",
        MAILBOXES.join(" "),
        BODY.len(),
        hex::encode(Sha256::digest(BODY)),
    )
}
