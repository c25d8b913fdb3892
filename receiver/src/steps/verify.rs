//! `Opened → Verified`: every signature again, label against mailbox, validity, and a message-id never seen before, all
//! by this host's own trust list. Whatever the sender checked counts for nothing here.

use thiserror::Error;
use valise_common::approval::{Refusal, check_approvals, check_policy};
use valise_common::ids::{ChannelId, ContainerHash, MessageId, PersonId, Serial};
use valise_common::manifest::Manifest;
use valise_common::sshsig::{Signature, SshsigError};
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

use crate::steps::open::{Opened, Preamble};

/// What a cable is measured by.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The channel of this host.
    pub channel: ChannelId,
    /// The trust list in force.
    pub list: &'a TrustList,
    /// The latest of the clock, the list's `issued` and the last audit time.
    pub now: UtcTime,
}

/// Why an opened cable may not be released.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The manifest names another channel than the container and this host.
    #[error("the manifest is of another channel")]
    Channel,
    /// An approval is no signature.
    #[error("approval {number} cannot be read: {source}")]
    Approval {
        /// Its number, from 1.
        number: usize,
        /// Why.
        source: SshsigError,
    },
    /// Policy or an approval refuses it.
    #[error("{0}")]
    Policy(#[from] Refusal),
    /// The cable was published before.
    #[error("its message-id was published before, with serial {serial}")]
    Seen {
        /// When.
        serial: Serial,
    },
}

impl Refused {
    /// One word for the log.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Channel => "other-channel",
            Refused::Approval { .. } => "malformed-approval",
            Refused::Policy(refusal) => refusal.code(),
            Refused::Seen { .. } => "message-id-seen",
        }
    }
}

/// A preamble that was judged, and by what. It releases nothing: the body is not known yet.
#[derive(Debug)]
pub struct Judged {
    preamble: [u8; 32],
    trust_version: u32,
    now: UtcTime,
    approvals: Vec<(PersonId, Signature)>,
}

/// Judges a cable by its manifest and approvals, before its body is opened.
///
/// # Errors
/// The first reason against it.
pub fn judge(preamble: &Preamble, policy: &Policy<'_>) -> Result<Judged, Refused> {
    let manifest = preamble.manifest();
    if manifest.channel != policy.channel {
        return Err(Refused::Channel);
    }
    check_policy(manifest, policy.list, policy.now)?;
    let signatures = preamble
        .approvals()
        .iter()
        .zip(1..)
        .map(|(blob, number)| {
            Signature::decode(blob).map_err(|source| Refused::Approval { number, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let persons = check_approvals(
        manifest,
        preamble.manifest_bytes(),
        &signatures,
        policy.list,
        policy.now,
    )?;
    // One person for each signature, in the same order: only then does each approval get its signer's name.
    assert_eq!(persons.len(), signatures.len());
    Ok(Judged {
        preamble: fingerprint(preamble),
        trust_version: policy.list.version(),
        now: policy.now,
        approvals: persons.into_iter().zip(signatures).collect(),
    })
}

/// A cable that may be published. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    serial: Serial,
    container: ContainerHash,
    preamble: Preamble,
    approvals: Vec<(PersonId, Signature)>,
    trust_version: u32,
    now: UtcTime,
}

impl Verified {
    /// Its serial.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Returns the whole hash of its container.
    pub fn container(&self) -> ContainerHash {
        self.container
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        self.preamble.manifest()
    }

    /// Returns the bytes that officers signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        self.preamble.manifest_bytes()
    }

    /// Who approved it, and how.
    pub fn approvals(&self) -> &[(PersonId, Signature)] {
        &self.approvals
    }

    /// Returns the version of the trust list that decided.
    pub fn trust_version(&self) -> u32 {
        self.trust_version
    }

    /// Returns the time of the decision.
    pub fn verified_at(&self) -> UtcTime {
        self.now
    }
}

/// A cable that opened and may not be released, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The serial that it claims.
    pub serial: Serial,
    /// The whole hash of its container.
    pub container: ContainerHash,
    /// The cable, when its manifest could be read.
    pub message_id: Option<MessageId>,
    /// The reason in one word.
    pub code: &'static str,
    /// The reason in a sentence.
    pub reason: String,
}

/// Verifies an opened cable. `judged` spares the signatures a second look if nothing changed since its preamble was
/// judged; `seen` tells under which serial a message-id was published, or is about to be.
///
/// # Errors
/// [`Held`] with the first reason against it.
pub fn verify(
    opened: Opened,
    judged: Option<Judged>,
    policy: &Policy<'_>,
    seen: impl FnOnce(&MessageId) -> Option<Serial>,
) -> Result<Verified, Held> {
    let still_holds = |judged: &Judged| {
        judged.trust_version == policy.list.version()
            && judged.now == policy.now
            && judged.preamble == fingerprint(opened.preamble())
    };
    let judged = match judged.filter(still_holds) {
        Some(judged) => Ok(judged),
        None => judge(opened.preamble(), policy),
    };
    let message_id = opened.preamble().manifest().message_id;
    let judged = judged.and_then(|judged| match seen(&message_id) {
        Some(serial) => Err(Refused::Seen { serial }),
        None => Ok(judged),
    });
    match judged {
        Err(refused) => Err(hold(opened, &refused)),
        Ok(judged) => {
            let (serial, container, preamble) = opened.into_parts();
            Ok(Verified {
                serial,
                container,
                preamble,
                approvals: judged.approvals,
                trust_version: judged.trust_version,
                now: judged.now,
            })
        }
    }
}

/// Validity of a verified cable under the policy of a later moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillValid {
    /// It may still be published as it is.
    AsIs,
    /// Nothing speaks against it, but another trust list decides now: what was written of it names the old one.
    OtherList,
}

/// Judges a verified cable again: between its verdict and its publishing the list may have changed and time has passed.
///
/// # Errors
/// [`Held`] with the first reason against it.
pub fn verify_again(cable: &Verified, policy: &Policy<'_>) -> Result<StillValid, Held> {
    // Versions only rise, so that one version is one list.
    let is_same_list = cable.trust_version == policy.list.version();
    if is_same_list && cable.now == policy.now {
        return Ok(StillValid::AsIs);
    }
    match judge(&cable.preamble, policy) {
        Err(refused) => Err(Held {
            serial: cable.serial,
            container: cable.container,
            message_id: Some(cable.preamble.manifest().message_id),
            code: refused.code(),
            reason: refused.to_string(),
        }),
        Ok(_) if is_same_list => Ok(StillValid::AsIs),
        Ok(_) => Ok(StillValid::OtherList),
    }
}

/// What is recorded of an opened cable that was refused.
pub fn hold(opened: Opened, refused: &Refused) -> Held {
    let (serial, container, preamble) = opened.into_parts();
    Held {
        serial,
        container,
        message_id: Some(preamble.manifest().message_id),
        code: refused.code(),
        reason: refused.to_string(),
    }
}

/// Binds a judgement to what was judged.
fn fingerprint(preamble: &Preamble) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut update = |bytes: &[u8]| {
        hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    update(preamble.manifest_bytes());
    preamble
        .approvals()
        .iter()
        .for_each(|approval| update(approval));
    *hasher.finalize().as_bytes()
}
