//! The keys, the trust list and the documents by which the targets judge their inputs. Only data that are made here or
//! in the test vectors can be authentic.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use valise_common::ids::{BundleId, ChannelId};
use valise_common::seal::SlotSecret;
use valise_common::secret::Secret32;
use valise_common::sshsig::{Namespace, PublicKey, Signature};
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

use crate::attack::Token;

/// The bundle of the vectors' containers.
pub(super) const BUNDLE: BundleId = BundleId(3);

/// A time at which the trust list and the signed manifest are valid.
pub(super) const NOW: &str = "2026-11-23T00:00:00Z";

/// The one body that officers approved.
pub(super) const BODY: &[u8] = b"The text of a cable.\n";

/// Seeds of the officers' keys and of the administrators'.
const OFFICERS: [u8; 3] = [2, 3, 4];
const ADMINISTRATORS: [u8; 2] = [21, 22];

/// The folder of the test vectors.
pub(super) fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Reads a file of the vectors.
pub(super) fn file(name: &str) -> Vec<u8> {
    let path = vectors().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads the JSON vectors whose name begins with this prefix, in the order of their names.
pub(super) fn json_vectors(prefix: &str) -> Vec<(String, Value)> {
    let folder = fs::read_dir(vectors()).expect("the vectors are there");
    let names = folder.map(|entry| entry.expect("an entry is read").file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(prefix) && name.ends_with(".json"))
        .collect();
    names.sort();
    let read = |name: String| {
        let value = serde_json::from_slice(&file(&name)).expect("a vector is JSON");
        (name.trim_end_matches(".json").to_owned(), value)
    };
    names.into_iter().map(read).collect()
}

/// The bytes of a field of hexadecimal digits.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a text")).expect("hexadecimal digits")
}

fn secret(value: &Value) -> Secret32 {
    Secret32::from_hex(value.as_str().expect("a text")).expect("32 bytes")
}

/// The time [`NOW`].
pub(super) fn now() -> UtcTime {
    NOW.parse().expect("a time")
}

/// A container of the vectors that opens, and the slot that opens it.
pub(super) struct Known {
    pub(super) serial: u64,
    pub(super) slot: SlotSecret,
    pub(super) bytes: Vec<u8>,
}

/// The documents of the vectors and of the scene's own persons.
pub(super) struct Scene {
    pub(super) channel: ChannelId,
    pub(super) link_key: [u8; 32],
    pub(super) containers: Vec<Known>,
    pub(super) list_text: String,
    pub(super) list: TrustList,
    pub(super) administrators: Vec<PublicKey>,
    pub(super) list_signatures: Vec<Signature>,
    /// The manifest that officers approved, and their approvals.
    pub(super) manifest: String,
    pub(super) approvals: Vec<Vec<u8>>,
    /// The statement that administrators signed.
    pub(super) statement: String,
    pub(super) statement_signatures: Vec<Signature>,
}

/// The scene; made once.
pub(super) static SCENE: LazyLock<Scene> = LazyLock::new(Scene::make);

impl Scene {
    fn make() -> Self {
        let containers: Vec<(u64, Value)> = json_vectors("container-")
            .into_iter()
            .filter(|(name, _)| name.ends_with("-ok"))
            .map(|(_, value)| (value["serial"].as_u64().expect("a serial"), value))
            .collect();
        let channel: ChannelId = containers[0].1["channel"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a channel");
        let known = containers.into_iter().map(|(serial, value)| Known {
            serial,
            slot: SlotSecret::new(secret(&value["seed"]), secret(&value["psk"])),
            bytes: bytes(&value["container"]),
        });
        let datagrams = json_vectors("datagram-");
        let bundle = json_vectors("bundle").swap_remove(0).1;
        let statement = bundle["statement"].as_str().expect("a text").to_owned();
        let list_text = trust_list(&channel);
        let manifest = manifest(&channel);
        Self {
            channel,
            link_key: *secret(&datagrams[0].1["link_key"]).expose(),
            containers: known.collect(),
            list: TrustList::parse(list_text.as_bytes()).expect("the list is sound"),
            administrators: ADMINISTRATORS.map(public_key).to_vec(),
            list_signatures: signed_by_administrators(&list_text, Namespace::TrustList),
            list_text,
            approvals: OFFICERS[..2]
                .iter()
                .map(|seed| Token::new(*seed).sign(manifest.as_bytes()))
                .collect(),
            manifest,
            statement_signatures: signed_by_administrators(&statement, Namespace::Bundle),
            statement,
        }
    }
}

fn public_key(seed: u8) -> PublicKey {
    PublicKey::parse_openssh(&Token::new(seed).public_line()).expect("a sound key")
}

fn signed_by_administrators(text: &str, namespace: Namespace) -> Vec<Signature> {
    let sign = |seed: u8| {
        let token =
            Token::new(seed).with(|token| namespace.as_str().clone_into(&mut token.namespace));
        Signature::decode(&token.sign(text.as_bytes())).expect("a sound signature")
    };
    ADMINISTRATORS.map(sign).to_vec()
}

fn trust_list(channel: &ChannelId) -> String {
    let mut text = format!(
        "version = 7\nchannel = \"{channel}\"\nissued = \"2026-11-22T00:00:00Z\"\n\
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
    text += "classification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\n\
         mailboxes = [\"paris-desk\"]\n";
    for (id, officers) in [("EU-RESTRICTED", 2), ("EU-SECRET", 3)] {
        text += &format!(
            "\n[[classification]]\nid = \"{id}\"\nmarking = \"{id} MARKING\"\n\
             officers = {officers}\nuser-verification = false\nmedia-types = [\"text/plain\"]\n\
             cable-bytes-max = 100000\nvalidity-days-max = 30\ncolour = \"red\"\n"
        );
    }
    text += "\n[[category]]\nid = \"LIMITE\"\n\n[[mailbox]]\nid = \"paris-desk\"\n\
         classification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\n";
    text
}

fn manifest(channel: &ChannelId) -> String {
    format!(
        "VALISE-MANIFEST 1\nchannel: {channel}\nmessage-id: 00112233445566778899aabbccddeeff\n\
         label: EU-RESTRICTED LIMITE\nprecedence: ROUTINE\nto: paris-desk\ndrafter: a.person\n\
         reference: PESC/2026/118\nsubject: R\u{e9}union du 3 d\u{e9}cembre\n\
         created: 2026-11-22T12:00:00Z\nnot-after: 2026-12-20T00:00:00Z\nact-by: -\n\
         part: 1 {} text/plain sha256:{} cable.txt\nend\n",
        BODY.len(),
        hex::encode(Sha256::digest(BODY)),
    )
}
