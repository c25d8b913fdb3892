//! Why a trust list, or the signatures over it, are refused.

use thiserror::Error;

use super::SpellingError;
use crate::ids::PersonId;
use crate::limits;
use crate::manifest::TextError;
use crate::sshsig::{Namespace, SshsigError};
use crate::units::UtcTime;

/// Why a text is no trust list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// More bytes than any list has.
    #[error(
        "the trust list has {bytes} bytes; {} are the most",
        limits::TRUST_LIST_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the trust list is not utf-8 text")]
    NotUtf8,
    /// The file is not written as a list must be.
    #[error("line {line} of the trust list: {fault}")]
    Spelling {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        fault: SpellingError,
    },
    /// No TOML, a key that is missing or unknown, or a value of the wrong kind.
    #[error("line {line} of the trust list: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the TOML reader says.
        message: String,
    },
    /// The list would be unsafe, or contradicts itself.
    #[error("line {line} of the trust list: {fault}")]
    Unsafe {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        fault: Fault,
    },
    /// The signatures do not suffice.
    #[error(transparent)]
    Administrators(#[from] AdministratorError),
}

/// What makes a list unsafe. Ids are not content and are named.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// "No list" is version 0.
    #[error("versions begin at 1")]
    VersionZero,
    /// One id twice among persons, classifications, categories or mailboxes.
    #[error("{kind} {id} stands twice")]
    Twice {
        /// What it is.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A list without a section that it needs.
    #[error("the list has no {kind}")]
    Missing {
        /// What there is none of.
        kind: &'static str,
    },
    /// A person that may do nothing.
    #[error("{person} has no role; roles are \"drafter\" and \"officer\"")]
    NoRole {
        /// The person.
        person: String,
    },
    /// A role that stands twice.
    #[error("{person} has a role twice")]
    RoleTwice {
        /// The person.
        person: String,
    },
    /// An officer that cannot sign.
    #[error("{person} is an officer and has no key")]
    NoKey {
        /// The person.
        person: String,
    },
    /// A key that is none, weak, or of a type that is not accepted.
    #[error("a key of {person}: {error}")]
    BadKey {
        /// The person.
        person: String,
        /// What is wrong with it.
        error: SshsigError,
    },
    /// An officer's key that can be copied, in a list that does not allow it.
    #[error("a key of {person} is a software key, and allow-software-keys is false")]
    SoftwareKey {
        /// The person.
        person: String,
    },
    /// One key, in whatever form, that stands twice.
    #[error("a key of {person} is a key of {other} already")]
    SharedKey {
        /// The person.
        person: String,
        /// The other, or the same.
        other: String,
    },
    /// A validity that ends before it begins.
    #[error("valid-from of {person} is not earlier than valid-until")]
    Validity {
        /// The person.
        person: String,
    },
    /// One person alone could release.
    #[error(
        "{classification} asks for {officers} officers; at least 2 must approve, at most {}",
        limits::APPROVALS_MAX
    )]
    Quorum {
        /// The classification.
        classification: String,
        /// What it asks for.
        officers: u64,
    },
    /// More approvals than there are officers.
    #[error("{classification} asks for {officers} officers, and the list has {available}")]
    QuorumOutOfReach {
        /// The classification.
        classification: String,
        /// What it asks for.
        officers: u64,
        /// How many there are.
        available: usize,
    },
    /// A marking that nobody could read.
    #[error("the marking of {classification}: {error}")]
    Marking {
        /// The classification.
        classification: String,
        /// What is wrong with it.
        error: TextError,
    },
    /// A classification that takes no part whatsoever, or one media type twice.
    #[error("{classification} has no media type, or one twice")]
    MediaTypes {
        /// The classification.
        classification: String,
    },
    /// A size of zero, or larger than a package may be.
    #[error(
        "cable-bytes-max of {classification} is not between 1 and {}",
        limits::PACKAGE_BYTES_MAX
    )]
    CableBytes {
        /// The classification.
        classification: String,
    },
    /// A validity of no day, or of more than any clock counts.
    #[error(
        "validity-days-max of {classification} is not between 1 and {}",
        crate::limits::VALIDITY_DAYS_MAX
    )]
    ValidityDays {
        /// The classification.
        classification: String,
    },
    /// A mailbox that is cleared for what the list does not know.
    #[error("{mailbox} is cleared for {id}, which is no {kind} of this list")]
    UnknownClearance {
        /// The mailbox.
        mailbox: String,
        /// What the id should be.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// A person that is limited to what the list does not know.
    #[error("a limit of {person} names {id}, which is not a {kind} of this list")]
    UnknownLimit {
        /// The person.
        person: String,
        /// What the id should be.
        kind: &'static str,
        /// The id.
        id: String,
    },
}

/// A list from the future: in force, it would put "now" there for as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the list says that it is issued at {issued}, but the clock says {clock}: set the clock if it is wrong, or \
     have the list issued and signed again"
)]
pub struct IssuedAhead {
    /// What the list says.
    pub issued: UtcTime,
    /// What the clock says.
    pub clock: UtcTime,
}

/// Why administrators' signatures do not suffice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdministratorError {
    /// A host needs two of them.
    #[error("a host has at least two administrators, each with a key of their own")]
    TooFew,
    /// A key stands twice among them.
    #[error("one administrator's key is given twice; each needs a key of their own")]
    SharedKey,
    /// A person of the list has an administrator's key.
    #[error(
        "a key of {person} is an administrator's; whoever signs trust lists needs another key to draft or approve"
    )]
    IsPerson {
        /// The person.
        person: PersonId,
    },
    /// Fewer than two distinct administrators' signatures verify.
    #[error(
        "{valid} of the two administrators' signatures that are needed verify{}; \
         each signs with `ssh-keygen -Y sign -n {namespace}`",
        first_fault(*.fault)
    )]
    NotSigned {
        /// How many distinct administrators' signatures verified.
        valid: usize,
        /// What the signatures are for.
        namespace: Namespace,
        /// What is wrong with the first of the others, if one of an administrator does not verify.
        fault: Option<SshsigError>,
    },
}

fn first_fault(fault: Option<SshsigError>) -> String {
    fault.map_or_else(String::new, |fault| format!(" ({fault})"))
}
