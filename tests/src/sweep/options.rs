//! The command line of `valise-sweep`.

use clap::Parser;

use super::case::{Case, Fault, Phase};
use crate::harness::{HarnessError, Result, Role};

/// Breaks single system calls of each role while several cables are sent, and checks every promise. Needs root and
/// strace.
///
/// Exit status: 0 if every promise held, 1 if not, 2 for wrong usage, 3 if the system failed.
///
/// Examples:
///   valise-sweep --minutes 10
///   valise-sweep --role gate --fault EIO --call fsync --at 17
#[derive(Debug, Clone, Parser)]
#[command(name = "valise-sweep", version, verbatim_doc_comment)]
pub struct Options {
    /// The time for all cases, in minutes: it determines how many occurrences of a call are skipped.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "full")]
    pub minutes: u32,
    /// Take every occurrence of every call, however long that takes.
    #[arg(long)]
    pub full: bool,
    /// The seed of the choice of occurrences.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The number of cases that run at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
    /// Only this role: gate, transmit, receive or release.
    #[arg(long, value_parser = parse_role)]
    pub role: Option<Role>,
    /// Only this phase.
    #[arg(long, value_enum)]
    pub phase: Option<Phase>,
    /// Only this fault.
    #[arg(long, value_enum, ignore_case = true)]
    pub fault: Option<Fault>,
    /// Only this system call.
    #[arg(long)]
    pub call: Option<String>,
    /// Only this occurrence: one case, with the logs of all roles. The phase is "running" if not given.
    #[arg(long, requires_all = ["role", "fault", "call"], value_parser = clap::value_parser!(u32).range(1..))]
    pub at: Option<u32>,
}

fn parse_role(text: &str) -> std::result::Result<Role, String> {
    let role = Role::ALL.into_iter().find(|role| role.word() == text);
    role.ok_or_else(|| "gate, transmit, receive or release".to_owned())
}

impl Options {
    /// Returns the single case of the options, if they have one.
    ///
    /// # Errors
    /// [`HarnessError::Usage`] when the call cannot meet the fault.
    pub fn only_case(&self) -> Result<Option<Case>> {
        let (Some(role), Some(fault), Some(call), Some(at)) =
            (self.role, self.fault, self.call.clone(), self.at)
        else {
            return Ok(None);
        };
        if !super::case::faults_of(&call).contains(&fault) {
            let text = format!("the sweep has no {} in {call}", fault.word());
            return Err(HarnessError::Usage(text));
        }
        let phase = self.phase.unwrap_or(Phase::Running);
        Ok(Some(Case {
            role,
            fault,
            phase,
            call,
            at,
        }))
    }

    /// Returns whether the options select a case, with any number.
    pub(super) fn takes(&self, role: Role, phase: Phase, fault: Fault, call: &str) -> bool {
        self.role.is_none_or(|only| only == role)
            && self.phase.is_none_or(|only| only == phase)
            && self.fault.is_none_or(|only| only == fault)
            && self.call.as_ref().is_none_or(|only| only == call)
    }
}
